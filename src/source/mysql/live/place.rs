//! Where events stand in the server's files, and what was read so far.

use std::sync::Arc;

use crate::event::binlog::Gtid;
use crate::source::mysql::binlog::gtid::{MariaDbGtid, MariaDbGtidSet, MySqlGtid, MySqlGtidSet, Tag};
use crate::source::mysql::binlog::{Event, EventType, Item};

/// All transactions that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum GtidState {
    /// Not known, or the server has none.
    #[default]
    None,
    MySql(MySqlGtidSet),
    MariaDb(MariaDbGtidSet),
}

impl GtidState {
    /// Adds one, if it is of the same kind.
    pub(super) fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (Self::MySql(set), Gtid::MySql { uuid, tag, number }) => {
                let tag = tag.as_deref().and_then(|tag| Tag::new(tag).ok()).unwrap_or_default();
                set.add(MySqlGtid { uuid: *uuid, tag, number: *number });
            }
            (Self::MariaDb(set), &Gtid::MariaDb { domain, server, sequence }) => {
                set.add(MariaDbGtid { domain, server, number: sequence });
            }
            _ => {}
        }
    }

    /// As the server prints it; `None` if it is not known.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::MySql(set) => Some(set.to_string()),
            Self::MariaDb(set) => Some(set.to_string()),
        }
    }
}

/// A place between two transactions, and the transactions that became part of what lies before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) file: Arc<str>,
    pub(super) pos: u64,
    /// Of the transactions since the mark before.
    pub(super) gtids: Vec<Gtid>,
    /// What the set of all is, where the server told it.
    pub(super) base: Option<GtidState>,
    /// A transaction of which some rows were handed on and others were not.
    pub(super) partial: Option<Gtid>,
    /// Entries of the history of schemas that lie before.
    pub(super) schemas: u64,
    /// Time of the last event, milliseconds since 1970 UTC.
    pub(super) ts_ms: u64,
    /// Nothing more had come from the server then.
    pub(super) is_current: bool,
}

/// Follows the server's own positions, which the stream's offsets are not: what the server makes up for the reader
/// stands in no file, and transactions that it passes over are not sent.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) file: Arc<str>,
    /// Where the next event begins.
    pub(super) pos: u64,
    /// Offset in the stream of the event at hand, and where it begins and ends in the file.
    at: Option<(u64, u64, u64)>,
}

impl Tracker {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.into(), pos: 4, at: None }
    }

    /// Where the event begins and ends in [`Self::file`].
    pub(super) fn event(&mut self, item: &Item<'_>) -> (u64, u64) {
        // Parts of an event, and events inside of a payload, stand where it does.
        if let Some((offset, start, end)) = self.at
            && offset == item.start
        {
            return (start, end);
        }
        let header = &item.header;
        let made_up = header.is_artificial()
            || matches!(header.event_type, EventType::HEARTBEAT | EventType::HEARTBEAT_V2)
            || matches!(header.event_type, EventType::ROTATE | EventType::FORMAT_DESCRIPTION)
                && header.next_position == 0;
        if made_up {
            self.at = Some((item.start, self.pos, self.pos));
            return (self.pos, self.pos);
        }
        let length = item.end - item.start;
        let mut end = self.pos + length;
        // Passed over transactions lie between: the header has the lower 32 bits of where it ends.
        let ahead = header.next_position.wrapping_sub(end as u32);
        if header.next_position != 0 && ahead != 0 && ahead < 1 << 31 {
            end += u64::from(ahead);
        }
        let start = end - length;
        self.pos = end;
        self.at = Some((item.start, start, end));
        (start, end)
    }

    /// The next file, or the same again, at `pos`.
    pub(super) fn rotate(&mut self, file: &str, pos: u64) {
        if *self.file != *file {
            self.file = file.into();
        }
        self.pos = pos;
    }

    /// Whether a heartbeat moved the position.
    pub(super) fn heartbeat(&mut self, event: &Event<'_>) -> bool {
        match event {
            Event::Heartbeat(beat) if *self.file == *beat.file && beat.position > self.pos => {
                self.pos = beat.position;
                true
            }
            _ => false,
        }
    }
}
