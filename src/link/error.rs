//! Why a connection could not be made or was lost.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What the user or the policy does about a [`LinkError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same again after a pause.
    Retry,
    /// Retried too, but a person should look: somebody may stand in between, or a certificate is wrong.
    Reject,
    /// Cannot work until the config or the machine is changed.
    Fatal,
}

/// The kind of a failure, as plain data for the link policy and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailKind {
    /// The name could not be resolved.
    Dns,
    /// Nobody listens there.
    Refused,
    /// No route, no address of that family, or the local address is gone.
    Unreachable,
    /// A step took too long.
    Timeout,
    /// TLS failed: certificate, name, ALPN, version.
    Tls,
    /// The proxy said no.
    Proxy,
    /// The way carries no datagram of 1,200 bytes, the least that QUIC needs.
    PathMtu,
    /// Data in flight without an acknowledgement.
    Stalled,
    /// The MQTT session was taken over by a newer connection (reason code 0x8E).
    TakenOver,
    /// The peer or the network ended the connection.
    Lost,
    /// A file or the config is wrong.
    Local,
}

impl FailKind {
    /// The value of the metric label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
            Self::PathMtu => "path_mtu",
            Self::Stalled => "stalled",
            Self::TakenOver => "taken_over",
            Self::Lost => "lost",
            Self::Local => "local",
        }
    }
}

/// What went wrong with a link, and where. The text never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The name could not be resolved and no earlier address is known.
    #[error("resolve `{host}`: {reason}; dts tries again")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody listens there.
    #[error("connect to {peer}: refused; dts tries again")]
    Refused {
        /// Address or name.
        peer: String,
    },
    /// No route, or no local address of that family (any more).
    #[error("connect to {peer}: not reachable from here ({reason}); dts tries again")]
    Unreachable {
        /// Address or name.
        peer: String,
        /// What the system said.
        reason: String,
    },
    /// The way to the peer carries smaller packets than QUIC needs (RFC 9000 section 14).
    #[error("QUIC to {peer}: the way carries packets of {mtu} bytes, QUIC needs {needed}; dts goes by TCP")]
    PathMtu {
        /// Address.
        peer: String,
        /// Largest IP packet, as the system knows it.
        mtu: u32,
        /// What QUIC needs: 1,200 bytes and the headers of IP and UDP.
        needed: u32,
    },
    /// A step took too long.
    #[error("{step} {peer}: no answer within {limit:?}; dts tries again")]
    Timeout {
        /// What was tried, as a verb with its preposition.
        step: &'static str,
        /// Address or name.
        peer: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The peer's certificate is not acceptable.
    #[error("certificate of {peer}: {reason}. Nothing was sent; check `ca_file` and the peer's certificate")]
    Certificate {
        /// Address or name.
        peer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer's certificate is good, but for another name.
    #[error("certificate of {peer} is for another name ({reason}); if that is meant, set `server_name`")]
    Name {
        /// Address or name.
        peer: String,
        /// Names expected and presented.
        reason: String,
    },
    /// The peer speaks TLS but not our protocol.
    #[error("{peer} does not speak MQTT there (ALPN): {reason}")]
    Alpn {
        /// Address or name.
        peer: String,
        /// What it offered.
        reason: String,
    },
    /// TLS or QUIC failed in another way; also when the peer refuses our certificate.
    #[error("TLS with {peer}: {reason}")]
    Tls {
        /// Address or name.
        peer: String,
        /// What was said.
        reason: String,
    },
    /// The HTTP proxy did not open the tunnel.
    #[error("proxy {proxy}: {reason}")]
    Proxy {
        /// Its address or name, without user and password.
        proxy: String,
        /// Its answer.
        reason: String,
    },
    /// The connection ended.
    #[error("connection to {peer} ended: {reason}")]
    Lost {
        /// Address or name.
        peer: String,
        /// Who ended it and why.
        reason: String,
    },
    /// A file of the config cannot be used.
    #[error("{what} {}: {reason}", path.display())]
    File {
        /// `ca_file`, `cert_file`, …
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The config cannot work as it is.
    #[error("{0}")]
    Config(String),
    /// The system refused a socket.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl LinkError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Dns { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::PathMtu { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::Proxy { .. }
            | Self::System { .. } => Class::Retry,
            Self::Certificate { .. } | Self::Name { .. } | Self::Alpn { .. } | Self::Tls { .. } => {
                Class::Reject
            }
            Self::File { .. } | Self::Config(_) => Class::Fatal,
        }
    }

    /// Its kind, for the policy and for metrics.
    pub fn kind(&self) -> FailKind {
        match self {
            Self::Dns { .. } => FailKind::Dns,
            Self::Refused { .. } => FailKind::Refused,
            Self::Unreachable { .. } => FailKind::Unreachable,
            Self::PathMtu { .. } => FailKind::PathMtu,
            Self::Timeout { .. } => FailKind::Timeout,
            Self::Lost { .. } => FailKind::Lost,
            Self::Proxy { .. } => FailKind::Proxy,
            Self::Certificate { .. } | Self::Name { .. } | Self::Alpn { .. } | Self::Tls { .. } => {
                FailKind::Tls
            }
            Self::File { .. } | Self::Config(_) | Self::System { .. } => FailKind::Local,
        }
    }

    /// From an error of a socket or of TLS over it.
    pub(crate) fn from_io(step: &'static str, peer: &str, error: io::Error) -> Self {
        // What a QUIC stream gives holds the reason already.
        let error = match error.downcast::<Self>() {
            Ok(error) => return error,
            Err(error) => error,
        };
        if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            return Self::from_tls(peer, tls);
        }
        let peer = peer.to_owned();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { peer },
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkDown => Self::Unreachable { peer, reason: error.to_string() },
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut => Self::Lost { peer, reason: format!("{step}: {error}") },
            _ => Self::System { step, error },
        }
    }

    /// From an error of rustls.
    pub(crate) fn from_tls(peer: &str, error: &rustls::Error) -> Self {
        use rustls::{AlertDescription, Error};
        let peer = peer.to_owned();
        match error {
            Error::InvalidCertificate(problem) => Self::from_certificate(peer, problem),
            Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Self::Alpn { peer, reason: "no common protocol".to_owned() }
            }
            Error::AlertReceived(alert) => Self::Tls {
                peer,
                reason: format!("the peer refuses with alert {alert:?}{}", alert_hint(*alert)),
            },
            other => Self::Tls { peer, reason: other.to_string() },
        }
    }

    /// From what the verifier says of a certificate.
    pub(crate) fn from_certificate(peer: String, problem: &rustls::CertificateError) -> Self {
        use rustls::CertificateError as E;
        match problem {
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                Self::Name { peer, reason: problem.to_string() }
            }
            E::UnknownIssuer => {
                Self::Certificate { peer, reason: "not signed by a CA that dts was told to trust".to_owned() }
            }
            E::BadSignature => Self::Certificate {
                peer,
                reason: "not signed by a CA that dts was told to trust (one has its name, but another key)"
                    .to_owned(),
            },
            E::Expired | E::ExpiredContext { .. } => {
                Self::Certificate { peer, reason: format!("expired ({problem})") }
            }
            // webpki says so only by this word.
            E::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Self::Certificate {
                peer,
                reason: "it is a CA's own certificate: let that CA sign another one for the server, without CA:TRUE"
                    .to_owned(),
            },
            other => Self::Certificate { peer, reason: other.to_string() },
        }
    }
}

/// What an alert about our certificate means for a user.
fn alert_hint(alert: rustls::AlertDescription) -> &'static str {
    use rustls::AlertDescription as A;
    match alert {
        A::CertificateRequired => ": it wants a client certificate (`cert_file`, `key_file`)",
        A::BadCertificate | A::UnknownCA | A::CertificateUnknown | A::DecryptError => {
            ": it does not accept our certificate"
        }
        A::CertificateExpired => ": our certificate is expired",
        A::CertificateRevoked => ": our certificate is revoked",
        A::ProtocolVersion => ": it wants another version of TLS (`min_version`)",
        _ => "",
    }
}
