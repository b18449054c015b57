//! Certificates and keys from PEM files, with errors that a user can act on, and without ever
//! showing what a key file holds.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::LinkError;
use super::validity::validity;

/// Larger files are refused: a system's bundle of CAs has about 250 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where Linux distributions and OpenWrt keep their CAs, besides `SSL_CERT_FILE`.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

fn wrong(what: &'static str, path: &Path, reason: impl Into<String>) -> LinkError {
    LinkError::File { what, path: path.to_owned(), reason: reason.into() }
}

fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, LinkError> {
    let file = File::open(path).map_err(|e| {
        let hint = if e.kind() == std::io::ErrorKind::PermissionDenied { " for dts's user" } else { "" };
        wrong(what, path, format!("cannot be opened{hint}: {e}"))
    })?;
    // Room for all of it: a buffer that grows leaves copies of keys behind.
    let expected = file.metadata().map_or(0, |m| m.len()).min(MAX_FILE_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected as usize + 1));
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| wrong(what, path, format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(what, path, "is larger than 4 MiB: not a file of certificates"));
    }
    Ok(bytes)
}

/// The words for a PEM error. Its own text may quote the file.
fn pem_reason(error: &PemError, wanted: &str) -> String {
    match error {
        PemError::NoItemsFound => format!("holds no {wanted} in PEM form (`-----BEGIN …-----`)"),
        PemError::MissingSectionEnd { .. } => "is cut short: a `-----END …-----` line is missing".to_owned(),
        PemError::Base64Decode(_) => "is damaged: a section is not base64".to_owned(),
        _ => "is not PEM".to_owned(),
    }
}

/// Reads a chain, the peer's own certificate first; at least one.
pub(super) fn chain(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let bytes = read(what, path)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(what, path, pem_reason(&e, "certificate")))?;
    let Some(own) = chain.first() else {
        return Err(wrong(what, path, pem_reason(&PemError::NoItemsFound, "certificate")));
    };
    if validity(own).is_none() {
        return Err(wrong(what, path, "holds a `CERTIFICATE` that is none"));
    }
    Ok(chain)
}

/// Reads the first private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
pub(super) fn key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    let bytes = read(what, path)?;
    if bytes.windows(17).any(|w| w == b"ENCRYPTED PRIVATE")
        || bytes.windows(17).any(|w| w == b"Proc-Type: 4,ENCR")
    {
        return Err(wrong(what, path, "is encrypted: dts reads keys without a passphrase"));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| wrong(what, path, pem_reason(&e, "private key")))
}

/// Reads trusted CAs; at least one that can be used.
pub(super) fn roots(what: &'static str, path: &Path) -> Result<RootCertStore, LinkError> {
    let mut store = RootCertStore::empty();
    let (good, bad) = store.add_parsable_certificates(chain(what, path)?);
    if good == 0 {
        return Err(wrong(what, path, "holds no certificate that can be a CA"));
    }
    if bad > 0 {
        log::warn!("{what} {}: {bad} of {} certificates cannot be used as a CA", path.display(), good + bad);
    }
    Ok(store)
}

/// The system's CAs and the file that they came from.
pub(super) fn system_roots() -> Result<(RootCertStore, PathBuf), LinkError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    match named.into_iter().chain(known).find(|p| p.is_file()) {
        Some(path) => Ok((roots("system CAs", &path)?, path)),
        None => Err(LinkError::Config(format!(
            "no `ca_file` is set and this system has no CA bundle (looked at SSL_CERT_FILE, {})",
            SYSTEM_BUNDLES.join(", ")
        ))),
    }
}

/// Warns if our own certificate is outside its time by this machine's clock, right or wrong.
pub(super) fn warn_of_age(what: &'static str, path: &Path, own: &CertificateDer<'_>, now_us: i64) {
    let (Some(v), Ok(now_s)) = (validity(own), u64::try_from(now_us / 1_000_000)) else { return };
    let file = path.display();
    if now_s > v.not_after_s {
        let days = (now_s - v.not_after_s) / 86_400;
        log::warn!("{what} {file}: expired {days} days ago by this machine's clock; peers will refuse it");
    } else if now_s < v.not_before_s {
        log::warn!("{what} {file}: not valid yet by this machine's clock; peers may refuse it");
    }
}

/// What tells cheaply that a file was replaced or rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileStamp(Option<(i64, i64, u64, u64)>);

impl FileStamp {
    /// Of the file now; a missing file has a stamp too.
    pub(super) fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.len(), m.ino())))
    }
}
