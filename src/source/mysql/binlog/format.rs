//! FORMAT_DESCRIPTION: what the events of a file look like.
//!
//! ```text
//! binlog version u16 | server version [50] | created u32 | header length u8 | post-header length u8 per type
//!                    | checksum algorithm u8 | checksum u32          (both from MySQL 5.6.1, MariaDB 5.3 on)
//! ```
//!
//! Source: MySQL's `libs/mysql/binlog/event/control_events.h`, `Format_description_event`.

use super::bytes::Bytes;
use super::checksum::Checksum;
use super::error::{Malformed, Problem};
use super::header::{EventType, HEADER_BYTES};

/// Who wrote a binlog. The two speak dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MySQL, and servers that write as it does (Percona Server, TiDB's tools).
    MySql,
    /// MariaDB.
    MariaDb,
}

/// What a file's first event says of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatDescription {
    /// As the server calls itself: `9.7.4`, `10.5.23-MariaDB-log`.
    pub server_version: Box<str>,
    /// When the file was begun after a start of the server, seconds since 1970 UTC; 0 after a mere
    /// rotation. Temporary tables of before are void where it is not 0.
    pub created: u32,
    /// How events end.
    pub checksum: Checksum,
    /// Length of the fixed part behind the header, by type, from type 1.
    pub post_header_lengths: Box<[u8]>,
}

impl FormatDescription {
    /// Reads the whole event, header included.
    pub(crate) fn parse(event: &[u8]) -> Result<Self, Problem> {
        let mut b = Bytes(event);
        b.take(HEADER_BYTES, "the event header's end")?;
        let version = b.u16("the binlog version")?;
        if version != 4 {
            return Err(Problem::OldFormat(version));
        }
        let name = b.take(50, "the server version")?;
        let name = name.split(|&c| c == 0).next().unwrap_or(name);
        let server_version: Box<str> = String::from_utf8_lossy(name).into();
        let created = b.u32("the time of creation")?;
        let header = b.u8("the header length")?;
        if usize::from(header) != HEADER_BYTES {
            let expected = "a header length of 19";
            return Err(Malformed::Invalid { expected, found: u64::from(header) }.into());
        }
        let (lengths, checksum) = if has_checksum_byte(&server_version) {
            let Some((lengths, &[algorithm, ..])) = b.0.split_last_chunk::<5>() else {
                return Err(Malformed::Ends("the checksum algorithm").into());
            };
            (lengths, Checksum::from_u8(algorithm)?)
        } else {
            (b.0, Checksum::None)
        };
        Ok(Self { server_version, created, checksum, post_header_lengths: lengths.into() })
    }

    /// Who wrote it.
    pub fn flavour(&self) -> Flavour {
        // MariaDB numbers its types from 160 on, so its table is longer than MySQL's by far.
        if self.server_version.contains("MariaDB") || self.post_header_lengths.len() > 150 {
            Flavour::MariaDb
        } else {
            Flavour::MySql
        }
    }

    /// Bytes of the fixed part behind the header; 0 for a type that the server does not list.
    pub fn post_header_length(&self, event: EventType) -> usize {
        let i = usize::from(event.0).checked_sub(1);
        i.and_then(|i| self.post_header_lengths.get(i)).map_or(0, |&n| usize::from(n))
    }

    /// Bytes of a table id: four in the first 5.1, six since.
    pub(crate) fn table_id_bytes(&self, event: EventType) -> usize {
        if self.post_header_length(event) == 6 { 4 } else { 6 }
    }
}

/// Whether the event ends with an algorithm and a checksum (`Log_event_footer`): from 5.6.1 on,
/// MariaDB from 5.3 on.
fn has_checksum_byte(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0u32));
    let mut next = || numbers.next().unwrap_or(0);
    let version_number = (next(), next(), next());
    let first = if version.contains("MariaDB") { (5, 3, 0) } else { (5, 6, 1) };
    version_number >= first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_byte_begins_with_its_version() {
        for (version, has) in [
            ("5.5.62-log", false),
            ("5.6.0", false),
            ("5.6.1-m5", true),
            ("5.7.44-log", true),
            ("8.0.36", true),
            ("9.7.4", true),
            ("10.5.23-MariaDB-log", true),
            ("5.3.12-MariaDB", true),
            ("5.5.5-10.1.2-MariaDB", true),
            ("", false),
        ] {
            assert_eq!(has_checksum_byte(version), has, "{version}");
        }
    }
}
