//! The config of the listener.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::node::Kind;
use crate::config::{ByteSize, Context, Duration, Field, Node};
use crate::link::TlsServer;
use crate::link::web::Url;

use super::fence::OnConflict;

crate::section! {
    /// The centre's listener: devices connect to it by MQTT (5.0 and 3.1.1) over QUIC and TLS.
    pub struct Config {
        /// UDP address for QUIC; `null` for none.
        quic: Option<SocketAddr> = "0.0.0.0:14567",
        /// TCP address for TLS; `null` for none.
        tls_tcp: Option<SocketAddr> = "0.0.0.0:8883",
        /// TCP address without TLS; default none. Passwords and data cross it readable: on another address
        /// than loopback it needs `allow_plain`.
        plain_tcp: Option<SocketAddr>,
        /// Lets `plain_tcp` listen beyond loopback.
        allow_plain: bool = "false",
        /// Our certificate, and the CA of the devices' certificates. Needed for `quic` and `tls_tcp`. With
        /// passwords or tokens beside certificates set `client_auth: optional` in it.
        tls: Option<TlsServer>,
        /// Users and passwords, as written by `mosquitto_passwd` (PBKDF2-SHA512, `$7$`). A user's name is the
        /// device's name. Read again when it changes.
        password_file: Option<PathBuf>,
        /// Public keys of tokens (JWT by EdDSA, ES256 or RS256), a JWKS or PEM file. The token is the password
        /// in CONNECT; its `sub` is the device's name, `exp` is required.
        jwt_keys_file: Option<PathBuf>,
        /// Where such keys are published (JWKS): `https://…`, or `http://` on this machine. Fetched at the start, every
        /// `jwks_refresh`, and when a token names a key that is not known, at most once a minute. While it cannot be
        /// fetched, the keys of last time stay in force.
        jwks_url: Option<Url>,
        /// Certificates (PEM) that the one of `jwks_url` must lead to. Default: those that the system trusts.
        jwks_ca_file: Option<PathBuf>,
        /// How often `jwks_url` is fetched: a key that was withdrawn is good for so long.
        jwks_refresh: Duration = "1h",
        /// What a token's `aud` must be or hold. Default: not looked at.
        jwt_audience: Option<String>,
        /// How far the clock of who signs tokens may differ from ours.
        jwt_leeway: Duration = "60s",
        /// A second live installation under one name: `keep_both` takes the data of both, kept apart by epoch,
        /// and lets the newer take over at most once a minute; `keep_first` refuses the newer one.
        on_conflict: OnConflict = "keep_both",
        /// `many`: other dts take the same devices at the same time and write to the same sink, which must then be the
        /// only one and keep what they share (`sqlite`: on one machine). A device's newest connection, wherever it is,
        /// fences its older ones: what those still send is refused. Costs one small transaction a connection.
        nodes: Nodes = "one",
        /// Connections at once. Each costs about 40 KiB, and up to `connection_bytes` while its data waits.
        max_connections: u32 = "20000",
        /// Connections of one device at once: its agent and its plain MQTT clients.
        max_connections_per_device: u32 = "16",
        /// Connections from one address (IPv6: one /64) at once. Many devices may share one behind NAT.
        max_connections_per_address: u32 = "20000",
        /// Handshakes a second, about 1 ms of CPU each. The rest are refused before any TLS.
        max_handshakes_per_s: u32 = "500",
        /// What a device that is told Server Busy waits at least; up to twice as long is drawn.
        retry_after: Duration = "5s",
        /// Time from a connection's first packet to its CONNECT answered.
        connect_timeout: Duration = "10s",
        /// Longest keep-alive of a client; who asks for more or for none gets this (MQTT 5).
        max_keep_alive: Duration = "20m",
        /// Largest MQTT packet taken.
        max_packet_bytes: ByteSize = "1MiB",
        /// Largest frame body taken, uncompressed. A row of a device must fit.
        max_body_bytes: ByteSize = "4MiB",
        /// Dictionaries (`zstd --train`) that devices' frames may be compressed with, each at most 1MiB and about three times
        /// that in memory; devices use only those that stand here. While a new one is rolled out, name both.
        zstd_dictionary_files: Vec<PathBuf> = "[]",
        /// PUBLISHes of one connection that may be on their way to the sinks.
        receive_maximum: u16 = "64",
        /// Bodies of one connection that may wait for the sinks; beyond it the connection is not read.
        connection_bytes: ByteSize = "4MiB",
        /// Bodies of all connections that may wait for the sinks.
        total_bytes: ByteSize = "64MiB",
        /// Lanes of one device.
        max_lanes: u32 = "16",
        /// Epochs of a lane whose watermarks are remembered.
        max_epochs: u32 = "8",
    }
}

/// How many dts take these devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// This one alone.
    One,
    /// Others, too.
    Many,
}

impl Field for Nodes {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "one" => Some(Self::One),
            Kind::Scalar { text, .. } if text == "many" => Some(Self::Many),
            _ => cx.expected(node, "`one` or `many`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["one", "many"] })
    }
}

impl Field for OnConflict {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "keep_both" => Some(Self::KeepBoth),
            Kind::Scalar { text, .. } if text == "keep_first" => Some(Self::KeepFirst),
            _ => cx.expected(node, "`keep_both` or `keep_first`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["keep_both", "keep_first"] })
    }
}

impl Config {
    /// What is wrong with its fields together; the message says what to do.
    pub(super) fn contradiction(&self) -> Option<String> {
        let secured = self.quic.is_some() || self.tls_tcp.is_some();
        if !secured && self.plain_tcp.is_none() {
            return Some("nothing to listen on: set `quic`, `tls_tcp` or `plain_tcp`".to_owned());
        }
        if secured && self.tls.is_none() {
            return Some("`quic` and `tls_tcp` need `tls` with `cert_file` and `key_file`".to_owned());
        }
        if let Some(plain) = self.plain_tcp
            && !plain.ip().is_loopback()
            && !self.allow_plain
        {
            return Some(format!(
                "`plain_tcp: {plain}` is readable by the network; use 127.0.0.1, or set `allow_plain: true`"
            ));
        }
        let certificates = self.tls.as_ref().is_some_and(|t| t.client_ca_file.is_some());
        let tokens = self.jwt_keys_file.is_some() || self.jwks_url.is_some();
        if !certificates && self.password_file.is_none() && !tokens {
            return Some(
                "no device could come in: set `client_ca_file` in `tls`, `password_file`, `jwt_keys_file` or `jwks_url`"
                    .to_owned(),
            );
        }
        if let Some(url) = self.jwks_url.as_ref().filter(|url| !url.tls && !is_loopback(&url.host)) {
            let host = &url.host;
            return Some(format!(
                "`jwks_url` must be https: who could change what comes from {host} could let anybody in"
            ));
        }
        if self.jwks_refresh.as_secs() == 0 {
            return Some("`jwks_refresh` must be at least 1s".to_owned());
        }
        if self.zstd_dictionary_files.len() > 16 {
            return Some("more than 16 `zstd_dictionary_files`".to_owned());
        }
        let zero = [
            ("max_connections", self.max_connections),
            ("max_connections_per_device", self.max_connections_per_device),
            ("max_connections_per_address", self.max_connections_per_address),
            ("max_handshakes_per_s", self.max_handshakes_per_s),
            ("receive_maximum", u32::from(self.receive_maximum)),
            ("max_lanes", self.max_lanes),
            ("max_epochs", self.max_epochs),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, n)| *n == 0) {
            return Some(format!("`{name}` must not be 0"));
        }
        let small = [
            ("max_packet_bytes", self.max_packet_bytes),
            ("max_body_bytes", self.max_body_bytes),
            ("connection_bytes", self.connection_bytes),
            ("total_bytes", self.total_bytes),
        ];
        // A body of one row must fit, and MQTT's own limit is 256 MiB.
        let odd = small.iter().find(|(_, n)| n.0 < 1024 || n.0 > 1 << 28 && *n != self.total_bytes);
        odd.map(|(name, _)| format!("`{name}` must be between 1KiB and 256MiB"))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, Kind)]) -> Config {
        let place = crate::config::Place::default();
        let node = |kind: &Kind| Node { place, kind: kind.clone() };
        let map = entries.iter().map(|(k, v)| ((*k).to_owned(), place, node(v))).collect();
        let mut cx = Context::default();
        let config = Config::read(&node(&Kind::Map(map)), &mut cx);
        assert_eq!(cx.mistakes, []);
        config.unwrap()
    }

    fn text(text: &str) -> Kind {
        Kind::Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn the_defaults_are_read_and_what_cannot_work_is_said() {
        let passwords = ("password_file", text("/etc/dts/passwords"));
        let tls = || {
            let entry = |k: &str| {
                let place = crate::config::Place::default();
                (k.to_owned(), place, Node { place, kind: text("/etc/dts/x") })
            };
            ("tls", Kind::Map(vec![entry("cert_file"), entry("key_file")]))
        };
        let plain = |address| ("plain_tcp", text(address));
        let off = [("quic", Kind::Null), ("tls_tcp", Kind::Null)];
        let with = |more: &[(&'static str, Kind)]| [&off[..], more].concat();
        for (entries, mistake) in [
            (vec![tls(), passwords.clone()], None),
            (with(&[plain("127.0.0.1:1883"), passwords.clone()]), None),
            (with(&[plain("0.0.0.0:1883"), passwords.clone(), ("allow_plain", text("true"))]), None),
            (with(&[plain("0.0.0.0:1883"), passwords.clone()]), Some("readable by the network")),
            (with(&[]), Some("nothing to listen on")),
            (vec![passwords.clone()], Some("need `tls`")),
            (vec![tls()], Some("no device could come in")),
            (vec![tls(), ("jwks_url", text("https://id.example/jwks"))], None),
            (vec![tls(), ("jwks_url", text("http://127.0.0.1:8080/jwks"))], None),
            (vec![tls(), ("jwks_url", text("http://id.example/jwks"))], Some("must be https")),
            (vec![tls(), passwords.clone(), ("jwks_refresh", text("0s"))], Some("`jwks_refresh`")),
            (vec![tls(), passwords.clone(), ("max_lanes", text("0"))], Some("`max_lanes`")),
            (vec![tls(), passwords.clone(), ("max_body_bytes", text("1"))], Some("`max_body_bytes`")),
        ] {
            let found = read(&entries).contradiction();
            match mistake {
                None => assert_eq!(found, None),
                Some(part) => assert!(found.as_ref().is_some_and(|f| f.contains(part)), "{found:?}"),
            }
        }
    }

    #[test]
    fn the_schema_names_every_field() {
        let schema = Config::schema();
        assert_eq!(schema["properties"]["on_conflict"]["enum"][0], "keep_both");
        assert_eq!(schema["properties"]["quic"]["default"], "0.0.0.0:14567");
    }
}
