//! Bodies of packets, from bytes.

use bytes::Bytes;

use super::properties::{Place, Properties};
use super::{MAX_FILTERS, ProtocolError, is_connack_reason, is_puback_reason, kind, malformed, protocol};
use crate::mqtt::{
    Ack, ConnAck, Connect, Disconnect, Filter, Packet, Publish, QoS, SubAck, Subscribe, Unsubscribe, Version,
    Will, reason, topic,
};

type Result<T> = std::result::Result<T, ProtocolError>;

/// What is left of one packet's body.
pub(super) struct Reader {
    body: Bytes,
    at: usize,
}

impl Reader {
    pub(super) fn remaining(&self) -> usize {
        self.body.len() - self.at
    }

    fn slice(&mut self, len: usize) -> Result<&[u8]> {
        let bytes = self.body.get(self.at..self.at + len).ok_or(malformed("packet cut short"))?;
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.slice(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        let b = self.slice(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        let b = self.slice(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(super) fn varint(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("variable byte integer over four bytes"))
    }

    /// Binary data, sharing the packet's memory.
    pub(super) fn binary(&mut self) -> Result<Bytes> {
        let len = usize::from(self.u16()?);
        let start = self.at;
        self.slice(len)?;
        Ok(self.body.slice(start..start + len))
    }

    pub(super) fn string(&mut self) -> Result<String> {
        let len = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.slice(len)?).map_err(|_| malformed("string is not UTF-8"))?;
        if text.contains('\0') {
            return Err(malformed("U+0000 in a string"));
        }
        Ok(text.to_owned())
    }

    /// A string without wildcards; may be empty.
    pub(super) fn topic(&mut self) -> Result<String> {
        let name = self.string()?;
        if topic::has_wildcards(&name) {
            return Err(malformed("wildcard in a topic name"));
        }
        Ok(name)
    }

    fn packet_id(&mut self) -> Result<u16> {
        match self.u16()? {
            0 => Err(malformed("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// Properties in 5.0, none in 3.1.1.
    fn properties(&mut self, version: Version, place: Place) -> Result<Properties> {
        match version {
            Version::V5 => Properties::read(self, place),
            Version::V311 => Ok(Properties::default()),
        }
    }

    fn rest(&mut self) -> Bytes {
        let rest = self.body.slice(self.at..);
        self.at = self.body.len();
        rest
    }
}

/// Reads the body of a packet whose first byte is good.
pub(super) fn packet(first: u8, version: Option<Version>, body: Bytes) -> Result<Packet> {
    let mut r = Reader { body, at: 0 };
    let kind = first >> 4;
    let packet = match (kind, version) {
        (kind::CONNECT, _) => Packet::Connect(Box::new(connect(&mut r)?)),
        (_, None) => return Err(protocol("first packet is not CONNECT")),
        (kind::CONNACK, Some(v)) => Packet::ConnAck(Box::new(connack(&mut r, v)?)),
        (kind::PUBLISH, Some(v)) => Packet::Publish(Box::new(publish(&mut r, first, v)?)),
        (kind::PUBACK, Some(v)) => Packet::PubAck(ack(&mut r, v, kind)?),
        (kind::PUBREC, Some(v)) => Packet::PubRec(ack(&mut r, v, kind)?),
        (kind::PUBREL, Some(v)) => Packet::PubRel(ack(&mut r, v, kind)?),
        (kind::PUBCOMP, Some(v)) => Packet::PubComp(ack(&mut r, v, kind)?),
        (kind::SUBSCRIBE, Some(v)) => Packet::Subscribe(Box::new(subscribe(&mut r, v)?)),
        (kind::SUBACK, Some(v)) => Packet::SubAck(suback(&mut r, v, kind)?),
        (kind::UNSUBSCRIBE, Some(v)) => Packet::Unsubscribe(Box::new(unsubscribe(&mut r, v)?)),
        (kind::UNSUBACK, Some(v)) => Packet::UnsubAck(suback(&mut r, v, kind)?),
        (kind::PINGREQ, _) => Packet::PingReq,
        (kind::PINGRESP, _) => Packet::PingResp,
        (kind::DISCONNECT, Some(v)) => Packet::Disconnect(disconnect(&mut r, v)?),
        _ => Packet::Auth(auth(&mut r)?),
    };
    if r.remaining() != 0 {
        return Err(malformed("bytes after the packet's end"));
    }
    Ok(packet)
}

fn connect(r: &mut Reader) -> Result<Connect> {
    let name = r.binary()?;
    let level = r.u8()?;
    let version = match (&name[..], level) {
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        _ => return Err(ProtocolError::new(reason::UNSUPPORTED_VERSION, "protocol name or level")),
    };
    let flags = r.u8()?;
    let [has_user, has_password, will_retain, has_will] =
        [0x80, 0x40, 0x20, 0x04].map(|bit| flags & bit != 0);
    let will_qos = flags >> 3 & 3;
    if flags & 1 != 0 {
        return Err(malformed("reserved flag in CONNECT"));
    }
    if will_qos == 3 || (!has_will && (will_qos != 0 || will_retain)) {
        return Err(malformed("will flags in CONNECT"));
    }
    if version == Version::V311 && has_password && !has_user {
        return Err(malformed("password without a user name"));
    }
    let clean_start = flags & 2 != 0;
    let keep_alive_s = r.u16()?;
    let p = r.properties(version, Place::Connect)?;
    let client_id = r.string()?;
    let will = if has_will { Some(will(r, version, qos(will_qos)?, will_retain)?) } else { None };
    let username = if has_user { Some(r.string()?) } else { None };
    // A copy: the holder can wipe it, and it does not keep the receive buffer.
    let password = if has_password { Some(Bytes::copy_from_slice(&r.binary()?)) } else { None };
    let forever = if version == Version::V311 && !clean_start { u32::MAX } else { 0 };
    Ok(Connect {
        version,
        clean_start,
        keep_alive_s,
        client_id,
        username,
        password,
        will,
        session_expiry_s: p.session_expiry_s.unwrap_or(forever),
        receive_maximum: p.receive_maximum,
        maximum_packet_size: p.maximum_packet_size,
        topic_alias_maximum: p.topic_alias_maximum,
        request_problem_information: p.request_problem_information.unwrap_or(true),
        authentication_method: p.authentication_method,
        user: p.user,
    })
}

fn will(r: &mut Reader, version: Version, qos: QoS, retain: bool) -> Result<Will> {
    let p = r.properties(version, Place::Will)?;
    let topic = r.topic()?;
    if topic.is_empty() {
        return Err(malformed("empty will topic"));
    }
    Ok(Will {
        topic,
        payload: Bytes::copy_from_slice(&r.binary()?), // lives as long as the connection
        qos,
        retain,
        delay_s: p.will_delay_s,
        payload_is_utf8: p.payload_is_utf8,
        message_expiry_s: p.message_expiry_s,
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation_data: p.correlation_data.map(|data| Bytes::copy_from_slice(&data)),
        user: p.user,
    })
}

fn connack(r: &mut Reader, version: Version) -> Result<ConnAck> {
    let flags = r.u8()?;
    let code = r.u8()?;
    if flags > 1 {
        return Err(malformed("reserved flags in CONNACK"));
    }
    let reason = match version {
        Version::V5 if is_connack_reason(code) => code,
        Version::V311 => match code {
            0 => reason::SUCCESS,
            1 => reason::UNSUPPORTED_VERSION,
            2 => reason::BAD_CLIENT_ID,
            3 => reason::SERVER_UNAVAILABLE,
            4 => reason::BAD_USER_OR_PASSWORD,
            5 => reason::NOT_AUTHORIZED,
            _ => return Err(protocol("return code of CONNACK")),
        },
        Version::V5 => return Err(protocol("reason code of CONNACK")),
    };
    if flags == 1 && reason != reason::SUCCESS {
        return Err(protocol("session present in a refusal"));
    }
    let p = r.properties(version, Place::ConnAck)?;
    Ok(ConnAck {
        session_present: flags == 1,
        reason,
        session_expiry_s: p.session_expiry_s,
        receive_maximum: p.receive_maximum,
        maximum_qos: p.maximum_qos,
        retain_available: p.retain_available,
        maximum_packet_size: p.maximum_packet_size,
        assigned_client_id: p.assigned_client_id,
        topic_alias_maximum: p.topic_alias_maximum,
        reason_string: p.reason_string,
        wildcard_subscription_available: p.wildcard_subscription,
        subscription_identifiers_available: p.subscription_ids_available,
        shared_subscription_available: p.shared_subscription,
        server_keep_alive_s: p.server_keep_alive_s,
        server_reference: p.server_reference,
        user: p.user,
    })
}

fn publish(r: &mut Reader, first: u8, version: Version) -> Result<Publish> {
    let qos = qos(first >> 1 & 3)?;
    let topic = r.topic()?;
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { r.packet_id()? };
    let p = r.properties(version, Place::Publish)?;
    if topic.is_empty() && p.topic_alias.is_none() {
        return Err(protocol("PUBLISH without topic"));
    }
    Ok(Publish {
        dup: first & 8 != 0,
        qos,
        retain: first & 1 != 0,
        topic,
        packet_id,
        payload: r.rest(),
        payload_is_utf8: p.payload_is_utf8,
        message_expiry_s: p.message_expiry_s,
        topic_alias: p.topic_alias,
        response_topic: p.response_topic,
        correlation_data: p.correlation_data,
        content_type: p.content_type,
        subscription_ids: p.subscription_ids,
        user: p.user,
    })
}

fn ack(r: &mut Reader, version: Version, kind: u8) -> Result<Ack> {
    let packet_id = r.packet_id()?;
    if version == Version::V311 || r.remaining() == 0 {
        return Ok(Ack::new(packet_id, reason::SUCCESS));
    }
    let code = r.u8()?;
    let known = match kind {
        kind::PUBACK | kind::PUBREC => is_puback_reason(code),
        _ => matches!(code, 0 | 0x92),
    };
    if !known {
        return Err(protocol("reason code of an acknowledgement"));
    }
    if r.remaining() == 0 {
        return Ok(Ack::new(packet_id, code));
    }
    let p = r.properties(version, Place::Ack)?;
    Ok(Ack { packet_id, reason: code, reason_string: p.reason_string, user: p.user })
}

fn subscribe(r: &mut Reader, version: Version) -> Result<Subscribe> {
    let packet_id = r.packet_id()?;
    let p = r.properties(version, Place::Subscribe)?;
    let mut filters = Vec::new();
    while r.remaining() != 0 {
        let filter = filter(r, filters.len())?;
        let options = r.u8()?;
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if options & reserved != 0 {
            return Err(malformed("reserved bits of the subscription options"));
        }
        let retain_handling = options >> 4 & 3;
        if retain_handling == 3 {
            return Err(protocol("retain handling 3"));
        }
        let no_local = options & 4 != 0;
        if no_local && topic::is_shared(&filter) {
            return Err(protocol("no local on a shared subscription"));
        }
        let retain_as_published = options & 8 != 0;
        filters.push(Filter {
            filter,
            qos: qos(options & 3)?,
            no_local,
            retain_as_published,
            retain_handling,
        });
    }
    if filters.is_empty() {
        return Err(protocol("SUBSCRIBE without topic filter"));
    }
    Ok(Subscribe { packet_id, filters, subscription_id: p.subscription_ids.first().copied(), user: p.user })
}

fn suback(r: &mut Reader, version: Version, kind: u8) -> Result<SubAck> {
    let packet_id = r.packet_id()?;
    let p = r.properties(version, Place::SubAck)?;
    let mut ack = SubAck { packet_id, reasons: Vec::new(), reason_string: p.reason_string, user: p.user };
    if kind == kind::UNSUBACK && version == Version::V311 {
        return Ok(ack);
    }
    ack.reasons = r.rest().to_vec();
    let known = |code: &u8| match (kind, version) {
        (kind::UNSUBACK, _) => matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
        (_, Version::V311) => matches!(code, 0..=2 | 0x80),
        _ => matches!(code, 0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2),
    };
    if ack.reasons.is_empty() || !ack.reasons.iter().all(known) {
        return Err(protocol("reason codes of SUBACK or UNSUBACK"));
    }
    Ok(ack)
}

fn unsubscribe(r: &mut Reader, version: Version) -> Result<Unsubscribe> {
    let packet_id = r.packet_id()?;
    let p = r.properties(version, Place::Unsubscribe)?;
    let mut filters = Vec::new();
    while r.remaining() != 0 {
        filters.push(filter(r, filters.len())?);
    }
    if filters.is_empty() {
        return Err(protocol("UNSUBSCRIBE without topic filter"));
    }
    Ok(Unsubscribe { packet_id, filters, user: p.user })
}

fn filter(r: &mut Reader, so_far: usize) -> Result<String> {
    if so_far == MAX_FILTERS {
        return Err(ProtocolError::new(reason::QUOTA_EXCEEDED, "too many topic filters in a packet"));
    }
    let filter = r.string()?;
    if topic::valid_filter(&filter) { Ok(filter) } else { Err(malformed("topic filter")) }
}

fn disconnect(r: &mut Reader, version: Version) -> Result<Disconnect> {
    if version == Version::V311 || r.remaining() == 0 {
        return Ok(Disconnect::default());
    }
    let reason = r.u8()?;
    if !matches!(reason, 0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2) {
        return Err(protocol("reason code of DISCONNECT"));
    }
    if r.remaining() == 0 {
        return Ok(Disconnect { reason, ..Disconnect::default() });
    }
    let p = r.properties(version, Place::Disconnect)?;
    Ok(Disconnect {
        reason,
        session_expiry_s: p.session_expiry_s,
        reason_string: p.reason_string,
        server_reference: p.server_reference,
        user: p.user,
    })
}

fn auth(r: &mut Reader) -> Result<u8> {
    if r.remaining() == 0 {
        return Ok(reason::SUCCESS);
    }
    let reason = r.u8()?;
    if !matches!(reason, 0 | 0x18 | 0x19) {
        return Err(protocol("reason code of AUTH"));
    }
    if r.remaining() != 0 {
        Properties::read(r, Place::Auth)?;
    }
    Ok(reason)
}

fn qos(bits: u8) -> Result<QoS> {
    match bits {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(malformed("QoS 3")),
    }
}
