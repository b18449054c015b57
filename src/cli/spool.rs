//! `dts spool …`: looks into the buffer of a device.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::output::{Exit, Failure, print};
use super::parse::Parsed;
use super::running;
use super::table::{CONFIG_IF_ANY, Command, Flag, JSON};

const PATH: Flag = Flag::path("path", "DIR", "The buffer's folder, where there is no config at hand");
const LANE: Flag = Flag::text("lane", "NAME", "Only this lane");
const DETAIL: &str =
    "Asks the running dts over its control socket. Where none runs it opens the buffer itself.";
const ALONE: &str = "Opens the buffer itself, which a running agent has for itself alone: stop that first.";
use crate::codec::json;
use crate::config::{self, Outside};
use crate::control::{self, Ask};
use crate::event::{Batch, BatchBuilder, Origin};
use crate::spool::Inspector;

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "spool stats",
        about: "Show how full the buffer is, lane by lane",
        detail: DETAIL,
        operand: None,
        flags: &[CONFIG_IF_ANY, PATH, JSON],
        examples: &[("How much waits for the centre?", "dts spool stats --config /etc/dts/dts.yaml")],
        exits: &[],
        main: |parsed| spool(&Args::new(parsed, Action::Stats)),
    },
    Command {
        name: "spool peek",
        about: "Print the oldest rows of the buffer as dts JSON",
        detail: DETAIL,
        operand: None,
        flags: &[CONFIG_IF_ANY, PATH, LANE, Flag::number("limit", "ROWS", "Most rows printed (default 10)")],
        examples: &[(
            "What waits first?",
            "dts spool peek --config /etc/dts/dts.yaml --lane alarms --limit 3",
        )],
        exits: &[],
        main: |parsed| {
            let limit = parsed.number("limit").unwrap_or(10);
            spool(&Args::new(parsed, Action::Peek { lane: parsed.text("lane").map(str::to_owned), limit }))
        },
    },
    Command {
        name: "spool verify",
        about: "Read all of the buffer and check every checksum",
        detail: ALONE,
        operand: None,
        flags: &[CONFIG_IF_ANY, PATH, JSON],
        examples: &[("After a power cut", "dts spool verify --path /var/lib/dts/buffer")],
        exits: &[(0, "no damage"), (3, "damage was found; it is listed")],
        main: |parsed| spool(&Args::new(parsed, Action::Verify)),
    },
    Command {
        name: "spool export",
        about: "Write all rows of the buffer as dts JSON, one a line",
        detail: "Changes nothing in the buffer: what was exported is still sent to the centre. \
                 Opens the buffer itself, which a running agent has for itself alone: stop that first.",
        operand: None,
        flags: &[
            CONFIG_IF_ANY,
            PATH,
            LANE,
            Flag::path("output", "FILE", "Where to (default: standard output)"),
        ],
        examples: &[(
            "Rescue the data of a broken device",
            "dts spool export --path /mnt/buffer --output rows.ndjson",
        )],
        exits: &[(3, "a part was damaged; the rest was written")],
        main: |parsed| {
            let lane = parsed.text("lane").map(str::to_owned);
            spool(&Args::new(parsed, Action::Export { lane, output: parsed.path("output") }))
        },
    },
    Command {
        name: "spool samples",
        about: "Write rows of the buffer as files, to train a zstd dictionary",
        detail: "One file a row, as a frame of one row holds it: some thousands are plenty. Then: \
                 zstd --train DIR/* -o dts.dict, and name that file in `zstd_dictionary_file` of the agents and in \
                 `zstd_dictionary_files` of the centre. Opens the buffer itself, which a running agent has for itself \
                 alone: stop that first.",
        operand: None,
        flags: &[
            CONFIG_IF_ANY,
            PATH,
            LANE,
            Flag::path("output", "DIR", "Where to; the folder is made and must not be there"),
            Flag::number("limit", "ROWS", "Most rows written (default 10000)"),
        ],
        examples: &[(
            "Of a buffer with data in it",
            "dts spool samples --path /var/lib/dts/buffer --output samples",
        )],
        exits: &[(3, "a part was damaged; the rest was written")],
        main: |parsed| {
            let lane = parsed.text("lane").map(str::to_owned);
            let limit = parsed.number("limit").unwrap_or(10_000);
            let Some(output) = parsed.path("output") else {
                return Err(Failure::usage("where to? Give `--output DIR`"));
            };
            spool(&Args::new(parsed, Action::Samples { lane, output, limit }))
        },
    },
];

/// Arguments of `dts spool`.
#[derive(Clone, Debug)]
pub struct Args {
    /// The config that names the buffer. This or `path` is given.
    pub config: Option<PathBuf>,
    /// The buffer's folder.
    pub path: Option<PathBuf>,
    /// What to do.
    pub action: Action,
    /// Print JSON (`stats` and `verify`).
    pub json: bool,
}

/// What `dts spool` does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Show how full it is.
    Stats,
    /// Print the oldest rows.
    Peek {
        /// Only this lane.
        lane: Option<String>,
        /// Most rows.
        limit: u64,
    },
    /// Check every checksum.
    Verify,
    /// Write all rows.
    Export {
        /// Only this lane.
        lane: Option<String>,
        /// Where to; `None` is standard output.
        output: Option<PathBuf>,
    },
    /// Write rows as files.
    Samples {
        /// Only this lane.
        lane: Option<String>,
        /// The folder.
        output: PathBuf,
        /// Most rows.
        limit: u64,
    },
}

impl Args {
    fn new(parsed: &Parsed, action: Action) -> Self {
        let json = matches!(action, Action::Stats | Action::Verify) && parsed.is_set("json");
        Self { config: parsed.path("config"), path: parsed.path("path"), action, json }
    }
}

fn spool(args: &Args) -> Result<(), Failure> {
    let place = Place::of(args)?;
    match &args.action {
        Action::Stats => stats(&place, args.json),
        Action::Peek { lane, limit } => peek(&place, lane.as_deref(), *limit),
        Action::Verify => verify(&place, args.json),
        Action::Samples { lane, output, limit } => samples(&place, lane.as_deref(), output, *limit),
        Action::Export { lane, output } => export(&place, lane.as_deref(), output.as_deref()),
    }
}

/// Which buffer, and whose.
struct Place {
    buffer: PathBuf,
    /// Where a running agent listens; unknown if only the buffer's folder was given.
    state_dir: Option<PathBuf>,
    device: String,
}

impl Place {
    fn of(args: &Args) -> Result<Self, Failure> {
        if let Some(path) = &args.path {
            return Ok(Self { buffer: path.clone(), state_dir: None, device: "device".to_owned() });
        }
        let Some(config) = &args.config else {
            return Err(Failure::usage("which buffer? Give `--config FILE` or `--path DIR`"));
        };
        let plan = config::load(config, Outside::default())?;
        let none = || Failure::failed("this config has no buffer");
        let buffer = plan.buffer.as_ref().ok_or_else(none)?.path.clone();
        let device = plan.device.name.as_deref().unwrap_or("local").to_owned();
        Ok(Self { buffer, state_dir: Some(plan.device.state_dir), device })
    }

    /// Asks the agent if one runs; `None` if none does.
    fn running(&self) -> Option<&Path> {
        self.state_dir.as_deref().filter(|dir| control::client::ask(dir, &Ask::Health {}).is_ok())
    }

    fn open(&self) -> Result<Inspector, Failure> {
        Inspector::open(&self.buffer, &self.device).map_err(Failure::failed)
    }
}

fn stats(place: &Place, json: bool) -> Result<(), Failure> {
    let stats = match place.running() {
        Some(dir) => running::ask_one(dir, &Ask::SpoolStats {})?,
        None => {
            let found = place.open()?.verify().map_err(Failure::failed)?;
            serde_json::json!({ "running": false, "batches": found.batches, "rows": found.rows, "damage": found.first_bad })
        }
    };
    if json {
        return print(&format!("{stats:#}\n"));
    }
    let mut out = String::new();
    match stats["lanes"].as_array() {
        None => out
            .push_str(&format!("no agent runs; {} batches with {} rows\n", stats["batches"], stats["rows"])),
        Some(lanes) => {
            out.push_str(&format!("{} bytes on disk\n", stats["file_bytes"].as_u64().unwrap_or(0)));
            for lane in lanes {
                out.push_str(&format!(
                    "lane {} ({}): {} rows on disk, {} in memory, {} bytes, {} lost so far\n",
                    lane["lane"].as_str().unwrap_or_default(),
                    lane["class"].as_str().unwrap_or_default(),
                    lane["rows"],
                    lane["memory_rows"],
                    lane["bytes"],
                    lane["lost_rows"]
                ));
            }
        }
    }
    print(&out)
}

fn peek(place: &Place, lane: Option<&str>, limit: u64) -> Result<(), Failure> {
    if let Some(dir) = place.running() {
        let question = Ask::SpoolPeek { lane: lane.map(str::to_owned), limit };
        return running::print_lines(dir, &question, Some(limit));
    }
    let mut left = limit;
    for batch in place.open()?.batches() {
        let batch = batch.map_err(Failure::failed)?;
        if !of_lane(&batch, lane) {
            continue;
        }
        for line in lines(&batch)?.split_inclusive(|b| *b == b'\n') {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            print(&String::from_utf8_lossy(line))?;
        }
    }
    Ok(())
}

fn verify(place: &Place, json: bool) -> Result<(), Failure> {
    if place.running().is_some() {
        return Err(Failure::failed(
            "an agent runs on this buffer and checks what it reads; stop it to verify all",
        ));
    }
    let found = place.open()?.verify().map_err(Failure::failed)?;
    let object =
        serde_json::json!({ "batches": found.batches, "rows": found.rows, "first_bad": found.first_bad });
    match &found.first_bad {
        _ if json => print(&format!("{object:#}\n"))?,
        None => print(&format!("{} batches with {} rows read right\n", found.batches, found.rows))?,
        Some(bad) => {
            print(&format!("{} batches with {} rows read right, then: {bad}\n", found.batches, found.rows))?
        }
    }
    if found.first_bad.is_none() { Ok(()) } else { Err(Failure::quiet(Exit::BadData)) }
}

fn export(place: &Place, lane: Option<&str>, output: Option<&Path>) -> Result<(), Failure> {
    if place.running().is_some() {
        return Err(Failure::failed("an agent runs on this buffer; stop it to export"));
    }
    let inspector = place.open()?;
    let fail = |error: std::io::Error| Failure::failed(format!("write the export: {error}"));
    let mut file = output.map(std::fs::File::create_new).transpose().map_err(fail)?;
    for batch in inspector.batches() {
        let batch = batch.map_err(Failure::failed)?;
        if !of_lane(&batch, lane) {
            continue;
        }
        let lines = lines(&batch)?;
        match &mut file {
            Some(file) => file.write_all(&lines).map_err(fail)?,
            None => print(&String::from_utf8_lossy(&lines))?,
        }
    }
    file.map_or(Ok(()), |file| file.sync_all().map_err(fail))
}

fn samples(place: &Place, lane: Option<&str>, output: &Path, limit: u64) -> Result<(), Failure> {
    if place.running().is_some() {
        return Err(Failure::failed("an agent runs on this buffer; stop it to take samples"));
    }
    let inspector = place.open()?;
    let fail = |error: std::io::Error| Failure::failed(format!("write samples: {error}"));
    std::fs::create_dir(output).map_err(fail)?;
    let mut written = 0;
    for batch in inspector.batches() {
        let batch = batch.map_err(Failure::failed)?;
        if !of_lane(&batch, lane) {
            continue;
        }
        for row in &batch {
            if written == limit {
                break;
            }
            let mut one = BatchBuilder::new(batch.source.clone());
            one.push_row_at(&row.map_err(Failure::failed)?, 0).map_err(Failure::failed)?;
            std::fs::write(output.join(format!("{written:06}.row")), &one.finish().body).map_err(fail)?;
            written += 1;
        }
    }
    print(&format!("{written} rows; now: zstd --train {}/* -o dts.dict\n", output.display()))
}

fn of_lane(batch: &Batch, lane: Option<&str>) -> bool {
    match &batch.origin {
        Origin::Device { lane: of, .. } => lane.is_none_or(|wanted| wanted == &**of),
        _ => lane.is_none(),
    }
}

fn lines(batch: &Batch) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    json::write_batch(&mut out, batch, json::Format::default()).map_err(Failure::failed)?;
    Ok(out)
}
