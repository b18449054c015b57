//! What the tests share: frames as a device makes them, clients, options.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::builtin::{Payload, image, message, message_values};
use crate::event::{Batch, BatchBuilder, Column, Image, Op, Origin, RowClock, Table, TableKind, Type, Value};
use crate::frame::{self, Codec, Header, HeaderV1};
use crate::mqtt::{Client, ClientEvent, ClientOptions, Connect, Publish, Version};
use crate::runtime::Mono;
use crate::source::devices::fence::OnConflict;
use crate::source::devices::hub::Options;
use crate::source::devices::watermark;

pub(super) const EPOCH: u64 = 3 << 32 | 0xbeef;

pub(super) fn options() -> Options {
    Options {
        source: "in".into(),
        max_packet_bytes: 64 << 10,
        max_body_bytes: 64 << 10,
        receive_maximum: 8,
        connection_bytes: 16 << 10,
        total_bytes: 32 << 10,
        max_row_bytes: 32 << 10,
        keep_alive_max_s: 600,
        connect_timeout: Duration::from_secs(10),
        retry_after: Duration::from_secs(5),
        on_conflict: OnConflict::KeepBoth,
        max_per_device: 4,
        watermarks: watermark::Limits { max_lanes: 4, max_epochs: 4 },
        dictionaries: Vec::new(),
        claims_sessions: false,
    }
}

/// `people(id, name)`.
pub(super) fn table() -> Arc<Table> {
    let id = Column { key: Some(0), ..Column::new("id", Type::I64) };
    let columns = vec![id, Column::new("name", Type::Text)];
    Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: "people".into(), version: 1, columns })
}

/// A frame with one row per sequence number; `salt` makes other content.
#[derive(Clone)]
pub(super) struct FrameKit {
    pub(super) header: HeaderV1,
    pub(super) body: Bytes,
}

impl FrameKit {
    pub(super) fn new(first: u64, last: u64, salt: &str) -> Self {
        let table = table();
        let mut rows = BatchBuilder::new("app".into());
        for seq in first..=last {
            let name = format!("{salt}{seq}");
            let values = [Value::Int(seq as i64), Value::Text(&name)];
            rows.push(Op::Insert, 1 << 20, &table, None, Some(Image::full(&values))).unwrap();
        }
        Self::of(rows.finish(), first, last, vec![table.encode()])
    }

    pub(super) fn of(batch: Batch, first: u64, last: u64, tables: Vec<Vec<u8>>) -> Self {
        let body = batch.body.clone();
        let header = HeaderV1 {
            lane: "data".into(),
            epoch: EPOCH,
            base: 1,
            first_seq: first,
            last_seq: last,
            rows: batch.rows,
            body_crc: crc32c::crc32c(&body),
            body_len: body.len() as u32,
            source: "app".into(),
            clock: 2,
            boot_offset_us: None,
            tables,
        };
        Self { header, body }
    }

    pub(super) fn message(first: u64, text: &str) -> Self {
        let mut rows = BatchBuilder::new("app".into());
        let values = message_values("t", None, Payload::Text(text), None);
        rows.push(Op::Message, 1 << 20, message(), None, image(&values)).unwrap();
        Self::of(rows.finish(), first, first, vec![message().encode()])
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut HeaderV1)) -> Self {
        change(&mut self.header);
        self
    }

    pub(super) fn batch(&self) -> Batch {
        let body = self.body.clone();
        let tables = |_| Some(table());
        Batch::from_body("app".into(), Origin::Input, RowClock::default(), self.header.rows, body, tables)
            .unwrap()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        frame::encode(&Header::V1(self.header.clone()), &self.body, Codec::Lz4).unwrap()
    }

    pub(super) fn publish(&self, device: &str) -> Publish {
        Publish::new(format!("dts/v1/{device}/c"), 1, self.bytes())
    }
}

pub(super) fn connect(client_id: &str, version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 60,
        client_id: client_id.to_owned(),
        username: None,
        password: None,
        will: None,
        session_expiry_s: 0,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_problem_information: true,
        authentication_method: None,
        user: Vec::new(),
    }
}

/// The CONNECT of a dts agent.
pub(super) fn agent(device: &str, instance: u64) -> Connect {
    let id = format!("{device}:{instance:016x}");
    Connect { user: vec![("dts".into(), "1".into())], ..connect(&id, Version::V5) }
}

pub(super) fn client(connect: Connect, now: Mono) -> Client {
    let options = ClientOptions {
        connect,
        max_packet_bytes: 64 << 10,
        window: 16,
        ping_timeout: Duration::from_secs(20),
    };
    Client::new(options, now).unwrap()
}

/// What of an event the tests look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Connected,
    Refused(u8),
    /// Token and reason.
    Acked(u64, u8),
    Message(String, Vec<u8>),
    Subscribed(Vec<u8>),
    /// DISCONNECT's reason.
    Closed(u8),
    /// The connection ended without one.
    Gone,
}

impl Seen {
    pub(super) fn of(event: ClientEvent) -> Self {
        match event {
            ClientEvent::Connected(_) => Self::Connected,
            ClientEvent::Refused(connack) => Self::Refused(connack.reason),
            ClientEvent::Acked { token, ack } => Self::Acked(token, ack.reason),
            ClientEvent::Message(m) => Self::Message(m.topic, m.payload.to_vec()),
            ClientEvent::Subscribed(s) => Self::Subscribed(s.reasons),
            ClientEvent::Closed(d) => Self::Closed(d.reason),
            ClientEvent::Failed(_) => Self::Gone,
        }
    }
}
