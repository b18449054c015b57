//! Event by event through the files, and what is known of tables on the way.

use super::open::Opened;
use super::screen::Progress;
use crate::cli::output::{Exit, Failure};
use crate::source::mysql::binlog::{Error, Event, Item, Place, Problem};
pub(super) use crate::source::mysql::tables::{Statement, Tables};

/// Who looks at the events.
pub(super) trait Consumer {
    /// The next event. What is wrong with it stops the reading of its file.
    fn event(&mut self, item: &Item<'_>, seen: Seen<'_>) -> Result<Flow, Problem>;
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    /// No more of this file.
    Stop,
}

/// What is known beside the event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) tables: &'a Tables,
    /// Of a query event.
    pub(super) statement: Option<&'a Statement>,
}

/// Why the reading of a file ended early.
#[derive(Debug)]
pub(super) struct Fault(Error);

impl Fault {
    /// As a command ends by it.
    pub(super) fn failure(self, path: &str) -> Failure {
        use std::io::ErrorKind as Io;
        let exit = match &self.0.problem {
            // A compressed file that is damaged is damaged data.
            Problem::Io(io)
                if !matches!(
                    io.kind(),
                    Io::InvalidData | Io::InvalidInput | Io::UnexpectedEof | Io::Other
                ) =>
            {
                Exit::Failed
            }
            _ => Exit::BadData,
        };
        Failure::new(exit, format!("{path}: {}", self.0))
    }
}

/// Reads one file; the offset where its last event ended.
pub(super) fn read(
    opened: &mut Opened,
    tables: &mut Tables,
    progress: &mut Progress,
    consumer: &mut impl Consumer,
) -> Result<u64, Fault> {
    let mut end = 0;
    tables.next_file();
    let reader = &mut opened.reader;
    loop {
        // Looked at where it is: to move it out costs more than to read most events.
        let next = reader.next();
        let Ok(Some(item)) = &next else {
            match next {
                Err(error) => return Err(Fault(error)),
                _ => break,
            }
        };
        end = item.end;
        progress.at(end);
        let statement = match &item.event {
            Event::FormatDescription(format) => {
                tables.server(format.flavour(), &format.server_version);
                None
            }
            Event::Query(query) => Some(tables.statement(query)),
            _ => None,
        };
        let flow =
            consumer.event(item, Seen { tables, statement: statement.as_ref() }).map_err(|problem| {
                let place =
                    Place { offset: item.start, inside: item.inside, event: Some(item.header.event_type) };
                Fault(problem.at(place))
            })?;
        if flow == Flow::Stop {
            break;
        }
        let new = match &item.event {
            Event::TableMap(map) => tables.news(map).map(|hints| (map.table_id, hints)),
            _ => None,
        };
        if let Some((id, hints)) = new {
            reader.describe(id, &hints).map_err(Fault)?;
            if let Some(map) = reader.decoder().table(id) {
                tables.handled(map);
            }
        }
    }
    progress.file(opened.bytes.unwrap_or(0));
    Ok(end)
}
