//! The sections as written. What they mean together is checked in [`super::plan`].

use std::net::SocketAddr;
use std::path::PathBuf;

use super::field::{Context, Field, Name, Placed};
use super::node::{Kind, Node};
use super::section::{Known, Mapping, ObjectSchema};
use super::{ByteSize, Duration, Secret};

crate::section! {
    /// The machine that dts runs on.
    pub struct Device {
        /// What the centre knows this machine as: 1 to 64 letters, digits, `.`, `_` or `-`. It must be the
        /// name in the device's certificate, or the user of its password. Needed by the sink `centre`.
        name: Option<Name>,
        /// Folder for what dts must remember: identity, buffer, positions. On a device, a file system that
        /// survives firmware updates. It is created.
        state_dir: PathBuf = "/var/lib/dts",
    }
}

crate::section! {
    /// The durable queue on SQLite between inputs and the centre. Data is in it until the centre has it.
    pub struct Buffer {
        /// Folder of the queue's files. Default: `buffer` in the device's `state_dir`.
        path: Option<PathBuf>,
        /// Most bytes that all lanes together take on disk. What happens then is each lane's `policy`.
        max_bytes: Placed<ByteSize> = "256MiB",
        /// Bytes kept free inside `max_bytes`, so that a full disk still lets data be deleted. Default: 4MiB,
        /// or a quarter of `max_bytes` if that is less.
        reserve: Option<Placed<ByteSize>>,
        /// Largest batch stored and sent, before compression. A single row larger than this is refused at
        /// the input (HTTP: 413). It must fit the frames that the centre takes.
        max_batch_bytes: Placed<ByteSize> = "120KiB",
        /// Most bytes that lanes of the classes `delayed` and `ram` together hold in memory before they go
        /// to disk.
        max_memory_bytes: Placed<ByteSize> = "512KiB",
        /// The lanes by name: each has an order, a durability and limits of its own. Inputs choose one
        /// with `lane:`. Default: one lane `default` of class `fsync`.
        lanes: Lanes = "{}",
    }
}

crate::section! {
    /// One lane of the buffer.
    pub struct Lane {
        /// When an input may forget what it handed over, and what a power cut may cost.
        class: Class = "fsync",
        /// Longest time that data waits for the commit that many share. Default: 5ms for `fsync` (at most
        /// 50ms, since inputs wait for it), 10s for the others (a power cut loses at most that; longer
        /// spares flash).
        commit_interval: Option<Placed<Duration>>,
        /// Share of the link against other lanes that have something to send, 1 to 100.
        weight: Placed<u32> = "1",
        /// Most bytes of the buffer for this lane. Default: the buffer's `max_bytes`.
        max_bytes: Option<Placed<ByteSize>>,
        /// Data older than this is given up, and the loss reported. Default: kept until it is delivered.
        max_age: Option<Placed<Duration>>,
        /// What happens when the lane or the buffer is full.
        policy: Placed<Policy> = "block",
        /// How the policy `downsample` thins out. Only with it, and needed by it.
        downsample: Option<Placed<Downsample>>,
        /// Keep data after the centre has it, so that a centre restored from a backup can have it again.
        /// Default: none is kept.
        keep_acked: Option<KeepAcked>,
    }
}

crate::section! {
    /// How rows are thinned out: of the rows of one key within `every`, one remains. Costs a pass over the
    /// lane, one at a time.
    pub struct Downsample {
        /// The time that one row remains for.
        every: Placed<Duration>,
        /// Numeric fields, each with what remains of its numbers: `temperature: mean`. Rows that have none
        /// of them are kept as they are.
        fields: Fields,
    }
}

crate::section! {
    /// How much delivered data is kept. Whichever limit comes first.
    pub struct KeepAcked {
        /// Most bytes. They count into the buffer's `max_bytes` and are the first to go.
        max_bytes: ByteSize,
        /// Longest time.
        max_age: Duration = "7d",
    }
}

crate::choice! {
    /// Durability of a lane.
    pub enum Class {
        /// An input is answered when the data is on disk.
        Fsync = "fsync",
        /// An input is answered at once; the data is on disk within `commit_interval`.
        Delayed = "delayed",
        /// Data stays in memory; to disk only when the link is down, memory is short, or dts stops.
        Ram = "ram",
    }
}

crate::choice! {
    /// What a full lane does.
    pub enum Policy {
        /// Inputs wait (HTTP: 503).
        Block = "block",
        /// The oldest data is given up, and the loss reported.
        DropOldest = "drop_oldest",
        /// Of rows of the same key only the newest is kept.
        Compact = "compact",
        /// Rows are thinned out as `downsample` says.
        Downsample = "downsample",
    }
}

crate::choice! {
    /// What remains of several numbers.
    pub enum Keep {
        /// The first.
        First = "first",
        /// The last.
        Last = "last",
        /// The smallest.
        Min = "min",
        /// The largest.
        Max = "max",
        /// The mean.
        Mean = "mean",
    }
}

crate::section! {
    /// The port for metrics, health and profiles.
    pub struct Http {
        /// Address and port, or `off`. Default: `127.0.0.1:9600` where the source is `devices`, else off.
        listen: Option<Placed<Listen>>,
        /// Callers must send it as `Authorization: Bearer …`. Needed when `listen` is not loopback.
        token: Option<Secret>,
    }
}

crate::section! {
    /// The log, on standard error. `--log-level` and `--log-format` go before it.
    pub struct Log {
        /// The least important that is written.
        level: Level = "info",
        /// One line of text, or one JSON object a line.
        format: Format = "text",
    }
}

crate::choice! {
    /// Importance of a log line.
    pub enum Level {
        /// Data was lost, or a human is needed.
        Error = "error",
        /// A user should look at it.
        Warn = "warn",
        /// Changes of state.
        Info = "info",
        /// For finding mistakes.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

crate::choice! {
    /// Form of a log line.
    pub enum Format {
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}

/// `off`, or where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// There.
    At(SocketAddr),
}

impl Field for Listen {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "off" => Some(Self::Off),
            Kind::Scalar { text, .. } if text.parse::<SocketAddr>().is_ok() => {
                text.parse().ok().map(Self::At)
            }
            _ => cx.expected(node, "an address and port like `127.0.0.1:9600`, or `off`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string" })
    }
}

/// Fields by name with what remains of their numbers, in the order of the file. At least one.
#[derive(Clone, Debug)]
pub struct Fields(pub Vec<(Box<str>, Keep)>);

impl Field for Fields {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let entries = match &node.kind {
            Kind::Map(entries) if !entries.is_empty() => entries,
            _ => return cx.expected(node, "a mapping of fields like `temperature: mean`"),
        };
        let read: Vec<_> = entries
            .iter()
            .map(|(name, _, keep)| Some((name.as_str().into(), Keep::read(keep, cx)?)))
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "object", "minProperties": 1, "additionalProperties": Keep::schema() })
    }
}

/// Lanes by name, in the order of the file.
#[derive(Clone, Debug)]
pub struct Lanes(pub Vec<(Placed<Name>, Lane)>);

impl Field for Lanes {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else { return cx.expected(node, "a mapping of lanes by name") };
        let read: Vec<_> = entries
            .iter()
            .map(|(key, place, node)| {
                let name = Node { place: *place, kind: Kind::Scalar { text: key.clone(), plain: false } };
                let name = <Placed<Name>>::read(&name, cx);
                // A lane with only defaults may be written as a name alone.
                let lane = Lane::read(node, cx);
                Some((name?, lane?))
            })
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({
            "type": "object", "propertyNames": Name::schema(), "additionalProperties": Lane::schema(),
        })
    }
}

/// The fields of the root, in the order in which they are documented.
pub(super) const ROOT: &[Known] = &[
    Known::of::<()>("source"),
    Known::of::<()>("sources"),
    Known::of::<()>("sink"),
    Known::of::<()>("sinks"),
    Known::of::<Device>("device"),
    Known::of::<Buffer>("buffer"),
    Known::of::<Http>("http"),
    Known::of::<Log>("log"),
];

/// The sections of the root that are not connectors. `None` where a mistake was noted.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) device: Option<Device>,
    pub(super) buffer: Option<Option<Buffer>>,
    pub(super) http: Option<Option<Http>>,
    pub(super) log: Option<Log>,
}

impl Rest {
    pub(super) fn read(root: &Mapping<'_>, cx: &mut Context) -> Self {
        // `buffer:` with nothing after it is a buffer with all its defaults, and so with the others.
        let given = |name: &str| root.get(name).is_some();
        let (buffer, http) = (given("buffer"), given("http"));
        Self {
            device: root.field("device", Some("{}"), cx),
            buffer: if buffer { root.field::<Buffer>("buffer", None, cx).map(Some) } else { Some(None) },
            http: if http { root.field::<Http>("http", None, cx).map(Some) } else { Some(None) },
            log: root.field("log", Some("{}"), cx),
        }
    }

    pub(super) fn describe(schema: &mut ObjectSchema) {
        schema.field::<Device>("device", "The machine that dts runs on.", Some("{}"));
        let doc = "The durable queue between inputs and the centre. Default: on where the sink is `centre`.";
        schema.field::<Option<Buffer>>("buffer", doc, None);
        schema.field::<Option<Http>>("http", "The port for metrics, health and profiles.", None);
        schema.field::<Log>("log", "The log, on standard error.", Some("{}"));
    }
}

/// Stands for a connector, which the registry reads.
impl Field for () {
    fn read(_: &Node, _: &mut Context) -> Option<Self> {
        Some(())
    }

    fn schema() -> serde_json::Value {
        serde_json::json!(true)
    }
}
