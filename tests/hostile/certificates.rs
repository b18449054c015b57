//! Certificates of every wrong kind, on TLS/TCP and on QUIC.

use dts::mqtt::{Connect, Version};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};

use super::Lab;
use crate::harness::*;

/// Who is refused in TLS, before any MQTT.
type Make = fn(&Lab, &Pki) -> Files;

fn row(name: &'static str, make: Make) -> (&'static str, Make) {
    (name, make)
}

fn nameless(params: &mut CertificateParams) {
    params.subject_alt_names.clear();
    params.distinguished_name = rcgen::DistinguishedName::new();
}

#[test]
fn certificates_of_every_wrong_kind() {
    let mut lab = Lab::new("certs", "");
    let foreign_dir = Dir::new("foreign-ca");
    let foreign = Pki::new(&foreign_dir, "foreign");
    let in_tls = [
        row("an expired certificate", |lab, _| {
            lab.pki.device_with("expired", "good", |p| {
                p.not_before = date_time_ymd(2019, 1, 1);
                p.not_after = date_time_ymd(2020, 1, 1);
            })
        }),
        row("a certificate that is not valid yet", |lab, _| {
            lab.pki.device_with("early", "good", |p| p.not_before = date_time_ymd(2999, 1, 1))
        }),
        row("a certificate of a foreign CA", |_, foreign| foreign.device("good")),
        row("a server's certificate as a device's (extended key usage)", |lab, _| {
            lab.pki.device_with("eku", "good", |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })
        }),
        row("a certificate with the key of another", |lab, _| {
            let (a, b) =
                (lab.pki.device_with("one", "good", |_| {}), lab.pki.device_with("two", "good", |_| {}));
            Files { cert: a.cert, key: b.key }
        }),
    ];
    for (name, make) in in_tls {
        let own = make(&lab, &foreign);
        lab.case(name, ("dts_handshakes_failed_total", "tls"), |lab| {
            let Some(mut client) = Mqtt::try_tls(lab.centre.tls, &lab.centre.ca, &own) else {
                // rustls itself does not show a certificate with a key that is not its own.
                let mut client = Mqtt::plain(lab.centre.tls);
                client.send_bytes(b"no TLS either\r\n");
                return client.ends();
            };
            // In TLS 1.3 the client is told when it reads.
            client.send_bytes(&[0x10]);
            client.ends();
            assert!(super::quic::refused(lab, &own), "{name}: QUIC lets it in");
        });
    }
    let said = |label| ("dts_connects_refused_total", label);
    let refused = |lab: &Lab, own: &Files, id: &str, reason: u8| {
        let mut client = Mqtt::tls(lab.centre.tls, &lab.centre.ca, Some(own));
        assert_eq!(client.connect(Connect::new(Version::V5, id)).reason, reason, "{id}");
        client.ends();
    };
    lab.case("a certificate that names nobody (no SAN, no CN)", said("bad_certificate"), |lab| {
        let own = lab.pki.device_with("nobody", "good", nameless);
        refused(lab, &own, "good", 0x87);
    });
    lab.case("a certificate that names two devices", said("bad_certificate"), |lab| {
        let own = lab.pki.device_with("two-names", "good", |p| {
            p.subject_alt_names.push(SanType::URI("urn:dts:device:other".try_into().unwrap()));
        });
        refused(lab, &own, "good", 0x87);
    });
    lab.case("a certificate whose name could be a topic's", said("bad_name"), |lab| {
        let own = lab.pki.device_with("slash", "good", |p| {
            p.subject_alt_names.clear();
            p.distinguished_name = rcgen::DistinguishedName::new();
            p.distinguished_name.push(DnType::CommonName, "good/+/#");
        });
        refused(lab, &own, "good", 0x87);
    });
    lab.case("a certificate of another device than the client id says", said("bad_client_id"), |lab| {
        let own = lab.pki.device("other");
        refused(lab, &own, "good", 0x85);
    });
    lab.case("no certificate, user or password", said("nobody"), |lab| {
        let mut client = Mqtt::tls(lab.centre.tls, &lab.centre.ca, None);
        assert_eq!(client.connect(Connect::new(Version::V5, "good")).reason, 0x87);
    });
    lab.finish();
}
