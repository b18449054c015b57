//! TLS configs for both sides, from files, and their renewal when the files change.
//!
//! rustls with the provider *ring*, always named. TLS 1.3 unless `min_version` says otherwise; no
//! early data. Session tickets are kept in memory only.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};

use super::error::LinkError;
use super::pem::{self, FileStamp};
use super::trust::TrustTime;
use super::verify::ServerVerifier;
use crate::runtime::wall_now_us;

/// The protocol's name in ALPN, on QUIC and on TLS.
pub const ALPN_MQTT: &[u8] = b"mqtt";

crate::section! {
    /// TLS towards a server: whom to trust, and who we are.
    pub struct TlsClient {
        /// CAs to trust, PEM. Default: the system's.
        ca_file: Option<PathBuf>,
        /// Our certificate and its chain, PEM, for servers that want one (mTLS). Needs `key_file`.
        cert_file: Option<PathBuf>,
        /// Private key of `cert_file`, PEM, not encrypted. Read again when it changes.
        key_file: Option<PathBuf>,
        /// Name that the server's certificate must hold. Default: the host that is connected to.
        server_name: Option<String>,
        /// Oldest TLS accepted over TCP: `1.3`, or `1.2` for older brokers. QUIC is always 1.3.
        min_version: TlsVersion = "1.3",
    }
}

crate::section! {
    /// TLS of a listener.
    pub struct TlsServer {
        /// Our certificate and its chain, PEM. Read again when it changes.
        cert_file: PathBuf,
        /// Private key of `cert_file`, PEM, not encrypted. Read again when it changes.
        key_file: PathBuf,
        /// CAs that sign client certificates, PEM.
        client_ca_file: Option<PathBuf>,
        /// `required`, `optional` (a password or token does too) or `none`. Default: `required` with
        /// `client_ca_file`, else `none`.
        client_auth: Option<ClientAuth>,
        /// Oldest TLS accepted over TCP: `1.3` or `1.2`. QUIC is always 1.3.
        min_version: TlsVersion = "1.3",
    }
}

impl Default for TlsClient {
    fn default() -> Self {
        Self {
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
            min_version: TlsVersion::V13,
        }
    }
}

words! {
    /// Oldest version of TLS that is accepted.
    TlsVersion {
        /// TLS 1.2 and 1.3.
        V12 = "1.2",
        /// TLS 1.3 only.
        V13 = "1.3",
    }
}

words! {
    /// Whether a listener asks clients for a certificate.
    ClientAuth {
        /// No client without a certificate gets in.
        Required = "required",
        /// A client may show one; if it does, it must be good.
        Optional = "optional",
        /// Clients are not asked.
        None = "none",
    }
}

impl TlsVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        match self {
            Self::V12 => rustls::ALL_VERSIONS,
            Self::V13 => ONLY_13,
        }
    }
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client's TLS and the verifier inside, for the second, strict look at a chain.
#[derive(Clone)]
pub struct ClientTls {
    /// For TLS over TCP and, made by quinn, for QUIC.
    pub config: Arc<ClientConfig>,
    /// Checks chains.
    pub verifier: Arc<ServerVerifier>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// Reads the files and makes a client's config, which offers ALPN `mqtt`.
pub fn client_config(tls: &TlsClient, trust: &TrustTime) -> Result<ClientConfig, LinkError> {
    Ok(Arc::unwrap_or_clone(client_tls(tls, trust)?.config))
}

/// As [`client_config`], with the verifier beside it.
pub fn client_tls(tls: &TlsClient, trust: &TrustTime) -> Result<ClientTls, LinkError> {
    let roots = match &tls.ca_file {
        Some(path) => pem::roots("ca_file", path)?,
        None => pem::system_roots()?.0,
    };
    let config_error = |e: String| LinkError::Config(format!("TLS: {e}"));
    let provider = provider();
    let verifier = Arc::new(ServerVerifier::new(roots, &provider, trust.clone()).map_err(config_error)?);
    let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(trust.clone()))
        .with_protocol_versions(tls.min_version.versions())
        .map_err(|e| config_error(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = match own_key(tls, &provider)? {
        Some(own) => builder.with_client_cert_resolver(Arc::new(OwnCertificate(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_MQTT.to_vec()];
    // A few servers at most; each entry keeps up to eight tickets.
    config.resumption = Resumption::in_memory_sessions(4);
    Ok(ClientTls { config: Arc::new(config), verifier })
}

fn own_key(tls: &TlsClient, provider: &CryptoProvider) -> Result<Option<Arc<CertifiedKey>>, LinkError> {
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => certified(cert, key, provider).map(Some),
        (None, None) => Ok(None),
        (Some(_), None) => Err(LinkError::Config("`cert_file` needs `key_file` beside it".to_owned())),
        (None, Some(_)) => Err(LinkError::Config("`key_file` needs `cert_file` beside it".to_owned())),
    }
}

fn certified(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, LinkError> {
    let chain = pem::chain("cert_file", cert_file)?;
    if let Some(own) = chain.first() {
        pem::warn_of_age("cert_file", cert_file, own, wall_now_us());
    }
    let wrong = |reason: String| LinkError::File { what: "key_file", path: key_file.to_owned(), reason };
    let key = provider.key_provider.load_private_key(pem::key("key_file", key_file)?).map_err(|_| {
        wrong("holds a key of a kind that dts cannot use (RSA, ECDSA P-256/P-384, Ed25519)".into())
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(wrong(format!("does not belong to the certificate in {}", cert_file.display()))),
    }
}

/// Our certificate, shown to whoever asks.
struct OwnCertificate(Arc<CertifiedKey>);

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCertificate")
    }
}

impl rustls::client::ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Reads the files and makes a listener's config. Certificates of clients are checked against the
/// machine's clock, which on a centre is right.
pub fn server_config(tls: &TlsServer, alpn: &[&[u8]]) -> Result<ServerConfig, LinkError> {
    let config_error = |e: String| LinkError::Config(format!("TLS: {e}"));
    let provider = provider();
    let own = certified(&tls.cert_file, &tls.key_file, &provider)?;
    let auth = tls.client_auth.unwrap_or(match tls.client_ca_file {
        Some(_) => ClientAuth::Required,
        None => ClientAuth::None,
    });
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(tls.min_version.versions())
        .map_err(|e| config_error(e.to_string()))?;
    let client_roots = || -> Result<Arc<RootCertStore>, LinkError> {
        match &tls.client_ca_file {
            Some(path) => Ok(Arc::new(pem::roots("client_ca_file", path)?)),
            None => Err(LinkError::Config("`client_auth` needs `client_ca_file`".to_owned())),
        }
    };
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required | ClientAuth::Optional => {
            let mut verifier = WebPkiClientVerifier::builder_with_provider(client_roots()?, provider);
            if auth == ClientAuth::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|e| config_error(e.to_string()))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(OwnCertificate(own)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Tickets hold the session themselves: nothing is kept here for devices that come back.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|e| config_error(e.to_string()))?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Reads the name that a server's certificate must hold: a DNS name or an IP address.
pub fn server_name(name: &str) -> Result<ServerName<'static>, LinkError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| LinkError::Config(format!("`{name}` is neither a DNS name nor an IP address")))
}

/// A config that is made again when one of its files changes. If the new files are wrong, the old
/// config stays and the mistake is logged once per change.
pub struct Reloading<C> {
    state: RefCell<Loaded<C>>,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<C, LinkError>>,
}

struct Loaded<C> {
    config: C,
    stamps: Vec<FileStamp>,
    version: u64,
}

impl<C: Clone> Reloading<C> {
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<C, LinkError> + 'static,
    ) -> Result<Self, LinkError> {
        // The stamps first: a change while the files are read is seen the next time.
        let stamps = files.iter().map(|f| FileStamp::of(f)).collect();
        let state = RefCell::new(Loaded { config: make()?, stamps, version: 0 });
        Ok(Self { state, files, make: Box::new(make) })
    }

    /// The config, made anew if a file changed. Costs one `stat` a file: call it once a connection.
    pub fn current(&self) -> C {
        let mut state = self.state.borrow_mut();
        let stamps: Vec<_> = self.files.iter().map(|f| FileStamp::of(f)).collect();
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.make)() {
                Ok(config) => {
                    state.config = config;
                    state.version += 1;
                    log::info!("TLS files changed and were read again");
                }
                Err(e) => log::warn!("TLS files changed, but: {e}. The earlier ones stay in use"),
            }
        }
        state.config.clone()
    }

    /// How many times it was made anew.
    pub fn version(&self) -> u64 {
        self.state.borrow().version
    }
}

impl<C> fmt::Debug for Reloading<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A client's TLS that follows its files.
pub fn reloading_client(tls: TlsClient, trust: TrustTime) -> Result<Reloading<ClientTls>, LinkError> {
    let files = [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten().cloned().collect();
    Reloading::new(files, move || client_tls(&tls, &trust))
}

/// A listener's TLS that follows its files, with ALPN `mqtt`. When [`Reloading::version`] grows,
/// give QUIC endpoints the new config too ([`super::quic::set_server_tls`]).
pub fn reloading_server(tls: TlsServer) -> Result<Reloading<Arc<ServerConfig>>, LinkError> {
    let mut files = vec![tls.cert_file.clone(), tls.key_file.clone()];
    files.extend(tls.client_ca_file.clone());
    Reloading::new(files, move || server_config(&tls, &[ALPN_MQTT]).map(Arc::new))
}

/// The peer's chain, its own certificate first, taken out of a finished handshake.
pub(super) fn peer_chain(state: &rustls::CommonState) -> Vec<CertificateDer<'static>> {
    let chain = state.peer_certificates().unwrap_or_default();
    chain.iter().map(|c| c.clone().into_owned()).collect()
}
