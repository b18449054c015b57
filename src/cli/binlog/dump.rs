//! `dts binlog dump`.

use super::args::Args;
use super::count;
use super::group::{Begin, Group, Place, State};
use super::open::open;
use super::record;
use super::rows::{Frame, RowWriter, Scratch};
use super::screen::{Output, Progress, note};
use super::session::{Consumer, Flow, Seen, Statement, Tables, read};
use super::text::{self, Style};
use super::view::Views;
use crate::cli::output::Failure;
use crate::source::mysql::binlog::gtid::{MariaDbGtid, MySqlGtid};
use crate::source::mysql::binlog::{Event, Item, Problem, Rows, RowsKind};
use crate::source::mysql::ddl::{Kind, redact};
use crate::source::mysql::tables::{xid_of, xid_text};

pub(super) fn dump(args: &Args) -> Result<(), Failure> {
    if args.count {
        return count::count(args);
    }
    let mut dump = Dump::new(args);
    let mut tables = Tables::default();
    let mut progress = Progress::new(count::total_bytes(args));
    let mut failure = None;
    for (i, path) in args.files.iter().enumerate() {
        let mut opened = match open(path, args.options()) {
            Ok(opened) => opened,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        dump.file(&opened.name, i == 0, i + 1 == args.files.len());
        if let Err(fault) = read(&mut opened, &mut tables, &mut progress, &mut dump) {
            failure = Some(fault.failure(&opened.path));
            break;
        }
        dump.close();
    }
    progress.clear();
    // What was good before the failure is shown; a reader that went away is the reason for all else.
    dump.out.flush()?;
    if dump.unlogged > 0 {
        let message = format!(
            "dts: {} statements changed rows that no event shows (binlog_format STATEMENT or MIXED); \
             --format text shows the statements",
            dump.unlogged
        );
        note(&mut progress, &message);
    }
    failure.map_or(Ok(()), Err)
}

struct Dump<'a> {
    args: &'a Args,
    out: Output,
    /// `None`: dts JSON.
    style: Option<Style>,
    group: Group,
    views: Views,
    frame: Frame,
    scratch: Scratch,
    file: String,
    first: bool,
    last: bool,
    /// Statements that changed rows and were logged as such.
    unlogged: u64,
    max_row_bytes: usize,
}

impl<'a> Dump<'a> {
    fn new(args: &'a Args) -> Self {
        Self {
            args,
            out: Output::default(),
            style: (!args.json).then(|| Style::new(args.verbose)),
            group: Group::default(),
            views: Views::default(),
            frame: Frame::default(),
            scratch: Scratch::default(),
            file: String::new(),
            first: true,
            last: true,
            unlogged: 0,
            max_row_bytes: args.options().max_row_bytes,
        }
    }

    fn file(&mut self, name: &str, first: bool, last: bool) {
        name.clone_into(&mut self.file);
        (self.first, self.last) = (first, last);
        self.views.clear();
        self.group.state = State::Over;
    }

    /// Whether what begins at `start` is shown.
    fn shows(&self, start: u64) -> bool {
        self.group.wanted && !(self.first && start < self.args.start)
    }

    fn open_mysql(&mut self, start: u64, gtid: Option<MySqlGtid>, commit_ts_us: Option<u64>) {
        self.close();
        let wanted = self.args.gtids.as_ref().is_none_or(|set| set.has_mysql(gtid.as_ref()));
        let (name, id) = match gtid {
            Some(gtid) => {
                let name = gtid.to_string();
                (name.clone(), name)
            }
            None => (String::new(), format!("{}:{start}", self.file)),
        };
        self.group.open(name, id, commit_ts_us, wanted);
    }

    fn open_mariadb(&mut self, gtid: MariaDbGtid) {
        self.close();
        let wanted = self.args.gtids.as_ref().is_none_or(|set| set.has_mariadb(&gtid));
        let name = gtid.to_string();
        let id = format!("dump:{name}");
        self.group.open(name, id, None, wanted);
    }

    /// A group that no GTID names, as 5.5 writes them. Whether it begins here.
    fn open_unnamed(&mut self, start: u64) -> bool {
        let begins = self.group.state == State::Over;
        if begins {
            self.open_mysql(start, None, None);
        }
        begins
    }

    /// A statement that stood alone is its whole group: the next one has a name of its own.
    fn end_unnamed(&mut self, alone: bool) {
        if alone {
            self.group.state = State::Over;
        }
    }

    fn begin(&mut self, start: u64, place: Place) {
        self.open_unnamed(start);
        if self.group.state == State::Begun {
            return;
        }
        self.group.state = State::Begun;
        self.pend(start, place);
    }

    fn pend(&mut self, start: u64, place: Place) {
        let record = self.group.record();
        if self.shows(start) {
            self.group.pending = Some(Begin { place, record });
            if self.args.tables.is_empty() {
                self.write_begin();
            }
        }
    }

    fn write_begin(&mut self) {
        if let Some(Begin { place, record }) = self.group.pending.take() {
            match self.style {
                None => record::begin(&mut self.out.buf, &self.group, &self.file, place, record),
                Some(style) => style.begin(&mut self.out.buf, &self.group, &self.file, place),
            }
            self.out.written();
        }
    }

    /// The group's commit, if its beginning was written.
    fn commit(&mut self, start: u64, place: Place, rolled_back: bool) {
        let begun = matches!(self.group.state, State::Begun | State::Loose);
        if begun && self.group.pending.is_none() && self.shows(start) && self.is_written() {
            let record = self.group.record();
            let (out, group) = (&mut self.out.buf, &self.group);
            match self.style {
                None => record::commit(out, group, &self.file, place, record, rolled_back),
                Some(style) => {
                    style.end(out, if rolled_back { "rollback" } else { "commit" }, group, &self.file, place);
                }
            }
            self.out.written();
        }
        self.group.state = State::Over;
        self.group.pending = None;
    }

    /// With a filter, a transaction is shown only with a row that passes it.
    fn is_written(&self) -> bool {
        let passes =
            |label: &str| label.split_once('.').is_some_and(|(db, table)| self.args.wants(db, table));
        self.args.tables.is_empty() || self.group.by_table.keys().any(|label| passes(label))
    }

    /// What comes next is no part of the group at hand. One whose end no event tells ends here.
    fn close(&mut self) {
        if self.group.state == State::Loose {
            let place = self.group.last;
            self.commit(u64::MAX, place, false);
        }
        self.group.state = State::Over;
    }

    fn xa_end(&mut self, kind: &str, start: u64, place: Place) {
        if self.shows(start) {
            let record = self.group.record();
            match self.style {
                None => record::xa_end(&mut self.out.buf, kind, &self.group, &self.file, place, record),
                Some(style) => {
                    style.begin(&mut self.out.buf, &self.group, &self.file, place);
                    style.remark(&mut self.out.buf, kind);
                }
            }
        }
    }

    fn statement(&mut self, start: u64, place: Place, db: &str, statement: &Statement) {
        let sql = statement.sql.as_deref().unwrap_or_default();
        match statement.kind {
            Kind::Transaction => self.transaction(start, place, sql),
            Kind::Dml => {
                let alone = self.open_unnamed(start);
                if self.shows(start) {
                    self.unlogged += u64::from(self.style.is_none());
                    self.show_statement(statement, place);
                }
                self.end_unnamed(alone);
            }
            Kind::Ddl => {
                let alone = self.open_unnamed(start);
                let args = self.args;
                let wanted = statement.tables.iter().any(|[db, table]| args.wants(db, table));
                let record = self.group.record();
                if self.shows(start) && (wanted || args.tables.is_empty()) {
                    match self.style {
                        None => {
                            let out = &mut self.out.buf;
                            record::ddl(out, statement, db, &self.group, &self.file, place, record);
                        }
                        Some(_) => self.show_statement(statement, place),
                    }
                    self.out.written();
                }
                self.end_unnamed(alone);
            }
        }
    }

    /// For people: with a heading of its own outside of transactions.
    fn show_statement(&mut self, statement: &Statement, place: Place) {
        if let Some(style) = self.style {
            self.write_begin();
            if self.group.state == State::Named {
                style.begin(&mut self.out.buf, &self.group, &self.file, place);
            }
            style.statement(&mut self.out.buf, statement, &self.file, place);
        }
    }

    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT, XA.
    fn transaction(&mut self, start: u64, place: Place, sql: &str) {
        let mut words = sql.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_ascii_uppercase();
        match (word().as_str(), word().as_str()) {
            ("BEGIN" | "START", _) => self.begin(start, place),
            ("COMMIT", _) => self.commit(start, place, false),
            ("ROLLBACK", "TO") => {
                if let Some(style) = self.style.filter(|_| self.shows(start)) {
                    style.remark(&mut self.out.buf, sql);
                }
            }
            ("ROLLBACK", _) => self.commit(start, place, true),
            ("XA", "START" | "BEGIN") => {
                self.open_unnamed(start);
                self.group.xa = Some(xid_of(sql));
                self.begin(start, place);
            }
            ("XA", "PREPARE") => self.prepared(start, place),
            ("XA", end @ ("COMMIT" | "ROLLBACK")) => {
                self.open_unnamed(start);
                self.group.xa = Some(xid_of(sql));
                self.xa_end(if end == "COMMIT" { "xa_commit" } else { "xa_rollback" }, start, place);
                self.group.state = State::Over;
                self.group.pending = None;
            }
            _ => {}
        }
    }

    /// A prepared transaction has no commit: `xa_commit` or `xa_rollback` comes for its XID.
    fn prepared(&mut self, start: u64, place: Place) {
        if let Some(style) = self.style.filter(|_| self.shows(start) && self.group.pending.is_none()) {
            style.end(&mut self.out.buf, "prepared", &self.group, &self.file, place);
        }
        self.group.state = State::Over;
        self.group.pending = None;
    }

    fn rows(&mut self, start: u64, place: Place, rows: &Rows<'_>, tables: &Tables) -> Result<(), Problem> {
        self.open_unnamed(start);
        let args = self.args;
        if self.group.state == State::Named {
            self.group.state = State::Loose;
            self.pend(start, place);
        }
        let shows = self.shows(start);
        let view = self.views.get(rows.table, tables, |db, table| args.wants(db, table));
        if view.is_sequence {
            let count = rows.count()?;
            self.group.rows += count;
            self.group.records += count;
            return Ok(());
        }
        if !(shows && view.wanted) {
            self.group.count(&view.label, rows.count()?);
            return Ok(());
        }
        self.write_begin();
        let view = self.views.get(rows.table, tables, |db, table| args.wants(db, table));
        let marks = match self.style {
            None => {
                record::frame(&mut self.frame, &self.group, view, rows, &self.file, place);
                record::MARKS
            }
            Some(style) => {
                self.frame.tail.clear();
                style.frame(&mut self.frame, view, rows, &self.file, place);
                self.out.buf.extend_from_slice(&self.frame.tail);
                if rows.kind == RowsKind::Update { text::UPDATE } else { text::MARKS }
            }
        };
        let from = self.group.rows;
        let ordinals = (from, self.group.records);
        let max = self.max_row_bytes;
        let mut writer = RowWriter::new(
            &mut self.out,
            &mut self.scratch,
            &self.frame,
            marks,
            view,
            rows.kind,
            max,
            ordinals,
        );
        let walked = rows.walk(&mut writer);
        match walked {
            Ok(()) => writer.finish(),
            Err(_) => writer.abandon(),
        }
        let (count, problem) = (writer.row - from, writer.problem.take());
        self.group.count(&view.label, count);
        match problem {
            Some(problem) => Err(problem),
            None => walked,
        }
    }

    fn remark(&mut self, start: u64, what: impl FnOnce() -> String) {
        if let Some(style) = self.style.filter(|style| style.verbose && self.shows(start)) {
            self.write_begin();
            style.remark(&mut self.out.buf, &what());
        }
    }
}

impl Consumer for Dump<'_> {
    fn event(&mut self, item: &Item<'_>, seen: Seen<'_>) -> Result<Flow, Problem> {
        if self.last && item.start >= self.args.stop || self.out.has_failed() {
            return Ok(Flow::Stop);
        }
        let start = item.start;
        let place = Place { ts_ms: u64::from(item.header.timestamp) * 1000, pos: item.end };
        match &item.event {
            Event::Rows(rows) => self.rows(start, place, rows, seen.tables)?,
            Event::Query(query) => {
                if let Some(statement) = seen.statement {
                    self.statement(start, place, query.db, statement);
                }
            }
            Event::Xid(_) => self.commit(start, place, false),
            Event::Gtid(gtid) => self.open_mysql(start, gtid.gtid, gtid.original_commit_us),
            Event::MariaDbGtid(gtid) => {
                self.open_mariadb(gtid.gtid);
                if let Some(xid) = &gtid.xid {
                    self.group.xa = Some(xid_text(xid));
                }
                // Such a GTID stands for BEGIN.
                if !gtid.is_standalone() {
                    self.begin(start, place);
                }
            }
            Event::XaPrepare(prepare) => {
                if prepare.one_phase {
                    self.group.xa.get_or_insert_with(|| xid_text(&prepare.xid));
                    self.xa_end("xa_commit", start, place);
                    self.commit(start, place, false);
                } else {
                    self.prepared(start, place);
                }
            }
            Event::Rotate(_) | Event::Stop => self.close(),
            Event::Heartbeat(_) if self.style.is_none() => {
                record::heartbeat(&mut self.out.buf, &self.group, &self.file, place);
            }
            Event::RowsQuery(sql) => self.remark(start, || {
                String::from_utf8_lossy(redact(sql).as_deref().unwrap_or(sql)).into_owned()
            }),
            Event::IntVar(var) => {
                let name = if var.kind == 1 { "LAST_INSERT_ID" } else { "INSERT_ID" };
                self.remark(start, || format!("SET {name}={}", var.value));
            }
            Event::Rand(a, b) => self.remark(start, || format!("SET RAND_SEED1={a}, RAND_SEED2={b}")),
            Event::UserVar(var) => {
                self.remark(start, || format!("SET @{}=…", String::from_utf8_lossy(var.name)));
            }
            Event::Incident(number, message) => {
                let message = String::from_utf8_lossy(message);
                let line = format!(
                    "dts: {}: offset {start}: INCIDENT {number} ({message}): changes may be missing from here on",
                    self.file
                );
                crate::cli::output::complain(&line);
            }
            _ => {}
        }
        self.group.last = place;
        self.out.written();
        Ok(Flow::Go)
    }
}
