//! `dts binlog verify`: structure and checksums.

use super::args::Args;
use super::count::total_bytes;
use super::open::open;
use super::screen::{Output, Progress, note};
use super::session::{Consumer, Flow, Seen, Tables, read};
use crate::cli::output::{Exit, Failure};
use crate::source::mysql::binlog::{Checksum, Event, Item, Problem};

pub(super) fn verify(args: &Args) -> Result<(), Failure> {
    let mut tables = Tables::default();
    let mut progress = Progress::new(total_bytes(args));
    let mut worst = None;
    for path in &args.files {
        let mut check = Check::default();
        let found = open(path, args.options()).and_then(|mut opened| {
            let end = read(&mut opened, &mut tables, &mut progress, &mut check);
            end.map_err(|fault| fault.failure(&opened.path)).map(|end| (end, opened.path))
        });
        let (end, path) = match found {
            Ok(found) => found,
            Err(failure) => {
                note(&mut progress, &failure.message);
                if worst != Some(Exit::BadData) {
                    worst = Some(failure.exit);
                }
                continue;
            }
        };
        progress.clear();
        let checksums = match check.checksum {
            Checksum::Crc32 => "checksums are right",
            Checksum::None => "it has no checksums, so only its structure was checked",
        };
        let mut line = format!("{path}: sound, {} events in {end} bytes; {checksums}", check.events);
        if !check.closed {
            line.push_str("; not closed by ROTATE or STOP: the server was writing it, or crashed");
        }
        if let Some(offset) = check.disagrees {
            line.push_str(&format!("; from offset {offset} on the server's own positions differ"));
        }
        line.push('\n');
        let mut out = Output::default();
        out.buf.extend_from_slice(line.as_bytes());
        out.flush()?;
    }
    worst.map_or(Ok(()), |exit| Err(Failure::quiet(exit)))
}

#[derive(Debug)]
struct Check {
    events: u64,
    checksum: Checksum,
    closed: bool,
    /// The first event whose `end_log_pos` is not where it ends, as in a relay log or a file that was cut out of another.
    disagrees: Option<u64>,
}

impl Default for Check {
    fn default() -> Self {
        Self { events: 0, checksum: Checksum::None, closed: false, disagrees: None }
    }
}

impl Consumer for Check {
    fn event(&mut self, item: &Item<'_>, _seen: Seen<'_>) -> Result<Flow, Problem> {
        self.events += 1;
        self.closed = matches!(item.event, Event::Rotate(_) | Event::Stop);
        if !item.position_agrees() && !item.header.is_artificial() {
            self.disagrees = self.disagrees.or(Some(item.start));
        }
        match &item.event {
            Event::FormatDescription(format) => self.checksum = format.checksum,
            Event::Rows(rows) => drop(rows.count()?),
            _ => {}
        }
        Ok(Flow::Go)
    }
}
