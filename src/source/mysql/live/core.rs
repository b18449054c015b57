//! The source's core: events in; batches, marks and schemas out. No IO, no clock of its own.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::collect::{Collect, Cut};
use super::config::OnUnlogged;
use super::error::LiveError;
use super::filter::Filter;
use super::place::{GtidState, Mark, Tracker};
use super::statement::{brief, changes_rows, loses_rows, same_xid, savepoint};
use super::view::{View, to_utf8, version};
use crate::event::binlog::{Binlog, Gtid, RowsEvent, Transaction};
use crate::event::{Batch, BatchBuilder, Image, Op, Origin, Value, builtin};
use crate::runtime::Mono;
use crate::source::mysql::binlog::to_event::{RowsStamp, ToEvent, ToEventError};
use crate::source::mysql::binlog::{Error, Event, Item, Place, Problem, Query, Rows, TableMap};
use crate::source::mysql::ddl::{Kind, Outcome};
use crate::source::mysql::tables::{Entry, Statement, Tables, xid_of, xid_text};

/// What comes out.
#[derive(Debug)]
pub(super) enum Out {
    /// Rows, or one statement; when they are durable the mark is reached.
    Batch(Batch, Option<Mark>),
    /// A place without rows before it.
    Mark(Mark),
    /// To be kept before any mark that counts it.
    Schema(Vec<Entry>),
}

/// What limits it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) batch_bytes: usize,
    pub(super) max_row_bytes: usize,
    pub(super) max_xa_bytes: usize,
    /// How often a mark is made where no rows are.
    pub(super) mark_interval: Duration,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Core {
    source: Arc<str>,
    server_uuid: Arc<str>,
    filter: Filter,
    limits: Limits,
    on_unlogged: OnUnlogged,
    /// What is known of tables.
    pub(super) tables: Tables,
    /// Entries of the history of schemas so far.
    schemas: u64,
    /// Entries that are to be kept before the next mark.
    kept: Vec<Entry>,
    /// By a table map's generation.
    views: HashMap<u64, View>,
    /// What each table looked like last, and the version of that.
    versions: HashMap<Box<str>, (u64, u32)>,
    tracker: Tracker,
    open: Option<Open>,
    collect: Collect,
    /// Rows of prepared XA transactions, oldest first.
    prepared: Vec<Prepared>,
    /// Everything that was read, prepared transactions too: where to go on after a lost connection.
    pub(super) read: Read,
    /// What the next mark says.
    mark: Mark,
    is_dirty: bool,
    last_mark: Option<Mono>,
    /// What is to be handed on.
    pub(super) out: VecDeque<Out>,
    /// Events since it was last asked.
    pub(super) events: u64,
    /// Up to where a statement's effect on tables may be known already: what was asked of the server is of then.
    known_until: Option<(String, u64)>,
    /// What was asked then, until that place is passed.
    asked: Vec<Entry>,
}

/// What was read up to the end of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) gtids: GtidState,
    pub(super) file: Arc<str>,
    pub(super) pos: u64,
}

/// The transaction at hand.
#[derive(Debug)]
struct Open {
    gtid: Gtid,
    start: u64,
    commit_us: Option<u64>,
    xa: Option<Arc<str>>,
    state: State,
    /// Rows so far, of all tables.
    rows: u64,
    /// Some were handed on.
    is_partial: bool,
    /// The last rows were the last of their statement.
    statement_is_over: bool,
    savepoints: Vec<(Box<str>, Cut)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its GTID came.
    Named,
    /// It was begun, and ends by a commit.
    Begun,
    /// Rows came without a beginning: it ends with its statement.
    Loose,
}

#[derive(Debug)]
struct Prepared {
    xid: Arc<str>,
    gtid: Gtid,
    file: Arc<str>,
    start: u64,
    rows: Collect,
}

/// More are not kept.
const MAX_VIEWS: usize = 4096;

impl Core {
    pub(super) fn new(
        source: Arc<str>,
        filter: Filter,
        limits: Limits,
        on_unlogged: OnUnlogged,
        read: Read,
    ) -> Self {
        let mark = Mark { file: read.file.clone(), pos: read.pos, ..Mark::default() };
        Self {
            source,
            server_uuid: "".into(),
            filter,
            limits,
            on_unlogged,
            tables: Tables::default(),
            schemas: 0,
            kept: Vec::new(),
            views: HashMap::new(),
            versions: HashMap::new(),
            tracker: Tracker::new(""),
            open: None,
            collect: Collect::default(),
            prepared: Vec::new(),
            read,
            mark,
            is_dirty: false,
            last_mark: None,
            out: VecDeque::new(),
            events: 0,
            known_until: None,
            asked: Vec::new(),
        }
    }

    /// A new connection: what was not whole comes again.
    pub(super) fn connected(&mut self, server_uuid: &str, file: &str) {
        self.server_uuid = server_uuid.into();
        self.tracker = Tracker::new(file);
        self.collect.roll_back();
        self.open = None;
        self.views.clear();
        self.tables.next_file();
    }

    /// What is read begins here: there was no checkpoint.
    pub(super) fn begin(&mut self, read: Read) {
        self.mark = Mark {
            file: read.file.clone(),
            pos: read.pos,
            base: Some(read.gtids.clone()),
            ..Mark::default()
        };
        self.read = read;
        self.is_dirty = true;
    }

    /// What is read goes on here: there was a checkpoint.
    pub(super) fn resume(&mut self, read: Read) {
        self.mark = Mark { file: read.file.clone(), pos: read.pos, ..Mark::default() };
        self.read = read;
    }

    /// Schemas that were asked of the server when it stood at this place.
    pub(super) fn learn(&mut self, entries: Vec<Entry>, file: String, pos: u64) {
        entries.iter().for_each(|entry| self.tables.learn(entry));
        self.asked.clone_from(&entries);
        self.kept.extend(entries);
        self.known_until = Some((file, pos));
    }

    /// What the history of schemas says.
    pub(super) fn replay(&mut self, entries: &[Entry]) {
        for entry in entries {
            match &entry.version {
                Some((table, shape, version)) => {
                    self.versions.insert(table.as_str().into(), (*shape, *version));
                }
                None => self.tables.learn(entry),
            }
        }
        self.schemas = entries.len() as u64;
    }

    /// The server's file, for errors.
    pub(super) fn file(&self) -> &str {
        &self.tracker.file
    }

    /// Prepared XA transactions, and bytes of their rows.
    pub(super) fn prepared(&self) -> (usize, usize) {
        (self.prepared.len(), self.prepared.iter().map(|prepared| prepared.rows.bytes()).sum())
    }

    /// The next event.
    pub(super) fn event(
        &mut self,
        item: &Item<'_>,
        statement: Option<&Statement>,
        now: Mono,
    ) -> Result<(), LiveError> {
        self.events += 1;
        let (start, end) = self.tracker.event(item);
        let ts_ms = u64::from(item.header.timestamp) * 1000;
        if ts_ms > 0 {
            self.mark.ts_ms = ts_ms;
        }
        match &item.event {
            Event::Rows(rows) => self.rows(rows, start, end, ts_ms).map_err(|error| self.at(item, error))?,
            Event::Xid(_) => self.commit(end, now),
            Event::Gtid(gtid) => {
                let tag = |tag: &str| (!tag.is_empty()).then(|| Arc::from(tag));
                let gtid_of = gtid.gtid.map_or(Gtid::None, |gtid| Gtid::MySql {
                    uuid: gtid.uuid,
                    tag: tag(gtid.tag.as_str()),
                    number: gtid.number,
                });
                self.close(start, now);
                self.named(gtid_of, start, gtid.original_commit_us);
            }
            Event::MariaDbGtid(gtid) => {
                let id = gtid.gtid;
                let of = Gtid::MariaDb { domain: id.domain, server: id.server, sequence: id.number };
                self.close(start, now);
                self.named(of, start, None);
                if let Some(open) = &mut self.open {
                    open.xa = gtid.xid.as_ref().map(|xid| xid_text(xid).into());
                    // Such a GTID stands for BEGIN.
                    if !gtid.is_standalone() {
                        open.state = State::Begun;
                    }
                }
            }
            Event::Query(query) => {
                if let Some(statement) = statement {
                    self.statement(query, statement, start, end, ts_ms, now)?;
                }
            }
            Event::XaPrepare(prepare) => {
                let xid: Arc<str> = xid_text(&prepare.xid).into();
                if prepare.one_phase {
                    self.commit(end, now);
                } else {
                    self.prepare(xid, end, now)?;
                }
            }
            Event::Rotate(rotate) => {
                self.close(start, now);
                self.tracker.rotate(rotate.file, rotate.position);
                self.stand(rotate.position, now);
            }
            Event::FormatDescription(format) => {
                self.tables.server(format.flavour(), &format.server_version);
                self.views.clear();
            }
            Event::PreviousGtids(set) if self.read.gtids == GtidState::None => {
                self.base(GtidState::MySql((**set).clone()));
            }
            Event::MariaDbGtidList(list) if self.read.gtids == GtidState::None => {
                let mut set = crate::source::mysql::binlog::gtid::MariaDbGtidSet::new();
                list.iter().for_each(|gtid| set.add(gtid));
                self.base(GtidState::MariaDb(set));
            }
            Event::Heartbeat(_) if self.tracker.heartbeat(&item.event) && self.open.is_none() => {
                self.stand(self.tracker.pos, now);
            }
            Event::Incident(number, message) => {
                let message = String::from_utf8_lossy(message);
                let what =
                    format!("the server reports an INCIDENT ({number}, {message}): changes may be missing");
                self.unlogged("incident", &what, end)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn at(&self, item: &Item<'_>, error: RowsError) -> LiveError {
        let problem = match error {
            RowsError::Live(error) => return error,
            RowsError::Problem(problem) => problem,
        };
        let place =
            Place { offset: self.tracker.pos, inside: item.inside, event: Some(item.header.event_type) };
        LiveError::Log { file: self.tracker.file.to_string(), error: Error { place, problem } }
    }

    /// Whether no transaction is open.
    pub(super) fn open_is_over(&self) -> bool {
        self.open.is_none()
    }

    /// Everything before is in what came out, if nothing waits to; and whether no transaction is open there.
    pub(super) fn standing(&self) -> Option<(Arc<str>, u64, bool)> {
        if !self.out.is_empty() || self.collect.has_complete() {
            return None;
        }
        Some(match &self.open {
            None => (self.tracker.file.clone(), self.tracker.pos, true),
            Some(_) => (self.read.file.clone(), self.read.pos, false),
        })
    }

    /// All that came was read: what is whole is handed on.
    pub(super) fn idle(&mut self, now: Mono) {
        if self.open.as_ref().is_some_and(|open| open.state == State::Loose && open.statement_is_over) {
            self.commit(self.tracker.pos, now);
        }
        self.mark.is_current = true;
        self.flush(false);
        let is_due = self.last_mark.is_none_or(|last| now.since(last) >= self.limits.mark_interval);
        if self.is_dirty && is_due {
            self.push_mark(now);
        }
        self.mark.is_current = false;
    }

    // Transactions.

    fn named(&mut self, gtid: Gtid, start: u64, commit_us: Option<u64>) {
        self.open = Some(Open {
            gtid,
            start,
            commit_us: commit_us.filter(|&us| us > 0),
            xa: None,
            state: State::Named,
            rows: 0,
            is_partial: false,
            statement_is_over: false,
            savepoints: Vec::new(),
        });
    }

    /// The transaction at hand; one that nothing named begins at `start`.
    fn opened(&mut self, start: u64) -> &mut Open {
        self.open.get_or_insert_with(|| Open {
            gtid: Gtid::None,
            start,
            commit_us: None,
            xa: None,
            state: State::Named,
            rows: 0,
            is_partial: false,
            statement_is_over: false,
            savepoints: Vec::new(),
        })
    }

    /// What begins at `start` is no part of the transaction at hand. One whose end no event tells ends here.
    fn close(&mut self, start: u64, now: Mono) {
        match &self.open {
            Some(open) if open.state == State::Loose => self.commit(start, now),
            Some(open) if open.state == State::Named && open.rows == 0 => self.commit(start, now),
            Some(_) => {
                self.collect.roll_back();
                self.open = None;
            }
            None => {}
        }
    }

    fn commit(&mut self, end: u64, now: Mono) {
        let gtid = self.open.take().map_or(Gtid::None, |open| open.gtid);
        self.collect.complete();
        self.ended(gtid, end, now);
    }

    fn roll_back(&mut self, end: u64, now: Mono) {
        let open = self.open.take();
        self.collect.roll_back();
        if open.as_ref().is_some_and(|open| open.is_partial) {
            crate::telemetry::count("dts_mysql_rolled_back_total", &[("source", &self.source)], 1);
            log::error!(
                "source `{}`: {}:{end}: a transaction of more than batch_bytes was rolled back in the binlog after rows of it \
                 were delivered; correct them by hand, or raise batch_bytes",
                self.source,
                self.tracker.file
            );
        }
        self.ended(open.map_or(Gtid::None, |open| open.gtid), end, now);
    }

    /// A transaction with this GTID ended, one way or the other.
    fn ended(&mut self, gtid: Gtid, end: u64, now: Mono) {
        self.read.gtids.add(&gtid);
        if gtid != Gtid::None {
            self.mark.gtids.push(gtid);
        }
        self.mark.partial = None;
        self.stand(end, now);
        if self.collect.bytes() >= self.limits.batch_bytes {
            self.flush(false);
        }
    }

    /// Between transactions: the position is here.
    fn stand(&mut self, pos: u64, now: Mono) {
        if self.open.is_some() {
            return;
        }
        (self.read.file, self.read.pos) = (self.tracker.file.clone(), pos);
        self.is_dirty = true;
        // A stream that never pauses and has no rows for us.
        if !self.collect.has_complete()
            && self.last_mark.is_some_and(|last| now.since(last) >= self.limits.mark_interval)
        {
            self.push_mark(now);
        }
        if self.last_mark.is_none() {
            self.last_mark = Some(now);
        }
    }

    fn base(&mut self, base: GtidState) {
        self.read.gtids = base.clone();
        self.mark.base = Some(base);
        self.mark.gtids.clear();
    }

    /// What lies behind the server, but for prepared transactions, whose rows are only here.
    fn take_mark(&mut self) -> Mark {
        if !self.kept.is_empty() {
            self.schemas += self.kept.len() as u64;
            self.out.push_back(Out::Schema(std::mem::take(&mut self.kept)));
        }
        self.mark.schemas = self.schemas;
        let (file, pos) = match self.prepared.first() {
            Some(oldest) => (oldest.file.clone(), oldest.start),
            None => (self.read.file.clone(), self.read.pos),
        };
        (self.mark.file, self.mark.pos) = (file, pos);
        self.is_dirty = false;
        let mut mark = self.mark.clone();
        self.mark.base = None;
        self.mark.gtids.clear();
        // MariaDB's sets have no gaps: nothing counts that comes behind a prepared transaction.
        if !self.prepared.is_empty() && mark.gtids.iter().any(|gtid| matches!(gtid, Gtid::MariaDb { .. })) {
            std::mem::swap(&mut mark.gtids, &mut self.mark.gtids);
            shorten(&mut self.mark.gtids);
        }
        mark
    }

    pub(super) fn push_mark(&mut self, now: Mono) {
        let mark = self.take_mark();
        self.last_mark = Some(now);
        self.out.push_back(Out::Mark(mark));
    }

    /// Hands on what is whole, or all.
    fn flush(&mut self, all: bool) {
        if all
            && self.collect.has_open()
            && let Some(open) = &mut self.open
        {
            open.is_partial = true;
            self.mark.partial = Some(open.gtid.clone()).filter(|gtid| *gtid != Gtid::None);
        }
        if let Some(batch) = self.collect.take(&self.source, &self.server_uuid, all) {
            let mark = self.take_mark();
            self.out.push_back(Out::Batch(batch, Some(mark)));
        }
    }

    // Rows.

    fn rows(&mut self, rows: &Rows<'_>, start: u64, end: u64, ts_ms: u64) -> Result<(), RowsError> {
        let open = self.opened(start);
        if open.state == State::Named {
            open.state = State::Loose;
        }
        let (ordinal, commit_us) = (open.rows, open.commit_us);
        self.view(rows.table)?;
        let Self { views, collect, open: Some(open), tracker, limits, .. } = self else { return Ok(()) };
        let Some(View { to_event: Some(to_event) }) = views.get_mut(&rows.table.generation) else {
            open.rows += rows.count()?;
            open.statement_is_over = rows.ends_statement();
            return Ok(());
        };
        collect.event(
            || Transaction {
                gtid: open.gtid.clone(),
                file: tracker.file.clone(),
                start: open.start,
                commit_ts_us: open.commit_us,
                xa: open.xa.clone(),
            },
            end,
            ts_ms,
        );
        let full = || LiveError::User("a transaction with rows of more than 65,535 tables".into());
        let schema = collect.shapes.index(to_event.table()).ok_or_else(full)?;
        let time_ms = commit_us.map_or(ts_ms, |us| us / 1000);
        let stamp = RowsStamp { ordinal, time_ms, schema };
        let shapes = &mut collect.shapes;
        let written =
            to_event.write_all(&mut collect.records, rows, stamp, &mut to_utf8, &mut |t| shapes.index(t));
        let written = written.map_err(|error| match error {
            ToEventError::Problem(problem) => RowsError::Problem(problem),
            ToEventError::Row(error) => {
                let table = rows.table.full_name();
                RowsError::Live(LiveError::User(format!("a row of {table} cannot be taken: {error}")))
            }
        })?;
        collect.rows += written;
        open.rows += u64::from(written);
        open.statement_is_over = rows.ends_statement();
        if collect.bytes() < limits.batch_bytes {
            return Ok(());
        }
        // Rows of an XA transaction wait for its end: it may be prepared only.
        if open.xa.is_some() {
            let bytes = collect.open_bytes();
            self.check_xa(bytes)?;
            self.flush(false);
        } else {
            self.flush(true);
        }
        Ok(())
    }

    fn check_xa(&self, open: usize) -> Result<(), LiveError> {
        let (count, bytes) = self.prepared();
        if bytes + open > self.limits.max_xa_bytes {
            return Err(LiveError::User(format!(
                "rows of {count} prepared XA transactions and the one at hand take more than max_xa_bytes ({}): end those \
                 that are forgotten (XA RECOVER shows them), or raise max_xa_bytes",
                self.limits.max_xa_bytes
            )));
        }
        Ok(())
    }

    /// Makes the table's view, if it is not there.
    fn view(&mut self, map: &TableMap) -> Result<(), LiveError> {
        if self.views.contains_key(&map.generation) {
            return Ok(());
        }
        if self.views.len() >= MAX_VIEWS {
            self.views.clear();
        }
        let described = self.tables.described(map);
        let is_sequence = described.is_some_and(|table| table.is_sequence);
        let mut view = View { to_event: None };
        if self.filter.wants(&map.db, &map.table) && !is_sequence {
            if map.columns.iter().any(|column| column.name.is_none()) {
                return Err(LiveError::User(format!(
                    "the columns of {} are not known at {}:{}: neither the binlog nor a statement in it tells them. \
                     SET GLOBAL binlog_row_metadata = FULL makes the server log them (begin behind that), or take the \
                     table out by exclude_tables",
                    map.full_name(),
                    self.tracker.file,
                    self.tracker.pos
                )));
            }
            let (version, is_new) = version(&mut self.versions, map);
            if is_new {
                let version = self
                    .versions
                    .get(map.full_name().as_str())
                    .map(|&(shape, n)| (map.full_name(), shape, n));
                self.kept.push(Entry { version, ..Entry::default() });
            }
            let to_event = ToEvent::new(map, version, self.limits.max_row_bytes, &mut to_utf8);
            let labels = |i: usize| {
                let column = described.and_then(|table| table.columns.get(i))?;
                Some(column.members.as_slice())
            };
            view.to_event = Some(to_event.with_labels((0..map.columns.len()).map(labels)));
        }
        self.views.insert(map.generation, view);
        Ok(())
    }

    // Statements.

    fn statement(
        &mut self,
        query: &Query<'_>,
        statement: &Statement,
        start: u64,
        end: u64,
        ts_ms: u64,
        now: Mono,
    ) -> Result<(), LiveError> {
        let sql = statement.sql.as_deref().unwrap_or_default();
        match statement.kind {
            Kind::Transaction => self.transaction(sql, start, end, now),
            Kind::Dml => {
                self.opened(start);
                let text = match &statement.sql {
                    Ok(sql) => Cow::Borrowed(&**sql),
                    Err(bytes) => String::from_utf8_lossy(bytes),
                };
                if changes_rows(&text) && self.filter.is_named_in(&text, query.db) {
                    let what = format!(
                        "a statement was logged in place of its rows (binlog_format): {}",
                        brief(&text)
                    );
                    self.unlogged("statement", &what, end)?;
                }
                Ok(())
            }
            Kind::Ddl => self.ddl(query, statement, start, end, ts_ms, now),
        }
    }

    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT, XA.
    fn transaction(&mut self, sql: &str, start: u64, end: u64, now: Mono) -> Result<(), LiveError> {
        let mut words = sql.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_ascii_uppercase();
        match (word().as_str(), word().as_str()) {
            ("BEGIN" | "START", _) => self.opened(start).state = State::Begun,
            ("COMMIT", _) => self.commit(end, now),
            ("ROLLBACK", "TO") => {
                let name = savepoint(sql);
                let cut = self.open.as_ref().and_then(|open| {
                    open.savepoints.iter().rev().find(|(known, _)| *known == name).map(|(_, cut)| *cut)
                });
                if let Some(cut) = cut.filter(|cut| cut.rows <= self.collect.rows) {
                    self.collect.truncate(cut);
                }
            }
            ("ROLLBACK", _) => self.roll_back(end, now),
            ("SAVEPOINT", _) => {
                let cut = self.collect.here();
                self.opened(start).savepoints.push((savepoint(sql), cut));
            }
            ("XA", "START" | "BEGIN") => {
                let open = self.opened(start);
                open.xa = Some(xid_of(sql).into());
                open.state = State::Begun;
            }
            ("XA", "PREPARE") => {
                let xid = xid_of(sql).into();
                self.prepare(xid, end, now)?;
            }
            ("XA", "COMMIT") if !sql.to_ascii_uppercase().ends_with("ONE PHASE") => {
                self.opened(start);
                self.xa_end(&xid_of(sql), true, end, now)?;
            }
            ("XA", "COMMIT") => self.commit(end, now),
            ("XA", "ROLLBACK") => {
                self.opened(start);
                self.xa_end(&xid_of(sql), false, end, now)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn prepare(&mut self, xid: Arc<str>, end: u64, now: Mono) -> Result<(), LiveError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let rows = self.collect.take_open();
        // One that came again after a lost connection takes its own place.
        self.prepared.retain(|prepared| prepared.xid != xid);
        let file = self.tracker.file.clone();
        self.prepared.push(Prepared { xid, gtid: open.gtid.clone(), file, start: open.start, rows });
        self.check_xa(0)?;
        // MySQL's sets have gaps: the server sends this one again after a restart, until it is committed.
        if matches!(open.gtid, Gtid::MySql { .. }) {
            self.stand(end, now);
        } else {
            self.ended(open.gtid, end, now);
        }
        Ok(())
    }

    fn xa_end(&mut self, xid: &str, commits: bool, end: u64, now: Mono) -> Result<(), LiveError> {
        let found = self.prepared.iter().position(|prepared| same_xid(&prepared.xid, xid));
        let Some(at) = found else {
            if commits {
                let what = format!(
                    "XA COMMIT {xid}: it was prepared before dts began to read, so its rows are not known"
                );
                self.unlogged("xa", &what, end)?;
            }
            self.commit(end, now);
            return Ok(());
        };
        self.flush(false);
        let prepared = self.prepared.remove(at);
        if let Gtid::MySql { .. } = &prepared.gtid {
            self.read.gtids.add(&prepared.gtid);
            self.mark.gtids.push(prepared.gtid);
        }
        let rows = prepared.rows;
        let batch = (commits && rows.rows > 0).then(|| rows.batch(&self.source, &self.server_uuid));
        self.commit(end, now);
        if let Some(batch) = batch {
            let mark = self.take_mark();
            self.out.push_back(Out::Batch(batch, Some(mark)));
        }
        Ok(())
    }

    fn ddl(
        &mut self,
        query: &Query<'_>,
        statement: &Statement,
        start: u64,
        end: u64,
        ts_ms: u64,
        now: Mono,
    ) -> Result<(), LiveError> {
        self.opened(start);
        let wanted = statement.tables.iter().any(|[db, table]| self.filter.wants(db, table));
        if let Some(entry) = &statement.entry {
            // A statement that came before the schemas were read: they are of behind it.
            if self.is_known(end) {
                self.asked.iter().for_each(|entry| self.tables.learn(entry));
            } else {
                self.asked.clear();
                self.kept.push(entry.clone());
            }
            if let Outcome::Unknown { .. } = statement.outcome {
                log::warn!(
                    "source `{}`: {}:{end}: not understood, so what the tables look like is known only from the rows' own \
                     metadata: {}",
                    self.source,
                    self.tracker.file,
                    brief(statement.sql.as_deref().unwrap_or_default())
                );
            }
        }
        self.views.clear();
        if let Some(why) = loses_rows(&self.filter, query.db, statement) {
            let sql = brief(statement.sql.as_deref().unwrap_or_default());
            self.unlogged("ddl", &format!("{why}: {sql}"), end)?;
        }
        let is_alone = self.open.as_ref().is_none_or(|open| open.state != State::Begun);
        if !wanted {
            if is_alone {
                self.commit(end, now);
            }
            return Ok(());
        }
        // Everything before it is of the tables as they were.
        self.flush(true);
        let batch = self.ddl_batch(query.db, statement, end, ts_ms).map_err(|error| {
            LiveError::User(format!(
                "a statement of {} bytes cannot be taken: {error}",
                query.statement.len()
            ))
        })?;
        if is_alone {
            self.commit(end, now);
            let mark = self.take_mark();
            self.out.push_back(Out::Batch(batch, Some(mark)));
        } else {
            self.out.push_back(Out::Batch(batch, None));
        }
        Ok(())
    }

    /// Whether what was asked of the server is of a time behind this place.
    fn is_known(&self, end: u64) -> bool {
        self.known_until.as_ref().is_some_and(|(file, pos)| {
            // The files' numbers grow; a number that gets longer is greater.
            let (here, known) = (&*self.tracker.file, file.as_str());
            (here.len(), here, end) <= (known.len(), known, *pos)
        })
    }

    fn ddl_batch(
        &self,
        db: &str,
        statement: &Statement,
        end: u64,
        ts_ms: u64,
    ) -> Result<Batch, crate::event::RowError> {
        let sql = match &statement.sql {
            Ok(text) => Cow::Borrowed(&**text),
            Err(raw) => String::from_utf8_lossy(raw),
        };
        let tables = serde_json::to_string(&statement.tables).unwrap_or_default();
        let db = if db.is_empty() { Value::Null } else { Value::Text(db) };
        let values = [db, Value::Text(&tables), Value::Text(&sql)];
        let (gtid, begin, commit_us) = match &self.open {
            Some(open) => (open.gtid.clone(), open.start, open.commit_us),
            None => (Gtid::None, end, None),
        };
        let mut builder = BatchBuilder::new(self.source.clone());
        let time_ms = commit_us.map_or(ts_ms, |us| us / 1000);
        builder.push(Op::Ddl, time_ms << 16, builtin::ddl(), None, Some(Image::full(&values)))?;
        let transaction = Transaction {
            gtid,
            file: self.tracker.file.clone(),
            start: begin,
            commit_ts_us: commit_us,
            xa: None,
        };
        let binlog = Binlog {
            server_uuid: self.server_uuid.clone(),
            transactions: vec![transaction],
            events: vec![RowsEvent { first_row: 0, transaction: 0, end, ts_ms }],
        };
        let mut batch = builder.finish();
        batch.origin = Origin::Binlog(Arc::new(binlog));
        Ok(batch)
    }

    /// A change that no row tells.
    fn unlogged(&self, kind: &'static str, what: &str, end: u64) -> Result<(), LiveError> {
        crate::telemetry::count(
            "dts_mysql_unlogged_changes_total",
            &[("source", &self.source), ("kind", kind)],
            1,
        );
        let place = format!("{}:{end}", self.tracker.file);
        match self.on_unlogged {
            OnUnlogged::Alert => {
                log::error!(
                    "source `{}`: {place}: {what}. Copies of the tables differ from here on",
                    self.source
                );
                Ok(())
            }
            OnUnlogged::StopTable => Err(LiveError::User(format!(
                "{place}: {what}. Copies of the tables would differ from here on: set `on_unlogged_change: alert` to go on, \
                 and copy the tables again"
            ))),
        }
    }
}

/// A wrong row, or something else.
enum RowsError {
    Live(LiveError),
    Problem(Problem),
}

impl From<LiveError> for RowsError {
    fn from(error: LiveError) -> Self {
        Self::Live(error)
    }
}

impl From<Problem> for RowsError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Keeps the last of each domain.
fn shorten(gtids: &mut Vec<Gtid>) {
    let mut last = std::collections::BTreeMap::new();
    for gtid in gtids.drain(..) {
        if let Gtid::MariaDb { domain, .. } = gtid {
            last.insert(domain, gtid);
        }
    }
    gtids.extend(last.into_values());
}
