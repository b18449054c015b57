//! The packets of MQTT 5.0 (OASIS, 2019) and 3.1.1, one struct each. Properties that a version does
//! not have are left at their default when it is written.

use std::fmt;

use bytes::Bytes;

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1 (protocol level 4).
    V311,
    /// MQTT 5.0 (protocol level 5).
    V5,
}

/// Delivery guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// User properties, in order; names may repeat.
pub type UserProperties = Vec<(String, String)>;

/// A control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Client asks for a connection.
    Connect(Box<Connect>),
    /// Server answers it.
    ConnAck(Box<ConnAck>),
    /// A message.
    Publish(Box<Publish>),
    /// QoS 1 answer.
    PubAck(Ack),
    /// QoS 2 step 1.
    PubRec(Ack),
    /// QoS 2 step 2.
    PubRel(Ack),
    /// QoS 2 step 3.
    PubComp(Ack),
    /// Client subscribes.
    Subscribe(Box<Subscribe>),
    /// Server answers it.
    SubAck(SubAck),
    /// Client unsubscribes.
    Unsubscribe(Box<Unsubscribe>),
    /// Server answers it (3.1.1: no reasons).
    UnsubAck(SubAck),
    /// Ping.
    PingReq,
    /// Its answer.
    PingResp,
    /// Either side ends the connection (3.1.1: the client only, no reason).
    Disconnect(Disconnect),
    /// Extended authentication (5.0). dts refuses it; decoded so that the refusal is clean.
    Auth(u8),
}

/// CONNECT. Its `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Version asked for.
    pub version: Version,
    /// Clean Start (3.1.1: Clean Session).
    pub clean_start: bool,
    /// Seconds; 0 is none.
    pub keep_alive_s: u16,
    /// May be empty.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password; wiped by its holder.
    pub password: Option<Bytes>,
    /// Published by the server when the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// Seconds the session outlives the connection; 0 is none. 3.1.1 says it by Clean Session: 0 or
    /// `u32::MAX` (for ever).
    pub session_expiry_s: u32,
    /// QoS 1 and 2 PUBLISHes that the client takes unanswered; `None` is 65,535.
    pub receive_maximum: Option<u16>,
    /// Largest packet the client takes; `None` is no limit.
    pub maximum_packet_size: Option<u32>,
    /// Aliases the client takes from the server.
    pub topic_alias_maximum: u16,
    /// Whether the client wants reason strings and user properties on failures.
    pub request_problem_information: bool,
    /// Extended authentication asked for.
    pub authentication_method: Option<String>,
    /// User properties.
    pub user: UserProperties,
}

impl Connect {
    /// A CONNECT with Clean Start, without keep-alive, will, user or limits.
    pub fn new(version: Version, client_id: impl Into<String>) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id: client_id.into(),
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
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("will", &self.will.as_ref().map(|w| &w.topic))
            .field("session_expiry_s", &self.session_expiry_s)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .finish_non_exhaustive()
    }
}

/// The will in CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds to wait before publishing it.
    pub delay_s: u32,
    /// Whether the payload is said to be UTF-8.
    pub payload_is_utf8: bool,
    /// Seconds after which it is void.
    pub message_expiry_s: Option<u32>,
    /// MIME type of the payload.
    pub content_type: Option<String>,
    /// Where to answer.
    pub response_topic: Option<String>,
    /// Echoed in the answer.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user: UserProperties,
}

impl Will {
    /// A will without properties, not retained, without delay.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>, qos: QoS) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain: false,
            delay_s: 0,
            payload_is_utf8: false,
            message_expiry_s: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user: Vec::new(),
        }
    }
}

/// CONNACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server kept the session.
    pub session_present: bool,
    /// 5.0 reason code. Written to and read from 3.1.1's return codes by the codec.
    pub reason: u8,
    /// Session expiry the server chose, if another than asked.
    pub session_expiry_s: Option<u32>,
    /// QoS 1 and 2 PUBLISHes that the server takes unanswered.
    pub receive_maximum: Option<u16>,
    /// Highest QoS that the server takes, if not 2.
    pub maximum_qos: Option<u8>,
    /// Whether retained messages are taken; `None` is yes.
    pub retain_available: Option<bool>,
    /// Largest packet the server takes.
    pub maximum_packet_size: Option<u32>,
    /// Client id that the server gave.
    pub assigned_client_id: Option<String>,
    /// Aliases the server takes from the client.
    pub topic_alias_maximum: u16,
    /// For people.
    pub reason_string: Option<String>,
    /// Whether wildcard subscriptions are taken; `None` is yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether subscription identifiers are taken; `None` is yes.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether shared subscriptions are taken; `None` is yes.
    pub shared_subscription_available: Option<bool>,
    /// Keep-alive the server wants instead.
    pub server_keep_alive_s: Option<u16>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// User properties: dts' watermarks and times.
    pub user: UserProperties,
}

/// PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Sent before.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// Keep as the topic's last message.
    pub retain: bool,
    /// May be empty if `topic_alias` is known.
    pub topic: String,
    /// Not 0 for QoS 1 and 2; 0 for QoS 0.
    pub packet_id: u16,
    /// Payload, shared with the receive buffer.
    pub payload: Bytes,
    /// Whether the payload is said to be UTF-8.
    pub payload_is_utf8: bool,
    /// Seconds after which it is void.
    pub message_expiry_s: Option<u32>,
    /// Alias of the topic; not 0.
    pub topic_alias: Option<u16>,
    /// Where to answer.
    pub response_topic: Option<String>,
    /// Echoed in the answer.
    pub correlation_data: Option<Bytes>,
    /// MIME type of the payload.
    pub content_type: Option<String>,
    /// Subscriptions that it matched (server to client).
    pub subscription_ids: Vec<u32>,
    /// User properties.
    pub user: UserProperties,
}

impl Publish {
    /// A message without properties. `packet_id` 0 makes QoS 0, all else QoS 1.
    pub fn new(topic: impl Into<String>, packet_id: u16, payload: impl Into<Bytes>) -> Self {
        Self {
            dup: false,
            qos: if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
            retain: false,
            topic: topic.into(),
            packet_id,
            payload: payload.into(),
            payload_is_utf8: false,
            message_expiry_s: None,
            topic_alias: None,
            response_topic: None,
            correlation_data: None,
            content_type: None,
            subscription_ids: Vec::new(),
            user: Vec::new(),
        }
    }
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the PUBLISH.
    pub packet_id: u16,
    /// 0 is success; 0x80 and above are failures.
    pub reason: u8,
    /// For people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user: UserProperties,
}

impl Ack {
    /// An answer with a reason code.
    pub fn new(packet_id: u16, reason: u8) -> Self {
        Self { packet_id, reason, reason_string: None, user: Vec::new() }
    }
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Not 0.
    pub packet_id: u16,
    /// At least one.
    pub filters: Vec<Filter>,
    /// Subscription identifier; not 0.
    pub subscription_id: Option<u32>,
    /// User properties.
    pub user: UserProperties,
}

/// One topic filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// With `+` and `#`.
    pub filter: String,
    /// Highest QoS wanted.
    pub qos: QoS,
    /// Not the client's own messages.
    pub no_local: bool,
    /// Keep the retain flag when forwarding.
    pub retain_as_published: bool,
    /// 0 send retained ones, 1 only if new, 2 not.
    pub retain_handling: u8,
}

/// SUBACK, UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of the request.
    pub packet_id: u16,
    /// One for each filter, in order.
    pub reasons: Vec<u8>,
    /// For people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user: UserProperties,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Not 0.
    pub packet_id: u16,
    /// At least one.
    pub filters: Vec<String>,
    /// User properties.
    pub user: UserProperties,
}

/// DISCONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// 0 is a normal end.
    pub reason: u8,
    /// Session expiry, changed at the end.
    pub session_expiry_s: Option<u32>,
    /// For people.
    pub reason_string: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// User properties; dts: `retry_after_ms` with Server Busy.
    pub user: UserProperties,
}
