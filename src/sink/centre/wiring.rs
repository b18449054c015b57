//! From the section as written to what the cores and the link take.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::config::{Config, LinkMode};
use super::driver::Agent;
use super::session::Options;
use super::wire::Credentials;
use crate::frame::Dictionary;
use crate::link::policy::{Mode, PolicyOptions};
use crate::link::{DialOptions, Dialer, LinkError, Proxy, Target, Transport, TrustTime};

/// Longest token or password file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

impl Config {
    /// What makes connections. Reads the TLS files.
    pub(super) fn dialer(&self, trust: TrustTime, folder: Option<&Path>) -> Result<Dialer, LinkError> {
        let target = Target {
            host: self.address.clone(),
            quic_port: self.quic_port,
            tcp_port: self.tcp_port,
            proxy: self.proxy.as_ref().map(Proxy::parse).transpose()?,
        };
        let encrypted = self.transports.0.iter().any(|t| *t != Transport::Tcp);
        let addresses_file = folder.map(|dir| dir.join("addresses"));
        let options = DialOptions { addresses_file, ..DialOptions::default() };
        Dialer::new(target, encrypted.then(|| self.tls.clone()), trust, options)
    }

    /// When which transport is used.
    pub(super) fn policy_options(&self) -> PolicyOptions {
        let mode = match &self.link {
            LinkMode::Always => Mode::Always,
            LinkMode::Burst { every, bytes, linger, .. } => {
                Mode::Burst { every: *every, size_bytes: *bytes, linger: *linger }
            }
        };
        let defaults = PolicyOptions::default();
        PolicyOptions {
            quic: self.transports.0.contains(&Transport::Quic),
            tcp: self.transports.0.iter().copied().find(|t| *t != Transport::Quic),
            mode,
            race_delay: self.race_delay,
            probe_initial: self.probe_interval,
            probe_max: self.probe_interval.max(defaults.probe_max),
            backoff_base: defaults.backoff_base.min(self.backoff_max),
            backoff_max: self.backoff_max,
            drain_timeout: Duration::from_secs(2),
            keep_alive: self.keep_alive,
            data_budget_bytes: self.data_budget.map(|b| b.0),
            ..defaults
        }
    }

    /// Lanes for which a burst starts at once.
    pub(super) fn urgent_lanes(&self) -> &[String] {
        if let LinkMode::Burst { urgent, .. } = &self.link { urgent } else { &[] }
    }

    /// What every session is made with.
    pub(super) fn session_options(
        &self,
        agent: &Agent,
        instance: u64,
        dictionary: Option<Dictionary>,
    ) -> Options {
        Options {
            device: agent.device.clone(),
            instance,
            boot: agent.boot,
            peer: self.peer,
            ack: self.ack,
            window: self.window.max(1),
            max_stored_bytes: agent.max_stored_bytes,
            max_in_flight_bytes: usize::try_from(self.max_in_flight_bytes.0).unwrap_or(usize::MAX),
            codec: self.codec.0,
            dictionary,
            keep_alive: self.keep_alive,
            time_interval: self.time_interval.max(Duration::from_secs(1)),
        }
    }

    /// What frames are compressed with.
    pub(super) fn dictionary(&self) -> Result<Option<Dictionary>, String> {
        self.zstd_dictionary_file.as_deref().map(Dictionary::open).transpose()
    }

    /// Name and password of a new connection; files are read anew. The error names the file, never its content.
    pub(super) fn credentials(&self, device: &str) -> Result<Credentials, String> {
        let file = self.token_file.as_ref().or(self.password_file.as_ref());
        let password = match (&self.password, file) {
            (_, Some(path)) => {
                let error = |e: &dyn std::fmt::Display| format!("read {}: {e}", path.display());
                let size = std::fs::metadata(path).map_err(|e| error(&e))?.len();
                if size > MAX_SECRET_BYTES {
                    return Err(error(&"it is too large to be a password or token"));
                }
                let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(|e| error(&e))?);
                Some(Bytes::copy_from_slice(text.trim_end_matches(['\r', '\n']).as_bytes()))
            }
            (Some(password), None) => Some(Bytes::copy_from_slice(password.expose().as_bytes())),
            (None, None) => None,
        };
        let username = self.username.clone().or_else(|| password.as_ref().map(|_| device.to_owned()));
        Ok(Credentials { username, password })
    }
}
