//! The sink itself: on the main thread, where it begins writes and hears what became of messages.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use async_channel::Sender;
use async_io::Async;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use rustix::event::{EventfdFlags, eventfd};

use super::client::{self, Client, Failure, Reports};
use super::config::Config;
use super::encode::{Job, Shared, Worker};
use super::flight::{Row, Write};
use crate::config::Duration;
use crate::event::{Batch, Op};
use crate::runtime::{LocalFuture, Task, spawn, timeout};
use crate::sink::{Abilities, Mark, Sink, SinkConfig, SinkError};
use crate::telemetry;

/// Bytes of rows in one write: small enough that several are under way in little memory.
const MAX_WRITE_BYTES: usize = 256 << 10;
/// Writes under way.
const WRITES: usize = 16;
/// Plenty for encoding a row.
const STACK_BYTES: usize = 512 << 10;
/// How long [`Sink::probe`] waits for a broker.
const PROBE: Duration = Duration::from_secs(5);

impl SinkConfig for Config {
    fn mistake(&self) -> Option<String> {
        self.wrong()
    }

    fn open(&self, name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        let opened = Kafka::open(name, self.clone());
        Box::pin(async { opened.map(|sink| Box::new(sink) as Box<dyn Sink>) })
    }
}

/// What the task that hears reports and the sink share.
#[derive(Debug)]
struct State {
    client: RefCell<Arc<Client>>,
    /// Writes begun and not yet over.
    under_way: Cell<usize>,
    /// The producer is of no more use.
    is_broken: Cell<bool>,
    /// A message was too large for its topic: from now on they go one by one, so that the next failure names its row.
    careful: Cell<bool>,
    /// No broker can be reached.
    is_away: Cell<bool>,
    shared: Arc<Shared>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kafka {
    state: Rc<State>,
    jobs: Vec<Sender<Job>>,
    wake: Arc<OwnedFd>,
    _reports: Task<()>,
}

impl Kafka {
    fn open(name: &str, config: Config) -> Result<Self, SinkError> {
        let failed = |what: std::io::Error| SinkError::Retry(format!("open the sink: {what}"));
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        let wake = Arc::new(wake);
        let client = Client::producer(&config.settings(false), wake.clone()).map_err(SinkError::Fatal)?;
        client.wake();
        let shared = Arc::new(Shared::new(name, config));
        let mut jobs = Vec::new();
        for me in 0..u64::from(shared.config.encode_threads.max(1)) {
            let (tx, rx) = async_channel::unbounded();
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("kafka-encode".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || Worker::new(shared, me).run(&rx))
                .map_err(failed)?;
            jobs.push(tx);
        }
        let state = Rc::new(State {
            client: RefCell::new(Arc::new(client)),
            under_way: Cell::new(0),
            is_broken: Cell::new(false),
            careful: Cell::new(false),
            is_away: Cell::new(false),
            shared,
        });
        let readable = Async::new(wake.try_clone().map_err(failed)?).map_err(failed)?;
        let reports = spawn(hear(state.clone(), readable));
        Ok(Self { state, jobs, wake, _reports: reports })
    }

    fn start(&mut self, batches: Vec<Batch>) -> LocalFuture<'static, Result<(), SinkError>> {
        let state = self.state.clone();
        if let Err(error) = self.renew() {
            return Box::pin(async { Err(error) });
        }
        if batches.iter().all(|batch| batch.rows == 0) {
            return Box::pin(async { Ok(()) });
        }
        let (done, result) = async_channel::bounded(1);
        let parts = u32::try_from(self.jobs.len()).unwrap_or(1);
        let write = Write::new(parts, done);
        let alone = self.jobs.len() > 1 && batches.iter().any(holds_more_than_rows);
        let client = state.client.borrow().clone();
        let job = Job { batches: Arc::new(batches), write, client, alone };
        state.under_way.set(state.under_way.get() + 1);
        let over = Over(state);
        for jobs in &self.jobs {
            // Unbounded, and closed only with the sink.
            jobs.try_send(job.clone()).ok();
        }
        drop(job);
        Box::pin(async move {
            let _over = over;
            let gone = |_| Err(SinkError::Fatal("an encoder of kafka has ended; restart dts".to_owned()));
            result.recv().await.unwrap_or_else(gone)
        })
    }

    /// After a failure, when no write is under way any more: begins anew.
    fn renew(&mut self) -> Result<(), SinkError> {
        let state = &self.state;
        if state.under_way.get() > 0 {
            return Ok(());
        }
        if state.is_broken.get() {
            let config = &state.shared.config;
            let client = Client::producer(&config.settings(state.careful.get()), self.wake.clone());
            let client = client.map_err(SinkError::Fatal)?;
            client.wake();
            let old = state.client.replace(Arc::new(client));
            // Its end waits for its threads.
            std::thread::Builder::new().name("kafka-end".to_owned()).spawn(move || drop(old)).ok();
            state.is_broken.set(false);
            log::info!("sink `{}`: a new producer", state.shared.name);
            telemetry::count("dts_sink_kafka_producers_renewed_total", &[("sink", &state.shared.name)], 1);
        }
        state.shared.flight.set_failed(false);
        Ok(())
    }
}

/// Whether something in it is no row of a table, or is about all rows of one.
fn holds_more_than_rows(batch: &Batch) -> bool {
    let is_row = |op| matches!(op, Op::Insert | Op::Update | Op::Delete | Op::Snapshot);
    batch.iter().any(|row| !row.is_ok_and(|row| is_row(row.op())))
}

/// Counts a write as over when it is dropped.
struct Over(Rc<State>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get().saturating_sub(1));
    }
}

/// Hears reports as long as the sink lives.
async fn hear(state: Rc<State>, wake: Async<OwnedFd>) {
    loop {
        if wake.readable().await.is_err() {
            return;
        }
        let mut count = [0; 8];
        // What it counts does not matter; that it is read does.
        rustix::io::read(wake.get_ref(), &mut count).ok();
        let client = state.client.borrow().clone();
        let mut heard = Heard { state: &state, delivered: false, broken: false };
        client.serve(&mut heard);
        let (delivered, broken) = (heard.delivered, heard.broken);
        if delivered && state.is_away.replace(false) {
            log::info!("sink `{}`: the brokers are there again", state.shared.name);
            telemetry::gauge("dts_sink_kafka_away", &[("sink", &state.shared.name)], 0.0);
        }
        if broken && !state.is_broken.replace(true) {
            state.shared.flight.set_failed(true);
            client.purge();
        }
        if delivered {
            let cost = state.shared.flight.cost();
            telemetry::gauge("dts_sink_kafka_queue_bytes", &[("sink", &state.shared.name)], cost as f64);
        }
    }
}

struct Heard<'s> {
    state: &'s State,
    delivered: bool,
    broken: bool,
}

impl Reports for Heard<'_> {
    fn delivered(&mut self, number: usize, failed: Option<Code>) {
        let flight = &self.state.shared.flight;
        let Some(code) = failed else {
            self.delivered = true;
            return flight.reported(number, 1, None);
        };
        self.broken = true;
        // With others in its batch it may be the batch that is too large, or another message of it.
        let is_own = client::is_own_fault(code) && self.state.careful.get();
        if client::is_own_fault(code) && !self.state.careful.replace(true) {
            log::warn!(
                "sink `{}`: a broker refuses messages as too large ({}); from now on they go one by one, which is slow: \
                 set `max_message_bytes` to what the topic takes",
                self.state.shared.name,
                client::words(code)
            );
        }
        let error = |row: Row| {
            let words = client::words(code);
            match (is_own, client::is_refused(code), client::is_missing(code)) {
                (true, ..) => SinkError::Reject {
                    batch: row.batch as usize,
                    row: row.row,
                    reason: format!("the broker refuses its message of {} bytes: {words}", row.bytes),
                },
                (_, true, _) => SinkError::Fatal(words),
                (.., true) => SinkError::Retry(format!("its topic is gone: {words}")),
                _ if client::is_purged(code) => SinkError::Retry("the producer begins anew".to_owned()),
                _ => SinkError::Retry(words),
            }
        };
        if !client::is_purged(code) {
            let labels = [("sink", self.state.shared.name.as_str()), ("error", client::name(code))];
            telemetry::count("dts_sink_kafka_message_errors_total", &labels, 1);
        }
        flight.reported(number, 1, Some(&error));
    }

    fn failed(&mut self, failure: Failure, is_fatal: bool) {
        let name = &self.state.shared.name;
        if is_fatal {
            self.broken = true;
            log::warn!("sink `{name}`: the producer stopped: {}; dts begins anew", failure.text);
            return;
        }
        let labels = [("sink", name.as_str()), ("error", client::name(failure.code))];
        telemetry::count("dts_sink_kafka_errors_total", &labels, 1);
        if client::is_away(failure.code) {
            if !self.state.is_away.replace(true) {
                log::warn!("sink `{name}`: no broker can be reached ({}); dts goes on trying", failure.text);
                telemetry::gauge("dts_sink_kafka_away", &[("sink", name)], 1.0);
            }
        } else {
            log::debug!("sink `{name}`: {}", failure.text);
        }
    }

    fn log(&mut self, level: i32, text: &str) {
        let name = &self.state.shared.name;
        // syslog's: up to 3 is an error. What matters comes as an error too, and is told once there.
        match level {
            0..=2 => log::warn!("sink `{name}`: {text}"),
            _ => log::debug!("sink `{name}`: {text}"),
        }
    }
}

impl Sink for Kafka {
    fn abilities(&self) -> Abilities {
        Abilities {
            durable: true,
            ddl: true,
            max_write_bytes: MAX_WRITE_BYTES,
            writes_under_way: WRITES,
            ..Abilities::default()
        }
    }

    fn write(&mut self, batches: Vec<Batch>, _marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        self.start(batches)
    }

    fn begin(
        &mut self,
        batches: Vec<Batch>,
        _marks: Vec<Mark>,
    ) -> Option<LocalFuture<'static, Result<(), SinkError>>> {
        Some(self.start(batches))
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async move {
            let client = self.state.client.borrow().clone();
            let (tx, rx) = async_channel::bounded(1);
            let ask = move || drop(tx.try_send(client.brokers(PROBE)));
            std::thread::Builder::new()
                .name("kafka-probe".to_owned())
                .spawn(ask)
                .map_err(|e| SinkError::Retry(format!("start a thread: {e}")))?;
            let brokers = self.state.shared.config.brokers.join(", ");
            match rx.recv().await {
                Ok(Ok((count, name))) => Ok(format!("{count} brokers, {name} tells")),
                Ok(Err(failure)) => Err(SinkError::Retry(format!("{brokers}: {}", failure.text))),
                Err(_) => Err(SinkError::Retry(format!("{brokers}: no answer"))),
            }
        })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            let client = self.state.client.borrow().clone();
            drop(self);
            let (tx, rx) = async_channel::bounded(1);
            let end = move || {
                drop(client);
                tx.try_send(()).ok();
            };
            std::thread::Builder::new().name("kafka-end".to_owned()).spawn(end).ok();
            timeout(Duration::from_millis(900), rx.recv()).await;
            Ok(())
        })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.state.shared.flight.close();
        self.state.client.borrow().purge();
    }
}
