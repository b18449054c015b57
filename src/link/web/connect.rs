//! A connection to the peer: TCP, with TLS on it where the URL says https.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_net::TcpStream;
use futures_rustls::TlsConnector;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::url::Url;
use crate::link::Io;

/// Where distributions keep the certificates that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Makes connections to one URL.
pub struct Connector {
    url: Url,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    /// Reads the certificates that https needs. `ca_file`: what the peer's must lead to; `None` are those
    /// that the system trusts.
    pub fn new(
        url: &Url,
        ca_file: Option<&Path>,
        cert_file: Option<&Path>,
        key_file: Option<&Path>,
    ) -> Result<Self, String> {
        let tls = if url.tls {
            let name = ServerName::try_from(url.host.clone())
                .map_err(|_| format!("{} is no name that a certificate can have", url.host))?;
            Some((TlsConnector::from(Arc::new(client(ca_file, cert_file, key_file)?)), name))
        } else {
            None
        };
        Ok(Self { url: url.clone(), tls })
    }

    /// Where to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Connects. Cancel safe: a connection that is not finished is dropped.
    pub async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let tcp = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), tcp).await?)),
            None => Ok(Box::new(tcp)),
        }
    }
}

fn client(
    ca_file: Option<&Path>,
    cert_file: Option<&Path>,
    key_file: Option<&Path>,
) -> Result<ClientConfig, String> {
    let bundle = || {
        let found = SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
        found.ok_or("no certificates of the system were found: set `ca_file`")
    };
    let ca_file = match ca_file {
        Some(path) => path.to_owned(),
        None => bundle()?,
    };
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(certificates(&ca_file)?);
    if good == 0 {
        return Err(format!("{} holds no certificate that can be trusted", ca_file.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let mut config = match (cert_file, key_file) {
        (Some(cert), Some(key)) => {
            // The error does not hold the key's text.
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|e| format!("read {}: {e}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key_der)
                .map_err(|e| format!("{} and {}: {e}", cert.display(), key.display()))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("`cert_file` and `key_file` go together".to_owned()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| format!("read {}: {e}", path.display()))
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("url", &self.url).finish_non_exhaustive()
    }
}
