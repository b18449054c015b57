//! Where the rows of a batch stand in the binlog of a MySQL or MariaDB server.
//!
//! A batch holds rows of many small transactions or a part of a large one. What its rows share is kept once: by
//! transaction, and by event. Nothing here is allocated a row.

use std::fmt;
use std::sync::Arc;

/// A global transaction identifier, in binary: a transaction costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gtid {
    /// The server has none, or wrote this transaction without.
    #[default]
    None,
    /// MySQL: `uuid[:tag]:number`.
    MySql {
        /// Of the server where the transaction was first committed.
        uuid: [u8; 16],
        /// Since MySQL 8.3.
        tag: Option<Arc<str>>,
        /// From 1.
        number: u64,
    },
    /// MariaDB: `domain-server-sequence`.
    MariaDb {
        /// Replication domain.
        domain: u32,
        /// Of the server where the transaction was first committed.
        server: u32,
        /// Within the domain.
        sequence: u64,
    },
}

impl fmt::Display for Gtid {
    /// As the server prints it; nothing for [`Self::None`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::MySql { uuid, tag, number } => {
                for (i, byte) in uuid.iter().enumerate() {
                    let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                match tag {
                    Some(tag) => write!(f, ":{tag}:{number}"),
                    None => write!(f, ":{number}"),
                }
            }
            Self::MariaDb { domain, server, sequence } => write!(f, "{domain}-{server}-{sequence}"),
        }
    }
}

/// One transaction that has rows in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its GTID.
    pub gtid: Gtid,
    /// The binlog file it stands in: a transaction never spans two.
    pub file: Arc<str>,
    /// Offset in the file where it begins (its GTID event; without GTIDs its BEGIN).
    pub start: u64,
    /// When it was committed at its origin, in microseconds since 1970 UTC, if the server says so.
    pub commit_ts_us: Option<u64>,
    /// The XID, if it was prepared by XA.
    pub xa: Option<Arc<str>>,
}

/// What the rows of one event share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsEvent {
    /// Index in the batch of its first row here.
    pub first_row: u32,
    /// Index into [`Binlog::transactions`].
    pub transaction: u32,
    /// Offset in the file behind the event (of the payload event for rows in a compressed transaction).
    pub end: u64,
    /// The event header's time in milliseconds since 1970 UTC.
    pub ts_ms: u64,
}

/// Where the rows of a batch come from. Each row's ordinal is its place in its transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binlog {
    /// MySQL's `server_uuid`; empty for MariaDB. Stands in the `id` of rows without GTID.
    pub server_uuid: Arc<str>,
    /// In the order of the log.
    pub transactions: Vec<Transaction>,
    /// In the order of the rows; the first has `first_row` 0.
    pub events: Vec<RowsEvent>,
}

impl Binlog {
    /// The event and the transaction of the row at `index` of the batch.
    pub fn of(&self, index: u32) -> Option<(&RowsEvent, &Transaction)> {
        let place = self.events.partition_point(|event| event.first_row <= index).checked_sub(1)?;
        let event = self.events.get(place)?;
        Some((event, self.transactions.get(event.transaction as usize)?))
    }
}

/// Where the rows of a snapshot come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Names the run in the rows' `id`: a snapshot that is made again is another run.
    pub run: Arc<str>,
    /// The chunk's high mark: binlog file …
    pub file: Arc<str>,
    /// … offset in it …
    pub pos: u64,
    /// … and GTID set as the server prints it; empty without GTIDs.
    pub gtids: Arc<str>,
    /// When the rows were read, in milliseconds since 1970 UTC.
    pub ts_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gtids_print_as_servers_print_them() {
        let uuid =
            [0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62];
        let plain = Gtid::MySql { uuid, tag: None, number: 23 };
        assert_eq!(plain.to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:23");
        let tagged = Gtid::MySql { uuid, tag: Some("night".into()), number: 1 };
        assert_eq!(tagged.to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:night:1");
        assert_eq!(Gtid::MariaDb { domain: 0, server: 1, sequence: 9 }.to_string(), "0-1-9");
        assert_eq!(Gtid::None.to_string(), "");
    }

    #[test]
    fn a_row_finds_its_event_and_its_transaction() {
        let transaction = |start| Transaction {
            gtid: Gtid::None,
            file: "b.000001".into(),
            start,
            commit_ts_us: None,
            xa: None,
        };
        let event = |first_row, transaction, end| RowsEvent { first_row, transaction, end, ts_ms: 0 };
        let log = Binlog {
            server_uuid: "u".into(),
            transactions: vec![transaction(4), transaction(90)],
            events: vec![event(0, 0, 50), event(3, 0, 80), event(5, 1, 120)],
        };
        let at = |row| log.of(row).map(|(event, transaction)| (event.end, transaction.start));
        assert_eq!(
            [at(0), at(2), at(3), at(4), at(5), at(99)],
            [Some((50, 4)), Some((50, 4)), Some((80, 4)), Some((80, 4)), Some((120, 90)), Some((120, 90))]
        );
        assert_eq!(Binlog::default().of(0), None);
    }
}
