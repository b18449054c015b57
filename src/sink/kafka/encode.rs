//! Rows to messages, on a thread of its own.
//!
//! Of every write each encoder makes the messages of its share of the keys, so that the order of a key is kept. They
//! stand in one buffer, sorted by partition as they come, and are handed over partition by partition, uncopied.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

use super::client::{self, Client, Raw, Topic};
use super::config::{Config, Format, Headers, KeyChoice, Missing};
use super::flight::{Flight, Parcel, Row, Write};
use crate::codec::Part;
use crate::codec::debezium::DebeziumEncoder;
use crate::codec::json::{self, Encoder, Integers};
use crate::event::{Batch, Op, RowView, Table, TableKind, Value};
use crate::runtime::{Mono, mono_now};
use crate::sink::SinkError;
use crate::telemetry;

/// How long a broker may take to tell of a topic before it is asked again.
const ASK: Duration = Duration::from_secs(2);
/// How often a topic is asked for that the broker may be creating.
const CREATING: u32 = 10;
/// After this a topic's partitions are counted anew.
const FRESH: Duration = Duration::from_secs(300);

/// Ways remembered; beyond, they are found again.
const MAX_WAYS: usize = 4096;
/// In place of a schema's version: a message without the header.
pub(super) const NO_SCHEMA: i64 = -1;

/// A write to be encoded.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) batches: Arc<Vec<Batch>>,
    pub(super) write: Arc<Write>,
    pub(super) client: Arc<Client>,
    /// Whether something in it belongs to all keys, so that one encoder does all of it alone.
    pub(super) alone: bool,
}

/// Whose topic it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Table(Box<str>, Box<str>),
    Messages,
    Ddl,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(db, table) => write!(f, "table {db}.{table}"),
            Self::Messages => f.write_str("events that are no rows"),
            Self::Ddl => f.write_str("schema changes (`ddl_topic`)"),
        }
    }
}

/// What the encoders share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) flight: Flight,
    pub(super) barrier: Barrier,
    owners: Mutex<HashMap<String, Owner>>,
}

impl Shared {
    pub(super) fn new(name: &str, config: Config) -> Self {
        let limit = usize::try_from(config.queue_bytes.0).unwrap_or(1 << 24);
        Self {
            name: name.to_owned(),
            flight: Flight::new(limit),
            barrier: Barrier::new(usize::from(config.encode_threads.max(1))),
            owners: Mutex::default(),
            config,
        }
    }

    /// Notes whose topic it is; `Err` with who has it already.
    fn own(&self, topic: &str, owner: Owner) -> Result<(), Owner> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        match owners.get(topic) {
            Some(known) if *known == owner => Ok(()),
            Some(known) => Err(known.clone()),
            None => {
                owners.insert(topic.to_owned(), owner);
                Ok(())
            }
        }
    }
}

/// A topic, and the messages for it of the write at hand.
struct Target {
    name: String,
    topic: Topic,
    partitions: i32,
    counted: Mono,
    /// By partition; what is no pointer yet is an offset in the buffer.
    bins: Vec<Vec<Raw>>,
}

/// Where rows of a table go, found once.
struct Way {
    table: Arc<Table>,
    source: Arc<str>,
    target: usize,
    /// The key of a table without one of its own: `db.table`.
    name: Box<[u8]>,
    /// The columns of the message's key, by choice.
    columns: Vec<usize>,
}

enum Form {
    Dts(Encoder, json::Format),
    Debezium(DebeziumEncoder),
}

/// What one message is made of, in the buffer.
struct Made {
    value: Range<usize>,
    key: Option<Range<usize>>,
}

fn behind() -> SinkError {
    SinkError::Retry("a write before it failed".to_owned())
}

/// One encoder.
pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Its place among `of` encoders.
    me: u64,
    of: u64,
    form: Form,
    client: Option<Arc<Client>>,
    targets: Vec<Target>,
    by_name: HashMap<String, usize>,
    ways: Vec<Way>,
    last_way: usize,
    buffer: Vec<u8>,
    rows: Vec<Row>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, me: u64) -> Self {
        let config = &shared.config;
        let form = match config.format {
            Format::DtsJson => {
                let format = json::Format { meta: config.meta, integers: config.integers };
                Form::Dts(Encoder::default(), format)
            }
            Format::DebeziumJson => Form::Debezium(DebeziumEncoder::default()),
        };
        Self {
            me,
            of: u64::from(config.encode_threads.max(1)),
            form,
            client: None,
            targets: Vec::new(),
            by_name: HashMap::new(),
            ways: Vec::new(),
            last_way: 0,
            buffer: Vec::new(),
            rows: Vec::new(),
            shared,
        }
    }

    /// Works until the sink is dropped.
    pub(super) fn run(mut self, jobs: &async_channel::Receiver<Job>) {
        while let Ok(job) = jobs.recv_blocking() {
            if job.alone && self.of > 1 {
                // Nobody hands over anything behind this write, or before it is handed over.
                self.shared.barrier.wait();
                if self.me == 0 {
                    self.job(&job);
                } else {
                    job.write.part_done();
                }
                self.shared.barrier.wait();
            } else {
                self.job(&job);
            }
        }
    }

    fn job(&mut self, job: &Job) {
        if !self.client.as_ref().is_some_and(|known| Arc::ptr_eq(known, &job.client)) {
            self.ways.clear();
            self.by_name.clear();
            self.targets.clear();
            self.client = Some(job.client.clone());
        }
        if self.shared.flight.has_failed() {
            job.write.fail(behind());
            return job.write.part_done();
        }
        self.refresh();
        (self.buffer, self.rows) = self.shared.flight.buffer();
        if let Err(error) = self.encode(job) {
            self.shared.flight.set_failed(true);
            self.forget();
            job.write.fail(error);
            return job.write.part_done();
        }
        if self.rows.is_empty() {
            return job.write.part_done();
        }
        self.hand_over(job);
    }

    /// Gives what was encoded to librdkafka.
    fn hand_over(&mut self, job: &Job) {
        let messages = self.rows.len();
        let bytes: u64 = self.rows.iter().map(|row| u64::from(row.bytes)).sum();
        let parcel = Parcel {
            buffer: std::mem::take(&mut self.buffer),
            rows: std::mem::take(&mut self.rows),
            left: messages,
            write: job.write.clone(),
        };
        let slot = match self.shared.flight.admit(parcel) {
            Ok(slot) => slot,
            Err(parcel) => {
                self.forget();
                parcel.write.fail(behind());
                return parcel.write.part_done();
            }
        };
        let flight = &self.shared.flight;
        let base = flight.base(slot);
        let with_headers = self.shared.config.headers == Headers::Schema;
        for target in &mut self.targets {
            for (partition, bin) in (0i32..).zip(&mut target.bins).filter(|(_, bin)| !bin.is_empty()) {
                for raw in bin.iter_mut() {
                    raw._private = client::offset(Flight::number(slot, raw._private.addr()));
                    raw.payload = client::place(base, raw.payload);
                    raw.key = client::place(base, raw.key);
                }
                if target.topic.hand_over(partition, bin, with_headers) < bin.len() {
                    // The producer has stopped meanwhile.
                    flight.set_failed(true);
                    for raw in bin.iter().filter(|raw| !client::is_taken(raw)) {
                        let why = client::words(raw.err);
                        let failed = |_: Row| SinkError::Retry(format!("the producer stopped: {why}"));
                        flight.reported(raw._private.addr(), 1, Some(&failed));
                    }
                }
                bin.clear();
            }
        }
        let labels = [("sink", self.shared.name.as_str())];
        telemetry::count("dts_sink_kafka_messages_total", &labels, messages as u64);
        telemetry::count("dts_sink_kafka_message_bytes_total", &labels, bytes);
        telemetry::gauge("dts_sink_kafka_queue_bytes", &labels, flight.cost() as f64);
    }

    fn encode(&mut self, job: &Job) -> Result<(), SinkError> {
        for (index, batch) in (0u32..).zip(job.batches.iter()) {
            for (row, view) in (0u32..).zip(batch) {
                let reject = |reason: String| SinkError::Reject { batch: index as usize, row, reason };
                let view = view.map_err(|error| reject(error.to_string()))?;
                let moved = self.shared.config.key == KeyChoice::PrimaryKey
                    && view.key_changed()
                    && json::key_moved(&view).map_err(|error| reject(error.to_string()))?;
                let at = Row { batch: index, row, bytes: 0 };
                match moved {
                    true => {
                        if self.mine(job, &view, view.before_hash()) {
                            self.row(job, batch, &view, Part::Gone, at)?;
                        }
                        if self.mine(job, &view, view.after_hash()) {
                            self.row(job, batch, &view, Part::Came, at)?;
                        }
                    }
                    false => {
                        if self.mine(job, &view, view.before_hash().or_else(|| view.after_hash())) {
                            self.row(job, batch, &view, Part::Whole, at)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a key is one of this encoder's.
    fn mine(&self, job: &Job, row: &RowView<'_>, hash: Option<u64>) -> bool {
        if self.of == 1 || job.alone {
            return true;
        }
        let hash = match self.shared.config.key {
            KeyChoice::PrimaryKey | KeyChoice::None => hash.unwrap_or(0),
            // The key is not the primary one: all of a table belongs together.
            KeyChoice::Table | KeyChoice::Columns(_) => row.table().name_hash(),
        };
        // The lower bits choose inside tables of others.
        (hash >> 32) % self.of == self.me
    }

    /// Makes the messages of a row, or of a part of it.
    fn row(
        &mut self,
        job: &Job,
        batch: &Batch,
        row: &RowView<'_>,
        part: Part,
        at: Row,
    ) -> Result<(), SinkError> {
        let reject = |reason: String| SinkError::Reject { batch: at.batch as usize, row: at.row, reason };
        let Some(way) = self.way(job, batch, row, &reject)? else { return Ok(()) };
        let made = self.value(batch, row, part, way).map_err(|error| reject(error.to_string()))?;
        let Some(way) = self.ways.get(way) else { return Ok(()) };
        let Some(of) = self.targets.get(way.target) else { return Ok(()) };
        let config = &self.shared.config;
        let is_row = way.table.kind == TableKind::Table;
        // Without a key of its own a table stays together, so that its order is kept.
        let by = made.key.clone().and_then(|key| self.buffer.get(key)).unwrap_or(&way.name);
        let partition = match row.op() {
            Op::Ddl => 0,
            _ if of.partitions <= 1 => 0,
            _ => config.partitioner.of(by, of.partitions),
        };
        let key = made.key.filter(|_| config.key != KeyChoice::None);
        let size = made.value.len() + key.as_ref().map_or(0, Range::len);
        let largest = usize::try_from(config.max_message_bytes.0).unwrap_or(usize::MAX);
        if size > largest {
            return Err(reject(format!(
                "its message for topic `{}` has {size} bytes, `max_message_bytes` is {largest}: raise it here, and \
                 `max.message.bytes` of the topic",
                of.name
            )));
        }
        let is_gone = part == Part::Gone || row.op() == Op::Delete;
        let tombstone = key.clone().filter(|_| config.tombstones && is_row && is_gone);
        let schema = if is_row { i64::from(way.table.version) } else { NO_SCHEMA };
        let target = way.target;
        self.message(target, partition, Some(made.value), key, at, schema);
        if tombstone.is_some() {
            self.message(target, partition, None, tombstone, at, schema);
        }
        Ok(())
    }

    /// Writes the value of a message into the buffer, and its key.
    fn value(
        &mut self,
        batch: &Batch,
        row: &RowView<'_>,
        part: Part,
        way: usize,
    ) -> Result<Made, json::JsonError> {
        let buffer = &mut self.buffer;
        let start = buffer.len();
        let (key, end) = match &mut self.form {
            Form::Dts(encoder, format) => {
                let key = encoder.write(buffer, batch, row, *format, part)?;
                (key, buffer.len())
            }
            Form::Debezium(encoder) => {
                let key = encoder.write(buffer, batch, row, part)?;
                let end = key.as_ref().map_or(buffer.len(), |key| key.start);
                (key, end)
            }
        };
        let value = start..end;
        let from = buffer.len();
        let Some(way) = self.ways.get(way) else { return Ok(Made { value, key: None }) };
        let key = match (&self.shared.config.key, way.table.kind) {
            (KeyChoice::Table, TableKind::Table) => {
                buffer.extend_from_slice(&way.name);
                Some(from..buffer.len())
            }
            (KeyChoice::Columns(_), TableKind::Table) => {
                let Some(image) = row.newest()? else { return Ok(Made { value, key: None }) };
                buffer.push(b'{');
                for (i, &column) in way.columns.iter().enumerate() {
                    let Some(of) = way.table.columns.get(column) else { continue };
                    buffer.extend_from_slice(if i > 0 { b"," } else { b"" });
                    json::string(buffer, &of.name);
                    buffer.push(b':');
                    json::write_value(buffer, of, image.get(column).unwrap_or(Value::Null), Integers::Number);
                }
                buffer.push(b'}');
                Some(from..buffer.len())
            }
            (_, TableKind::Message) => match row.newest()?.and_then(|image| image.get(0)) {
                Some(Value::Text(key)) => {
                    buffer.extend_from_slice(key.as_bytes());
                    Some(from..buffer.len())
                }
                _ => None,
            },
            _ => key,
        };
        Ok(Made { value, key })
    }

    /// Where a row goes; `None`: nowhere.
    fn way(
        &mut self,
        job: &Job,
        batch: &Batch,
        row: &RowView<'_>,
        reject: &impl Fn(String) -> SinkError,
    ) -> Result<Option<usize>, SinkError> {
        let table = row.table();
        let is = |way: &Way| {
            Arc::ptr_eq(&way.table, table)
                && way.table.kind != TableKind::Message
                && (Arc::ptr_eq(&way.source, &batch.source) || way.source == batch.source)
        };
        if self.ways.get(self.last_way).is_some_and(is) {
            return Ok(Some(self.last_way));
        }
        if let Some(known) = self.ways.iter().position(is) {
            self.last_way = known;
            return Ok(Some(known));
        }
        let config = &self.shared.config;
        let (owner, topic) = match table.kind {
            TableKind::Table => (
                Owner::Table(table.db.clone(), table.name.clone()),
                config.topic(&batch.source, &table.db, &table.name),
            ),
            TableKind::Ddl => match config.ddl_topic() {
                Some(topic) => (Owner::Ddl, topic.to_owned()),
                None => return Ok(None),
            },
            TableKind::Loss => (Owner::Messages, config.topic(&batch.source, &batch.source, "loss")),
            TableKind::Message => {
                // `topic` is column 1 of a message.
                let topic =
                    match row.newest().map_err(|e| reject(e.to_string()))?.and_then(|image| image.get(1)) {
                        Some(Value::Text(topic)) => config.topic(&batch.source, &batch.source, topic),
                        _ => config.topic(&batch.source, &batch.source, "message"),
                    };
                (Owner::Messages, topic)
            }
        };
        let mut columns = Vec::new();
        if let (KeyChoice::Columns(names), TableKind::Table) = (&config.key, table.kind) {
            for name in names {
                match table.columns.iter().position(|column| *column.name == **name) {
                    Some(column) => columns.push(column),
                    None => {
                        let text = format!(
                            "table {}.{} has no column `{name}`, which `key` names",
                            table.db, table.name
                        );
                        return Err(SinkError::Fatal(text));
                    }
                }
            }
        }
        let target = self.target(job, &topic, owner, reject)?;
        let same = |way: &Way| way.target == target && Arc::ptr_eq(&way.table, table);
        if table.kind == TableKind::Message
            && let Some(known) = self.ways.iter().position(same)
        {
            return Ok(Some(known));
        }
        if self.ways.len() >= MAX_WAYS {
            self.ways.clear();
        }
        self.ways.push(Way {
            table: table.clone(),
            source: batch.source.clone(),
            target,
            name: format!("{}.{}", table.db, table.name).into_bytes().into(),
            columns,
        });
        self.last_way = self.ways.len() - 1;
        Ok(Some(self.last_way))
    }

    /// The topic of this name, asked for at a broker once. Blocks until one answers.
    fn target(
        &mut self,
        job: &Job,
        name: &str,
        owner: Owner,
        reject: &impl Fn(String) -> SinkError,
    ) -> Result<usize, SinkError> {
        let config = &self.shared.config;
        if let Err(first) = self.shared.own(name, owner.clone())
            && !config.allow_shared_topic
        {
            return Err(SinkError::Fatal(format!(
                "{first} and {owner} would meet in topic `{name}`: tell them apart in `topic_template` (as by \
                 `{{{{.Database}}}}`), or set `allow_shared_topic: true`"
            )));
        }
        if let Some(&known) = self.by_name.get(name) {
            return Ok(known);
        }
        let topic = Topic::new(&job.client, name)
            .map_err(|error| SinkError::Fatal(format!("topic `{name}`: {}", error.text)))?;
        let partitions = self.partitions(job, &topic, name, reject)?;
        let bins = (0..partitions).map(|_| Vec::new()).collect();
        self.targets.push(Target { name: name.to_owned(), topic, partitions, counted: mono_now(), bins });
        self.by_name.insert(name.to_owned(), self.targets.len() - 1);
        Ok(self.targets.len() - 1)
    }

    /// Asks for the number of partitions until a broker knows the topic, and creates it if that is wanted.
    fn partitions(
        &self,
        job: &Job,
        topic: &Topic,
        name: &str,
        reject: &impl Fn(String) -> SinkError,
    ) -> Result<i32, SinkError> {
        let create = self.shared.config.create_topics.as_ref().filter(|c| c.when_missing == Missing::Create);
        let (mut missing, mut told) = (0, false);
        loop {
            if self.shared.flight.has_failed() {
                return Err(SinkError::Retry("the sink was stopped while it asked for a topic".to_owned()));
            }
            let failure = match topic.partitions(ASK) {
                Ok(partitions) => return Ok(partitions),
                Err(failure) => failure,
            };
            if client::is_refused(failure.code) {
                return Err(SinkError::Fatal(format!("topic `{name}`: {}", failure.text)));
            }
            if client::is_missing(failure.code) {
                missing += 1;
                if let (Some(create), 1) = (create, missing) {
                    let pairs = create.config.iter().flatten().filter_map(|line| line.split_once('='));
                    let pairs: Vec<_> = pairs.map(|(k, v)| (k.trim(), v.trim())).collect();
                    match job.client.create_topic(
                        name,
                        create.partitions,
                        create.replication,
                        &pairs,
                        ASK * 15,
                    ) {
                        Ok(()) => log::info!("sink `{}`: created topic `{name}`", self.shared.name),
                        Err(failure) => {
                            return Err(reject(format!(
                                "topic `{name}` could not be created: {}",
                                failure.text
                            )));
                        }
                    }
                } else if missing > CREATING {
                    return Err(reject(format!(
                        "topic `{name}` does not exist and the broker does not create it: create it, or set \
                         `create_topics`"
                    )));
                }
            } else if !std::mem::replace(&mut told, true) {
                log::warn!(
                    "sink `{}`: no broker tells of topic `{name}` ({}); dts goes on asking",
                    self.shared.name,
                    failure.text
                );
            }
            self.shared.flight.pause(Duration::from_millis(200));
        }
    }

    /// Counts anew the partitions of topics that were not asked for in a while: they may have grown.
    fn refresh(&mut self) {
        let now = mono_now();
        for target in self.targets.iter_mut().filter(|t| now.since(t.counted) > FRESH) {
            target.counted = now;
            if let Ok(partitions) = target.topic.partitions(ASK)
                && partitions > target.partitions
            {
                log::info!(
                    "topic `{}` has {partitions} partitions now, not {}: keys go elsewhere from here on",
                    target.name,
                    target.partitions
                );
                target.partitions = partitions;
                target.bins.resize_with(usize::try_from(partitions).unwrap_or(0), Vec::new);
            }
        }
    }

    fn message(
        &mut self,
        target: usize,
        partition: i32,
        value: Option<Range<usize>>,
        key: Option<Range<usize>>,
        at: Row,
        schema: i64,
    ) {
        let Some(target) = self.targets.get_mut(target) else { return };
        let place = usize::try_from(partition).unwrap_or(0);
        let Some(bin) = target.bins.get_mut(place) else { return };
        let mut raw = client::empty();
        // One more than the offset: 0 is none.
        if let Some(value) = &value {
            raw.payload = client::offset(value.start + 1);
            raw.len = value.len();
        }
        if let Some(key) = &key {
            raw.key = client::offset(key.start + 1);
            raw.key_len = key.len();
        }
        // Not used in a message that is produced.
        raw.offset = schema;
        raw._private = client::offset(self.rows.len());
        bin.push(raw);
        let bytes = value.map_or(0, |v| v.len()) + key.map_or(0, |k| k.len());
        self.rows.push(Row { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), ..at });
    }

    /// Forgets what was encoded and not handed over.
    fn forget(&mut self) {
        for target in &mut self.targets {
            target.bins.iter_mut().for_each(Vec::clear);
        }
    }
}
