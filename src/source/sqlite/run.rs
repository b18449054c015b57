//! The shell: waits for changes, hands batches on, deletes what is stored.
//!
//! It works on the main thread: a step reads at most 256 rows or about 64 KiB, waits for no lock, and
//! needs no thread of its own. One batch is on its way at a time, since a later one must not be stored
//! where an earlier one was refused.

use std::time::Duration;

use futures_lite::FutureExt;

use crate::event::{Batch, BatchBuilder};
use crate::runtime::{Mono, Stop, mono_now, rng, sleep, timeout};
use crate::source::{Outlet, Refused, SourceError};
use crate::telemetry;

use super::config::Config;
use super::error::{Class, Error};
use super::follower::{Counts, Follower, Limits, Step};
use super::position::KEY;
use super::watch::Watch;

/// Rows in a batch.
const BATCH_ROWS: u32 = 256;
/// Bytes after which a batch is full.
const BATCH_BYTES: usize = 64 << 10;
/// A commit comes as several writes: wait so long for the rest of them.
const GATHER: Duration = Duration::from_millis(2);
/// The kernel tells of a write before the commit is visible: look again after so many milliseconds.
const LOOK_AGAIN_MS: [u64; 5] = [1, 3, 10, 40, 200];
/// How long stored rows may wait to be deleted, unless they take much room.
const TRIM_EVERY: Duration = Duration::from_secs(2);
/// How long a reader stays out of the way of a writer in a rollback journal. After that the journal
/// may be the rest of a crash, which a reader must roll back.
const JOURNAL_WAIT: Duration = Duration::from_millis(500);

/// Why following ended without an error.
enum End {
    Stop,
    /// The file is another one, or gone.
    Reopen,
}

/// Follows the database until `stop`.
pub(super) async fn run(config: Config, outlet: Outlet, stop: Stop) -> Result<(), SourceError> {
    let mut watch = Watch::new(&config.path);
    let mut position = outlet.position(KEY).map(<[u8]>::to_vec);
    let mut said = String::new();
    while !stop.is_set() {
        let opened = Follower::open(&config, outlet.source.clone(), position.as_deref(), rng());
        let error = match opened {
            Ok(mut follower) => {
                said.clear();
                telemetry::gauge("dts_sqlite_waiting", &[("source", &outlet.source)], 0.0);
                let (followed, waiting) = follower.progress();
                log::info!(
                    "{}: follows {followed} tables of {}, {waiting} to be read",
                    outlet.source,
                    follower.path().display()
                );
                let mut shell = Shell::new(&config, &outlet, &stop, &mut watch, &mut follower);
                let ended = shell.follow().await;
                position = Some(follower.durable());
                match ended {
                    Ok(End::Stop) => return Ok(()),
                    Ok(End::Reopen) => {
                        log::warn!("{}: {} was replaced", outlet.source, config.path.display());
                        watch.renew();
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let pause = match error.class() {
            Class::Fatal => return Err(error.into()),
            Class::Busy => Duration::from_millis(20),
            Class::Wait => {
                say(&outlet, &error, &mut said);
                watch.ensure();
                if matches!(error, Error::Absent(_) | Error::Empty(_)) {
                    stop.or(timeout(config.poll_interval, watch.changed())).await;
                }
                // Not at every write of a file that cannot be read anyway.
                Duration::from_millis(if matches!(error, Error::Absent(_) | Error::Empty(_)) {
                    20
                } else {
                    1000
                })
            }
        };
        stop.or(sleep(pause)).await;
    }
    Ok(())
}

/// Says once why the database cannot be followed now.
fn say(outlet: &Outlet, error: &Error, said: &mut String) {
    telemetry::gauge("dts_sqlite_waiting", &[("source", &outlet.source)], 1.0);
    let text = error.to_string();
    if text != *said {
        match error {
            Error::Absent(_) | Error::Empty(_) => log::info!("{}: {text}", outlet.source),
            Error::Corrupt { .. } => log::error!("{}: {text}", outlet.source),
            _ => log::warn!("{}: {text}", outlet.source),
        }
        *said = text;
    }
}

struct Shell<'a> {
    config: &'a Config,
    outlet: &'a Outlet,
    stop: &'a Stop,
    watch: &'a mut Watch,
    follower: &'a mut Follower,
    trimmed_at: Mono,
    /// Whether it was said that deleting fails.
    said: bool,
    counted: Counts,
}

impl<'a> Shell<'a> {
    fn new(
        config: &'a Config,
        outlet: &'a Outlet,
        stop: &'a Stop,
        watch: &'a mut Watch,
        follower: &'a mut Follower,
    ) -> Self {
        Self {
            config,
            outlet,
            stop,
            watch,
            follower,
            trimmed_at: mono_now(),
            said: false,
            counted: Counts::default(),
        }
    }

    async fn follow(&mut self) -> Result<End, Error> {
        let limits =
            Limits { rows: BATCH_ROWS, batch_bytes: BATCH_BYTES, row_bytes: self.outlet.max_row_bytes };
        let mut looks = 0;
        let mut busy = 0u32;
        loop {
            if self.stop.is_set() {
                // What is stored need not be told again; if the lock is taken, the next start does it.
                let _busy = self.follower.trim();
                return Ok(End::Stop);
            }
            if self.follower.is_replaced() {
                return Ok(End::Reopen);
            }
            self.keep_out_of_the_way().await;
            let stamp = self.outlet.stamp.clone();
            match self.follower.step(limits, &mut || stamp.next()) {
                Ok(Step::Batch(batch)) => {
                    self.count();
                    if !self.hand_on(batch).await {
                        return Ok(End::Stop);
                    }
                    (looks, busy) = (0, 0);
                }
                Ok(Step::Again) => {
                    busy = 0;
                    futures_lite::future::yield_now().await;
                    continue;
                }
                Ok(Step::Idle) => busy = 0,
                Err(error) if error.class() == Class::Busy => {
                    telemetry::count("dts_sqlite_busy_total", &[("source", &self.outlet.source)], 1);
                    busy = (busy + 1).min(7);
                    self.stop.or(sleep(Duration::from_millis(2 << busy))).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if self.trim().await {
                looks = looks.min(1);
                continue;
            }
            if self.wait(looks).await {
                looks = 0;
            } else {
                looks += 1;
            }
        }
    }

    /// Hands a batch on until it is stored. False if dts stops.
    async fn hand_on(&mut self, batch: Batch) -> bool {
        let mut said = false;
        loop {
            let Some(receipt) = self.stop.or(self.outlet.submit(batch.clone())).await else { return false };
            // After the word to stop the receipt is waited for all the same, for a while.
            let told = async { Some(receipt.await) }
                .or(async {
                    self.stop.wait().await;
                    sleep(Duration::from_millis(700)).await;
                    None
                })
                .await;
            match told {
                Some(Ok(())) => {
                    self.follower.stored();
                    return true;
                }
                Some(Err(Refused::Stopping | Refused::TakenOver)) | None => return false,
                Some(Err(Refused::Busy(why))) => {
                    if !said {
                        log::warn!("{}: {why}; tries again every second", self.outlet.source);
                        said = true;
                    }
                    if self.stop.or(sleep(Duration::from_secs(1))).await.is_none() {
                        return false;
                    }
                }
                Some(Err(Refused::TooLarge { .. })) => return self.hand_on_singly(&batch).await,
            }
        }
    }

    /// Hands the rows of a batch on one by one, leaving out those that are too large alone.
    async fn hand_on_singly(&mut self, batch: &Batch) -> bool {
        let rows: Vec<_> = batch.iter().map_while(Result::ok).collect();
        for (i, row) in rows.iter().enumerate() {
            let mut single = BatchBuilder::new(batch.source.clone());
            if single.push_row(row).is_err() {
                continue;
            }
            let is_last = i + 1 == rows.len();
            for (key, value) in batch.positions.iter().filter(|_| is_last) {
                single.position(key, value);
            }
            let single = single.finish();
            loop {
                let Some(receipt) = self.stop.or(self.outlet.submit(single.clone())).await else {
                    return false;
                };
                match receipt.await {
                    Ok(()) if is_last => self.follower.stored(),
                    Ok(()) => {}
                    Err(Refused::Stopping | Refused::TakenOver) => return false,
                    Err(Refused::Busy(_)) => {
                        if self.stop.or(sleep(Duration::from_secs(1))).await.is_none() {
                            return false;
                        }
                        continue;
                    }
                    Err(e @ Refused::TooLarge { .. }) => {
                        // The position goes with the next batch.
                        log::error!("{}: a row of `{}` is lost: {e}", self.outlet.source, row.table().name);
                        self.count_of("dts_sqlite_lost_rows_total", 1);
                    }
                }
                break;
            }
        }
        true
    }

    /// Deletes stored rows when they take much room, or after a while. True if it did.
    async fn trim(&mut self) -> bool {
        let pressing = self.follower.used_bytes > self.follower.max_bytes() / 4;
        let waited = mono_now().since(self.trimmed_at) >= TRIM_EVERY;
        if !self.follower.can_trim() || !(pressing || waited) {
            return false;
        }
        self.trimmed_at = mono_now();
        loop {
            match self.follower.trim() {
                Ok(true) => futures_lite::future::yield_now().await,
                Ok(false) => {
                    self.said = false;
                    return true;
                }
                // Whoever holds the lock comes first; there will be another time.
                Err(e) if e.class() == Class::Busy => return false,
                // A full disk, say. What was captured can be read all the same.
                Err(e) => {
                    if !std::mem::replace(&mut self.said, true) {
                        log::warn!("{}: {e}; tries again", self.outlet.source);
                    }
                    return false;
                }
            }
        }
    }

    /// Waits for a change, the next look or the end. True if a change was told.
    async fn wait(&mut self, looks: usize) -> bool {
        let watched = self.watch.ensure();
        let mut delay = match LOOK_AGAIN_MS.get(looks) {
            Some(ms) => Duration::from_millis(*ms),
            None if watched => self.config.poll_interval.max(Duration::from_millis(50)),
            // Nothing wakes dts here but the clock.
            None => self.config.poll_interval.clamp(Duration::from_millis(50), Duration::from_millis(200)),
        };
        if self.follower.can_trim() {
            delay = delay.min(TRIM_EVERY);
        }
        match self.stop.or(timeout(delay, self.watch.changed())).await {
            Some(Some(())) => {
                sleep(GATHER).await;
                true
            }
            _ => false,
        }
    }

    async fn keep_out_of_the_way(&self) {
        let mut waited = Duration::ZERO;
        while waited < JOURNAL_WAIT && self.follower.is_being_written() && !self.stop.is_set() {
            sleep(GATHER).await;
            waited += GATHER;
        }
    }

    fn count(&mut self) {
        let now = self.follower.counts;
        self.count_of("dts_sqlite_captured_rows_total", now.captured_rows - self.counted.captured_rows);
        self.count_of("dts_sqlite_snapshot_rows_total", now.snapshot_rows - self.counted.snapshot_rows);
        self.count_of("dts_sqlite_lost_rows_total", now.lost_rows - self.counted.lost_rows);
        let left_out = now.left_out - self.counted.left_out;
        if left_out > 0 {
            self.count_of("dts_sqlite_values_left_out_total", left_out);
            log::error!(
                "{}: {left_out} values did not fit into rows of {} bytes and were left out",
                self.outlet.source,
                self.outlet.max_row_bytes
            );
        }
        self.counted = now;
        let used = self.follower.used_bytes as f64;
        telemetry::gauge("dts_sqlite_captured_bytes", &[("source", &self.outlet.source)], used);
    }

    fn count_of(&self, name: &'static str, n: u64) {
        if n > 0 {
            telemetry::count(name, &[("source", &self.outlet.source)], n);
        }
    }
}

/// What `dts check --connect` says.
pub(super) fn probe(config: &Config) -> Result<String, Error> {
    let report = super::admin::status(&config.path)?;
    let wanted = report.tables.iter().filter(|t| config.wants(&t.name)).count();
    Ok(format!(
        "{}: {wanted} tables to follow, journal mode {}, {}",
        config.path.display(),
        report.journal_mode,
        if report.installed { "triggers installed" } else { "triggers not installed yet" }
    ))
}
