//! Against a real broker: Apache Kafka, as `tests/servers/kafka.sh` starts it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rdkafka_sys as rd;

use super::client::Client;
use super::*;
use crate::config::{ByteSize, Context, Field};
use crate::event::{Batch, BatchBuilder, Image, Op, Table, Value};
use crate::runtime::block_on;
use crate::sink::behaviour::{self, HLC, Subject, TempDir, batch, delete, ndjson, put, readings, update};
use crate::sink::{Sink, SinkConfig, SinkError};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/kafka.sh")
}

/// Whether Kafka is installed for the tests; says so if not.
fn installed() -> bool {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = variable("DTS_CACHE").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        Some(cache?.join("dts"))
    });
    if cache.is_some_and(|cache| cache.join("servers/kafka/.done").exists()) {
        return true;
    }
    let why = "Kafka is not installed for the tests: `make servers`";
    assert!(std::env::var_os("DTS_REQUIRE_SERVERS").is_none(), "{why}");
    eprintln!("skipped: {why}");
    false
}

/// A broker that creates no topics by itself.
struct Broker {
    dir: TempDir,
    port: u16,
}

impl Broker {
    fn start() -> Self {
        let mut broker = Self { dir: TempDir::new("kafka"), port: 0 };
        for _ in 0..20 {
            broker.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if broker.port > 60_000 || TcpListener::bind(("127.0.0.1", broker.port + 1)).is_err() {
                continue;
            }
            if broker.again() {
                return broker;
            }
        }
        panic!("Kafka does not start");
    }

    /// Starts it after [`Self::stop`].
    fn again(&self) -> bool {
        let mut start = Command::new(script());
        start.arg("start").arg(&self.dir.0).arg(self.port.to_string()).arg("auto.create.topics.enable=false");
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn stop(&self, how: &str) {
        assert!(Command::new(script()).arg(how).arg(&self.dir.0).status().unwrap().success());
    }

    /// One for all tests that leave it as it is.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Self::start());
            *shared = Arc::downgrade(&broker);
            broker
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop("kill");
    }
}

fn config(port: u16, more: &str) -> Config {
    let yaml = format!("brokers: [\"127.0.0.1:{port}\"]\n{more}");
    let mut cx = Context::default();
    let node = crate::config::yaml::parse(yaml.as_bytes(), &mut cx).expect("yaml");
    let config = Config::read(&node, &mut cx);
    assert!(cx.mistakes.is_empty(), "{:?}", cx.mistakes);
    let config = config.unwrap();
    assert_eq!(SinkConfig::mistake(&config), None);
    config
}

/// A name that no other test uses.
fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    partition: i32,
    key: Option<String>,
    value: Option<String>,
    header: Option<String>,
}

/// Everything in a topic, partition by partition; nothing if there is no such topic.
fn read(port: u16, topic: &str) -> Vec<Message> {
    let settings = [
        ("bootstrap.servers", format!("127.0.0.1:{port}")),
        ("group.id", "tests".to_owned()),
        ("auto.offset.reset", "earliest".to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.partition.eof", "true".to_owned()),
    ];
    let client = Arc::new(Client::new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, &settings, None).unwrap());
    let limit = std::time::Duration::from_secs(20);
    let Ok(partitions) = client::Topic::new(&client, topic).unwrap().partitions(limit) else {
        return Vec::new();
    };
    let mut messages: BTreeMap<i32, Vec<Message>> = BTreeMap::new();
    // SAFETY: each handle is destroyed after its last use; messages are read before they are.
    unsafe {
        let name = CString::new(topic).unwrap();
        rd::rd_kafka_poll_set_consumer(client.raw());
        let list = rd::rd_kafka_topic_partition_list_new(partitions);
        for partition in 0..partitions {
            (*rd::rd_kafka_topic_partition_list_add(list, name.as_ptr(), partition)).offset = 0;
        }
        rd::rd_kafka_assign(client.raw(), list);
        rd::rd_kafka_topic_partition_list_destroy(list);
        let mut open = partitions;
        let bytes =
            |at: *const u8, len| (!at.is_null()).then(|| std::slice::from_raw_parts(at, len).to_vec());
        let text = |raw: Option<Vec<u8>>| raw.map(|raw| String::from_utf8(raw).unwrap());
        while open > 0 {
            let message = rd::rd_kafka_consumer_poll(client.raw(), 20_000);
            let Some(m) = message.as_ref() else { panic!("{topic}: nothing came") };
            if m.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                open -= 1;
            } else {
                assert_eq!(m.err, rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
                let (mut headers, mut header, mut size) = (std::ptr::null_mut(), std::ptr::null(), 0);
                rd::rd_kafka_message_headers(message, &mut headers);
                if !headers.is_null() {
                    rd::rd_kafka_header_get_last(headers, c"dts-schema".as_ptr(), &mut header, &mut size);
                }
                messages.entry(m.partition).or_default().push(Message {
                    partition: m.partition,
                    key: text(bytes(m.key.cast(), m.key_len)),
                    value: text(bytes(m.payload.cast(), m.len)),
                    header: text(bytes(header.cast(), size)),
                });
            }
            rd::rd_kafka_message_destroy(message);
        }
        rd::rd_kafka_consumer_close(client.raw());
    }
    messages.into_values().flatten().collect()
}

fn values(port: u16, topic: &str) -> Vec<String> {
    read(port, topic).into_iter().filter_map(|m| m.value).collect()
}

fn open(config: &Config) -> Box<dyn Sink> {
    block_on(config.open("k")).unwrap()
}

fn write(sink: &mut Box<dyn Sink>, batches: Vec<Batch>) -> Result<(), SinkError> {
    block_on(sink.write(batches, Vec::new()))
}

struct Place {
    broker: Arc<Broker>,
    name: String,
}

impl Place {
    fn lines(&self, topics: &[&str]) -> String {
        let of = |topic: &&str| values(self.broker.port, &format!("{}_{topic}", self.name));
        topics.iter().flat_map(of).map(|line| line + "\n").collect()
    }
}

impl Subject for Place {
    fn config(&self) -> Box<dyn SinkConfig> {
        let Self { broker, name } = self;
        let yaml = format!(
            "topic_template: \"{name}_{{{{.Table}}}}\"\nddl_topic: {name}_ddl\nlinger_ms: 0\ncreate_topics: {{partitions: 1}}\nheaders: none"
        );
        Box::new(config(broker.port, &yaml))
    }

    fn state(&self) -> BTreeMap<i64, String> {
        ndjson::state(&self.lines(&["readings"]))
    }

    fn kinds(&self) -> Vec<String> {
        ndjson::kinds(&self.lines(&["readings", "t_1", "loss", "ddl"]))
    }

    fn ids(&self) -> Option<Vec<String>> {
        Some(ndjson::ids(&self.lines(&["readings", "t_1", "loss", "ddl"])))
    }
}

#[test]
fn it_behaves_as_a_sink_does() {
    if installed() {
        let broker = Broker::shared();
        behaviour::suite(|| Place { broker: broker.clone(), name: fresh("suite") });
    }
}

/// `id` and `moved_…` of each message's value, beside key and header.
fn shown(message: &Message) -> (Option<&str>, String, Option<&str>) {
    let value = match &message.value {
        None => "none".to_owned(),
        Some(value) => {
            let v: serde_json::Value = serde_json::from_str(value).unwrap();
            let id = v["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            let extra = ["moved_to", "moved_from"].iter().find(|n| v.get(**n).is_some());
            format!(
                "{} {id}{}",
                v["op"].as_str().unwrap(),
                extra.map(|n| format!(" {n} {}", v[*n])).unwrap_or_default()
            )
        }
    };
    (message.key.as_deref(), value, message.header.as_deref())
}

#[test]
fn a_change_of_key_is_a_delete_and_an_insert_with_a_tombstone() {
    if !installed() {
        return;
    }
    let broker = Broker::shared();
    let topic = fresh("moved");
    let mut sink = open(&config(
        broker.port,
        &format!("topic_template: {topic}\ntombstones: true\ncreate_topics: {{partitions: 1}}"),
    ));
    let rows = batch(1, |b| {
        put(b, Op::Insert, 1, "a");
        let old = [Value::Int(1), Value::Text("a"), Value::F64(0.5)];
        let new = [Value::Int(2), Value::Text("a"), Value::F64(0.5)];
        b.push(Op::Update, HLC, &readings(), Some(Image::full(&old)), Some(Image::full(&new))).unwrap();
        delete(b, 2, "a");
    });
    write(&mut sink, vec![rows]).unwrap();
    block_on(sink.close()).unwrap();
    let messages = read(broker.port, &topic);
    let seen: Vec<_> = messages.iter().map(shown).collect();
    let (one, two) = (Some(r#"{"id":1}"#), Some(r#"{"id":2}"#));
    let is = |key, what: &str| (key, what.to_owned(), Some("1"));
    assert_eq!(
        seen,
        [
            is(one, "insert 1"),
            is(one, r#"delete 2d moved_to {"id":2}"#),
            is(one, "none"),
            is(two, r#"insert 2i moved_from {"id":1}"#),
            is(two, "delete 3"),
            is(two, "none"),
        ]
    );
}

#[test]
fn keys_go_to_the_partitions_that_java_chooses_and_keep_their_order() {
    if !installed() {
        return;
    }
    let broker = Broker::shared();
    let topic = fresh("spread");
    let mut sink = open(&config(
        broker.port,
        &format!(
            "topic_template: {topic}\nencode_threads: 4\nlinger_ms: 1\ncreate_topics: {{partitions: 7}}"
        ),
    ));
    // Many writes at a time; each changes every key.
    let rounds = 40;
    let begun: Vec<_> = (0..rounds)
        .map(|round| {
            let rows = batch(round * 100 + 1, |b| {
                (0..100).for_each(|id| update(b, id, "x", &format!("round {round}")));
            });
            sink.begin(vec![rows], Vec::new()).unwrap()
        })
        .collect();
    block_on(async {
        for write in begun {
            write.await.unwrap();
        }
    });
    block_on(sink.close()).unwrap();
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in read(broker.port, &topic) {
        let key = message.key.unwrap();
        assert_eq!(message.partition, Partitioner::Murmur2.of(key.as_bytes(), 7));
        let value: serde_json::Value = serde_json::from_str(&message.value.unwrap()).unwrap();
        by_key.entry(key).or_default().push(value["after"]["label"].as_str().unwrap().to_owned());
    }
    let expected: Vec<_> = (0..rounds).map(|round| format!("round {round}")).collect();
    assert_eq!(by_key.len(), 100);
    assert!(by_key.values().all(|rounds| *rounds == expected));
}

#[test]
fn what_is_too_large_is_named_and_nothing_behind_it_is_written() {
    if !installed() {
        return;
    }
    let broker = Broker::shared();
    let wide = "0123456789".repeat(400);
    let rows = || {
        batch(1, |b| {
            put(b, Op::Insert, 1, "a");
            put(b, Op::Insert, 2, &wide);
            put(b, Op::Insert, 3, "c");
        })
    };
    // Larger than dts may send: known before anything is handed over.
    let topic = fresh("wide");
    let yaml = format!("topic_template: {topic}\nmax_message_bytes: 2000\ncreate_topics: {{partitions: 1}}");
    let mut sink = open(&config(broker.port, &yaml));
    match write(&mut sink, vec![rows()]) {
        Err(SinkError::Reject { batch: 0, row: 1, reason }) => assert!(reason.contains(&topic), "{reason}"),
        other => panic!("{other:?}"),
    }
    write(&mut sink, vec![batch(9, |b| put(b, Op::Insert, 9, "i"))]).unwrap();
    block_on(sink.close()).unwrap();
    assert_eq!(values(broker.port, &topic).len(), 1);
    // Larger than the topic takes: the broker says so.
    let topic = fresh("narrow");
    let yaml = format!(
        "topic_template: {topic}\ncompression: none\ncreate_topics: {{partitions: 1, config: [max.message.bytes=2000]}}"
    );
    let mut sink = open(&config(broker.port, &yaml));
    let mut refused = None;
    for _ in 0..5 {
        // Writes under way behind it fail too.
        let first = sink.begin(vec![rows()], Vec::new()).unwrap();
        let second = sink.begin(vec![batch(7, |b| put(b, Op::Insert, 7, "g"))], Vec::new()).unwrap();
        let (first, second) = block_on(async { (first.await, second.await) });
        assert!(second.is_err());
        match first {
            Err(SinkError::Retry(_)) => {}
            Err(SinkError::Reject { row, reason, .. }) => {
                refused = Some((row, reason));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let (row, reason) = refused.unwrap();
    assert_eq!(row, 1, "{reason}");
    assert!(values(broker.port, &topic).iter().all(|line| line.contains("\"label\":\"a\"")));
    // Without it the rest passes.
    let rest = batch(1, |b| {
        put(b, Op::Insert, 1, "a");
        let mut last = BatchBuilder::new("app".into());
        put(&mut last, Op::Insert, 3, "c");
        b.push_row_at(&last.finish().iter().next().unwrap().unwrap(), 2).unwrap();
    });
    write(&mut sink, vec![rest, batch(7, |b| put(b, Op::Insert, 7, "g"))]).unwrap();
    block_on(sink.close()).unwrap();
    let state = ndjson::state(&values(broker.port, &topic).join("\n"));
    assert_eq!(state.into_keys().collect::<Vec<_>>(), [1, 3, 7]);
}

#[test]
fn topics_that_are_missing_or_shared_are_refused_by_name() {
    if !installed() {
        return;
    }
    let broker = Broker::shared();
    let topic = fresh("missing");
    let mut sink = open(&config(broker.port, &format!("topic_template: {topic}")));
    match write(&mut sink, vec![batch(1, |b| put(b, Op::Insert, 1, "a"))]) {
        Err(SinkError::Reject { batch: 0, row: 0, reason }) => {
            assert!(reason.contains(&topic) && reason.contains("create_topics"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    drop(sink);
    let other = Arc::new(Table { name: "other".into(), ..Table::clone(&readings()) });
    let both = batch(1, |b| {
        put(b, Op::Insert, 1, "a");
        let values = [Value::Int(1), Value::Null, Value::Null];
        b.push(Op::Insert, HLC, &other, None, Some(Image::full(&values))).unwrap();
    });
    let topic = fresh("shared");
    let yaml = format!("topic_template: {topic}\ncreate_topics: {{partitions: 1}}");
    let mut sink = open(&config(broker.port, &yaml));
    match write(&mut sink, vec![both.clone()]) {
        Err(SinkError::Fatal(text)) => {
            assert!(
                text.contains("table app.readings and table app.other") && text.contains(&topic),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    drop(sink);
    let mut sink = open(&config(broker.port, &format!("{yaml}\nallow_shared_topic: true")));
    write(&mut sink, vec![both]).unwrap();
    block_on(sink.close()).unwrap();
    assert_eq!(values(broker.port, &topic).len(), 2);
}

#[test]
fn keys_by_choice_and_the_form_of_debezium() {
    if !installed() {
        return;
    }
    let broker = Broker::shared();
    let keys = |more: &str| -> Vec<Option<String>> {
        let topic = fresh("keys");
        let yaml = format!("topic_template: {topic}\ncreate_topics: {{partitions: 1}}\n{more}");
        let mut sink = open(&config(broker.port, &yaml));
        write(&mut sink, vec![batch(1, |b| put(b, Op::Insert, 5, "a"))]).unwrap();
        block_on(sink.close()).unwrap();
        read(broker.port, &topic).into_iter().map(|m| m.key).collect()
    };
    let is = |key: &str| vec![Some(key.to_owned())];
    assert_eq!(keys(""), is(r#"{"id":5}"#));
    assert_eq!(keys("key: table"), is("app.readings"));
    assert_eq!(keys("key: none"), [None]);
    assert_eq!(keys("key: [label, id]"), is(r#"{"label":"a","id":5}"#));
    let topic = fresh("debezium");
    let yaml = format!("topic_template: {topic}\ncreate_topics: {{partitions: 1}}\nformat: debezium-json");
    let mut sink = open(&config(broker.port, &yaml));
    write(&mut sink, vec![batch(1, |b| update(b, 5, "a", "b"))]).unwrap();
    block_on(sink.close()).unwrap();
    let messages = read(broker.port, &topic);
    assert_eq!(messages[0].key.as_deref(), Some(r#"{"id":5}"#));
    let value: serde_json::Value = serde_json::from_str(messages[0].value.as_deref().unwrap()).unwrap();
    assert_eq!(
        (&value["op"], &value["before"]["label"], &value["after"]["label"]),
        (&"u".into(), &"a".into(), &"b".into())
    );
}

#[test]
fn an_outage_holds_writes_and_loses_none() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let yaml = "topic_template: out\nlinger_ms: 1\ncreate_topics: {partitions: 3}";
    let mut sink = open(&config(broker.port, yaml));
    assert!(block_on(sink.probe()).unwrap().contains("1 brokers"));
    let of = |round: u64| {
        batch(round * 50 + 1, |b| (0..50).for_each(|id| update(b, id, "x", &format!("round {round}"))))
    };
    write(&mut sink, vec![of(0)]).unwrap();
    let mut rounds = 1;
    for how in ["stop", "kill"] {
        broker.stop(how);
        let begun: Vec<_> =
            (rounds..rounds + 10).map(|n| sink.begin(vec![of(n)], Vec::new()).unwrap()).collect();
        rounds += 10;
        // While it is away writes wait, and hold back who would write more.
        let waits = block_on(crate::runtime::timeout(std::time::Duration::from_millis(1500), async {
            sink.begin(vec![of(rounds)], Vec::new()).unwrap().await
        }));
        assert!(waits.is_none());
        rounds += 1;
        assert!(broker.again());
        block_on(async {
            for write in begun {
                write.await.unwrap();
            }
            // The one that was not waited for is there by then as well.
            sink.write(vec![of(rounds)], Vec::new()).await.unwrap();
        });
        rounds += 1;
    }
    block_on(sink.close()).unwrap();
    let mut by_key: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for line in values(broker.port, "out") {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let label = value["after"]["label"].as_str().unwrap().to_owned();
        by_key.entry(value["key"]["id"].as_i64().unwrap()).or_default().push(label);
    }
    let expected: Vec<_> = (0..rounds).map(|round| format!("round {round}")).collect();
    assert_eq!(by_key.len(), 50);
    for (key, seen) in by_key {
        assert_eq!(seen, expected, "key {key}");
    }
}

#[test]
fn mistakes_in_a_config_say_what_to_do() {
    let read = |more: &str| {
        let mut cx = Context::default();
        let node =
            crate::config::yaml::parse(format!("brokers: [\"b:9092\"]\n{more}").as_bytes(), &mut cx).unwrap();
        let config = Config::read(&node, &mut cx);
        let first = cx.mistakes.first().map(|m| m.message.clone());
        first.or_else(|| config.and_then(|c| SinkConfig::mistake(&c))).unwrap_or_default()
    };
    assert_eq!(read(""), "");
    assert!(read("security_protocol: sasl_ssl").contains("without TLS and SASL"));
    assert!(read("topic_template: \"a{{.Tabel}}\"").contains("at character 2 stands `.Tabel`"));
    assert!(read("ddl_topic: a/b").contains("`ddl_topic`"));
    assert!(read("max_message_bytes: 10").contains("1 kB"));
    assert!(read("create_topics: {config: [x]}").contains("`x` is not `name=value`"));
    assert!(read("key: primary").contains("`primary_key`"));
    let empty = Config { brokers: vec!["x".to_owned()], queue_bytes: ByteSize(1 << 24), ..config(1, "") };
    assert!(SinkConfig::mistake(&empty).unwrap().contains("`x` is not `host:port`"));
}

#[test]
fn the_main_config_is_read_as_it_stands() {
    let config = config(9092, "topic_template: \"dts_{{.Table}}_v2\"");
    assert_eq!(config.topic("source", "shop", "user_action"), "dts_user_action_v2");
}
