//! `dts binlog stats`: what fills the files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::args::Args;
use super::count::total_bytes;
use super::open::open;
use super::screen::{Output, Progress};
use super::session::{Consumer, Flow, Seen, Tables, read};
use crate::cli::output::Failure;
use crate::codec::text;
use crate::source::mysql::binlog::gtid::MySqlGtidSet;
use crate::source::mysql::binlog::{Event, Item, Problem, RowsKind};
use crate::source::mysql::ddl::Kind;

pub(super) fn stats(args: &Args) -> Result<(), Failure> {
    let mut stats = Stats::default();
    let mut tables = Tables::default();
    let mut progress = Progress::new(total_bytes(args));
    for path in &args.files {
        let mut opened = open(path, args.options())?;
        opened.name.clone_into(&mut stats.file);
        let end = read(&mut opened, &mut tables, &mut progress, &mut stats);
        progress.clear();
        stats.bytes += end.map_err(|fault| fault.failure(&opened.path))?;
        stats.files += 1;
        stats.end();
    }
    let mut out = Output::default();
    let shown = if args.json { format!("{}\n", stats.json()) } else { stats.text() };
    out.buf.extend_from_slice(shown.as_bytes());
    out.flush()
}

#[derive(Clone, Copy, Debug, Default)]
struct Table {
    inserts: u64,
    updates: u64,
    deletes: u64,
    /// Of the images in the events.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Type {
    events: u64,
    bytes: u64,
}

/// A transaction's size.
#[derive(Clone, Debug, Default)]
struct Largest {
    gtid: String,
    file: String,
    start: u64,
    bytes: u64,
    rows: u64,
}

#[derive(Debug, Default)]
struct Stats {
    files: u64,
    bytes: u64,
    events: u64,
    transactions: u64,
    file: String,
    tables: BTreeMap<String, Table>,
    /// By name; those inside compressed transactions with their inflated bytes.
    types: BTreeMap<String, Type>,
    largest: Largest,
    current: Option<Largest>,
    /// Seconds of the first and the last event.
    span: Option<(u32, u32)>,
    gtids: MySqlGtidSet,
    /// First and last number by domain and server, and how many.
    mariadb: BTreeMap<(u32, u32), (u64, u64, u64)>,
}

impl Stats {
    fn begin(&mut self, start: u64, gtid: String) {
        self.end();
        self.current = Some(Largest { gtid, file: self.file.clone(), start, bytes: 0, rows: 0 });
    }

    fn end(&mut self) {
        if let Some(done) = self.current.take() {
            self.transactions += 1;
            if done.bytes > self.largest.bytes {
                self.largest = done;
            }
        }
    }

    fn gtids(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.gtids.is_empty() {
            out.push(self.gtids.to_string());
        }
        for ((domain, server), (first, last, count)) in &self.mariadb {
            let gaps = if last - first + 1 == *count { "" } else { " with gaps" };
            out.push(format!("{domain}-{server}-{first}:{last} ({count}{gaps})"));
        }
        out
    }

    fn json(&self) -> serde_json::Value {
        let time = |seconds: u32| shown(seconds);
        let tables = self.tables.iter().map(|(name, t)| {
            let value = serde_json::json!({
                "inserts": t.inserts, "updates": t.updates, "deletes": t.deletes, "bytes": t.bytes,
            });
            (name.clone(), value)
        });
        let types = self
            .types
            .iter()
            .map(|(name, t)| (name.clone(), serde_json::json!({ "events": t.events, "bytes": t.bytes })));
        let Largest { gtid, file, start, bytes, rows } = &self.largest;
        let mariadb = self.mariadb.iter().map(|((domain, server), (first, last, count))| {
            serde_json::json!({ "domain": domain, "server": server, "first": first, "last": last, "count": count })
        });
        serde_json::json!({
            "files": self.files,
            "bytes": self.bytes,
            "events": self.events,
            "transactions": self.transactions,
            "first": self.span.map(|span| time(span.0)),
            "last": self.span.map(|span| time(span.1)),
            "tables": tables.collect::<serde_json::Map<_, _>>(),
            "types": types.collect::<serde_json::Map<_, _>>(),
            "largest": (*bytes > 0).then(|| serde_json::json!({
                "gtid": (!gtid.is_empty()).then_some(gtid), "file": file, "pos": start, "bytes": bytes, "rows": rows,
            })),
            "gtids": (!self.gtids.is_empty()).then(|| self.gtids.to_string()),
            "mariadb_gtids": mariadb.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // A String takes everything.
            writeln!(out, "{text}").unwrap_or_default();
        };
        line(format_args!(
            "{} files, {} bytes, {} events, {} transactions",
            self.files, self.bytes, self.events, self.transactions
        ));
        if let Some((first, last)) = self.span {
            line(format_args!("from {} to {}", shown(first), shown(last)));
        }
        let Largest { gtid, file, start, bytes, rows } = &self.largest;
        if *bytes > 0 {
            let gtid = if gtid.is_empty() { String::new() } else { format!(" {gtid}") };
            line(format_args!("largest transaction{gtid}: {bytes} bytes, {rows} rows, at {file}:{start}"));
        }
        for gtids in self.gtids() {
            line(format_args!("gtids {gtids}"));
        }
        line(format_args!("\n{:>12} {:>12} {:>12} {:>14}  table", "inserts", "updates", "deletes", "bytes"));
        let mut tables: Vec<_> = self.tables.iter().collect();
        tables.sort_by_key(|(_, table)| std::cmp::Reverse(table.bytes));
        for (name, t) in tables {
            line(format_args!(
                "{:>12} {:>12} {:>12} {:>14}  {name}",
                t.inserts, t.updates, t.deletes, t.bytes
            ));
        }
        line(format_args!("\n{:>12} {:>14}  type", "events", "bytes"));
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_by_key(|(_, ty)| std::cmp::Reverse(ty.bytes));
        for (name, ty) in types {
            line(format_args!("{:>12} {:>14}  {name}", ty.events, ty.bytes));
        }
        out
    }
}

fn shown(seconds: u32) -> String {
    let mut out = Vec::new();
    text::timestamp(&mut out, i64::from(seconds) * 1_000_000, 0);
    String::from_utf8(out).unwrap_or_default()
}

impl Consumer for Stats {
    fn event(&mut self, item: &Item<'_>, seen: Seen<'_>) -> Result<Flow, Problem> {
        let parted = matches!(&item.event, Event::Rows(rows) if rows.part.rows_before > 0);
        if !parted {
            self.events += 1;
            let name = match item.header.event_type.name() {
                Some(name) => name.to_owned(),
                None => item.header.event_type.to_string(),
            };
            let ty = self.types.entry(name).or_default();
            ty.events += 1;
            ty.bytes += u64::from(item.header.length);
        }
        let seconds = item.header.timestamp;
        if seconds > 0 {
            let (first, last) = self.span.unwrap_or((seconds, seconds));
            self.span = Some((first.min(seconds), last.max(seconds)));
        }
        match &item.event {
            Event::Gtid(event) => {
                self.begin(item.start, event.gtid.map(|gtid| gtid.to_string()).unwrap_or_default());
                if let Some(gtid) = event.gtid {
                    self.gtids.add(gtid);
                }
            }
            Event::MariaDbGtid(event) => {
                let gtid = event.gtid;
                self.begin(item.start, gtid.to_string());
                let range = (gtid.number, gtid.number, 0);
                let range = self.mariadb.entry((gtid.domain, gtid.server)).or_insert(range);
                *range = (range.0.min(gtid.number), range.1.max(gtid.number), range.2 + 1);
            }
            // Without GTIDs a transaction begins with a statement.
            Event::Query(_)
                if self.current.is_none()
                    && seen.statement.is_some_and(|statement| statement.kind != Kind::Dml) =>
            {
                self.begin(item.start, String::new());
            }
            Event::Rows(rows) => {
                let count = rows.count()?;
                let table = self.tables.entry(rows.table.full_name()).or_default();
                table.bytes += rows.image_bytes() as u64;
                match rows.kind {
                    RowsKind::Insert => table.inserts += count,
                    RowsKind::Update => table.updates += count,
                    RowsKind::Delete => table.deletes += count,
                }
                if let Some(current) = &mut self.current {
                    current.rows += count;
                }
            }
            Event::Rotate(_) | Event::Stop => self.end(),
            _ => {}
        }
        if let Some(current) = &mut self.current {
            current.bytes = current.bytes.max(item.end - current.start);
            if matches!(item.event, Event::Xid(_)) {
                self.end();
            }
        }
        Ok(Flow::Go)
    }
}
