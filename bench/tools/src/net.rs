//! TCP and QUIC as one kind of stream.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub type Error = Box<dyn std::error::Error>;
pub type Result<T> = std::result::Result<T, Error>;
pub type Reader = Pin<Box<dyn AsyncRead>>;
pub type Writer = Pin<Box<dyn AsyncWrite>>;

pub async fn tcp(addr: &str) -> Result<(Reader, Writer)> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (r, w) = stream.into_split();
    Ok((Box::pin(r), Box::pin(w)))
}

/// Devices' certificates, all on one key, signed by the throw-away CA.
pub struct Pki {
    roots: rustls::RootCertStore,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    key: rcgen::KeyPair,
}

impl Pki {
    pub fn load(ca: &str, ca_key: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let issuer_key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(ca_key)?)?;
        let issuer = rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(ca)?, issuer_key)?;
        Ok(Self { roots, issuer, key: rcgen::KeyPair::generate()? })
    }

    /// What a device of this name connects with: small windows, its own session cache.
    pub fn device(&self, name: &str) -> Result<quinn::ClientConfig> {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&self.key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(self.key.serialize_der())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(vec![cert.der().clone()], key)?;
        tls.alpn_protocols = vec![b"mqtt".to_vec()];
        tls.resumption = rustls::client::Resumption::in_memory_sessions(2);
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_idle_timeout(Some(std::time::Duration::from_secs(120).try_into()?))
            .keep_alive_interval(Some(std::time::Duration::from_secs(25)))
            .stream_receive_window(65_536u32.into())
            .receive_window(65_536u32.into())
            .send_window(65_536)
            .datagram_receive_buffer_size(None)
            .max_concurrent_bidi_streams(1u32.into())
            .max_concurrent_uni_streams(0u32.into());
        config.transport_config(Arc::new(transport));
        Ok(config)
    }
}

pub fn endpoint() -> Result<quinn::Endpoint> {
    Ok(quinn::Endpoint::client(SocketAddr::from(([0, 0, 0, 0], 0)))?)
}
