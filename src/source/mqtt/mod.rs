//! Subscribes on an MQTT broker (on the same machine, mostly). A message is acknowledged to the broker only after
//! the buffer has it as its lane's durability class says; the broker keeps what comes meanwhile, since the session
//! outlives the connection.

mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::session::Session;
use super::{Outlet, Source, SourceConfig, SourceError};
use crate::config::node::Kind;
use crate::config::{ByteSize, Context, Duration as Span, Field, Node, Secret};
use crate::link::{Connection, DialOptions, Dialer, Target, TlsClient, Transport, TrustTime};
use crate::mqtt::{Connect, QoS, Version};
use crate::runtime::{self, LocalFuture, Stop};
use crate::telemetry;

/// Pause before another try to connect: doubles up to [`MAX_PAUSE`], with jitter.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);

crate::section! {
    /// Subscribes on an MQTT broker. Each message is one event under its own topic. With QoS 1 a message is
    /// acknowledged after the buffer has it, so that none is lost while dts or the broker restarts.
    pub struct Config {
        /// Host of the broker.
        host: String = "127.0.0.1",
        /// Port of the broker; 8883 is usual with TLS.
        port: u16 = "1883",
        /// Set it to connect with TLS: `{ca_file: …}`, or `{}` for the system's CAs.
        tls: Option<TlsClient>,
        /// Topic filters, with `+` and `#`.
        topics: Vec<String>,
        /// 0 or 1. With 0 the broker sends each message once and forgets it.
        qos: u8 = "1",
        /// Protocol version: `5` or `3.1.1`.
        version: ProtocolVersion = "5",
        /// Name of the session at the broker; must be unique there. Left out: `dts-` and the source's name.
        client_id: Option<String>,
        /// User name.
        username: Option<String>,
        /// Password. Better: `${NAME}` or `password_file`.
        password: Option<Secret>,
        /// How long the broker keeps the session, and messages for it, while dts is away (version 5).
        session_expiry: Span = "7d",
        /// Messages taken and not yet in the buffer. Costs their bytes in memory.
        window: u16 = "64",
        /// Largest packet taken, in bytes.
        max_packet_bytes: ByteSize = "256KiB",
        /// MQTT keep-alive.
        keep_alive: Span = "30s",
    }
}

/// MQTT's versions by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolVersion(pub Version);

impl Field for ProtocolVersion {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if matches!(text.as_str(), "5" | "5.0") => Some(Self(Version::V5)),
            Kind::Scalar { text, .. } if text == "3.1.1" => Some(Self(Version::V311)),
            _ => cx.expected(node, "`5` or `3.1.1`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": [5, "5", "5.0", "3.1.1"] })
    }
}

impl SourceConfig for Config {
    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError> {
        let bad = |why: &str| Err(SourceError::Fatal(format!("source `{name}`: {why}")));
        if self.topics.is_empty() {
            return bad("`topics` is empty; name a filter, `#` is all");
        }
        if let Some(wrong) = self.topics.iter().find(|t| !crate::mqtt::topic::valid_filter(t)) {
            return bad(&format!("`{wrong}` is no topic filter"));
        }
        if self.qos > 1 {
            return bad("qos is 0 or 1");
        }
        let target =
            Target { host: self.host.clone(), quic_port: self.port, tcp_port: self.port, proxy: None };
        let dialer = Dialer::new(target, self.tls.clone(), TrustTime::system(), DialOptions::default());
        let dialer = dialer.map_err(|error| SourceError::Fatal(format!("source `{name}`: {error}")))?;
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("dts-{name}"));
        Ok(Box::new(Subscriber { config: self.clone(), client_id, dialer }))
    }
}

struct Subscriber {
    config: Config,
    client_id: String,
    dialer: Dialer,
}

impl Subscriber {
    async fn dial(&self) -> Result<Connection, String> {
        let transport = if self.config.tls.is_some() { Transport::Tls } else { Transport::Tcp };
        self.dialer.dial(transport).await.map_err(|error| error.to_string())
    }

    fn connect(&self) -> Connect {
        let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        Connect {
            version: self.config.version.0,
            // The broker keeps the session: what it has for us comes after a reconnect.
            clean_start: self.config.qos == 0,
            keep_alive_s: u16::try_from(self.config.keep_alive.as_secs()).unwrap_or(u16::MAX),
            client_id: self.client_id.clone(),
            username: self.config.username.clone(),
            password: self.config.password.as_ref().map(|p| p.expose().as_bytes().to_vec().into()),
            will: None,
            session_expiry_s: if self.config.qos == 0 { 0 } else { seconds(self.config.session_expiry) },
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_problem_information: true,
            authentication_method: None,
            user: Vec::new(),
        }
    }

    fn session(&self, outlet: &Outlet) -> Session {
        let filters = self.config.topics.clone();
        let qos = if self.config.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let max = usize::try_from(self.config.max_packet_bytes.0).unwrap_or(usize::MAX);
        Session::new(outlet.clone(), filters, qos, self.config.window, max)
    }
}

impl Source for Subscriber {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let (mut pause, mut rng) = (MIN_PAUSE, runtime::rng());
            let broker = format!("{}:{}", self.config.host, self.config.port);
            while !stop.is_set() {
                let ended = match stop.or(self.dial()).await {
                    None => break,
                    Some(Err(error)) => Err(error),
                    Some(Ok(connection)) => {
                        let mut session = self.session(&outlet);
                        let ended = session.run(connection.io, self.connect(), &stop).await;
                        if session.was_connected() {
                            pause = MIN_PAUSE;
                        }
                        ended
                    }
                };
                let Err(error) = ended else { continue };
                telemetry::count("dts_mqtt_source_disconnects_total", &[("source", &outlet.source)], 1);
                let wait = pause.mul_f64(0.5 + 0.5 * rng.f64());
                log::warn!(
                    "source `{}`: broker {broker}: {error}; again in {} ms",
                    outlet.source,
                    wait.as_millis()
                );
                stop.or(runtime::sleep(wait)).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            Ok(())
        })
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async move {
            let reached = self.dial().await.map_err(SourceError::Retry)?;
            // With a clean session and another name, so that the real one is not disturbed.
            let mut connect = self.connect();
            connect.clean_start = true;
            connect.session_expiry_s = 0;
            connect.client_id.push_str("-check");
            session::probe(reached.io, connect).await.map_err(SourceError::Retry)?;
            Ok(format!("the broker at {} takes the connection", reached.remote))
        })
    }
}
