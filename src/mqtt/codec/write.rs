//! Packets, to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::properties::{
    id, put_prop_binary, put_prop_bool, put_prop_str, put_prop_u16, put_prop_u32, put_prop_varint, put_user,
};
use super::{MAX_REMAINING, ProtocolError, kind, malformed, v311_return_code};
use crate::mqtt::{
    Ack, ConnAck, Connect, Disconnect, Packet, Publish, QoS, SubAck, Subscribe, Unsubscribe, Version, Will,
    reason,
};

type Result<T> = std::result::Result<T, ProtocolError>;

const TOO_LONG: ProtocolError =
    ProtocolError::new(reason::PACKET_TOO_LARGE, "string or packet is longer than MQTT can write");

/// Appends a packet. After an error `out` holds a part of it.
pub(super) fn packet(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<()> {
    match packet {
        Packet::Connect(p) => connect(p, out),
        Packet::ConnAck(p) => connack(p, version, out),
        Packet::Publish(p) => {
            publish_head(p, version, out)?;
            out.extend_from_slice(&p.payload);
            Ok(())
        }
        Packet::PubAck(p) => ack(p, version, kind::PUBACK << 4, out),
        Packet::PubRec(p) => ack(p, version, kind::PUBREC << 4, out),
        Packet::PubRel(p) => ack(p, version, kind::PUBREL << 4 | 2, out),
        Packet::PubComp(p) => ack(p, version, kind::PUBCOMP << 4, out),
        Packet::Subscribe(p) => subscribe(p, version, out),
        Packet::SubAck(p) => suback(p, version, kind::SUBACK, out),
        Packet::Unsubscribe(p) => unsubscribe(p, version, out),
        Packet::UnsubAck(p) => suback(p, version, kind::UNSUBACK, out),
        Packet::PingReq => bare(kind::PINGREQ, out),
        Packet::PingResp => bare(kind::PINGRESP, out),
        Packet::Disconnect(p) => disconnect(p, version, out),
        Packet::Auth(code) => match (version, *code) {
            (Version::V311, _) => Err(malformed("AUTH is not of 3.1.1")),
            (_, 0) => bare(kind::AUTH, out),
            (_, code) => {
                out.extend_from_slice(&[kind::AUTH << 4, 1, code]);
                Ok(())
            }
        },
    }
}

/// A PUBLISH up to its payload, whose length is counted: the payload is to follow.
pub(crate) fn publish_head(p: &Publish, version: Version, out: &mut BytesMut) -> Result<()> {
    let dup = p.dup && p.qos != QoS::AtMostOnce;
    put_u8(out, kind::PUBLISH << 4 | u8::from(dup) << 3 | (p.qos as u8) << 1 | u8::from(p.retain));
    let mark = begin(out);
    put_str(out, &p.topic)?;
    if p.qos != QoS::AtMostOnce {
        put_packet_id(out, p.packet_id)?;
    }
    if version == Version::V5 {
        let mark = begin(out);
        put_prop_bool(out, id::PAYLOAD_FORMAT, p.payload_is_utf8.then_some(true));
        put_prop_u32(out, id::MESSAGE_EXPIRY, p.message_expiry_s);
        put_prop_u16(out, id::TOPIC_ALIAS, p.topic_alias);
        put_prop_str(out, id::RESPONSE_TOPIC, p.response_topic.as_ref())?;
        put_prop_binary(out, id::CORRELATION_DATA, p.correlation_data.as_ref())?;
        put_prop_str(out, id::CONTENT_TYPE, p.content_type.as_ref())?;
        for &subscription in &p.subscription_ids {
            put_prop_varint(out, id::SUBSCRIPTION_ID, subscription)?;
        }
        put_user(out, &p.user)?;
        end(out, mark, 0)?;
    }
    end(out, mark, p.payload.len())
}

fn connect(p: &Connect, out: &mut BytesMut) -> Result<()> {
    let v5 = p.version == Version::V5;
    if !v5 && p.password.is_some() && p.username.is_none() {
        return Err(malformed("3.1.1 has no password without a user name"));
    }
    put_u8(out, kind::CONNECT << 4);
    let mark = begin(out);
    put_str(out, "MQTT")?;
    put_u8(out, if v5 { 5 } else { 4 });
    let mut flags = u8::from(p.username.is_some()) << 7
        | u8::from(p.password.is_some()) << 6
        | u8::from(p.clean_start) << 1;
    if let Some(will) = &p.will {
        flags |= u8::from(will.retain) << 5 | (will.qos as u8) << 3 | 4;
    }
    put_u8(out, flags);
    put_u16(out, p.keep_alive_s);
    if v5 {
        let mark = begin(out);
        put_prop_u32(out, id::SESSION_EXPIRY, some_unless(p.session_expiry_s, 0));
        put_prop_u16(out, id::RECEIVE_MAXIMUM, p.receive_maximum);
        put_prop_u32(out, id::MAXIMUM_PACKET_SIZE, p.maximum_packet_size);
        put_alias_maximum(out, p.topic_alias_maximum);
        put_prop_bool(
            out,
            id::REQUEST_PROBLEM_INFORMATION,
            (!p.request_problem_information).then_some(false),
        );
        put_prop_str(out, id::AUTHENTICATION_METHOD, p.authentication_method.as_ref())?;
        put_user(out, &p.user)?;
        end(out, mark, 0)?;
    }
    put_str(out, &p.client_id)?;
    if let Some(w) = &p.will {
        will(w, v5, out)?;
    }
    if let Some(username) = &p.username {
        put_str(out, username)?;
    }
    if let Some(password) = &p.password {
        put_binary(out, password)?;
    }
    end(out, mark, 0)
}

fn will(p: &Will, v5: bool, out: &mut BytesMut) -> Result<()> {
    if v5 {
        let mark = begin(out);
        put_prop_u32(out, id::WILL_DELAY, some_unless(p.delay_s, 0));
        put_prop_bool(out, id::PAYLOAD_FORMAT, p.payload_is_utf8.then_some(true));
        put_prop_u32(out, id::MESSAGE_EXPIRY, p.message_expiry_s);
        put_prop_str(out, id::CONTENT_TYPE, p.content_type.as_ref())?;
        put_prop_str(out, id::RESPONSE_TOPIC, p.response_topic.as_ref())?;
        put_prop_binary(out, id::CORRELATION_DATA, p.correlation_data.as_ref())?;
        put_user(out, &p.user)?;
        end(out, mark, 0)?;
    }
    put_str(out, &p.topic)?;
    put_binary(out, &p.payload)
}

fn connack(p: &ConnAck, version: Version, out: &mut BytesMut) -> Result<()> {
    put_u8(out, kind::CONNACK << 4);
    let mark = begin(out);
    put_u8(out, u8::from(p.session_present && p.reason == reason::SUCCESS));
    if version == Version::V311 {
        put_u8(out, v311_return_code(p.reason).ok_or(malformed("3.1.1 has no such return code"))?);
        return end(out, mark, 0);
    }
    put_u8(out, p.reason);
    let properties = begin(out);
    put_prop_u32(out, id::SESSION_EXPIRY, p.session_expiry_s);
    put_prop_u16(out, id::RECEIVE_MAXIMUM, p.receive_maximum);
    put_prop_bool(
        out,
        id::MAXIMUM_QOS,
        p.maximum_qos.and_then(|qos| some_unless(qos, 2)).map(|qos| qos == 1),
    );
    put_prop_bool(out, id::RETAIN_AVAILABLE, p.retain_available);
    put_prop_u32(out, id::MAXIMUM_PACKET_SIZE, p.maximum_packet_size);
    put_prop_str(out, id::ASSIGNED_CLIENT_ID, p.assigned_client_id.as_ref())?;
    put_alias_maximum(out, p.topic_alias_maximum);
    put_prop_str(out, id::REASON_STRING, p.reason_string.as_ref())?;
    put_prop_bool(out, id::WILDCARD_SUBSCRIPTION, p.wildcard_subscription_available);
    put_prop_bool(out, id::SUBSCRIPTION_IDS, p.subscription_identifiers_available);
    put_prop_bool(out, id::SHARED_SUBSCRIPTION, p.shared_subscription_available);
    put_prop_u16(out, id::SERVER_KEEP_ALIVE, p.server_keep_alive_s);
    put_prop_str(out, id::SERVER_REFERENCE, p.server_reference.as_ref())?;
    put_user(out, &p.user)?;
    end(out, properties, 0)?;
    end(out, mark, 0)
}

fn ack(p: &Ack, version: Version, first: u8, out: &mut BytesMut) -> Result<()> {
    put_u8(out, first);
    let mark = begin(out);
    put_packet_id(out, p.packet_id)?;
    if version == Version::V5 {
        let properties = p.reason_string.is_some() || !p.user.is_empty();
        if properties || p.reason != reason::SUCCESS {
            put_u8(out, p.reason);
        }
        if properties {
            put_problem(p.reason_string.as_ref(), &p.user, out)?;
        }
    }
    end(out, mark, 0)
}

fn subscribe(p: &Subscribe, version: Version, out: &mut BytesMut) -> Result<()> {
    put_u8(out, kind::SUBSCRIBE << 4 | 2);
    let mark = begin(out);
    put_packet_id(out, p.packet_id)?;
    if version == Version::V5 {
        let mark = begin(out);
        if let Some(subscription) = p.subscription_id {
            put_prop_varint(out, id::SUBSCRIPTION_ID, subscription)?;
        }
        put_user(out, &p.user)?;
        end(out, mark, 0)?;
    }
    if p.filters.is_empty() {
        return Err(malformed("SUBSCRIBE without topic filter"));
    }
    for f in &p.filters {
        put_str(out, &f.filter)?;
        let mut options = f.qos as u8;
        if version == Version::V5 {
            options |= u8::from(f.no_local) << 2
                | u8::from(f.retain_as_published) << 3
                | (f.retain_handling & 3) << 4;
        }
        put_u8(out, options);
    }
    end(out, mark, 0)
}

fn suback(p: &SubAck, version: Version, kind: u8, out: &mut BytesMut) -> Result<()> {
    put_u8(out, kind << 4);
    let mark = begin(out);
    put_packet_id(out, p.packet_id)?;
    match version {
        Version::V5 => {
            put_problem(p.reason_string.as_ref(), &p.user, out)?;
            out.extend_from_slice(&p.reasons);
        }
        Version::V311 if kind == kind::SUBACK => {
            for &code in &p.reasons {
                put_u8(out, code.min(0x80)); // any failure is 0x80 there
            }
        }
        Version::V311 => {}
    }
    end(out, mark, 0)
}

fn unsubscribe(p: &Unsubscribe, version: Version, out: &mut BytesMut) -> Result<()> {
    put_u8(out, kind::UNSUBSCRIBE << 4 | 2);
    let mark = begin(out);
    put_packet_id(out, p.packet_id)?;
    if version == Version::V5 {
        let mark = begin(out);
        put_user(out, &p.user)?;
        end(out, mark, 0)?;
    }
    if p.filters.is_empty() {
        return Err(malformed("UNSUBSCRIBE without topic filter"));
    }
    for filter in &p.filters {
        put_str(out, filter)?;
    }
    end(out, mark, 0)
}

fn disconnect(p: &Disconnect, version: Version, out: &mut BytesMut) -> Result<()> {
    let properties = p.session_expiry_s.is_some()
        || p.reason_string.is_some()
        || p.server_reference.is_some()
        || !p.user.is_empty();
    if version == Version::V311 || (p.reason == reason::SUCCESS && !properties) {
        return bare(kind::DISCONNECT, out);
    }
    put_u8(out, kind::DISCONNECT << 4);
    let mark = begin(out);
    put_u8(out, p.reason);
    if properties {
        let mark = begin(out);
        put_prop_u32(out, id::SESSION_EXPIRY, p.session_expiry_s);
        put_prop_str(out, id::REASON_STRING, p.reason_string.as_ref())?;
        put_prop_str(out, id::SERVER_REFERENCE, p.server_reference.as_ref())?;
        put_user(out, &p.user)?;
        end(out, mark, 0)?;
    }
    end(out, mark, 0)
}

fn bare(kind: u8, out: &mut BytesMut) -> Result<()> {
    out.extend_from_slice(&[kind << 4, 0]);
    Ok(())
}

/// Properties that say what went wrong.
fn put_problem(
    reason_string: Option<&String>,
    user: &Vec<(String, String)>,
    out: &mut BytesMut,
) -> Result<()> {
    let mark = begin(out);
    put_prop_str(out, id::REASON_STRING, reason_string)?;
    put_user(out, user)?;
    end(out, mark, 0)
}

fn put_alias_maximum(out: &mut BytesMut, maximum: u16) {
    put_prop_u16(out, id::TOPIC_ALIAS_MAXIMUM, some_unless(maximum, 0));
}

fn some_unless<T: PartialEq>(value: T, default: T) -> Option<T> {
    (value != default).then_some(value)
}

fn put_packet_id(out: &mut BytesMut, packet_id: u16) -> Result<()> {
    if packet_id == 0 {
        return Err(malformed("packet identifier 0"));
    }
    put_u16(out, packet_id);
    Ok(())
}

/// Leaves room for a length, to be filled in by [`end`].
fn begin(out: &mut BytesMut) -> usize {
    out.put_bytes(0, 4);
    out.len()
}

/// Writes the length of everything since `begin`, plus `extra`, in as few bytes as it takes.
fn end(out: &mut BytesMut, mark: usize, extra: usize) -> Result<()> {
    let body = out.len() - mark;
    let (length, n) = varint(body + extra)?;
    let start = mark - 4;
    out[start..mark].copy_from_slice(&length);
    out.copy_within(mark.., start + n);
    out.truncate(start + n + body);
    Ok(())
}

fn varint(value: usize) -> Result<([u8; 4], usize)> {
    if value > MAX_REMAINING {
        return Err(TOO_LONG);
    }
    let mut bytes = [0; 4];
    let (mut rest, mut n) = (value, 0);
    for slot in &mut bytes {
        *slot = (rest & 0x7F) as u8;
        rest >>= 7;
        n += 1;
        if rest == 0 {
            break;
        }
        *slot |= 0x80;
    }
    Ok((bytes, n))
}

pub(super) fn put_varint(out: &mut BytesMut, value: usize) -> Result<()> {
    let (bytes, n) = varint(value)?;
    out.extend_from_slice(&bytes[..n]);
    Ok(())
}

pub(super) fn put_u8(out: &mut BytesMut, value: u8) {
    out.put_u8(value);
}

pub(super) fn put_u16(out: &mut BytesMut, value: u16) {
    out.put_u16(value);
}

pub(super) fn put_u32(out: &mut BytesMut, value: u32) {
    out.put_u32(value);
}

pub(super) fn put_str(out: &mut BytesMut, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(malformed("U+0000 in a string"));
    }
    put_bytes(out, text.as_bytes())
}

pub(super) fn put_binary(out: &mut BytesMut, data: &Bytes) -> Result<()> {
    put_bytes(out, data)
}

fn put_bytes(out: &mut BytesMut, data: &[u8]) -> Result<()> {
    let len = u16::try_from(data.len()).map_err(|_| TOO_LONG)?;
    out.put_u16(len);
    out.extend_from_slice(data);
    Ok(())
}
