//! The transaction, or group of events, at hand.

use std::collections::BTreeMap;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// As the server prints it; empty if it has none.
    pub(super) gtid: String,
    /// What its rows' ids begin with.
    pub(super) id: String,
    /// From the GTID event, microseconds.
    pub(super) commit_ts_us: Option<u64>,
    /// Whether the user wants it.
    pub(super) wanted: bool,
    /// The XID, in an XA transaction.
    pub(super) xa: Option<String>,
    /// Rows so far, and records.
    pub(super) rows: u64,
    pub(super) records: u64,
    /// Rows by `db.table`.
    pub(super) by_table: BTreeMap<Box<str>, u64>,
    pub(super) state: State,
    /// A begin that is written with the first row that is wanted.
    pub(super) pending: Option<Begin>,
    /// Where its last event stands, for an end that no event tells.
    pub(super) last: Place,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Its end came, or nothing did yet.
    #[default]
    Over,
    /// Its GTID came.
    Named,
    /// It was begun by BEGIN, XA START or a GTID that means that.
    Begun,
    /// Rows came without a beginning: a standalone group, as of CREATE … SELECT.
    Loose,
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) ts_ms: u64,
    /// End of the event.
    pub(super) pos: u64,
}

/// A record of kind `begin` that is not yet written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    pub(super) place: Place,
    pub(super) record: u64,
}

impl Group {
    /// A new one, which begins at `start` of `file`.
    pub(super) fn open(&mut self, gtid: String, id: String, commit_ts_us: Option<u64>, wanted: bool) {
        self.gtid = gtid;
        self.id = id;
        self.commit_ts_us = commit_ts_us;
        self.wanted = wanted;
        self.xa = None;
        (self.rows, self.records) = (0, 0);
        self.by_table.clear();
        self.state = State::Named;
        self.pending = None;
    }

    /// The ordinal of the next record.
    pub(super) fn record(&mut self) -> u64 {
        self.records += 1;
        self.records - 1
    }

    /// Counts rows of a table.
    pub(super) fn count(&mut self, label: &str, rows: u64) {
        self.rows += rows;
        self.records += rows;
        match self.by_table.get_mut(label) {
            Some(count) => *count += rows,
            None => drop(self.by_table.insert(label.into(), rows)),
        }
    }
}
