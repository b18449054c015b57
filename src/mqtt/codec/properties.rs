//! Properties of MQTT 5.0 (section 2.2.2): read into one struct, from which each packet takes its own.

use bytes::{Bytes, BytesMut};

use super::super::reason;
use super::read::Reader;
use super::write::{put_binary, put_str, put_u8, put_u16, put_u32, put_varint};
use super::{MAX_USER_PROPERTIES, ProtocolError, malformed, protocol};
use crate::mqtt::UserProperties;

/// Where properties stand: a bit in [`ALLOWED`].
#[derive(Clone, Copy)]
pub(super) enum Place {
    Connect = 1,
    Will = 2,
    ConnAck = 4,
    Publish = 8,
    Ack = 16,
    Subscribe = 32,
    SubAck = 64,
    Unsubscribe = 128,
    Disconnect = 256,
    Auth = 512,
}

pub(super) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_SUBSCRIPTION: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS: u8 = 0x29;
    pub(crate) const SHARED_SUBSCRIPTION: u8 = 0x2A;
}

/// What a set of properties said.
#[derive(Default)]
pub(super) struct Properties {
    pub(super) payload_is_utf8: bool,
    pub(super) message_expiry_s: Option<u32>,
    pub(super) content_type: Option<String>,
    pub(super) response_topic: Option<String>,
    pub(super) correlation_data: Option<Bytes>,
    pub(super) subscription_ids: Vec<u32>,
    pub(super) session_expiry_s: Option<u32>,
    pub(super) assigned_client_id: Option<String>,
    pub(super) server_keep_alive_s: Option<u16>,
    pub(super) authentication_method: Option<String>,
    pub(super) request_problem_information: Option<bool>,
    pub(super) will_delay_s: u32,
    pub(super) server_reference: Option<String>,
    pub(super) reason_string: Option<String>,
    pub(super) receive_maximum: Option<u16>,
    pub(super) topic_alias_maximum: u16,
    pub(super) topic_alias: Option<u16>,
    pub(super) maximum_qos: Option<u8>,
    pub(super) retain_available: Option<bool>,
    pub(super) maximum_packet_size: Option<u32>,
    pub(super) wildcard_subscription: Option<bool>,
    pub(super) subscription_ids_available: Option<bool>,
    pub(super) shared_subscription: Option<bool>,
    pub(super) user: UserProperties,
}

/// Places in which a property may stand (table 2-4); 0 for an unknown one.
const fn places(property: u8) -> u16 {
    use Place::{Ack, Auth, ConnAck, Connect, Disconnect, Publish, SubAck, Subscribe, Unsubscribe, Will};
    match property {
        id::PAYLOAD_FORMAT
        | id::MESSAGE_EXPIRY
        | id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA => Publish as u16 | Will as u16,
        id::SUBSCRIPTION_ID => Publish as u16 | Subscribe as u16,
        id::SESSION_EXPIRY => Connect as u16 | ConnAck as u16 | Disconnect as u16,
        id::AUTHENTICATION_METHOD | id::AUTHENTICATION_DATA => Connect as u16 | ConnAck as u16 | Auth as u16,
        id::REQUEST_PROBLEM_INFORMATION | id::REQUEST_RESPONSE_INFORMATION => Connect as u16,
        id::WILL_DELAY => Will as u16,
        id::SERVER_REFERENCE => ConnAck as u16 | Disconnect as u16,
        id::REASON_STRING => ConnAck as u16 | Ack as u16 | SubAck as u16 | Disconnect as u16 | Auth as u16,
        id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::MAXIMUM_PACKET_SIZE => {
            Connect as u16 | ConnAck as u16
        }
        id::TOPIC_ALIAS => Publish as u16,
        id::ASSIGNED_CLIENT_ID
        | id::SERVER_KEEP_ALIVE
        | id::RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION
        | id::SUBSCRIPTION_IDS
        | id::SHARED_SUBSCRIPTION => ConnAck as u16,
        id::USER => {
            Connect as u16
                | Will as u16
                | ConnAck as u16
                | Publish as u16
                | Ack as u16
                | Subscribe as u16
                | SubAck as u16
                | Unsubscribe as u16
                | Disconnect as u16
                | Auth as u16
        }
        _ => 0,
    }
}

impl Properties {
    /// Reads the length and that many bytes of properties.
    pub(super) fn read(r: &mut Reader, place: Place) -> Result<Self, ProtocolError> {
        let len = r.varint()? as usize;
        let rest = r.remaining().checked_sub(len).ok_or(malformed("properties longer than the packet"))?;
        let mut p = Self::default();
        let mut seen = 0u64;
        while r.remaining() > rest {
            let property = r.u8()?; // identifiers are variable byte integers, but all are one byte
            if places(property) & place as u16 == 0 {
                return Err(malformed("property is unknown or not of this packet"));
            }
            let bit = 1u64 << property; // places() knows none above 0x2A
            let repeats =
                property == id::USER || (property == id::SUBSCRIPTION_ID && matches!(place, Place::Publish));
            if seen & bit != 0 && !repeats {
                return Err(protocol("property twice"));
            }
            seen |= bit;
            p.read_one(r, property)?;
        }
        if r.remaining() != rest {
            return Err(malformed("property runs over the properties' length"));
        }
        if seen & (1 << id::AUTHENTICATION_DATA) != 0 && p.authentication_method.is_none() {
            return Err(protocol("authentication data without a method"));
        }
        Ok(p)
    }

    fn read_one(&mut self, r: &mut Reader, property: u8) -> Result<(), ProtocolError> {
        match property {
            id::PAYLOAD_FORMAT => self.payload_is_utf8 = bit(r)?,
            id::MESSAGE_EXPIRY => self.message_expiry_s = Some(r.u32()?),
            id::CONTENT_TYPE => self.content_type = Some(r.string()?),
            id::RESPONSE_TOPIC => self.response_topic = Some(r.topic()?),
            id::CORRELATION_DATA => self.correlation_data = Some(r.binary()?),
            id::SUBSCRIPTION_ID => {
                let id = r.varint()?;
                if id == 0 {
                    return Err(protocol("subscription identifier 0"));
                }
                self.subscription_ids.push(id);
            }
            id::SESSION_EXPIRY => self.session_expiry_s = Some(r.u32()?),
            id::ASSIGNED_CLIENT_ID => self.assigned_client_id = Some(r.string()?),
            id::SERVER_KEEP_ALIVE => self.server_keep_alive_s = Some(r.u16()?),
            id::AUTHENTICATION_METHOD => self.authentication_method = Some(r.string()?),
            id::AUTHENTICATION_DATA => drop(r.binary()?), // not kept: it may be a secret
            id::REQUEST_PROBLEM_INFORMATION => self.request_problem_information = Some(bit(r)?),
            id::WILL_DELAY => self.will_delay_s = r.u32()?,
            id::REQUEST_RESPONSE_INFORMATION => drop(bit(r)?),
            id::RESPONSE_INFORMATION => drop(r.string()?),
            id::SERVER_REFERENCE => self.server_reference = Some(r.string()?),
            id::REASON_STRING => self.reason_string = Some(r.string()?),
            id::RECEIVE_MAXIMUM => match r.u16()? {
                0 => return Err(protocol("receive maximum 0")),
                n => self.receive_maximum = Some(n),
            },
            id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = r.u16()?,
            id::TOPIC_ALIAS => match r.u16()? {
                0 => return Err(ProtocolError::new(reason::TOPIC_ALIAS_INVALID, "topic alias 0")),
                n => self.topic_alias = Some(n),
            },
            id::MAXIMUM_QOS => self.maximum_qos = Some(u8::from(bit(r)?)),
            id::RETAIN_AVAILABLE => self.retain_available = Some(bit(r)?),
            id::MAXIMUM_PACKET_SIZE => match r.u32()? {
                0 => return Err(protocol("maximum packet size 0")),
                n => self.maximum_packet_size = Some(n),
            },
            id::WILDCARD_SUBSCRIPTION => self.wildcard_subscription = Some(bit(r)?),
            id::SUBSCRIPTION_IDS => self.subscription_ids_available = Some(bit(r)?),
            id::SHARED_SUBSCRIPTION => self.shared_subscription = Some(bit(r)?),
            _ => {
                if self.user.len() == MAX_USER_PROPERTIES {
                    return Err(ProtocolError::new(reason::QUOTA_EXCEEDED, "too many user properties"));
                }
                let name = r.string()?;
                self.user.push((name, r.string()?));
            }
        }
        Ok(())
    }
}

/// A byte that may be 0 or 1.
fn bit(r: &mut Reader) -> Result<bool, ProtocolError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(protocol("property is neither 0 nor 1")),
    }
}

pub(super) fn put_prop_bool(out: &mut BytesMut, property: u8, value: Option<bool>) {
    if let Some(value) = value {
        put_u8(out, property);
        put_u8(out, u8::from(value));
    }
}

pub(super) fn put_prop_u16(out: &mut BytesMut, property: u8, value: Option<u16>) {
    if let Some(value) = value {
        put_u8(out, property);
        put_u16(out, value);
    }
}

pub(super) fn put_prop_u32(out: &mut BytesMut, property: u8, value: Option<u32>) {
    if let Some(value) = value {
        put_u8(out, property);
        put_u32(out, value);
    }
}

pub(super) fn put_prop_varint(out: &mut BytesMut, property: u8, value: u32) -> Result<(), ProtocolError> {
    put_u8(out, property);
    put_varint(out, value as usize)
}

pub(super) fn put_prop_str(
    out: &mut BytesMut,
    property: u8,
    value: Option<&String>,
) -> Result<(), ProtocolError> {
    let Some(value) = value else { return Ok(()) };
    put_u8(out, property);
    put_str(out, value)
}

pub(super) fn put_prop_binary(
    out: &mut BytesMut,
    property: u8,
    value: Option<&Bytes>,
) -> Result<(), ProtocolError> {
    let Some(value) = value else { return Ok(()) };
    put_u8(out, property);
    put_binary(out, value)
}

pub(super) fn put_user(out: &mut BytesMut, user: &UserProperties) -> Result<(), ProtocolError> {
    for (name, value) in user {
        put_u8(out, id::USER);
        put_str(out, name)?;
        put_str(out, value)?;
    }
    Ok(())
}
