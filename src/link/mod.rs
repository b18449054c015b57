//! The way to a peer: QUIC, TLS over TCP, or plain TCP; who is believed on it ([`tls`], [`trust`]);
//! how a connection is made ([`dial`]) and watched ([`control`]); and when which is used
//! ([`policy`], which has no socket and no clock).
//!
//! MQTT runs over an [`Io`] and does not see what is below it.

#[macro_use]
mod words;

#[cfg(feature = "quic")]
mod congestion;
pub mod control;
pub mod dial;
pub mod error;
pub mod netlink;
mod pem;
pub mod policy;
mod proxy;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(not(feature = "quic"))]
#[path = "quic_disabled.rs"]
pub mod quic;
mod race;
mod resolve;
pub mod tcp;
pub mod tls;
pub mod trust;
mod validity;
mod verify;
#[cfg(feature = "http1")]
pub mod web;

#[cfg(test)]
mod tests;

pub use control::{Control, WireBytes};
pub use dial::{Connection, Dial, DialOptions, Dialer, Target};
pub use error::{Class, FailKind, LinkError};
pub use proxy::Proxy;
pub use tls::{TlsClient, TlsServer, client_config, server_config};
pub use trust::TrustTime;
pub use validity::{Validity, validity};
pub use verify::ServerVerifier;

/// A stream of bytes to a peer, both ways. `close` ends it in order: what was written is delivered
/// first. Dropping it ends it at once.
pub trait Io: futures_lite::AsyncRead + futures_lite::AsyncWrite + Unpin {}

impl<T: futures_lite::AsyncRead + futures_lite::AsyncWrite + Unpin> Io for T {}

/// What a connection runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// QUIC over UDP, always with TLS 1.3.
    Quic,
    /// TLS over TCP.
    Tls,
    /// TCP without TLS: for foreign brokers on a trusted network.
    Tcp,
}

impl Transport {
    /// The value of the metric label `transport`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}
