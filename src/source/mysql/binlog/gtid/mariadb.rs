//! MariaDB's GTIDs: `domain-server-number`.
//!
//! A position holds the last GTID of each domain; the numbers of a domain grow, so everything up to
//! it is contained. Source: MariaDB's manual, "Global Transaction ID".

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{BadGtid, bad};

/// `0-1-42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MariaDbGtid {
    /// Domain: one order of transactions.
    pub domain: u32,
    /// `server_id` of the server that it came from.
    pub server: u32,
    /// Number in the domain.
    pub number: u64,
}

impl fmt::Display for MariaDbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

impl FromStr for MariaDbGtid {
    type Err = BadGtid;

    fn from_str(text: &str) -> Result<Self, BadGtid> {
        let wrong = || bad("domain-server-number", text);
        let mut parts = text.trim().split('-');
        let mut next = || parts.next().filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        let (domain, server, number) = (next(), next(), next());
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self {
            domain: domain.and_then(|p| p.parse().ok()).ok_or_else(wrong)?,
            server: server.and_then(|p| p.parse().ok()).ok_or_else(wrong)?,
            number: number.and_then(|p| p.parse().ok()).ok_or_else(wrong)?,
        })
    }
}

/// The last GTID of each domain, as in `gtid_binlog_pos`. Displays as the server prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbGtidSet {
    last: BTreeMap<u32, (u32, u64)>,
}

impl MariaDbGtidSet {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `gtid` is at or before the last one of its domain.
    pub fn contains(&self, gtid: &MariaDbGtid) -> bool {
        self.last.get(&gtid.domain).is_some_and(|&(_, number)| gtid.number <= number)
    }

    /// Moves the domain's last GTID up to `gtid`; one that is already contained changes nothing.
    pub fn add(&mut self, gtid: MariaDbGtid) {
        let last = self.last.entry(gtid.domain).or_insert((gtid.server, gtid.number));
        if gtid.number > last.1 {
            *last = (gtid.server, gtid.number);
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|gtid| self.add(gtid));
    }

    /// Whether everything in `other` is in this one.
    pub fn contains_set(&self, other: &Self) -> bool {
        other.iter().all(|gtid| self.contains(&gtid))
    }

    /// The last GTID of each domain, by domain.
    pub fn iter(&self) -> impl Iterator<Item = MariaDbGtid> + '_ {
        self.last.iter().map(|(&domain, &(server, number))| MariaDbGtid { domain, server, number })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }
}

impl FromStr for MariaDbGtidSet {
    type Err = BadGtid;

    fn from_str(text: &str) -> Result<Self, BadGtid> {
        let mut set = Self::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            set.add(part.parse()?);
        }
        Ok(set)
    }
}

impl fmt::Display for MariaDbGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, gtid) in self.iter().enumerate() {
            write!(f, "{}{gtid}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
