//! Stands in for QUIC in a build without it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::control::WireBytes;
use super::dial::Connection;
use super::error::LinkError;
use super::tls::ClientTls;
use crate::runtime::Mono;

/// Bounds of QUIC connections, of which there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicLimits {
    /// Silence after which a packet would be sent.
    pub keep_alive: Option<Duration>,
    /// A connection without a packet for this long would be over.
    pub idle_timeout: Duration,
}

impl QuicLimits {
    /// Of an agent.
    pub fn client() -> Self {
        Self { keep_alive: None, idle_timeout: Duration::ZERO }
    }
}

/// Where sockets would come from.
#[derive(Clone, Debug)]
pub struct Net;

impl Net {
    /// The system's.
    pub fn system() -> Self {
        Self
    }
}

/// Says that QUIC is not compiled in.
pub(super) async fn dial(
    _net: &Net,
    _remote: SocketAddr,
    _name: &ServerName<'static>,
    _tls: &ClientTls,
    _limits: &QuicLimits,
) -> Result<Connection, LinkError> {
    Err(LinkError::Config("QUIC is not compiled in: rebuild with `--features quic`".to_owned()))
}

/// There is none.
pub(super) struct QuicControl(Infallible);

impl QuicControl {
    pub(super) fn rtt(&self) -> Duration {
        match self.0 {}
    }

    pub(super) fn stalled_for(&self, _now: Mono) -> Duration {
        match self.0 {}
    }

    pub(super) fn path_mtu(&self) -> u16 {
        match self.0 {}
    }

    pub(super) fn wire_bytes(&self) -> WireBytes {
        match self.0 {}
    }

    pub(super) fn rebind(&self, _remote: SocketAddr) -> Result<(), LinkError> {
        match self.0 {}
    }

    pub(super) fn close(&self, _reason: &str) {
        match self.0 {}
    }
}
