//! MQTT 5.0 and 3.1.1, both sides, sans-IO: bytes in, packets out.
//!
//! Our own and not a library: the centre needs both versions, strict checks and bounded memory on
//! the server's side, and the agent keeps its window in the spool; rumqttc's state keeps neither,
//! so that its wrapper outgrew the codec (docs/architecture.md, "MQTT"). Which statements of the
//! specifications are kept, and by which test: docs/mqtt-conformance.md.
//!
//! Names like [MQTT-3.1.2-22] are the normative statements of MQTT 5.0, unless "3.1.1" is said.

// Bytes to packets and back,
pub mod codec;
pub mod packet;
pub mod reason;
pub mod topic;

// what both sides share,
mod flow;
mod outbox;
// and the two sides.
pub mod client;
pub mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientEvent, ClientOptions};
pub use codec::{ProtocolError, decode, encode};
pub use flow::PublishError;
pub use packet::*;
pub use server::{Server, ServerEvent, ServerLimits};
