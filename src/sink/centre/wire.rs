//! What a device and the centre say to each other beside the frames: topics, the properties of
//! CONNECT and CONNACK, the time exchange, watermarks. Plain data, no state.

use std::time::Duration;

use bytes::Bytes;

use crate::frame::{self, Codec, FrameError, Header, HeaderV1};
use crate::mqtt::{ConnAck, Connect, UserProperties, Version};
use crate::runtime::Mono;

/// The topics of one device.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    /// Frames.
    pub(super) frames: String,
    /// Status, retained.
    pub(super) status: String,
    /// Question for the time.
    pub(super) ping: String,
    /// Its answer.
    pub(super) time: String,
    /// Watermarks.
    pub(super) watermark: String,
}

impl Topics {
    pub(super) fn of(device: &str) -> Self {
        let topic = |leaf: &str| format!("dts/v1/{device}/{leaf}");
        Self {
            frames: topic("c"),
            status: topic("s"),
            ping: topic("p"),
            time: topic("t"),
            watermark: topic("w"),
        }
    }
}

/// Largest packet that the device takes: the centre's CONNACK with its marks is the largest there is.
pub(super) const MAX_RECEIVED_BYTES: usize = 256 * 1024;

/// Dictionaries of a centre that are remembered.
const MAX_DICTIONARIES: usize = 64;

/// Name and password of CONNECT.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User name.
    pub username: Option<String>,
    /// Password or token.
    pub password: Option<Bytes>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// CONNECT of `device`: Clean Start and no expiry, since the spool is the session.
pub(super) fn connect(
    device: &str,
    instance: u64,
    keep_alive: Duration,
    credentials: Credentials,
) -> Connect {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX),
        client_id: format!("{device}:{instance:016x}"),
        username: credentials.username,
        password: credentials.password,
        will: None,
        session_expiry_s: 0,
        receive_maximum: Some(16),
        maximum_packet_size: Some(MAX_RECEIVED_BYTES as u32),
        topic_alias_maximum: 0,
        request_problem_information: true,
        authentication_method: None,
        user: vec![("dts".to_owned(), "1".to_owned())],
    }
}

/// Up to where the centre holds a lane, as CONNACK says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Name of the lane.
    pub lane: String,
    /// Its epoch.
    pub epoch: u64,
    /// Highest sequence number durable there without a hole.
    pub seq: u64,
    /// crc32c of the body that ended at `seq`; 0 if unknown.
    pub crc: u32,
}

/// What the other side is, from its CONNACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Whether it is a dts centre.
    pub dts: bool,
    /// Its watermarks of this device.
    pub marks: Vec<Mark>,
    /// Greatest epoch number that it knows of this device.
    pub epoch_number: u32,
    /// Its time when it answered, in microseconds since 1970 UTC.
    pub time_us: Option<i64>,
    /// Largest uncompressed body that it takes.
    pub max_body: Option<usize>,
    /// Largest packet that it takes.
    pub max_packet: Option<usize>,
    /// Number of this session, for logs.
    pub session: Option<u64>,
    /// Ids of the zstd dictionaries that it has.
    pub dictionaries: Vec<u32>,
}

impl Server {
    /// Reads the properties. What is malformed is left out: at worst something is sent again.
    pub(super) fn of(connack: &ConnAck) -> Self {
        let mut server = Self {
            dts: property(&connack.user, "dts") == Some("1"),
            max_packet: connack.maximum_packet_size.map(|n| n as usize),
            ..Self::default()
        };
        if !server.dts {
            return server;
        }
        for (name, value) in &connack.user {
            match name.as_str() {
                "dts-mark" => server.marks.extend(parse_mark(value)),
                "dts-epoch" => server.epoch_number = value.parse().unwrap_or(0),
                "dts-time" => server.time_us = value.parse().ok(),
                "dts-max-body" => server.max_body = value.parse().ok(),
                "dts-dict" if server.dictionaries.len() < MAX_DICTIONARIES => {
                    server.dictionaries.extend(value.parse::<u32>().ok());
                }
                "dts-session" => server.session = value.parse().ok(),
                _ => {}
            }
        }
        server
    }
}

/// `<lane>/<epoch as 16 hex>/<seq>/<crc as 8 hex>`.
fn parse_mark(text: &str) -> Option<Mark> {
    let mut parts = text.rsplitn(4, '/');
    let crc = u32::from_str_radix(parts.next()?, 16).ok()?;
    let seq = parts.next()?.parse().ok()?;
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some(Mark { lane: parts.next()?.to_owned(), epoch, seq, crc })
}

/// `<lane>/<epoch as 16 hex>/<seq>` of a DISCONNECT: the centre holds something else under these numbers.
pub(super) fn parse_fork(text: &str) -> Option<(&str, u64)> {
    let (rest, _seq) = text.rsplit_once('/')?;
    let (lane, epoch) = rest.rsplit_once('/')?;
    Some((lane, u64::from_str_radix(epoch, 16).ok()?))
}

/// A peer's words, short and without control characters: they go into logs.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The first user property called `name`.
pub(super) fn property<'a>(user: &'a UserProperties, name: &str) -> Option<&'a str> {
    user.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// How long the peer asks to stay away (`retry_after_ms`).
pub(super) fn retry_after(user: &UserProperties) -> Option<Duration> {
    // Nobody may send us away for more than a day.
    let ms: u64 = property(user, "retry_after_ms")?.parse().ok()?;
    Some(Duration::from_millis(ms.min(86_400_000)))
}

/// The question for the time: our monotonic microseconds.
pub(super) fn time_question(now: Mono) -> Bytes {
    Bytes::copy_from_slice(&now.0.to_le_bytes())
}

/// Its answer: our question's time, and when the centre got it and answered, in microseconds since 1970 UTC.
pub(super) fn parse_time_answer(payload: &[u8]) -> Option<(Mono, i64, i64)> {
    let words: [u8; 24] = payload.try_into().ok()?;
    let word = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&words[at..at + 8]);
        eight
    };
    Some((Mono(u64::from_le_bytes(word(0))), i64::from_le_bytes(word(8)), i64::from_le_bytes(word(16))))
}

/// Bytes of a QoS 1 PUBLISH (MQTT 5, 3.3) of `payload` bytes: fixed header, topic, packet id, one alias property.
pub(super) fn publish_bytes(topic: &str, payload: usize) -> usize {
    1 + 4 + 2 + topic.len() + 2 + 1 + 3 + payload
}

/// Whether this build can write `codec`, asked of the codec itself.
pub(super) fn try_codec(codec: Codec) -> Result<(), FrameError> {
    let body = [0; 256];
    let header = Header::V1(HeaderV1 {
        lane: String::new(),
        epoch: 0,
        base: 0,
        first_seq: 0,
        last_seq: 0,
        rows: 0,
        body_crc: 0,
        body_len: 256,
        source: String::new(),
        clock: 0,
        boot_offset_us: None,
        tables: Vec::new(),
    });
    frame::encode(&header, &body, codec).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_may_have_slashes_in_their_lane() {
        let mark = parse_mark("a/b/00000003deadbeef/17/0000002a").unwrap();
        assert_eq!(mark, Mark { lane: "a/b".into(), epoch: 0x3_dead_beef, seq: 17, crc: 42 });
        for bad in ["", "a", "a/1", "a/1/2", "a/x/2/3", "a/1/-2/3", "a/1/2/123456789"] {
            assert_eq!(parse_mark(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_fork_names_lane_and_epoch() {
        assert_eq!(parse_fork("a/b/00000003deadbeef/17"), Some(("a/b", 0x3_dead_beef)));
        assert_eq!(parse_fork("data/x/17"), None);
        assert_eq!(printable("a\nb\u{1b}[31m"), "ab[31m");
    }

    #[test]
    fn a_server_without_dts_is_foreign_whatever_else_it_says() {
        let mark = ("dts-mark".to_owned(), "a/1/2/3".to_owned());
        let mut connack = ConnAck { user: vec![mark], ..ConnAck::default() };
        assert_eq!(Server::of(&connack), Server::default());
        connack.user.push(("dts".into(), "1".into()));
        assert_eq!(Server::of(&connack).marks.len(), 1);
    }

    #[test]
    fn time_answers_have_24_bytes() {
        let mut answer = Vec::new();
        answer.extend(7u64.to_le_bytes());
        answer.extend((-8i64).to_le_bytes());
        answer.extend(9i64.to_le_bytes());
        assert_eq!(parse_time_answer(&answer), Some((Mono(7), -8, 9)));
        assert_eq!(parse_time_answer(&answer[1..]), None);
        answer.push(0);
        assert_eq!(parse_time_answer(&answer), None);
    }

    #[test]
    fn nobody_sends_us_away_for_ever() {
        let user = vec![("retry_after_ms".to_owned(), u64::MAX.to_string())];
        assert_eq!(retry_after(&user), Some(Duration::from_secs(86_400)));
    }
}
