//! What a config says of this sink.

use super::partition::Partitioner;
use super::topic::Template;
use crate::codec::json::{Integers, Meta};
use crate::config::node::{Kind, Node};
use crate::config::{ByteSize, Context, Field};

crate::choice! {
    /// The form of a message's value.
    pub enum Format {
        /// dts JSON.
        DtsJson = "dts-json",
        /// What Debezium's MySQL connector writes, without schemas.
        DebeziumJson = "debezium-json",
    }
}

crate::choice! {
    /// How messages are compressed on their way and at the broker.
    pub enum Compression {
        /// Not at all.
        None = "none",
        /// Cheap.
        Lz4 = "lz4",
        /// For readers that have no LZ4.
        Snappy = "snappy",
    }
}

crate::choice! {
    /// What a message's headers say.
    pub enum Headers {
        /// `dts-schema`: the version of the table's schema.
        Schema = "schema",
        /// There are none: messages are handed over in whole batches, which is cheaper.
        None = "none",
    }
}

crate::choice! {
    /// What is done when a topic does not exist.
    pub enum Missing {
        /// What the broker does (`auto.create.topics.enable`); if it does nothing, the write is refused.
        Broker = "broker",
        /// dts creates it.
        Create = "create",
    }
}

/// How the way to the brokers is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plaintext;

impl Field for Plaintext {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text.eq_ignore_ascii_case("plaintext") => Some(Self),
            Kind::Scalar { text, .. }
                if ["ssl", "sasl_ssl", "sasl_plaintext"].iter().any(|w| text.eq_ignore_ascii_case(w)) =>
            {
                cx.mistake(
                    node.place,
                    format!(
                        "`{text}` is not there yet: this version of dts talks to Kafka without TLS and SASL; \
                         give it a listener of type PLAINTEXT in a network that you trust"
                    ),
                );
                None
            }
            _ => cx.expected(node, "`plaintext`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["plaintext"] })
    }
}

/// What a message's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The columns of the primary key as a JSON object; none for a table without.
    PrimaryKey,
    /// `db.table`.
    Table,
    /// None.
    None,
    /// These columns as a JSON object.
    Columns(Vec<String>),
}

impl Field for KeyChoice {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "primary_key" => Some(Self::PrimaryKey),
            Kind::Scalar { text, .. } if text == "table" => Some(Self::Table),
            Kind::Scalar { text, .. } if text == "none" => Some(Self::None),
            Kind::List(items) if !items.is_empty() => Vec::<String>::read(node, cx).map(Self::Columns),
            _ => cx.expected(node, "`primary_key`, `table`, `none` or a list of columns"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [
            { "enum": ["primary_key", "table", "none"] },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}

crate::section! {
    /// What is done about topics that do not exist.
    pub struct CreateTopics {
        /// `broker`: what the broker does, or a refusal; `create`: dts creates them as follows.
        when_missing: Missing = "create",
        /// Partitions; -1 is the broker's default.
        partitions: i32 = "-1",
        /// Replicas; -1 is the broker's default.
        replication: i32 = "-1",
        /// Settings of the topic: `name=value`, as `cleanup.policy=compact`.
        config: Option<Vec<String>>,
    }
}

crate::section! {
    /// Writes each change as a message to Apache Kafka. A write is done when all replicas in sync have it.
    pub struct Config {
        /// Brokers to begin with, `host:port`; the rest is learned from them.
        brokers: Vec<String>,
        /// `plaintext`. TLS and SASL are not there yet.
        security_protocol: Plaintext = "plaintext",
        /// The topic of a table: `{{.Database}}`, `{{.Table}}`, `{{.Source}}`. Left out: `{{.Database}}.{{.Table}}`. Of a message
        /// that is no row, `{{.Table}}` is its own topic.
        topic_template: Option<Template>,
        /// Whether several tables may share a topic. Their order among each other is not kept then.
        allow_shared_topic: bool = "false",
        /// Topic of schema changes, one for all tables; `none` leaves them out.
        ddl_topic: String = "dts_ddl",
        /// A message's key: `primary_key`, `table`, `none`, or a list of columns.
        key: KeyChoice = "primary_key",
        /// How the key chooses the partition: `murmur2` as Java's producer, or `crc32` as librdkafka's `consistent`.
        partitioner: Partitioner = "murmur2",
        /// Whether a message without value follows each delete, so that compaction forgets the key.
        tombstones: bool = "false",
        /// `schema`: each row's message has the header `dts-schema`; `none` costs less CPU.
        headers: Headers = "schema",
        /// `dts-json` or `debezium-json`.
        format: Format = "dts-json",
        /// What dts-json holds beside the values: `full`, `id` or `none`.
        meta: Meta = "full",
        /// How dts-json has integers: `number`, or `string` for readers that lose precision beyond 2^53.
        integers: Integers = "number",
        /// `none`, `lz4` or `snappy`.
        compression: Compression = "lz4",
        /// How long a message waits for others to go with it, in milliseconds. Less is sooner, more is fewer requests.
        linger_ms: u32 = "5",
        /// Largest value and key of a message, together and uncompressed. A broker takes 1 MB unless told otherwise
        /// (`message.max.bytes`).
        max_message_bytes: ByteSize = "1000000",
        /// Memory for messages that are not yet durable.
        queue_bytes: ByteSize = "16MiB",
        /// Threads that make messages of rows. Each key belongs to one.
        encode_threads: u8 = "1",
        /// Topics that do not exist.
        create_topics: Option<CreateTopics>,
    }
}

impl Config {
    /// The topic of a table.
    pub fn topic(&self, source: &str, database: &str, table: &str) -> String {
        self.topic_template.clone().unwrap_or_default().render(source, database, table)
    }

    /// Where schema changes go, if anywhere.
    pub(super) fn ddl_topic(&self) -> Option<&str> {
        (self.ddl_topic != "none").then_some(&*self.ddl_topic)
    }

    pub(super) fn wrong(&self) -> Option<String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.brokers.is_empty() {
            return Some("`brokers` is empty: name at least one as `host:port`".to_owned());
        }
        let odd = |b: &&String| b.is_empty() || b.contains([',', '/', ' ']) || !b.contains(':');
        if let Some(broker) = self.brokers.iter().find(odd) {
            return Some(format!("`brokers`: `{broker}` is not `host:port`"));
        }
        if self.ddl_topic.is_empty() || self.ddl_topic.len() > 249 || !self.ddl_topic.chars().all(legal) {
            return Some(
                "`ddl_topic` holds letters, digits, `.`, `_`, `-`, at most 249; or is `none`".to_owned(),
            );
        }
        if !(1_000..=1_000_000_000).contains(&self.max_message_bytes.0) {
            return Some("`max_message_bytes` is between 1 kB and 1 GB".to_owned());
        }
        if self.queue_bytes.0 < 1 << 20 || self.queue_bytes.0 > 1 << 31 {
            return Some("`queue_bytes` is between 1 MiB and 2 GiB".to_owned());
        }
        if !(1..=16).contains(&self.encode_threads) {
            return Some("`encode_threads` is between 1 and 16".to_owned());
        }
        if self.linger_ms > 60_000 {
            return Some("`linger_ms` is at most 60000, a minute".to_owned());
        }
        let create = self.create_topics.as_ref()?;
        if create.partitions == 0
            || create.partitions < -1
            || create.replication == 0
            || create.replication < -1
        {
            return Some("`create_topics`: `partitions` and `replication` are at least 1, or -1".to_owned());
        }
        let odd = create.config.iter().flatten().find(|line| !line.contains('='))?;
        Some(format!("`create_topics.config`: `{odd}` is not `name=value`"))
    }

    /// librdkafka's settings. `careful`: every message alone.
    pub(super) fn settings(&self, careful: bool) -> Vec<(&'static str, String)> {
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
        };
        let creates = self.create_topics.as_ref().is_some_and(|c| c.when_missing == Missing::Create);
        vec![
            ("bootstrap.servers", self.brokers.join(",")),
            ("client.id", "dts".to_owned()),
            ("enable.idempotence", "true".to_owned()),
            // One message that fails stops the producer: nothing behind it may be written before it.
            ("enable.gapless.guarantee", "true".to_owned()),
            ("acks", "all".to_owned()),
            // librdkafka's five minutes would make a gap of a longer outage.
            ("message.timeout.ms", "0".to_owned()),
            ("linger.ms", self.linger_ms.to_string()),
            ("compression.codec", compression.to_owned()),
            ("message.max.bytes", self.max_message_bytes.0.to_string()),
            ("batch.size", self.max_message_bytes.0.clamp(1_000, 1_000_000).to_string()),
            ("batch.num.messages", if careful { "1" } else { "100000" }.to_owned()),
            // What is out is bounded before; these are never reached.
            ("queue.buffering.max.messages", "0".to_owned()),
            ("queue.buffering.max.kbytes", (self.queue_bytes.0 / 512).clamp(4096, 2_097_151).to_string()),
            ("allow.auto.create.topics", (!creates).to_string()),
            ("reconnect.backoff.max.ms", "2000".to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            ("log.queue", "true".to_owned()),
            ("log.connection.close", "false".to_owned()),
        ]
    }
}
