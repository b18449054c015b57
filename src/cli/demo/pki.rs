//! A throw-away CA with certificates for the centre and the devices, as files.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Writes `ca.pem`, `centre.pem`/`.key` and `<device>.pem`/`.key` for each device into `dir`.
pub(super) fn write(dir: &Path, devices: &[&str]) -> Result<(), String> {
    let fail = |error: rcgen::Error| format!("make certificates: {error}");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "dts demo CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate().map_err(fail)?;
    let ca_cert = ca.self_signed(&ca_key).map_err(fail)?;
    save(dir, "ca.pem", &ca_cert.pem())?;
    let issuer = Issuer::new(ca, ca_key);

    let leaf = |name: &str, names: Vec<SanType>, usage| -> Result<(), String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(fail)?;
        let cert = params.signed_by(&key, &issuer).map_err(fail)?;
        save(dir, &format!("{name}.pem"), &cert.pem())?;
        save(dir, &format!("{name}.key"), &key.serialize_pem())
    };
    let localhost = vec![
        SanType::DnsName("localhost".try_into().map_err(fail)?),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
    ];
    leaf("centre", localhost, ExtendedKeyUsagePurpose::ServerAuth)?;
    for device in devices {
        let urn = format!("urn:dts:device:{device}").as_str().try_into().map_err(fail)?;
        leaf(device, vec![SanType::URI(urn)], ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    Ok(())
}

/// Private: keys are among them.
fn save(dir: &Path, name: &str, text: &str) -> Result<(), String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(name);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut f| f.write_all(text.as_bytes()))
        .map_err(|error| format!("write {}: {error}", path.display()))
}
