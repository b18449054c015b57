//! Packets to bytes and back, for both versions. Strict: what the specification forbids is an error
//! with the reason code that it names, and nothing is allocated by a length before its bytes are there.

mod properties;
mod read;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod write;

use bytes::{Bytes, BytesMut};

use super::reason;
use super::{Packet, Version};

pub(super) use write::publish_head;

/// Most user properties in a packet that is read. The specification has no limit; without one,
/// five bytes on the wire would take 48 bytes of memory. More is answered Quota exceeded.
pub const MAX_USER_PROPERTIES: usize = 1000;

/// Most topic filters in a SUBSCRIBE or UNSUBSCRIBE that is read.
pub const MAX_FILTERS: usize = 1000;

/// Largest packet there is: one byte, four of length, and 268,435,455.
pub const MAX_PACKET_BYTES: usize = 5 + MAX_REMAINING;

const MAX_REMAINING: usize = 268_435_455;

/// The peer broke the protocol, or a packet cannot be written. The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mqtt: {message} (reason 0x{reason:02X}, {})", reason::name(*.reason))]
pub struct ProtocolError {
    /// MQTT 5 reason code to send, where the version and the state allow it.
    pub reason: u8,
    /// What was wrong, in fixed words: nothing of the peer's is in it.
    pub message: &'static str,
}

impl ProtocolError {
    pub(super) const fn new(reason: u8, message: &'static str) -> Self {
        Self { reason, message }
    }
}

const fn malformed(message: &'static str) -> ProtocolError {
    ProtocolError::new(reason::MALFORMED, message)
}

const fn protocol(message: &'static str) -> ProtocolError {
    ProtocolError::new(reason::PROTOCOL_ERROR, message)
}

/// Takes one packet off the front of `buf`; `None` if more bytes are needed (then `buf` is untouched).
///
/// `version` is what CONNECT agreed on; `None` before it: then only a CONNECT is legal. The size is judged
/// by the fixed header, before the body is there. A PUBLISH's payload is a slice of `buf`'s memory and
/// keeps that alive. After an error the stream cannot be read on.
pub fn decode(
    buf: &mut BytesMut,
    version: Option<Version>,
    max_packet_bytes: usize,
) -> Result<Option<Packet>, ProtocolError> {
    let Some(&first) = buf.first() else { return Ok(None) };
    check_first(first, version)?;
    let Some((header, total)) = frame(buf)? else { return Ok(None) };
    if total > max_packet_bytes {
        return Err(ProtocolError::new(reason::PACKET_TOO_LARGE, "packet over the size limit"));
    }
    if buf.len() < total {
        return Ok(None);
    }
    let body: Bytes = buf.split_to(total).freeze().slice(header..);
    read::packet(first, version, body).map(Some)
}

/// Appends `packet` as `version` writes it. A string over 65,535 bytes or with U+0000, or what this version
/// cannot say, is an error; then `out` is as it was.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), ProtocolError> {
    let start = out.len();
    let result = write::packet(packet, version, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Length of the packet that `buf` begins with, header included, once its length field is there.
pub(super) fn packet_len(buf: &[u8]) -> Option<usize> {
    frame(buf).ok().flatten().map(|(_, total)| total)
}

/// Protocol level of the CONNECT that `buf` begins with, if it can be seen: so that one which cannot be
/// read any further is refused in its own version.
pub(super) fn announced_level(buf: &[u8]) -> Option<u8> {
    if buf.first()? >> 4 != kind::CONNECT {
        return None;
    }
    let (header, _) = frame(buf).ok()??;
    let body = buf.get(header..)?;
    let name_len = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    body.get(2 + name_len).copied()
}

/// Whether CONNACK may have this reason (MQTT 5.0, section 3.2.2.2).
pub(super) const fn is_connack_reason(code: u8) -> bool {
    matches!(code, 0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
}

/// Whether PUBACK and PUBREC may have this reason (sections 3.4.2.1 and 3.5.2.1).
pub(super) const fn is_puback_reason(code: u8) -> bool {
    matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
}

/// The reason that a DISCONNECT may have (section 3.14.2.1) for an error: its own, or Protocol error where that is for
/// other packets (a CONNECT of an unknown version in the middle of a session).
pub(super) const fn disconnect_reason(code: u8, by_client: bool) -> u8 {
    let both = matches!(code, 0 | 0x80..=0x83 | 0x90 | 0x93..=0x99);
    let fits =
        both || if by_client { code == 4 } else { matches!(code, 0x87 | 0x89 | 0x8B..=0x8F | 0x9A..=0xA2) };
    if fits { code } else { reason::PROTOCOL_ERROR }
}

/// CONNACK's return code in 3.1.1 for a reason code; `None` where it has no such word and the
/// connection is closed without CONNACK [3.1.1 MQTT-3.2.2-6].
pub(super) fn v311_return_code(reason: u8) -> Option<u8> {
    match reason {
        reason::SUCCESS => Some(0),
        reason::UNSUPPORTED_VERSION => Some(1),
        reason::BAD_CLIENT_ID => Some(2),
        reason::SERVER_UNAVAILABLE
        | reason::SERVER_BUSY
        | reason::SERVER_SHUTTING_DOWN
        | reason::QUOTA_EXCEEDED
        | reason::USE_ANOTHER_SERVER
        | reason::SERVER_MOVED
        | reason::CONNECTION_RATE_EXCEEDED => Some(3),
        reason::BAD_USER_OR_PASSWORD | reason::BAD_AUTHENTICATION_METHOD => Some(4),
        reason::NOT_AUTHORIZED | reason::BANNED => Some(5),
        _ => None,
    }
}

/// Packet type and reserved flags (MQTT 5.0, section 2.1.3), seen at the first byte.
fn check_first(first: u8, version: Option<Version>) -> Result<(), ProtocolError> {
    let kind = first >> 4;
    if version.is_none() && kind != kind::CONNECT {
        return Err(protocol("first packet is not CONNECT"));
    }
    let flags = first & 0x0F;
    let good = match kind {
        0 => false,
        kind::AUTH => version == Some(Version::V5) && flags == 0,
        kind::PUBLISH => {
            let qos = flags >> 1 & 3;
            qos != 3 && !(qos == 0 && flags & 8 != 0)
        }
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => flags == 2,
        _ => flags == 0,
    };
    if good { Ok(()) } else { Err(malformed("packet type or its flags")) }
}

/// Lengths of the fixed header and of the packet with it; `None` if the length field is not yet whole.
fn frame(buf: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut remaining = 0;
    for (i, &byte) in buf.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((2 + i, 2 + i + remaining)));
        }
    }
    if buf.len() > 4 { Err(malformed("remaining length over four bytes")) } else { Ok(None) }
}

/// Control packet types (MQTT 5.0, section 2.1.2).
mod kind {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const PUBREC: u8 = 5;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const PUBCOMP: u8 = 7;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const SUBACK: u8 = 9;
    pub(super) const UNSUBSCRIBE: u8 = 10;
    pub(super) const UNSUBACK: u8 = 11;
    pub(super) const PINGREQ: u8 = 12;
    pub(super) const PINGRESP: u8 = 13;
    pub(super) const DISCONNECT: u8 = 14;
    pub(super) const AUTH: u8 = 15;
}
