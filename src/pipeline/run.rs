//! The loop: takes submissions while there is credit, lets each sink write on its own task, and
//! resolves what every sink has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::FutureExt;

use super::core::{Action, Core, Limits, Wants};
use crate::control::Tap;
use crate::event::{Batch, Origin};
use crate::planted::{self, Bug};
use crate::runtime::{self, LocalFuture, Mono, Stop, mono_now, wall_now_us};
use crate::sink::{Abilities, Mark, Sink, SinkError};
use crate::source::{Claim, Refused, Submission};
use crate::telemetry;

/// Where the watermarks of a sink go that cannot store them itself.
pub trait KeepMarks {
    /// Stores `marks` of the sink `sink` durably.
    fn keep<'a>(&'a self, sink: &'a str, marks: Vec<Mark>) -> LocalFuture<'a, Result<(), SinkError>>;
}

/// A sink and its name in the config.
pub struct NamedSink {
    /// Name in the config.
    pub name: String,
    /// The open sink.
    pub sink: Box<dyn Sink>,
    /// What it had when it was opened. Batches up to these marks are not written again: with several sinks a device
    /// sends again what one of them lacks.
    pub marks: Vec<Mark>,
    /// Sessions of devices that are to be counted by it, if it is shared with other nodes.
    pub claims: Option<async_channel::Receiver<Claim>>,
}

impl std::fmt::Debug for NamedSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedSink").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the pipeline stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A sink cannot go on.
    #[error("sink `{sink}`: {error}")]
    Sink {
        /// Name in the config.
        sink: String,
        /// What it said.
        error: SinkError,
    },
    /// The reader of a sink has gone away (`dts run | head`): the end, and no failure.
    #[error("{0}")]
    Closed(String),
}

struct Job {
    parts: Vec<Part>,
}

/// A batch of a write.
struct Part {
    slot: u64,
    batch: Batch,
    mark: Option<Mark>,
}

/// What became of a write.
struct Written {
    sink: usize,
    result: Result<(), SinkError>,
    /// Slots that were left out: newer sessions of their devices have taken over.
    fenced: Vec<u64>,
}

/// From `stop` on, for what was taken and for the sinks' last words. A stop of dts takes less than a second.
const STOP_WITHIN: Duration = Duration::from_millis(900);

/// Runs until `stop` is said *and* all sources have dropped their outlets, or a sink fails for
/// good. Everything that was taken is finished or, after a failed write while stopping, or
/// `STOP_WITHIN` after `stop`, left unresolved (its receipts say that dts is stopping): whoever sent
/// it sends it again.
pub async fn run(
    sinks: Vec<NamedSink>,
    keep: Option<Rc<dyn KeepMarks>>,
    limits: Limits,
    submissions: async_channel::Receiver<Submission>,
    tap: Tap,
    stop: Stop,
) -> Result<(), PipelineError> {
    let wants: Vec<Wants> = sinks.iter().map(|s| wants(s.sink.abilities())).collect();
    let names: Vec<String> = sinks.iter().map(|s| s.name.clone()).collect();
    let mut core = Core::new(limits, &wants);
    let (results_tx, results) = async_channel::unbounded();
    let mut jobs = Vec::new();
    let mut workers = Vec::new();
    for (index, (sink, wants)) in sinks.into_iter().zip(&wants).enumerate() {
        let (tx, rx) = async_channel::bounded(wants.writes_under_way);
        jobs.push(tx);
        workers.push(runtime::spawn(worker(index, sink, keep.clone(), rx, results_tx.clone())));
    }
    let work = async {
        let ended = drive(&mut core, &names, &jobs, &results, &submissions, &tap, &stop).await;
        jobs.clear();
        for worker in workers {
            worker.await;
        }
        ended
    };
    let late = async {
        stop.wait().await;
        runtime::sleep(STOP_WITHIN).await;
        log::info!("a sink did not finish in time: what it was writing is not acknowledged and comes again");
        Ok(())
    };
    work.or(late).await
}

fn wants(abilities: Abilities) -> Wants {
    Wants { max_write_bytes: abilities.max_write_bytes, writes_under_way: abilities.writes_under_way.max(1) }
}

enum Event {
    Submitted(Box<Submission>),
    SourcesGone,
    Written(Written),
    Timeout,
}

async fn drive(
    core: &mut Core,
    names: &[String],
    jobs: &[async_channel::Sender<Job>],
    results: &async_channel::Receiver<Written>,
    submissions: &async_channel::Receiver<Submission>,
    tap: &Tap,
    stop: &Stop,
) -> Result<(), PipelineError> {
    let mut held: HashMap<u64, Submission> = HashMap::new();
    let mut fenced: HashSet<u64> = HashSet::new();
    let mut rng = runtime::rng();
    let mut sources_gone = false;
    loop {
        while let Some(action) = core.poll_action(mono_now()) {
            match action {
                Action::Write { sink, slots } => {
                    let part = |slot: &u64| {
                        let Submission { batch, mark, .. } = held.get(slot)?;
                        Some(Part { slot: *slot, batch: batch.clone(), mark: mark.clone() })
                    };
                    let job = Job { parts: slots.iter().filter_map(part).collect() };
                    if let Some(tx) = jobs.get(sink) {
                        // Never full: it holds the writes that may be under way. Closed only after the loop.
                        tx.try_send(job).ok();
                    }
                }
                Action::Done { slot } => {
                    if let Some(submission) = held.remove(&slot) {
                        let result = if fenced.remove(&slot) { Err(Refused::TakenOver) } else { Ok(()) };
                        // A source that is gone does not wait for the answer.
                        submission.done.try_send(result).ok();
                    }
                }
            }
        }
        let (slots, bytes) = core.in_flight();
        telemetry::gauge("dts_pipeline_in_flight_batches", &[], slots as f64);
        telemetry::gauge("dts_pipeline_in_flight_bytes", &[], bytes as f64);
        if sources_gone && core.is_idle() {
            return Ok(());
        }
        let may_read = !sources_gone && core.has_credit();
        match next_event(core, results, submissions, may_read).await {
            Event::Submitted(submission) => {
                let batch = &submission.batch;
                tap.show(batch);
                telemetry::count(
                    "dts_source_rows_total",
                    &[("source", &*submission.source)],
                    u64::from(batch.rows),
                );
                telemetry::count(
                    "dts_source_bytes_total",
                    &[("source", &*submission.source)],
                    batch.bytes() as u64,
                );
                held.insert(core.submit(batch.bytes()), *submission);
            }
            Event::SourcesGone => sources_gone = true,
            Event::Written(Written { sink, result: Ok(()), fenced: left_out }) => {
                fenced.extend(left_out);
                core.written(sink);
            }
            // A reader that has enough (`dts run | head`): not a failure, and nothing is left to do.
            Event::Written(Written { result: Err(SinkError::Closed(why)), .. }) => {
                return Err(PipelineError::Closed(why));
            }
            Event::Written(Written { sink, result: Err(error), .. }) => {
                let name = &names[sink];
                if !matches!(error, SinkError::Retry(_)) || (sources_gone && stop.is_set()) {
                    return Err(PipelineError::Sink { sink: name.clone(), error });
                }
                let pause = core.failed(sink, mono_now(), &mut rng);
                telemetry::count("dts_sink_retries_total", &[("sink", name)], 1);
                log::warn!("sink `{name}`: {error}; trying again in {} ms", pause.as_millis());
            }
            Event::Timeout => {}
        }
    }
}

async fn next_event(
    core: &Core,
    results: &async_channel::Receiver<Written>,
    submissions: &async_channel::Receiver<Submission>,
    may_read: bool,
) -> Event {
    let written = async {
        match results.recv().await {
            Ok(written) => Event::Written(written),
            Err(_) => std::future::pending().await,
        }
    };
    let submitted = async {
        if !may_read {
            return std::future::pending().await;
        }
        match submissions.recv().await {
            Ok(submission) => Event::Submitted(Box::new(submission)),
            Err(_) => Event::SourcesGone,
        }
    };
    let timeout = async {
        match core.poll_timeout() {
            Some(at) => runtime::sleep_until(at).await,
            None => std::future::pending().await,
        }
        Event::Timeout
    };
    written.or(submitted).or(timeout).await
}

/// The last mark of each lane's epoch: a write that holds several batches of it needs no other.
fn newest_marks<'a>(marks: impl Iterator<Item = &'a Mark>) -> Vec<Mark> {
    let mut newest: Vec<Mark> = Vec::new();
    for mark in marks {
        let same = |m: &&mut Mark| m.device == mark.device && m.lane == mark.lane && m.epoch == mark.epoch;
        match newest.iter_mut().find(same) {
            Some(older) => *older = mark.clone(),
            None => newest.push(mark.clone()),
        }
    }
    newest
}

/// Owns one sink: writes, keeps marks for it if it cannot, closes it.
async fn worker(
    index: usize,
    mut named: NamedSink,
    keep: Option<Rc<dyn KeepMarks>>,
    jobs: async_channel::Receiver<Job>,
    results: async_channel::Sender<Written>,
) {
    let abilities = named.sink.abilities();
    let mut claims = named.claims.take();
    if abilities.writes_under_way > 1 {
        overlapped(index, &mut named, keep.as_deref(), &jobs, &results).await;
    }
    loop {
        let Job { mut parts } = match next_job(&jobs, &mut claims).await {
            Next::Write(job) => job,
            Next::Claim(claim) => {
                let claimed = named.sink.claim(claim.device).await.map_err(|e| e.to_string());
                // Who asked may be gone; a number that is not used is no harm.
                claim.done.try_send(claimed).ok();
                continue;
            }
            Next::End | Next::Ended(_) => break,
        };
        parts.retain(|part| !named.marks.iter().any(|mark| covers(mark, &part.batch)));
        let mut fenced = Vec::new();
        let result = loop {
            let result = write(&mut named, abilities, keep.as_deref(), &parts).await;
            let Err(SinkError::Fenced { devices }) = &result else { break result };
            let before = fenced.len();
            parts.retain(|part| {
                let newer =
                    |m: &Mark| devices.iter().any(|(d, session)| *d == m.device && m.session < *session);
                let stays = !part.mark.as_ref().is_some_and(newer);
                if !stays {
                    fenced.push(part.slot);
                }
                stays
            });
            if fenced.len() == before {
                // A sink that fences what is not there: no reason to spin.
                break Err(SinkError::Retry("it refuses sessions that did not write".to_owned()));
            }
            telemetry::count(
                "dts_sink_fenced_batches_total",
                &[("sink", &named.name)],
                (fenced.len() - before) as u64,
            );
        };
        if results.send(Written { sink: index, result, fenced }).await.is_err() {
            break;
        }
    }
    let name = named.name;
    if let Err(error) = named.sink.close().await {
        log::warn!("sink `{name}`: {error}");
    }
}

/// Writes begun before the ones before them are durable.
async fn overlapped(
    index: usize,
    named: &mut NamedSink,
    keep: Option<&dyn KeepMarks>,
    jobs: &async_channel::Receiver<Job>,
    results: &async_channel::Sender<Written>,
) {
    let mut begun: VecDeque<(Measured, LocalFuture<'static, Result<(), SinkError>>)> = VecDeque::new();
    loop {
        let next = async { jobs.recv().await.ok().map(Next::Write) };
        let oldest = async {
            match begun.front_mut() {
                Some((_, write)) => Some(Next::Ended(write.await)),
                None => std::future::pending().await,
            }
        };
        match oldest.or(next).await {
            Some(Next::Write(Job { mut parts })) => {
                parts.retain(|part| !named.marks.iter().any(|mark| covers(mark, &part.batch)));
                let measured = Measured::of(&parts);
                let batches = parts.into_iter().map(|part| part.batch).collect();
                let write = named.sink.begin(batches, Vec::new()).unwrap_or_else(|| {
                    Box::pin(async { Err(SinkError::Fatal("it takes one write at a time".to_owned())) })
                });
                begun.push_back((measured, write));
            }
            Some(Next::Ended(mut result)) => {
                let Some((measured, _)) = begun.pop_front() else { continue };
                if let (Ok(()), false, Some(keep)) = (&result, measured.marks.is_empty(), keep) {
                    result = keep.keep(&named.name, measured.marks.clone()).await;
                }
                if result.is_ok() {
                    measured.count(&named.name);
                } else {
                    // They fail too; what the pipeline hears of is the first.
                    while let Some((_, write)) = begun.pop_front() {
                        write.await.ok();
                    }
                    while jobs.try_recv().is_ok() {}
                }
                let written = Written { sink: index, result, fenced: Vec::new() };
                if results.send(written).await.is_err() {
                    return;
                }
            }
            _ => break,
        }
    }
    for (_, write) in begun {
        write.await.ok();
    }
}

enum Next {
    Write(Job),
    /// The oldest write under way.
    Ended(Result<(), SinkError>),
    Claim(Claim),
    End,
}

/// Sessions first: they are short, and a device waits.
async fn next_job(
    jobs: &async_channel::Receiver<Job>,
    claims: &mut Option<async_channel::Receiver<Claim>>,
) -> Next {
    let claim = async {
        match &*claims {
            Some(claims) => claims.recv().await.ok().map(Next::Claim),
            None => std::future::pending().await,
        }
    };
    let job = async { Some(jobs.recv().await.map_or(Next::End, Next::Write)) };
    if let Some(next) = claim.or(job).await {
        return next;
    }
    // No source will ask any more.
    *claims = None;
    jobs.recv().await.map_or(Next::End, Next::Write)
}

/// One write, and the marks beside it.
async fn write(
    named: &mut NamedSink,
    abilities: Abilities,
    keep: Option<&dyn KeepMarks>,
    parts: &[Part],
) -> Result<(), SinkError> {
    let batches: Vec<Batch> = parts.iter().map(|part| part.batch.clone()).collect();
    let mut measured = Measured::of(parts);
    let marks = if abilities.marks { std::mem::take(&mut measured.marks) } else { Vec::new() };
    let mut result = named.sink.write(batches, marks).await;
    if let (Ok(()), false, Some(keep)) = (&result, measured.marks.is_empty(), keep) {
        // After the sink and before the acknowledgement: a crash between doubles, never loses.
        result = keep.keep(&named.name, measured.marks.clone()).await;
    }
    if result.is_ok() {
        measured.count(&named.name);
    }
    result
}

/// What is said of a write when it is durable.
struct Measured {
    started: Mono,
    rows: u64,
    bytes: u64,
    /// When the last row of each batch was made.
    made_ms: Vec<u64>,
    /// The watermarks that it moves.
    marks: Vec<Mark>,
}

impl Measured {
    fn of(parts: &[Part]) -> Self {
        Self {
            started: mono_now(),
            rows: parts.iter().map(|part| u64::from(part.batch.rows)).sum(),
            bytes: parts.iter().map(|part| part.batch.bytes() as u64).sum(),
            made_ms: parts.iter().filter_map(|part| last_made_ms(&part.batch)).collect(),
            marks: newest_marks(parts.iter().filter_map(|part| part.mark.as_ref())),
        }
    }

    fn count(&self, sink: &str) {
        let label = [("sink", sink)];
        telemetry::count("dts_sink_writes_total", &label, 1);
        telemetry::count("dts_sink_rows_total", &label, self.rows);
        telemetry::count("dts_sink_bytes_total", &label, self.bytes);
        telemetry::observe("dts_sink_write_seconds", &label, mono_now().since(self.started).as_secs_f64());
        let now_ms = wall_now_us() / 1000;
        for &ms in &self.made_ms {
            let latency = (now_ms - ms as i64).max(0) as f64 / 1000.0;
            telemetry::observe("dts_event_latency_seconds", &label, latency);
        }
    }
}

/// Whether a sink with this mark has all of `batch`.
fn covers(mark: &Mark, batch: &Batch) -> bool {
    match &batch.origin {
        _ if planted::on(Bug::ForgetDedup) => false,
        Origin::Device { device, lane, epoch, last_seq, .. } => {
            (&mark.device, &mark.lane, mark.epoch) == (device, lane, *epoch) && *last_seq <= mark.seq
        }
        _ => false,
    }
}

/// When the last row of a batch was made, in ms since 1970, if its clock was known.
fn last_made_ms(batch: &Batch) -> Option<u64> {
    match &batch.origin {
        Origin::Binlog(log) => {
            let committed = log.transactions.last().and_then(|t| t.commit_ts_us);
            return committed.map(|us| us / 1000).or_else(|| log.events.last().map(|event| event.ts_ms));
        }
        Origin::Snapshot(_) => return None,
        Origin::Input | Origin::Device { .. } => {}
    }
    let row = batch.iter().last()?.ok()?;
    Some(batch.clock.hlc(row.head().hlc) >> 16).filter(|&ms| ms > 0)
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
