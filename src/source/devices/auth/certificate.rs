//! The device that a certificate names.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Denied, DeviceName};

const URN: &str = "urn:dts:device:";

/// The device in a verified end-entity certificate (DER): its SAN URI `urn:dts:device:<name>`, or
/// else its only CN. A certificate with two such names is nobody's.
pub fn device_of_certificate(der: &[u8]) -> Result<DeviceName, Denied> {
    let bad = Denied::BadCertificate;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| bad)?;
    let names = certificate.subject_alternative_name().map_err(|_| bad)?;
    let mut urns = names.iter().flat_map(|n| &n.value.general_names).filter_map(|n| match n {
        GeneralName::URI(uri) => uri.strip_prefix(URN),
        _ => None,
    });
    if let Some(name) = urns.next() {
        return if urns.next().is_none() { DeviceName::new(name) } else { Err(bad) };
    }
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => DeviceName::new(name.as_str().map_err(|_| bad)?),
        _ => Err(bad),
    }
}
