//! The shell: sockets, a task for each connection, one that feeds the engine, a thread that checks
//! passwords.

mod checker;
mod connection;
mod jwks;
mod shared;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_io::Async;

use crate::frame::Dictionary;
use crate::link::quic::{self, Net, QuicLimits};
use crate::link::tls::{Reloading, reloading_server};
use crate::link::web::Connector;
use crate::link::{Class, LinkError, tcp};
use crate::planted::{self, Bug};
use crate::runtime::{LocalFuture, Stop, mono_now, rng, sleep, spawn};
use crate::source::{Outlet, SourceError};
use crate::telemetry::count;

use super::admit::{self, Admission, Place, Refusal};
use super::auth::{Authority, FetchedKeys, JwtKeys, JwtRules, PasswordFile};
use super::config::Config;
use super::hub::{Hub, Options};
use super::watermark;

pub(crate) use checker::Checker;
use connection::serve;
pub(crate) use shared::Shared;

/// Keys of tokens are not fetched more often.
const JWKS_REST: Duration = Duration::from_secs(60);
/// What a stop waits for receipts, at most.
const DRAIN: Duration = Duration::from_millis(700);
/// After an accept that failed because the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound sockets, not yet accepting.
pub struct Listener {
    config: Config,
    name: Arc<str>,
    authority: Authority,
    jwks: Option<(Connector, FetchedKeys)>,
    dictionaries: Vec<Dictionary>,
    tls: Option<Reloading<Arc<rustls::ServerConfig>>>,
    quic: Option<quinn::Endpoint>,
    secure: Option<Async<TcpListener>>,
    plain: Option<Async<TcpListener>>,
}

impl Listener {
    /// Reads the files and binds the sockets.
    pub fn bind(config: &Config, name: &str) -> Result<Self, SourceError> {
        let fatal = |why: String| SourceError::Fatal(format!("source {name}: {why}"));
        if let Some(mistake) = config.contradiction() {
            return Err(fatal(mistake));
        }
        let mut authority = Authority::default();
        if let Some(path) = &config.password_file {
            authority.passwords = Some(PasswordFile::open(path).map_err(fatal)?);
        }
        let jwks = match &config.jwks_url {
            Some(url) => {
                let connector = Connector::new(url, config.jwks_ca_file.as_deref(), None, None);
                Some((connector.map_err(fatal)?, FetchedKeys::default()))
            }
            None => None,
        };
        let fetched = jwks.as_ref().map(|(_, keys)| keys.clone());
        let keys = match &config.jwt_keys_file {
            Some(path) => Some(JwtKeys::open(path).map_err(fatal)?.and_fetched(fetched)),
            None => fetched.map(JwtKeys::fetched),
        };
        let rules = || JwtRules { audience: config.jwt_audience.clone(), leeway: config.jwt_leeway };
        authority.tokens = keys.map(|keys| (keys, rules()));
        let dictionaries = config.zstd_dictionary_files.iter().map(|path| Dictionary::open(path));
        let dictionaries = dictionaries.collect::<Result<_, _>>().map_err(fatal)?;
        let tls = config.tls.clone().map(reloading_server).transpose().map_err(|e| fatal(e.to_string()))?;
        let quic = match (config.quic, &tls) {
            (Some(address), Some(tls)) => Some(
                quic::server_endpoint(&Net::system(), address, tls.current(), &limits(config))
                    .map_err(|e| fatal(e.to_string()))?,
            ),
            _ => None,
        };
        let listen = |what: &str, address: Option<SocketAddr>| {
            let bound = address.map(Async::<TcpListener>::bind).transpose();
            bound.map_err(|e| fatal(format!("listen on {what} {address:?}: {e}. Is another process there?")))
        };
        Ok(Self {
            secure: listen("tls_tcp", config.tls_tcp)?,
            plain: listen("plain_tcp", config.plain_tcp)?,
            config: config.clone(),
            name: name.into(),
            authority,
            jwks,
            dictionaries,
            tls,
            quic,
        })
    }

    /// Looks whether what else it needs can be had: the keys of tokens. Says what was found, or nothing.
    pub async fn reach(&self) -> Result<String, SourceError> {
        let Some((connector, keys)) = &self.jwks else { return Ok(String::new()) };
        let authority = &connector.url().authority;
        match jwks::once(connector, keys).await {
            Ok(count) => Ok(format!("; keys of tokens at {authority}: {count}")),
            Err(why) => Err(SourceError::Retry(format!("keys of tokens from {authority}: {why}"))),
        }
    }

    /// Where QUIC is bound.
    pub fn quic_address(&self) -> Option<SocketAddr> {
        self.quic.as_ref()?.local_addr().ok()
    }

    /// Where TLS over TCP is bound.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref()?.get_ref().local_addr().ok()
    }

    /// Where plain TCP is bound.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain.as_ref()?.get_ref().local_addr().ok()
    }

    /// Accepts until `stop`, then waits for the receipts of what was taken, and says goodbye.
    pub async fn run(self, outlet: Outlet, stop: Stop) -> Result<(), SourceError> {
        log::info!("source {}: listening on {self}", self.name);
        let config = &self.config;
        let checker = if self.authority.is_empty() {
            None
        } else {
            Some(
                Checker::start(self.authority)
                    .map_err(|e| SourceError::Retry(format!("start a thread: {e}")))?,
            )
        };
        // However this ends, the connections end with it.
        let (_alive, ended) = Stop::new();
        let shared = share(config, &outlet, self.dictionaries, checker, ended);
        let feeder = spawn(shared.clone().feed(outlet));
        let tls = self.tls.map(Rc::new);
        let mut accepting = Vec::new();
        if let Some((connector, keys)) = self.jwks {
            let pace = jwks::Pace { refresh: config.jwks_refresh, rest: JWKS_REST };
            accepting.push(spawn(jwks::keep(connector, keys, pace)));
        }
        if let (Some(endpoint), Some(tls)) = (self.quic.clone(), tls.clone()) {
            accepting.push(spawn(accept_quic(shared.clone(), endpoint, tls, limits(config))));
        }
        if let (Some(socket), Some(tls)) = (self.secure, tls) {
            accepting.push(spawn(accept_tcp(shared.clone(), socket, Some(tls))));
        }
        if let Some(socket) = self.plain {
            accepting.push(spawn(accept_tcp(shared.clone(), socket, None)));
        }
        stop.wait().await;
        // Dropping a task ends it: nothing new comes.
        drop(accepting);
        shared.stop(DRAIN).await;
        drop(feeder);
        if let Some(endpoint) = self.quic {
            endpoint.close(quinn::VarInt::from_u32(0), b"");
        }
        log::info!("source {}: stopped", self.name);
        Ok(())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("quic", self.quic_address()), ("tls", self.tls_address()), ("tcp", self.plain_address())];
        let bound: Vec<String> =
            all.into_iter().filter_map(|(what, address)| Some(format!("{what} {}", address?))).collect();
        f.write_str(&bound.join(", "))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What all connections share; it is given up when `ended` is said.
pub(crate) fn share(
    config: &Config,
    outlet: &Outlet,
    dictionaries: Vec<Dictionary>,
    checker: Option<Checker>,
    ended: Stop,
) -> Rc<Shared> {
    let marks = if planted::on(Bug::ForgetDedup) { &[] } else { &*outlet.marks };
    let hub = Hub::new(options(config, outlet, dictionaries), marks, outlet.stamp.clone(), rng());
    let admission = Admission::new(admission_limits(config), mono_now());
    let shared = Shared::new(hub, admission, checker, config.connect_timeout, ended);
    Rc::new(shared.with_claims(outlet.claims.clone()))
}

pub(crate) fn limits(config: &Config) -> QuicLimits {
    QuicLimits {
        max_handshakes: u16::try_from(config.max_handshakes_per_s).unwrap_or(u16::MAX),
        ..QuicLimits::server()
    }
}

fn admission_limits(config: &Config) -> admit::Limits {
    admit::Limits {
        max_connections: config.max_connections as usize,
        max_per_address: config.max_connections_per_address as usize,
        handshakes_per_s: config.max_handshakes_per_s,
        retry_after: config.retry_after,
    }
}

fn options(config: &Config, outlet: &Outlet, dictionaries: Vec<Dictionary>) -> Options {
    let bytes = |size: crate::config::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    Options {
        source: outlet.source.clone(),
        max_packet_bytes: bytes(config.max_packet_bytes),
        max_body_bytes: bytes(config.max_body_bytes),
        receive_maximum: config.receive_maximum,
        connection_bytes: bytes(config.connection_bytes),
        total_bytes: bytes(config.total_bytes),
        max_row_bytes: outlet.max_row_bytes,
        keep_alive_max_s: u16::try_from(config.max_keep_alive.as_secs()).unwrap_or(u16::MAX),
        connect_timeout: config.connect_timeout,
        retry_after: config.retry_after,
        on_conflict: config.on_conflict,
        max_per_device: config.max_connections_per_device as usize,
        watermarks: watermark::Limits {
            max_lanes: config.max_lanes as usize,
            max_epochs: config.max_epochs as usize,
        },
        dictionaries,
        claims_sessions: outlet.claims.is_some(),
    }
}

/// Takes connections for as long as it is polled. Dropping it takes no more; those that were taken go on.
pub(crate) async fn accept_quic(
    shared: Rc<Shared>,
    endpoint: quinn::Endpoint,
    tls: Rc<Reloading<Arc<rustls::ServerConfig>>>,
    limits: QuicLimits,
) {
    let mut version = tls.version();
    while let Some(incoming) = endpoint.accept().await {
        let config = tls.current();
        if version != tls.version() {
            version = tls.version();
            if let Err(error) = quic::set_server_tls(&endpoint, config, &limits) {
                log::warn!("the renewed certificate is not used on QUIC: {error}");
            }
        }
        let address = incoming.remote_address();
        let now = mono_now();
        let pressed = shared.admission.borrow_mut().is_pressed(now);
        if pressed && !incoming.remote_address_validated() && incoming.may_retry() {
            // An address that answers is worth a handshake; a forged one is not.
            count("dts_handshakes_retried_total", &[], 1);
            // Fails only if it may not be retried.
            incoming.retry().ok();
            continue;
        }
        let admitted = shared.admission.borrow_mut().enter(now, address.ip());
        match admitted {
            Ok(place) => {
                let limit = shared.connect_timeout;
                let turn = shared.admission.borrow_mut().turn(now);
                let shared = shared.clone();
                let accepted = Box::pin(async move {
                    sleep(turn).await;
                    quic::accept(incoming, limit).await
                });
                spawn(connect(shared, address, place, accepted)).detach();
            }
            Err(refusal) => {
                refused(&shared, refusal, address);
                incoming.refuse();
            }
        }
    }
}

async fn accept_tcp(
    shared: Rc<Shared>,
    socket: Async<TcpListener>,
    tls: Option<Rc<Reloading<Arc<rustls::ServerConfig>>>>,
) {
    loop {
        let (stream, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                let now = mono_now();
                shared.hub.borrow_mut().log.warn(now, "accept", None, || {
                    format!(
                        "accept a connection: {error}; dts goes on. Out of file descriptors? See ulimit -n"
                    )
                });
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let now = mono_now();
        let admitted = shared.admission.borrow_mut().enter(now, address.ip());
        match admitted {
            Ok(place) => {
                let limit = shared.connect_timeout;
                let turn = shared.admission.borrow_mut().turn(now);
                let tls = tls.as_ref().map(|tls| tls.current());
                let accepted = Box::pin(async move {
                    sleep(turn).await;
                    match tls {
                        Some(tls) => tcp::accept_tls(stream, tls, limit).await,
                        None => tcp::accept_plain(stream),
                    }
                });
                spawn(connect(shared.clone(), address, place, accepted)).detach();
            }
            // Dropping the stream closes it, before any work for TLS.
            Err(refusal) => refused(&shared, refusal, address),
        }
    }
}

fn refused(shared: &Shared, refusal: Refusal, address: SocketAddr) {
    count("dts_connects_refused_total", &[("reason", refusal.label())], 1);
    shared.hub.borrow_mut().log.warn(mono_now(), refusal.label(), None, || {
        let address = address.ip();
        match refusal {
            Refusal::Full => format!("a connection of {address} was refused: max_connections are there"),
            Refusal::Address => {
                format!("a connection of {address} was refused: max_connections_per_address are there")
            }
            Refusal::Rate => {
                format!("a connection of {address} was refused: more than max_handshakes_per_s come")
            }
        }
    });
}

/// A connection from its handshake to its end, or to the listener's.
///
/// What an idle one holds is counted in bytes: a future that is passed on by value is there once in each that it passes, and what the
/// handshake needed would stay to the end. So both parts are boxed.
pub(crate) async fn connect(
    shared: Rc<Shared>,
    address: SocketAddr,
    place: Place,
    accepted: LocalFuture<'static, Result<crate::link::Connection, LinkError>>,
) {
    let since = mono_now();
    let ended = shared.ended.clone();
    let served = ended.or(async {
        let connection = accepted.await?;
        Box::pin(serve(&shared, connection, place, since)).await;
        Ok::<(), LinkError>(())
    });
    match served.await {
        Some(Ok(())) | None => {}
        Some(Err(error)) => {
            let kind = error.kind().as_str();
            count("dts_handshakes_failed_total", &[("reason", kind)], 1);
            // Who goes away before it is done was not refused: an agent whose other transport was faster, a port scan.
            if error.class() == Class::Retry {
                log::debug!("a handshake did not end: {error}");
            } else {
                let mut hub = shared.hub.borrow_mut();
                hub.log.warn(mono_now(), kind, None, || format!("a client was refused: {error}"));
            }
        }
    }
    shared.admission.borrow_mut().leave(address.ip(), place);
}
