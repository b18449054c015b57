//! What the user asks for.

use std::path::PathBuf;

use crate::cli::output::Failure;
use crate::cli::parse::Parsed;
use crate::source::mysql::binlog::Options;
use crate::source::mysql::binlog::gtid::{MariaDbGtid, MySqlGtid, MySqlGtidSet};

/// Arguments of `dts binlog`.
#[derive(Clone, Debug)]
pub(super) struct Args {
    /// In this order; `-` is standard input.
    pub(super) files: Vec<PathBuf>,
    pub(super) json: bool,
    pub(super) tables: Vec<TableName>,
    pub(super) start: u64,
    pub(super) stop: u64,
    pub(super) gtids: Option<Gtids>,
    pub(super) max_row_bytes: Option<u64>,
    pub(super) verbose: bool,
    pub(super) count: bool,
}

impl Args {
    pub(super) fn new(parsed: &Parsed) -> Result<Self, Failure> {
        // Only `dump` has most flags, and asking for one that the table lacks is a mistake.
        let has = |name: &str| parsed.command.flags.iter().any(|flag| flag.name == name);
        let number = |name: &str| if has(name) { parsed.number(name) } else { None };
        let is_set = |name: &str| has(name) && parsed.is_set(name);
        let json = if has("format") { parsed.text("format") == Some("json") } else { is_set("json") };
        let tables = if has("table") { parsed.texts("table") } else { Vec::new() };
        let gtids = if has("gtid") { parsed.text("gtid").map(Gtids::parse).transpose()? } else { None };
        Ok(Self {
            files: parsed.paths("file"),
            json,
            tables: tables.into_iter().map(TableName::parse).collect::<Result<_, _>>()?,
            start: number("start-pos").unwrap_or(0),
            stop: number("stop-pos").unwrap_or(u64::MAX),
            gtids,
            max_row_bytes: number("max-row-bytes"),
            verbose: is_set("verbose"),
            count: is_set("count"),
        })
    }

    /// How files are read.
    pub(super) fn options(&self) -> Options {
        let usual = Options::default();
        let max = self.max_row_bytes.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
        Options { max_row_bytes: max.unwrap_or(usual.max_row_bytes), ..usual }
    }

    /// Whether changes of this table are wanted.
    pub(super) fn wants(&self, db: &str, table: &str) -> bool {
        let fits =
            |name: &TableName| name.db == db && name.table.as_ref().is_none_or(|wanted| wanted == table);
        self.tables.is_empty() || self.tables.iter().any(fits)
    }
}

/// `db.table`, or `db.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName {
    db: String,
    /// `None` for every one.
    table: Option<String>,
}

impl TableName {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text.split_once('.') {
            Some((db, table)) if !db.is_empty() && !table.is_empty() => {
                Ok(Self { db: db.to_owned(), table: (table != "*").then(|| table.to_owned()) })
            }
            _ => Err(Failure::usage(format!(
                "expected `db.table` or `db.*` for `--table`, found `{}`",
                text.escape_debug()
            ))),
        }
    }
}

/// The transactions that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gtids {
    MySql(MySqlGtidSet),
    /// Ranges of one domain and server each: first and last number.
    MariaDb(Vec<(MariaDbGtid, u64)>),
}

impl Gtids {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.contains(':')
            && text.len() > 36
            && let Ok(set) = text.parse()
        {
            return Ok(Self::MySql(set));
        }
        let ranges = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
            let (first, last) =
                part.split_once(':').map_or((part, None), |(first, last)| (first, Some(last)));
            let first: MariaDbGtid = first.parse().ok()?;
            let last = last.map_or(Some(first.number), |last| last.parse().ok())?;
            Some((first, last))
        });
        match ranges.collect::<Option<Vec<_>>>() {
            Some(ranges) if !ranges.is_empty() => Ok(Self::MariaDb(ranges)),
            _ => Err(Failure::usage(format!(
                "expected a GTID set for `--gtid`, such as `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5` or `0-1-5,0-1-8:20`, \
                 found `{}`",
                text.escape_debug()
            ))),
        }
    }

    pub(super) fn has_mysql(&self, gtid: Option<&MySqlGtid>) -> bool {
        matches!((self, gtid), (Self::MySql(set), Some(gtid)) if set.contains(gtid))
    }

    pub(super) fn has_mariadb(&self, gtid: &MariaDbGtid) -> bool {
        let fits = |(first, last): &(MariaDbGtid, u64)| {
            (first.domain, first.server) == (gtid.domain, gtid.server)
                && (first.number..=*last).contains(&gtid.number)
        };
        matches!(self, Self::MariaDb(ranges) if ranges.iter().any(fits))
    }
}
