//! `dts binlog …`: reads binlog files of MySQL and MariaDB.
//!
//! | file | holds |
//! |---|---|
//! | `args`, `open` | what the user asks for; files, compressed ones, standard input |
//! | `session` | event by event through the files; what is known of tables |
//! | `group`, `record`, `rows`, `view` | `dump`: transactions, dts JSON, rows, and what is prepared for a table |
//! | `text` | `dump` for people |
//! | `count`, `verify`, `stats` | the other questions |
//! | `screen` | standard output, and the progress bar |

mod args;
mod count;
mod dump;
mod group;
mod open;
mod record;
mod rows;
mod screen;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod text;
mod verify;
mod view;

use super::table::{Command, Flag, JSON};
use args::Args;

const FILE: Flag = Flag::path("file", "FILE", "A binlog file, also .gz or .zst; `-` is standard input")
    .required()
    .repeated();
const MAX_ROW: Flag = Flag::number(
    "max-row-bytes",
    "BYTES",
    "Largest row, or event without rows, that is read; bounds memory (default 67108864)",
);
const BAD: (u8, &str) = (3, "a file is damaged, cut short, encrypted, or no binlog");

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "binlog dump",
        about: "Print the changes in binlog files of MySQL and MariaDB",
        detail: "Files are read in the order given, as one stream. Columns are named from the table's metadata, else from the \
                 CREATE and ALTER statements seen so far, else @1, @2 and so on.\n\n\
                 With --format json, one dts JSON object a line. --gtid takes a set as the server prints it (MySQL), or \
                 GTIDs and ranges such as 0-1-5,0-1-8:20 (MariaDB).",
        operand: Some(FILE),
        flags: &[
            Flag::one_of("format", "FORMAT", &["json", "text"], "For machines, or for people (default text)"),
            Flag::text("table", "DB.TABLE", "Only this table, or DB.*").repeated(),
            Flag::number("start-pos", "OFFSET", "Begin at this offset of the first file"),
            Flag::number("stop-pos", "OFFSET", "End before this offset of the last file"),
            Flag::text("gtid", "SET", "Only transactions of this set"),
            MAX_ROW,
            Flag::switch("verbose", "With positions, sizes and statements (text)").short('v'),
            Flag::switch("count", "Print only how much there is, and a checksum of all values, as JSON"),
        ],
        examples: &[
            ("What happened?", "dts binlog dump binlog.000042"),
            (
                "One table's changes for jq",
                "dts binlog dump --format json --table shop.orders binlog.0000* | jq .",
            ),
            (
                "One transaction",
                "dts binlog dump -v --gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 binlog.000042",
            ),
            ("Out of a backup", "dts binlog dump --format json binlog.000042.zst > changes.ndjson"),
        ],
        exits: &[BAD],
        main: |parsed| dump::dump(&Args::new(parsed)?),
    },
    Command {
        name: "binlog verify",
        about: "Check structure and checksums of binlog files",
        detail: "Reads every event and row. Of a damaged file it says the first bad offset and what is wrong there; the \
                 other files are still checked.",
        operand: Some(FILE),
        flags: &[MAX_ROW],
        examples: &[("After a disk went bad", "dts binlog verify /var/lib/mysql/binlog.0000*")],
        exits: &[(0, "all are sound"), BAD],
        main: |parsed| verify::verify(&Args::new(parsed)?),
    },
    Command {
        name: "binlog stats",
        about: "Show what fills binlog files: by table, by type of event",
        detail: "Rows and bytes by table, events and bytes by type, the largest transaction, the time span, the GTIDs.",
        operand: Some(FILE),
        flags: &[JSON, MAX_ROW],
        examples: &[
            ("Which table writes so much?", "dts binlog stats binlog.000042"),
            ("For a script", "dts binlog stats --json binlog.000042 | jq .tables"),
        ],
        exits: &[BAD],
        main: |parsed| stats::stats(&Args::new(parsed)?),
    },
];
