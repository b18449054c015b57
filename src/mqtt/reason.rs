//! Reason codes (MQTT 5.0, section 2.4), by their names there.

#![allow(missing_docs)] // The name is what the specification says; a sentence would repeat it.

pub const SUCCESS: u8 = 0x00;
pub const DISCONNECT_WITH_WILL: u8 = 0x04;
pub const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
pub const UNSPECIFIED: u8 = 0x80;
pub const MALFORMED: u8 = 0x81;
pub const PROTOCOL_ERROR: u8 = 0x82;
pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
pub const UNSUPPORTED_VERSION: u8 = 0x84;
pub const BAD_CLIENT_ID: u8 = 0x85;
pub const BAD_USER_OR_PASSWORD: u8 = 0x86;
pub const NOT_AUTHORIZED: u8 = 0x87;
pub const SERVER_UNAVAILABLE: u8 = 0x88;
pub const SERVER_BUSY: u8 = 0x89;
pub const BANNED: u8 = 0x8A;
pub const SERVER_SHUTTING_DOWN: u8 = 0x8B;
pub const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
pub const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
pub const SESSION_TAKEN_OVER: u8 = 0x8E;
pub const TOPIC_FILTER_INVALID: u8 = 0x8F;
pub const TOPIC_NAME_INVALID: u8 = 0x90;
pub const PACKET_ID_IN_USE: u8 = 0x91;
pub const PACKET_ID_NOT_FOUND: u8 = 0x92;
pub const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
pub const TOPIC_ALIAS_INVALID: u8 = 0x94;
pub const PACKET_TOO_LARGE: u8 = 0x95;
pub const MESSAGE_RATE_TOO_HIGH: u8 = 0x96;
pub const QUOTA_EXCEEDED: u8 = 0x97;
pub const ADMINISTRATIVE_ACTION: u8 = 0x98;
pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
pub const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
pub const QOS_NOT_SUPPORTED: u8 = 0x9B;
pub const USE_ANOTHER_SERVER: u8 = 0x9C;
pub const SERVER_MOVED: u8 = 0x9D;
pub const SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: u8 = 0x9E;
pub const CONNECTION_RATE_EXCEEDED: u8 = 0x9F;
pub const MAXIMUM_CONNECT_TIME: u8 = 0xA0;
pub const SUBSCRIPTION_IDS_NOT_SUPPORTED: u8 = 0xA1;
pub const WILDCARDS_NOT_SUPPORTED: u8 = 0xA2;

/// What a code is called, for logs and labels. One of a fixed set, so it is safe as a label.
pub fn name(reason: u8) -> &'static str {
    const FAILURES: [&str; 35] = [
        "unspecified error",
        "malformed packet",
        "protocol error",
        "implementation specific error",
        "unsupported protocol version",
        "client identifier not valid",
        "bad user name or password",
        "not authorized",
        "server unavailable",
        "server busy",
        "banned",
        "server shutting down",
        "bad authentication method",
        "keep alive timeout",
        "session taken over",
        "topic filter invalid",
        "topic name invalid",
        "packet identifier in use",
        "packet identifier not found",
        "receive maximum exceeded",
        "topic alias invalid",
        "packet too large",
        "message rate too high",
        "quota exceeded",
        "administrative action",
        "payload format invalid",
        "retain not supported",
        "qos not supported",
        "use another server",
        "server moved",
        "shared subscriptions not supported",
        "connection rate exceeded",
        "maximum connect time",
        "subscription identifiers not supported",
        "wildcard subscriptions not supported",
    ];
    match reason {
        0x80.. => FAILURES.get(usize::from(reason) - 0x80).unwrap_or(&"unknown failure"),
        DISCONNECT_WITH_WILL => "disconnect with will",
        NO_MATCHING_SUBSCRIBERS => "no matching subscribers",
        _ => "success",
    }
}
