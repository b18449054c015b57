//! MySQL's GTIDs: `uuid:number`, since 8.3 `uuid:tag:number`.
//!
//! A set holds, for each uuid and tag, ranges of numbers that neither overlap nor touch. As text:
//! `uuid:1-5:9:tag:1-3,uuid2:1`. In PREVIOUS_GTIDS:
//!
//! ```text
//! count u64 | (uuid [16] | [tag length, tag] | ranges u64 | (first u64 | end, exclusive u64)…)…
//! ```
//!
//! where a set with tags has 1 in the lowest and the highest byte of `count`, and the count between
//! them. Source: MySQL's `sql/rpl_gtid_set.cc`, `Gtid_set::encode`; manual, "GTID Sets".

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::super::bytes::{Bytes, utf8};
use super::super::error::Malformed;
use super::{BadGtid, bad};

/// A tag: up to 32 of `a-z`, `0-9`, `_`, not beginning with a digit; empty if there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tag {
    // Zero bytes behind the end, so that the derived order is that of the text.
    text: [u8; 32],
    len: u8,
}

impl Tag {
    /// From its text, which is made lower case as the server does.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        let expected = "a tag of at most 32 letters, digits and underscores";
        let wrong = || Malformed::Invalid { expected, found: text.len() as u64 };
        let mut tag = Self::default();
        let room = tag.text.get_mut(..text.len()).ok_or_else(wrong)?;
        room.copy_from_slice(text.as_bytes());
        room.make_ascii_lowercase();
        let named = |(i, b): (usize, &u8)| match b {
            b'a'..=b'z' | b'_' => true,
            b'0'..=b'9' => i > 0,
            _ => false,
        };
        if !room.iter().enumerate().all(named) {
            return Err(wrong());
        }
        tag.len = text.len() as u8;
        Ok(tag)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// `uuid:number` or `uuid:tag:number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MySqlGtid {
    /// `server_uuid` of the server that it came from.
    pub uuid: [u8; 16],
    /// Tag; empty if it has none.
    pub tag: Tag,
    /// Number, from 1.
    pub number: u64,
}

impl fmt::Display for MySqlGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.uuid)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag.as_str())?;
        }
        write!(f, ":{}", self.number)
    }
}

impl FromStr for MySqlGtid {
    type Err = BadGtid;

    fn from_str(text: &str) -> Result<Self, BadGtid> {
        let set: MySqlGtidSet = text.parse()?;
        let mut ranges = set.ranges();
        match (ranges.next(), ranges.next()) {
            (Some((uuid, tag, first, last)), None) if first == last => Ok(Self { uuid, tag, number: first }),
            _ => Err(bad("one uuid:number", text)),
        }
    }
}

fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    let mut text = Vec::with_capacity(36);
    crate::codec::text::uuid(&mut text, uuid);
    f.write_str(std::str::from_utf8(&text).unwrap_or_default())
}

/// A set of GTIDs. Displays as the server prints `gtid_executed`, without line breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MySqlGtidSet {
    /// Ranges `(first, last)`, inclusive, in order; between two there is a gap.
    sets: BTreeMap<([u8; 16], Tag), Vec<(u64, u64)>>,
}

impl MySqlGtidSet {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the body of a PREVIOUS_GTIDS.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let head = b.u64("the count of uuids")?;
        let tagged = head >> 56 == 1;
        let count = if tagged { head >> 8 & 0xffff_ffff_ffff } else { head };
        let mut ranges = Vec::new();
        for _ in 0..count {
            let uuid = b.uuid("a uuid")?;
            let tag = if tagged {
                let len = usize::try_from(b.varlen("a tag's length")?).unwrap_or(usize::MAX);
                Tag::new(utf8(b.take(len, "a tag")?, "a tag in ASCII")?)?
            } else {
                Tag::default()
            };
            for _ in 0..b.u64("the count of ranges")? {
                let (first, end) = (b.u64("a range's first")?, b.u64("a range's end")?);
                if first == 0 || end <= first {
                    return Err(Malformed::Invalid { expected: "a range of GTIDs", found: end });
                }
                ranges.push((uuid, tag, first, end - 1));
            }
        }
        b.end()?;
        // Servers write them in order. In another each would move all that were added before it.
        ranges.sort_unstable();
        let mut set = Self::new();
        ranges.into_iter().for_each(|(uuid, tag, first, last)| set.add_range(uuid, tag, first, last));
        Ok(set)
    }

    /// As [`Self::decode`] reads it: what a replica sends to say what it has.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = self.sets.keys().any(|(_, tag)| !tag.is_empty());
        let count = self.sets.len() as u64;
        let mut out = if tagged { 1 << 56 | count << 8 | 1 } else { count }.to_le_bytes().to_vec();
        for ((uuid, tag), ranges) in &self.sets {
            out.extend_from_slice(uuid);
            if tagged {
                // A length of at most 32 as a variable-length integer of one byte.
                out.push(tag.len << 1);
                out.extend_from_slice(tag.as_str().as_bytes());
            }
            out.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
            for (first, last) in ranges {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.saturating_add(1).to_le_bytes());
            }
        }
        out
    }

    /// Whether it holds `gtid`.
    pub fn contains(&self, gtid: &MySqlGtid) -> bool {
        self.covers(gtid.uuid, gtid.tag, gtid.number, gtid.number)
    }

    fn covers(&self, uuid: [u8; 16], tag: Tag, first: u64, last: u64) -> bool {
        let Some(ranges) = self.sets.get(&(uuid, tag)) else { return false };
        let after = ranges.partition_point(|r| r.0 <= first);
        after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|r| last <= r.1)
    }

    /// Adds one.
    pub fn add(&mut self, gtid: MySqlGtid) {
        self.add_range(gtid.uuid, gtid.tag, gtid.number, gtid.number);
    }

    /// Adds `first`…`last`, both inclusive.
    pub fn add_range(&mut self, uuid: [u8; 16], tag: Tag, first: u64, last: u64) {
        if first > last {
            return;
        }
        let ranges = self.sets.entry((uuid, tag)).or_default();
        // The usual case: the next number.
        if let Some(end) = ranges.last_mut().filter(|r| r.1.checked_add(1) == Some(first)) {
            end.1 = last;
            return;
        }
        // All that overlap or touch become one.
        let from = ranges.partition_point(|r| r.1.saturating_add(1) < first);
        let to = ranges.partition_point(|r| r.0 <= last.saturating_add(1));
        let joined = ranges
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .fold((first, last), |j, r| (j.0.min(r.0), j.1.max(r.1)));
        ranges.splice(from..to.max(from), [joined]);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.ranges().for_each(|(uuid, tag, first, last)| self.add_range(uuid, tag, first, last));
    }

    /// Whether everything in `other` is in this one.
    pub fn contains_set(&self, other: &Self) -> bool {
        other.ranges().all(|(uuid, tag, first, last)| self.covers(uuid, tag, first, last))
    }

    /// All ranges: uuid, tag, first and last number, both inclusive.
    pub fn ranges(&self) -> impl Iterator<Item = ([u8; 16], Tag, u64, u64)> + '_ {
        self.sets.iter().flat_map(|(&(uuid, tag), r)| r.iter().map(move |&(a, b)| (uuid, tag, a, b)))
    }

    /// How many GTIDs it holds.
    pub fn count(&self) -> u64 {
        self.ranges().fold(0, |n, (_, _, first, last)| n.saturating_add(last - first).saturating_add(1))
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

impl FromStr for MySqlGtidSet {
    type Err = BadGtid;

    fn from_str(text: &str) -> Result<Self, BadGtid> {
        let mut set = Self::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().and_then(parse_uuid).ok_or_else(|| bad("a uuid", part))?;
            let (mut tag, mut ranges) = (Tag::default(), 0);
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    tag = Tag::new(field).map_err(|_| bad("a tag", field))?;
                    continue;
                }
                let (first, last) = field.split_once('-').unwrap_or((field, field));
                let number = |t: &str| t.trim().parse::<u64>().ok().filter(|&n| n > 0 && n < i64::MAX as u64);
                match (number(first), number(last)) {
                    (Some(first), Some(last)) if first <= last => set.add_range(uuid, tag, first, last),
                    _ => return Err(bad("a number or a range of numbers", field)),
                }
                ranges += 1;
            }
            if ranges == 0 {
                return Err(bad("uuid:number", part));
            }
        }
        Ok(set)
    }
}

/// With or without dashes, in braces or not, as the server takes it.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let mut digits = text.bytes().filter(|&b| b != b'-').map(|b| char::from(b).to_digit(16));
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(uuid)
}

impl fmt::Display for MySqlGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for ((uuid, tag), ranges) in &self.sets {
            if before != Some(uuid) {
                f.write_str(if before.is_some() { "," } else { "" })?;
                write_uuid(f, uuid)?;
                before = Some(uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{}", tag.as_str())?;
            }
            for &(first, last) in ranges {
                write!(f, ":{first}")?;
                if last > first {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}
