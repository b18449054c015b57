//! A throw-away CA.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::Dir;

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Signs.
pub(crate) struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) ca: PathBuf,
    pub(crate) server: Files,
}

impl Pki {
    /// Files in `dir/<name>/`: `ca.pem`, `server.pem` for localhost and 127.0.0.1.
    pub(crate) fn new(dir: &Dir, name: &str) -> Self {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name} of a test"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let (cert, key_file) = (folder.join("server.pem"), folder.join("server.key"));
        let mut pki =
            Self { folder, issuer: Issuer::new(params, key), ca, server: Files { cert, key: key_file } };
        pki.server = pki.server("server", |_| {});
        pki
    }

    /// A server's certificate.
    pub(crate) fn server(&self, file: &str, change: impl FnOnce(&mut CertificateParams)) -> Files {
        self.issue(file, "localhost", ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.subject_alt_names = vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
            ];
            change(params);
        })
    }

    /// A device's certificate.
    pub(crate) fn device(&self, name: &str) -> Files {
        self.device_with(name, name, |_| {})
    }

    pub(crate) fn device_with(
        &self,
        file: &str,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        self.issue(file, name, ExtendedKeyUsagePurpose::ClientAuth, |params| {
            let urn = format!("urn:dts:device:{name}");
            params.subject_alt_names = vec![SanType::URI(urn.as_str().try_into().unwrap())];
            change(params);
        })
    }

    fn issue(
        &self,
        file: &str,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |ending: &str| self.folder.join(format!("{file}.{ending}"));
        let files = Files { cert: path("pem"), key: path("key") };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}
