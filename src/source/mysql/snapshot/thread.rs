//! The thread `mysql-snap`: plans, reads chunk after chunk, hands on; and again when the connection is lost.

use std::sync::Arc;
use std::time::Duration;

use super::chunk::{self, Pace, Part};
use super::progress::{Left, Progress};
use super::row::{Record, RecordError};
use super::shared::{Given, Shared, Waited};
use super::table::{Described, describe, quoted};
use super::whole;
use super::window::{Position, Spoiled, Window};
use crate::event::batch::BODY_VERSION;
use crate::event::binlog::Snapshot;
use crate::event::{Batch, Origin, RowClock, RowView, Table};
use crate::runtime::{mono_now, wall_now_us};
use crate::source::mysql::client::statement::{BinaryRow, ResultColumn};
use crate::source::mysql::client::{ClientError, Conn, Dsn, Wake};
use crate::telemetry;

const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of records of a chunk: they wait in memory for its window.
const MAX_CHUNK_BYTES: usize = 8 << 20;
/// A server without GTIDs shows to queries what it wrote to its log some time before.
const SHOWS_WITHIN: Duration = Duration::from_millis(100);
/// Until it is asked again whether queries see what the stream gave.
const NOT_SHOWN: Duration = Duration::from_millis(10);
/// A chunk that is read again and again at its smallest is given up.
const MAX_SPOILED: u32 = 50;

/// What a snapshot is to do.
pub struct Job {
    /// Where.
    pub dsn: Dsn,
    /// Name of the source.
    pub source: Arc<str>,
    /// Where it meets the stream.
    pub shared: Arc<Shared>,
    /// How far it is.
    pub progress: Progress,
    /// It goes on after a restart.
    pub is_resumed: bool,
    /// Which tables.
    pub wants: Box<dyn Fn(&str, &str) -> bool + Send>,
    /// Bytes of records in a batch.
    pub batch_bytes: usize,
    /// Largest row.
    pub max_row_bytes: usize,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("source", &self.source)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// What comes out.
#[derive(Debug)]
pub enum Made {
    /// Rows of a table.
    Rows(Batch),
    /// When all before is durable, this was reached.
    Reached(Progress),
}

/// What ends a try.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Record(RecordError),
    /// The table cannot be read; others can.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Spoiled(#[from] Spoiled),
}

impl From<RecordError> for SnapError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Client(error) => Self::Client(error),
            error => Self::Record(error),
        }
    }
}

/// Names a server: a position means something there only.
pub fn identity(conn: &mut Conn) -> Result<String, ClientError> {
    let sql = match conn.is_mariadb() {
        true => "SELECT CONCAT_WS(':', @@global.hostname, @@global.port, @@global.server_id) AS id",
        false => "SELECT @@global.server_uuid AS id",
    };
    Ok(conn.query(sql)?.text(0, "id"))
}

/// Reads until all is read, dts stops, or the user is needed (the error says for what).
pub fn run(mut job: Job, wake: &Wake, send: &dyn Fn(Made) -> bool) -> Result<(), String> {
    let mut pause = MIN_PAUSE;
    let shared = job.shared.clone();
    let ended = loop {
        let before = job.progress.clone();
        let error = match Thread::connect(&job, wake, send).and_then(|mut thread| thread.work(&mut job)) {
            Ok(()) => break Ok(()),
            Err(error) => error,
        };
        shared.release();
        job.is_resumed = true;
        if wake.is_over() || matches!(error, SnapError::Client(ClientError::Stopped)) {
            break Ok(());
        }
        match &error {
            SnapError::Client(error) if !error.is_retriable() => break Err(error.to_string()),
            SnapError::Record(RecordError::Row(error)) => break Err(error.to_string()),
            _ => {}
        }
        if before != job.progress {
            pause = MIN_PAUSE;
        }
        log::warn!("source `{}`: snapshot: {error}; again in {} ms", job.source, pause.as_millis());
        telemetry::count("dts_mysql_snapshot_retries_total", &[("source", &job.source)], 1);
        if !wake.sleep(pause) {
            break Ok(());
        }
        pause = (pause * 2).min(MAX_PAUSE);
    };
    shared.over();
    ended
}

/// One connection.
pub(super) struct Thread<'t> {
    pub(super) conn: Conn,
    pub(super) wake: &'t Wake,
    pub(super) shared: Arc<Shared>,
    source: Arc<str>,
    run: Arc<str>,
    pub(super) is_resumed: bool,
    batch_bytes: usize,
    max_row_bytes: usize,
    send: &'t dyn Fn(Made) -> bool,
}

impl<'t> Thread<'t> {
    fn connect(job: &Job, wake: &'t Wake, send: &'t dyn Fn(Made) -> bool) -> Result<Self, SnapError> {
        let mut conn = Conn::open(&job.dsn, wake)?;
        let server = identity(&mut conn)?;
        // The stream says where it is; a name that leads to several servers must lead to the same.
        loop {
            let streamed = job.shared.server();
            if streamed == server {
                break;
            }
            if !streamed.is_empty() {
                let error = std::io::Error::other(
                    "the snapshot's connection came to another server than the stream's",
                );
                return Err(ClientError::Io { what: "connect", error }.into());
            }
            if !wake.sleep(Duration::from_millis(20)) {
                return Err(ClientError::Stopped.into());
            }
        }
        let session = "SET SESSION time_zone = '+00:00', sql_mode = '', sql_select_limit = 18446744073709551615, \
                       net_write_timeout = 600, wait_timeout = 28800";
        conn.query(session)?;
        conn.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        // Whichever of the two the server has.
        for limit in ["SET SESSION max_execution_time = 0", "SET SESSION max_statement_time = 0"] {
            match conn.query(limit) {
                Ok(_) | Err(ClientError::Server(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            conn,
            wake,
            shared: job.shared.clone(),
            source: job.source.clone(),
            run: job.progress.run.as_str().into(),
            is_resumed: job.is_resumed,
            batch_bytes: job.batch_bytes,
            max_row_bytes: job.max_row_bytes,
            send,
        })
    }

    pub(super) fn hand_on(&self, made: Made) -> Result<(), SnapError> {
        if (self.send)(made) { Ok(()) } else { Err(ClientError::Stopped.into()) }
    }

    fn work(&mut self, job: &mut Job) -> Result<(), SnapError> {
        if !job.progress.is_planned {
            self.plan(job)?;
            self.hand_on(Made::Reached(job.progress.clone()))?;
        }
        while let Some(left) = job.progress.left.first().cloned() {
            telemetry::gauge(
                "dts_mysql_snapshot_tables_left",
                &[("source", &self.source)],
                job.progress.left.len() as f64,
            );
            let started = mono_now();
            match self.table(&left, &mut job.progress) {
                Ok(rows) => {
                    let ms = mono_now().since(started).as_millis();
                    log::info!(
                        "source `{}`: snapshot of {}.{}: {rows} rows in {ms} ms",
                        self.source,
                        left.db,
                        left.table
                    );
                }
                Err(SnapError::Refused(why)) => {
                    log::error!(
                        "source `{}`: no snapshot of {}.{}: {why}. Its changes are followed; the rows it had are missing",
                        self.source,
                        left.db,
                        left.table
                    );
                    telemetry::count("dts_mysql_snapshot_refused_total", &[("source", &self.source)], 1);
                    job.progress.refused.push((format!("{}.{}", left.db, left.table), why));
                }
                Err(error) => return Err(error),
            }
            job.progress.next_table();
            self.hand_on(Made::Reached(job.progress.clone()))?;
        }
        telemetry::gauge("dts_mysql_snapshot_tables_left", &[("source", &self.source)], 0.0);
        log::info!("source `{}`: the snapshot is complete", self.source);
        Ok(())
    }

    fn plan(&mut self, job: &mut Job) -> Result<(), SnapError> {
        let rows = self.conn.query(
            "SELECT table_schema AS db, table_name AS name FROM information_schema.tables \
             WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1, 2",
        )?;
        let names = (0..rows.rows.len()).map(|i| (rows.text(i, "db"), rows.text(i, "name")));
        let wanted = names.filter(|(db, table)| (job.wants)(db, table));
        job.progress.left = wanted.map(|(db, table)| Left { db, table, only: None }).collect();
        job.progress.is_planned = true;
        log::info!("source `{}`: snapshot of {} tables", self.source, job.progress.left.len());
        Ok(())
    }

    /// What the table looks like now. `None` if it is gone.
    pub(super) fn describe(&mut self, left: &Left) -> Result<Option<Described>, SnapError> {
        self.conn.query("SET character_set_results = utf8mb4")?;
        let sql = format!("SHOW CREATE TABLE {}.{}", quoted(&left.db), quoted(&left.table));
        let shown = match self.conn.query(&sql) {
            Ok(rows) => rows.text(0, "create table"),
            Err(ClientError::Server(error)) if matches!(error.code, 1146 | 1049) => return Ok(None),
            Err(ClientError::Server(error)) if matches!(error.code, 1142 | 1143 | 1044) => {
                return Err(SnapError::Refused(format!("{error}; GRANT SELECT on it")));
            }
            Err(error) => return Err(error.into()),
        };
        self.conn.query("SET character_set_results = NULL")?;
        describe(&left.db, &left.table, &shown, self.conn.is_mariadb()).map(Some).map_err(SnapError::Refused)
    }

    /// Where the server's log ends.
    pub(super) fn mark(&mut self) -> Result<(Position, Arc<str>), SnapError> {
        let rows = match self.conn.query("SHOW MASTER STATUS") {
            Err(ClientError::Server(error)) if error.code == 1064 => {
                self.conn.query("SHOW BINARY LOG STATUS")?
            }
            other => other?,
        };
        let pos = rows.text(0, "position").parse();
        let pos = pos.map_err(|_| ClientError::Protocol("no position of the binlog"))?;
        let gtids = match self.conn.is_mariadb() {
            true => self.conn.query("SELECT @@global.gtid_binlog_pos AS p")?.text(0, "p"),
            false => rows.text(0, "executed_gtid_set"),
        };
        let gtids: String = gtids.chars().filter(|c| !c.is_whitespace()).collect();
        Ok((Position { file: rows.text(0, "file").as_str().into(), pos }, gtids.into()))
    }

    /// The position of the transaction's view (MariaDB).
    pub(super) fn view(&mut self) -> Result<Position, SnapError> {
        let rows = self.conn.query("SHOW SESSION STATUS LIKE 'binlog_snapshot_%'")?;
        let value = |name: &str| {
            let at = (0..rows.rows.len()).find(|&i| rows.text(i, "variable_name").eq_ignore_ascii_case(name));
            at.map(|i| rows.text(i, "value"))
        };
        let pos = value("binlog_snapshot_position").and_then(|pos| pos.parse().ok());
        match (value("binlog_snapshot_file"), pos) {
            (Some(file), Some(pos)) if !file.is_empty() => Ok(Position { file: file.as_str().into(), pos }),
            _ => Err(SnapError::Refused("the server does not tell binlog_snapshot_position".into())),
        }
    }

    /// Whether no transaction stands between two places of the log (MariaDB): the server notes other things there too.
    pub(super) fn is_empty_between(&mut self, from: &Position, to: &Position) -> Result<bool, SnapError> {
        let mut is_empty = |file: &str, from: u64, to: u64| -> Result<bool, SnapError> {
            let file = file.replace(['\\', '\''], "");
            let rows = self.conn.query(&format!("SHOW BINLOG EVENTS IN '{file}' FROM {from} LIMIT 20"))?;
            let mut events = (0..rows.rows.len())
                .filter(|&i| rows.text(i, "pos").parse::<u64>().is_ok_and(|pos| pos < to));
            let harmless =
                ["Binlog_checkpoint", "Gtid_list", "Format_desc", "Rotate", "Stop", "Start_encryption"];
            Ok(events.all(|i| harmless.contains(&rows.text(i, "event_type").as_str())))
        };
        if from.file == to.file {
            return is_empty(&from.file, from.pos, to.pos);
        }
        Ok(is_empty(&from.file, from.pos, u64::MAX)? && is_empty(&to.file, 4, to.pos)?)
    }

    fn table(&mut self, left: &Left, progress: &mut Progress) -> Result<u64, SnapError> {
        let mut total = 0;
        let mut pace = Pace::default();
        let mut spoiled = 0;
        // Opened before the table is looked at: a statement behind that is seen.
        self.shared.open(&left.db, &left.table);
        let Some(mut table) = self.describe(left)? else {
            log::warn!("source `{}`: {}.{} is gone before its snapshot", self.source, left.db, left.table);
            return Ok(0);
        };
        if table.key.is_empty() {
            return whole::read(self, left, &table);
        }
        loop {
            match self.chunk(left, &table, progress, pace.rows()) {
                Ok(read) => {
                    spoiled = 0;
                    total += read.rows;
                    pace.took(read.asked, read.micros);
                    if read.is_cut {
                        pace.smaller();
                    }
                    if read.is_last {
                        return Ok(total);
                    }
                }
                Err(SnapError::Spoiled(Spoiled::NotShown)) => {
                    if !self.wake.sleep(NOT_SHOWN) {
                        return Err(ClientError::Stopped.into());
                    }
                }
                Err(SnapError::Spoiled(why)) => {
                    spoiled += 1;
                    telemetry::count("dts_mysql_snapshot_spoiled_total", &[("source", &self.source)], 1);
                    pace.smaller();
                    if spoiled >= MAX_SPOILED {
                        return Err(SnapError::Refused(format!(
                            "its chunks were in vain {spoiled} times: {why}"
                        )));
                    }
                    if why == Spoiled::Reconnected {
                        // Perhaps to another server.
                        return Err(why.into());
                    }
                    if why == Spoiled::Ddl {
                        self.shared.open(&left.db, &left.table);
                        let Some(now) = self.describe(left)? else { return Ok(total) };
                        let key = |table: &Described| -> Vec<_> {
                            let columns = table.key.iter().filter_map(|&i| table.columns.get(i));
                            columns.map(|column| (column.name.clone(), column.ty)).collect()
                        };
                        // Behind another key other rows lie.
                        if key(&now) != key(&table) {
                            progress.after = None;
                        }
                        table = now;
                        if table.key.is_empty() {
                            return whole::read(self, left, &table);
                        }
                    }
                    if !self.wake.sleep(Duration::from_millis(20 * u64::from(spoiled))) {
                        return Err(ClientError::Stopped.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until queries see what the stream gave.
    fn shows(&mut self, given: &Given) -> Result<(), SnapError> {
        if given.is_anonymous && !self.conn.is_mariadb() && !self.wake.sleep(SHOWS_WITHIN) {
            return Err(ClientError::Stopped.into());
        }
        if !given.gtids.is_empty() {
            let set: Vec<_> = given.gtids.iter().map(|(origin, last)| format!("{origin}:{last}")).collect();
            let sql = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', 10) AS late", set.join(","));
            if self.conn.query(&sql)?.text(0, "late") != "0" {
                return Err(Spoiled::NotShown.into());
            }
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        left: &Left,
        table: &Described,
        progress: &mut Progress,
        limit: u32,
    ) -> Result<Read, SnapError> {
        let given = self.shared.open(&left.db, &left.table);
        self.shows(&given)?;
        let sql = chunk::select(table, progress.after.as_deref(), left.only.as_deref(), limit);
        let sql =
            sql.ok_or_else(|| SnapError::Refused("the checkpoint's key is none of the table".into()))?;
        let started = mono_now();
        let mut view = None;
        if self.conn.is_mariadb() {
            self.conn.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
            let at = self.view()?;
            if let Some(end) = given.end.as_ref().filter(|end| **end > at)
                && !self.is_empty_between(&at, end)?
            {
                self.conn.query("COMMIT")?;
                return Err(Spoiled::NotShown.into());
            }
            view = Some(at);
        }
        let mut rows = Rows::new(table, self.batch_bytes);
        let (mut asked, mut is_cut) = (0, false);
        let ts_ms = now_ms();
        let mut last = Vec::new();
        let mut last_columns = Vec::new();
        let read = self.conn.rows::<SnapError>(&sql, self.max_row_bytes, |columns, row| {
            is_cut |= rows.bytes() >= MAX_CHUNK_BYTES;
            if is_cut {
                return Ok(());
            }
            rows.add(columns, row, ts_ms)?;
            asked += 1;
            last.clear();
            last.extend_from_slice(row.payload());
            if last_columns.is_empty() {
                last_columns = columns.to_vec();
            }
            Ok(())
        });
        match read {
            // A column or the table is gone: a statement that the stream has not told yet.
            Err(SnapError::Client(ClientError::Server(error)))
                if matches!(error.code, 1054 | 1146 | 1176) =>
            {
                return Err(Spoiled::Ddl.into());
            }
            Err(SnapError::Client(ClientError::Server(error))) if matches!(error.code, 1142 | 1143) => {
                return Err(SnapError::Refused(format!("{error}; GRANT SELECT on it")));
            }
            Err(SnapError::Record(RecordError::Value { .. })) => {
                // The rest of the answer stands in the connection.
                let error = std::io::Error::other("the table changed while it was read");
                return Err(ClientError::Io { what: "read a chunk", error }.into());
            }
            other => other?,
        }
        let micros = u64::try_from(mono_now().since(started).as_micros()).unwrap_or(u64::MAX);
        if view.is_some() {
            self.conn.query("COMMIT")?;
        }
        let (mark, gtids) = self.mark()?;
        let high = view.unwrap_or(mark);
        // It counts when the chunk was handed on, not before.
        let mut next = progress.clone();
        if asked > 0 {
            let after = progress_after(&last, &last_columns, table);
            next.after =
                Some(after.ok_or_else(|| SnapError::Refused("a value of its key cannot be kept".into()))?);
        }
        loop {
            match self.shared.wait_for(&high) {
                Waited::Reached => break,
                Waited::Spoiled(why) => return Err(why.into()),
                Waited::NotYet if self.wake.is_over() => return Err(ClientError::Stopped.into()),
                Waited::NotYet => {}
            }
        }
        let origin = Snapshot { run: self.run.clone(), file: high.file.clone(), pos: high.pos, gtids, ts_ms };
        let handed = self.shared.close(|window| self.give(rows, window, Arc::new(origin), &next))??;
        *progress = next;
        telemetry::count("dts_mysql_snapshot_rows_total", &[("source", &self.source)], handed);
        Ok(Read { rows: handed, asked, micros, is_cut, is_last: !is_cut && asked < limit })
    }

    /// Hands on the rows that the stream has not overtaken.
    fn give(
        &self,
        rows: Rows,
        window: &Window,
        origin: Arc<Snapshot>,
        progress: &Progress,
    ) -> Result<u64, SnapError> {
        let (batches, count) = rows
            .batches(&self.source, &origin, |row| window.is_untouched() || window.keeps(row).unwrap_or(true));
        for batch in batches {
            self.hand_on(Made::Rows(batch))?;
        }
        self.hand_on(Made::Reached(progress.clone()))?;
        Ok(count)
    }

    /// Hands on while the connection is read.
    pub(super) fn sender(&self) -> &'t dyn Fn(Made) -> bool {
        self.send
    }

    /// The source's name.
    pub(super) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// For batches of a table without a key.
    pub(super) fn rows_of(&self, table: &Described) -> Rows {
        Rows::new(table, self.batch_bytes)
    }

    pub(super) fn origin(&self, at: &Position, gtids: Arc<str>) -> Arc<Snapshot> {
        let (run, file) = (self.run.clone(), at.file.clone());
        Arc::new(Snapshot { run, file, pos: at.pos, gtids, ts_ms: now_ms() })
    }

    pub(super) fn max_row_bytes(&self) -> usize {
        self.max_row_bytes
    }
}

pub(super) fn now_ms() -> u64 {
    u64::try_from(wall_now_us() / 1000).unwrap_or(0)
}

/// A chunk that was handed on.
struct Read {
    rows: u64,
    asked: u32,
    micros: u64,
    is_cut: bool,
    is_last: bool,
}

/// The key of a row.
fn progress_after(payload: &[u8], columns: &[ResultColumn], table: &Described) -> Option<Vec<Part>> {
    let mut parts = vec![None; table.key.len()];
    let read = BinaryRow::new(payload).cells::<ClientError>(columns, |i, cell| {
        if let Some(place) = table.key.iter().position(|&column| column == i)
            && let (Some(part), Some(column)) = (parts.get_mut(place), table.columns.get(i))
        {
            *part = Part::of(cell, column.ty);
        }
        Ok(())
    });
    read.ok()?;
    parts.into_iter().collect()
}

/// Rows of one table on their way into batches.
pub(super) struct Rows {
    record: Record,
    shapes: Vec<Arc<Table>>,
    /// Records, and how many.
    parts: Vec<(Vec<u8>, u32)>,
    bytes: usize,
    batch_bytes: usize,
    pub(super) ordinal: u64,
}

impl Rows {
    fn new(table: &Described, batch_bytes: usize) -> Self {
        let record = Record::new(table);
        Self {
            record,
            shapes: vec![table.table.clone()],
            parts: Vec::new(),
            bytes: 0,
            batch_bytes,
            ordinal: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(
        &mut self,
        columns: &[ResultColumn],
        row: BinaryRow<'_>,
        ts_ms: u64,
    ) -> Result<(), RecordError> {
        if self.parts.last().is_none_or(|(records, _)| records.len() >= self.batch_bytes) {
            self.parts.push((Vec::with_capacity(self.batch_bytes + (self.batch_bytes >> 2)), 0));
        }
        let Self { record, shapes, parts, .. } = self;
        let Some((records, count)) = parts.last_mut() else { return Ok(()) };
        let before = records.len();
        let hlc = ts_ms << 16 | self.ordinal.min(0xffff);
        record.write(records, columns, row, self.ordinal, hlc, &mut |table| {
            let known = shapes.iter().position(|shape| Arc::ptr_eq(shape, table));
            let at = known.unwrap_or_else(|| {
                shapes.push(table.clone());
                shapes.len() - 1
            });
            u16::try_from(at).ok()
        })?;
        *count += 1;
        self.ordinal += 1;
        self.bytes += records.len() - before;
        Ok(())
    }

    /// What was added, as batches; only rows that `keeps` wants.
    pub(super) fn batches(
        mut self,
        source: &Arc<str>,
        origin: &Arc<Snapshot>,
        keeps: impl Fn(&RowView<'_>) -> bool,
    ) -> (Vec<Batch>, u64) {
        let batches = self.take(source, origin, keeps);
        let rows = batches.iter().map(|batch| u64::from(batch.rows)).sum();
        (batches, rows)
    }

    /// As [`Self::batches`]; more may be added.
    pub(super) fn take(
        &mut self,
        source: &Arc<str>,
        origin: &Arc<Snapshot>,
        keeps: impl Fn(&RowView<'_>) -> bool,
    ) -> Vec<Batch> {
        let tables: Arc<[Arc<Table>]> = self.shapes.as_slice().into();
        let mut batches = Vec::new();
        self.bytes = 0;
        for (records, _) in self.parts.drain(..) {
            let mut body = Vec::with_capacity(4 + 8 * tables.len() + records.len());
            body.extend_from_slice(&[BODY_VERSION, 0]);
            body.extend_from_slice(&u16::try_from(tables.len()).unwrap_or(u16::MAX).to_le_bytes());
            tables.iter().for_each(|table| body.extend_from_slice(&table.hash().to_le_bytes()));
            let mut rest = records.as_slice();
            let mut rows = 0;
            while !rest.is_empty() {
                let here = rest;
                // They were written a moment ago.
                let Ok(row) = RowView::take(&mut rest, &tables) else { break };
                if keeps(&row) {
                    body.extend_from_slice(here.get(..here.len() - rest.len()).unwrap_or_default());
                    rows += 1;
                }
            }
            if rows > 0 {
                batches.push(Batch {
                    source: source.clone(),
                    origin: Origin::Snapshot(origin.clone()),
                    clock: RowClock::default(),
                    tables: tables.clone(),
                    rows,
                    body: body.into(),
                    positions: Vec::new(),
                });
            }
        }
        batches
    }
}
