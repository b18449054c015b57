//! Frames as an agent makes them.

use dts::event::builtin::{Payload, image, message, message_values};
use dts::event::{BatchBuilder, Op};
use dts::frame::{self, Codec, Header, HeaderV1};
use dts::mqtt::{Packet, Publish, Version};

/// PUBLISH of a frame of `device` with one message, whose payload is its sequence number.
pub(crate) fn frame(device: &str, seq: u64, packet: u16) -> Packet {
    let mut rows = BatchBuilder::new("app".into());
    let text = seq.to_string();
    let values = message_values("t", None, Payload::Json(&text), None);
    rows.push(Op::Message, 1 << 20, message(), None, image(&values)).unwrap();
    let batch = rows.finish();
    let header = Header::V1(HeaderV1 {
        lane: "data".into(),
        epoch: 3 << 32 | 7,
        base: 1,
        first_seq: seq,
        last_seq: seq,
        rows: batch.rows,
        body_crc: crc32c::crc32c(&batch.body),
        body_len: batch.body.len() as u32,
        source: "app".into(),
        clock: 2,
        boot_offset_us: None,
        tables: vec![message().encode()],
    });
    let payload = frame::encode(&header, &batch.body, Codec::Lz4).unwrap();
    let publish = Publish::new(format!("dts/v1/{device}/c"), 1, payload);
    Packet::Publish(Box::new(Publish { packet_id: packet, ..publish }))
}

/// CONNECT of the agent of a device that has a password.
pub(crate) fn agent_connect(device: &str, instance: u64) -> dts::mqtt::Connect {
    let mut connect = super::connect_as(device, Version::V5);
    connect.client_id = format!("{device}:{instance:016x}");
    connect.user = vec![("dts".into(), "1".into())];
    connect
}
