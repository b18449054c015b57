//! The configs of the demo: what a user would write, with short times where the defaults are too patient for a demo.

use std::path::Path;

use super::{Addresses, DEVICES};

/// Writes `centre.yaml` and one file for each device into `dir`.
pub(super) fn write(dir: &Path, app: &Path, addresses: Addresses) -> Result<(), String> {
    let save = |name: &str, text: String| {
        let path = dir.join(format!("{name}.yaml"));
        std::fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))
    };
    save("centre", centre(addresses))?;
    let app = app.display();
    let sources = [
        format!("type: sqlite\n    name: app\n    path: {app}/app.db\n    tables: [reading, setting]"),
        format!("type: http\n    listen: {}", addresses.posts),
        format!("type: file\n    paths: ['{app}/app.log*']"),
    ];
    for (device, source) in DEVICES.into_iter().zip(sources) {
        save(device, agent(device, &source, addresses))?;
    }
    Ok(())
}

fn centre(a: Addresses) -> String {
    let Addresses { centre_quic, centre_tls, centre_http, .. } = a;
    format!(
        "# The centre: terminates MQTT over QUIC and over TLS, mirrors what comes into SQLite.
device:
  state_dir: centre
source:
  type: devices
  quic: {centre_quic}
  tls_tcp: {centre_tls}
  tls:
    cert_file: pki/centre.pem
    key_file: pki/centre.key
    client_ca_file: pki/ca.pem
sink:
  type: sqlite
  path: centre/mirror.db
http:
  listen: {centre_http}
"
    )
}

fn agent(device: &str, source: &str, a: Addresses) -> String {
    let Addresses { relay_quic, relay_tls, .. } = a;
    format!(
        "# A device.
device:
  name: {device}
  state_dir: {device}
sources:
  - {source}
buffer:
  max_bytes: 64MiB
sink:
  type: centre
  address: 127.0.0.1
  quic_port: {relay_quic}
  tcp_port: {relay_tls}
  tls:
    ca_file: pki/ca.pem
    cert_file: pki/{device}.pem
    key_file: pki/{device}.key
    server_name: localhost
  # Short for the demo; the defaults are 30s and 5m.
  probe_interval: 2s
  backoff_max: 2s
"
    )
}
