//! The commands that a replica sends.
//!
//! Sources: MySQL's "COM_REGISTER_SLAVE", "COM_BINLOG_DUMP", `sql/rpl_source.cc`, `com_binlog_dump_gtid`.

use crate::source::mysql::binlog::gtid::MySqlGtidSet;

/// How we present ourselves to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Unique among all replicas of a server.
    pub server_id: u32,
}

impl Replica {
    /// A `replica_uuid` made of the id: two replicas of one id have one uuid, so that servers see the clash.
    pub fn uuid(self) -> String {
        let mut raw = *b"dts replica\0\0\0\0\0";
        raw[12..].copy_from_slice(&self.server_id.to_be_bytes());
        let mut text = Vec::with_capacity(36);
        crate::codec::text::uuid(&mut text, &raw);
        String::from_utf8(text).unwrap_or_default()
    }

    /// COM_REGISTER_SLAVE. User and password in it are for show only, and stay empty.
    pub(super) fn register(self) -> Vec<u8> {
        let mut out = vec![0x15];
        out.extend_from_slice(&self.server_id.to_le_bytes());
        out.extend_from_slice(&[3, b'd', b't', b's', 0, 0]);
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out
    }
}

/// From where the binlog is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dump {
    /// From a place in a file. MariaDB: also with `@slave_connect_state` set and an empty name.
    File {
        /// Its name.
        file: String,
        /// Where an event begins.
        pos: u32,
    },
    /// All transactions that are not in the set (MySQL).
    Gtid(MySqlGtidSet),
}

impl Dump {
    pub(super) fn command(&self, replica: Replica) -> Vec<u8> {
        match self {
            Self::File { file, pos } => {
                let mut out = vec![0x12];
                out.extend_from_slice(&pos.to_le_bytes());
                out.extend_from_slice(&0u16.to_le_bytes());
                out.extend_from_slice(&replica.server_id.to_le_bytes());
                out.extend_from_slice(file.as_bytes());
                out
            }
            Self::Gtid(set) => {
                let data = set.encode();
                let mut out = vec![0x1e];
                // BINLOG_THROUGH_GTID
                out.extend_from_slice(&4u16.to_le_bytes());
                out.extend_from_slice(&replica.server_id.to_le_bytes());
                out.extend_from_slice(&0u32.to_le_bytes());
                out.extend_from_slice(&4u64.to_le_bytes());
                out.extend_from_slice(&(data.len() as u32).to_le_bytes());
                out.extend_from_slice(&data);
                out
            }
        }
    }
}
