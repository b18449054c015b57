//! What can go wrong between client and server.

use super::answer::ServerError;

/// What went wrong. Never holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The network's word.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// A limit of time was reached.
    #[error("{what}: nothing came within {} ms", .after.as_millis())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: std::time::Duration,
    },
    /// The [`super::Waker`] went away: dts is stopping.
    #[error("stopping")]
    Stopped,
    /// The peer does not speak the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// An error that the server named.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Login cannot work as the dsn says; the message says what to change.
    #[error("{0}")]
    Login(String),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// An answer beyond its limit.
    #[error("{what} has more than {max} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

impl ClientError {
    pub(super) fn io(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Io { what, error }
    }

    /// Whether another try, with nothing changed, may work.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Timeout { .. } => true,
            // Some proxies end a connection in the middle of a packet.
            Self::Protocol(_) => true,
            Self::Server(error) => error.is_retriable(),
            Self::Stopped | Self::Login(_) | Self::Tls(_) | Self::TooLarge { .. } => false,
        }
    }
}
