//! The section `sink: {type: centre}` as written, and the small enums in it.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::node::Kind;
use crate::config::{ByteSize, Context, Field, Node, Secret};
use crate::frame::Codec;
use crate::link::Transport;
use crate::link::tls::TlsClient;

crate::section! {
    /// Ships the buffer to a dts centre (or through an MQTT 5 broker): MQTT 5 over QUIC, falling back to TLS
    /// over TCP and returning to QUIC by itself. A row leaves the buffer only when the centre has it durably.
    pub struct Config {
        /// Host name or IP address of the centre.
        address: String,
        /// UDP port of MQTT over QUIC.
        quic_port: u16 = "14567",
        /// TCP port of MQTT over TLS (or of plain MQTT, if `transports` names `tcp`).
        tcp_port: u16 = "8883",
        /// Ways to connect, of `quic`, `tls` and `tcp`. `tcp` is not encrypted: for a broker on this machine or a
        /// trusted net. With QUIC and another one, QUIC is tried first and returned to.
        transports: Transports = "quic,tls",
        /// Whom to trust and who this device is: CA, certificate, key.
        tls: TlsClient = "{}",
        /// MQTT user name. Default: the device's name, if there is a password or a token.
        username: Option<String>,
        /// MQTT password. Better: `${NAME}` or `password_file`.
        password: Option<Secret>,
        /// A file with the password. Read again at each connect.
        password_file: Option<PathBuf>,
        /// A file with a token (JWT) that goes as the password. Read again at each connect, so that it can be renewed.
        token_file: Option<PathBuf>,
        /// `dts`: the other side must be a dts centre. `broker`: any MQTT 5 broker.
        peer: Peer = "dts",
        /// Through a broker: `peer` takes the broker's PUBACK for the receipt (a broker that forgets loses rows),
        /// `centre` waits for the watermark that the centre behind the broker publishes. With `peer: dts` both are the same.
        ack: AckBy = "peer",
        /// Most frames sent and not yet acknowledged. A frame is at most 128 KiB of rows.
        window: u16 = "32",
        /// Most bytes of rows sent and not yet acknowledged, held in memory. What can be sent in a second is at most this
        /// divided by the round-trip time.
        max_in_flight_bytes: ByteSize = "512KiB",
        /// Compression of frames: `none`, `lz4` (cheap) or `zstd` (smaller, costs CPU and memory; feature `zstd`).
        codec: CodecName = "lz4",
        /// With `codec: zstd`: a dictionary made by `zstd --train` of samples (`dts spool samples`), at most 1MiB. Small frames
        /// get much smaller. It is used where the centre says that it has it, too (`zstd_dictionary_files` there).
        zstd_dictionary_file: Option<PathBuf>,
        /// `always` keeps the connection open. `burst` connects when there is a reason, sends all, disconnects; as a
        /// mapping: `{every: 15m, bytes: 256KiB, urgent: [alarms], linger: 2s}`.
        link: LinkMode = "always",
        /// While on TCP: after how long QUIC is tried again the first time; doubles up to 15 minutes.
        probe_interval: Duration = "30s",
        /// How long QUIC is tried alone before TCP is tried beside it.
        race_delay: Duration = "1s",
        /// Longest pause between two attempts to connect; at most 1h. The real pause is random below the cap.
        backoff_max: Duration = "5m",
        /// Most bytes on the wire in a day, both ways. When they are used up the link rests until the day is over; the
        /// buffer fills meanwhile. Default: no limit.
        data_budget: Option<ByteSize>,
        /// Silence after which a packet is sent to keep the way open, 5s to 29s: most NATs forget after 30s. Shortened by
        /// itself on QUIC where the network forgets earlier.
        keep_alive: Duration = "25s",
        /// HTTP proxy for TCP (`CONNECT`): `http://[user:password@]host:port`. QUIC does not use it.
        proxy: Option<Secret>,
        /// How often the centre is asked for the time, once the clock is settled. 40 bytes each.
        time_interval: Duration = "1m",
    }
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A dts centre.
    Dts,
    /// Any MQTT 5 broker.
    Broker,
}

/// Whose word lets a row leave the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckBy {
    /// The PUBACK of whom we are connected to.
    Peer,
    /// The centre: its PUBACK, or behind a broker its watermark.
    Centre,
}

/// [`Codec`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecName(pub Codec);

/// Ways to connect, in order of preference, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transports(pub Vec<Transport>);

/// When to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// All the time.
    Always,
    /// For a reason.
    Burst {
        /// Connect at least this often.
        every: Duration,
        /// Connect when this many bytes wait.
        bytes: u64,
        /// Connect at once when one of these lanes has something.
        urgent: Vec<String>,
        /// How long to wait for more after all is delivered.
        linger: Duration,
    },
}

crate::section! {
    /// When a burst link connects.
    pub struct Burst {
        /// Connect at least this often.
        every: Duration = "15m",
        /// Connect when this many bytes wait.
        bytes: ByteSize = "256KiB",
        /// Connect at once when one of these lanes has something.
        urgent: Vec<String> = "[]",
        /// How long to wait for more after all is delivered.
        linger: Duration = "2s",
    }
}

/// Reads one word of `words`.
fn word<T: Copy>(node: &Node, cx: &mut Context, words: &[(&str, T)]) -> Option<T> {
    if let Kind::Scalar { text, .. } = &node.kind
        && let Some((_, value)) = words.iter().find(|(w, _)| w == text)
    {
        return Some(*value);
    }
    let names: Vec<_> = words.iter().map(|(w, _)| format!("`{w}`")).collect();
    cx.expected(node, &names.join(" or "))
}

macro_rules! words {
    ($ty:ty: $($word:literal = $value:expr),*) => {
        impl Field for $ty {
            fn read(node: &Node, cx: &mut Context) -> Option<Self> {
                word(node, cx, &[$(($word, $value)),*])
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    };
}
words!(Peer: "dts" = Peer::Dts, "broker" = Peer::Broker);
words!(AckBy: "peer" = AckBy::Peer, "centre" = AckBy::Centre);

impl Field for CodecName {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let words = [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)];
        let codec = word(node, cx, &words)?;
        if let Err(e) = super::wire::try_codec(codec) {
            cx.mistake(node.place, e.to_string());
            return None;
        }
        Some(Self(codec))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["none", "lz4", "zstd"] })
    }
}

const TRANSPORTS: [(&str, Transport); 3] =
    [("quic", Transport::Quic), ("tls", Transport::Tls), ("tcp", Transport::Tcp)];

impl Field for Transports {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let scalar = |text: &str| Node {
            place: node.place,
            kind: Kind::Scalar { text: text.trim().to_owned(), plain: true },
        };
        let items = match &node.kind {
            Kind::List(items) => items.clone(),
            Kind::Scalar { text, .. } => text.split(',').map(scalar).collect(),
            _ => return cx.expected(node, "a list of `quic`, `tls`, `tcp`"),
        };
        let read: Vec<_> = items.iter().map(|item| word(item, cx, &TRANSPORTS)).collect();
        let mut read: Vec<Transport> = read.into_iter().collect::<Option<_>>()?;
        if read.is_empty() {
            return cx.expected(node, "at least one of `quic`, `tls`, `tcp`");
        }
        if read.contains(&Transport::Tls) && read.contains(&Transport::Tcp) {
            cx.mistake(
                node.place,
                "`tls` and `tcp` exclude each other: an encrypted link must not fall back to a plain one",
            );
            return None;
        }
        let mut seen = Vec::new();
        read.retain(|t| {
            !seen.contains(t) && {
                seen.push(*t);
                true
            }
        });
        Some(Self(read))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": ["array", "string"], "items": { "enum": ["quic", "tls", "tcp"] }, "minItems": 1 })
    }
}

impl Field for LinkMode {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let empty = Node { place: node.place, kind: Kind::Map(Vec::new()) };
        let burst = match &node.kind {
            Kind::Scalar { text, .. } if text == "always" => return Some(Self::Always),
            Kind::Scalar { text, .. } if text == "burst" => Burst::read(&empty, cx)?,
            Kind::Map(_) => Burst::read(node, cx)?,
            _ => return cx.expected(node, "`always`, `burst`, or a mapping with `every`, `bytes`, `urgent`"),
        };
        let Burst { every, bytes, urgent, linger } = burst;
        Some(Self::Burst { every, bytes: bytes.0, urgent, linger })
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "oneOf": [{ "enum": ["always", "burst"] }, Burst::schema()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    fn text(t: &str) -> Node {
        Node { place: Place::default(), kind: Kind::Scalar { text: t.to_owned(), plain: true } }
    }

    fn map(entries: Vec<(&str, Node)>) -> Node {
        let entries = entries.into_iter().map(|(k, n)| (k.to_owned(), Place::default(), n)).collect();
        Node { place: Place::default(), kind: Kind::Map(entries) }
    }

    fn list(items: &[&str]) -> Node {
        Node { place: Place::default(), kind: Kind::List(items.iter().map(|t| text(t)).collect()) }
    }

    #[test]
    fn defaults_need_only_an_address() {
        let mut cx = Context::default();
        let config = Config::read(&map(vec![("address", text("centre.example"))]), &mut cx);
        let config = config.unwrap_or_else(|| panic!("{:?}", cx.mistakes));
        assert_eq!(config.transports.0, [Transport::Quic, Transport::Tls]);
        assert_eq!((config.quic_port, config.tcp_port, config.window), (14567, 8883, 32));
        assert_eq!((config.peer, config.ack, config.codec.0), (Peer::Dts, AckBy::Peer, Codec::Lz4));
        assert_eq!(config.link, LinkMode::Always);
    }

    #[test]
    fn burst_is_a_word_or_a_mapping() {
        let mut cx = Context::default();
        let plain = LinkMode::read(&text("burst"), &mut cx).unwrap();
        assert!(matches!(plain, LinkMode::Burst { bytes: 262_144, .. }));
        let node = map(vec![("every", text("1h")), ("urgent", list(&["alarms"]))]);
        let LinkMode::Burst { every, urgent, .. } = LinkMode::read(&node, &mut cx).unwrap() else { panic!() };
        assert_eq!((every, urgent), (Duration::from_secs(3600), vec!["alarms".to_owned()]));
    }

    #[test]
    fn every_mistake_is_said() {
        let mut cx = Context::default();
        let node = map(vec![
            ("address", text("c")),
            ("transports", list(&["tls", "tcp"])),
            ("peer", text("kafka")),
            ("codec", text("gzip")),
            ("link", text("never")),
        ]);
        assert!(Config::read(&node, &mut cx).is_none());
        assert_eq!(cx.mistakes.len(), 4, "{:?}", cx.mistakes);
    }

    #[test]
    fn a_codec_that_is_not_compiled_in_is_a_mistake() {
        let mut cx = Context::default();
        let read = CodecName::read(&text("zstd"), &mut cx);
        assert_eq!(read.is_some(), cx.mistakes.is_empty());
        assert_eq!(read.is_some(), crate::sink::centre::wire::try_codec(Codec::Zstd).is_ok());
    }
}
