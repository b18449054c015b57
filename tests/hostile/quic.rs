//! Who speaks QUIC half, or not at all.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dts::mqtt::{self, Connect, Packet, Version};
use dts::runtime::{self, QuicRuntime};
use quinn::crypto::rustls::QuicClientConfig;

use super::Lab;
use crate::harness::*;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// To be made inside `runtime::block_on`.
fn endpoint() -> quinn::Endpoint {
    let socket = UdpSocket::bind(local(0)).unwrap();
    quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(QuicRuntime)).unwrap()
}

fn config(lab: &Lab, own: Option<&Files>, alpn: &[u8], windows: Option<u32>) -> quinn::ClientConfig {
    let mut tls = client_config(&lab.centre.ca, own).unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(3)));
    if let Some(bytes) = windows {
        transport.stream_receive_window(bytes.into()).receive_window(bytes.into());
    }
    config.transport_config(Arc::new(transport));
    config
}

/// Whether the centre ends a connection of who shows `own`.
pub(super) fn refused(lab: &Lab, own: &Files) -> bool {
    let (config, to) = (config(lab, Some(own), b"mqtt", None), local(lab.centre.quic));
    runtime::block_on(async move {
        let connecting = endpoint().connect_with(config, to, "localhost").unwrap();
        let ended = async {
            // One that does not come about is refused, too.
            if let Ok(connection) = connecting.await {
                connection.closed().await;
            }
        };
        runtime::timeout(PATIENCE, ended).await.is_some()
    })
}

/// First datagrams of `n` handshakes, each of another connection.
fn initials(lab: &Lab, n: usize) -> Vec<Vec<u8>> {
    let nobody = UdpSocket::bind(local(0)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&nobody, 4 << 20).ok();
    nobody.set_nonblocking(true).unwrap();
    let (config, to) = (config(lab, None, b"mqtt", None), nobody.local_addr().unwrap());
    let mut found = BTreeMap::new();
    runtime::block_on(async {
        let endpoint = endpoint();
        let mut connecting = Vec::new();
        let mut datagram = [0; 2000];
        while found.len() < n {
            connecting.push(endpoint.connect_with(config.clone(), to, "localhost").unwrap());
            runtime::sleep(Duration::from_millis(1)).await;
            while let Ok(len) = nobody.recv(&mut datagram) {
                // A long header: flags, version, and the connection id that the client made up.
                let id = datagram[6..6 + usize::from(datagram[5])].to_vec();
                found.entry(id).or_insert_with(|| datagram[..len].to_vec());
            }
        }
    });
    found.into_values().take(n).collect()
}

#[test]
fn half_open_handshakes() {
    let mut lab = Lab::new("half-quic", "  connect_timeout: 1s\n");
    let to = local(lab.centre.quic);
    lab.case("half-open QUIC handshakes", ("dts_handshakes_failed_total", "timeout"), |lab| {
        let sockets: Vec<_> = initials(lab, 100)
            .into_iter()
            .map(|initial| {
                let socket = UdpSocket::bind(local(0)).unwrap();
                socket.send_to(&initial, to).unwrap();
                socket
            })
            .collect();
        lab.centre.counts("dts_handshakes_failed_total", "timeout", 100);
        drop(sockets);
    });
    lab.case(
        "more half-open QUIC handshakes than half of max_handshakes_per_s",
        ("dts_handshakes_retried_total", ""),
        |lab| {
            let socket = UdpSocket::bind(local(0)).unwrap();
            for initial in initials(lab, 600) {
                socket.send_to(&initial, to).unwrap();
            }
        },
    );
    lab.case("QUIC for another protocol (ALPN)", ("dts_handshakes_failed_total", "tls"), |lab| {
        let config = config(lab, None, b"h3", None);
        let ended = runtime::block_on(async {
            let connecting = endpoint().connect_with(config, to, "localhost").unwrap();
            runtime::timeout(PATIENCE, connecting).await
        });
        assert!(matches!(ended, Some(Err(_))), "{ended:?}");
    });
    lab.case("QUIC connections without a stream", ("dts_handshakes_failed_total", "timeout"), |lab| {
        let config = config(lab, None, b"mqtt", None);
        runtime::block_on(async {
            let endpoint = endpoint();
            let mut all = Vec::new();
            for _ in 0..20 {
                all.push(endpoint.connect_with(config.clone(), to, "localhost").unwrap().await.unwrap());
            }
            for connection in all {
                assert!(runtime::timeout(PATIENCE, connection.closed()).await.is_some());
            }
        });
    });
    lab.finish();
}

#[test]
fn who_never_reads_over_quic() {
    let mut lab = Lab::new("deaf-quic", "");
    let (own, to) = (lab.pki.device("deaf"), local(lab.centre.quic));
    lab.case("a QUIC receive window of 0", ("dts_disconnects_total", "slow reader"), |lab| {
        let config = config(lab, Some(&own), b"mqtt", Some(0));
        let mut bytes = BytesMut::new();
        let connect = Connect { keep_alive_s: 60, ..Connect::new(Version::V5, "deaf") };
        mqtt::encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut bytes).unwrap();
        runtime::block_on(async {
            let endpoint = endpoint();
            let connection = endpoint.connect_with(config, to, "localhost").unwrap().await.unwrap();
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(&bytes).await.unwrap();
            assert!(runtime::timeout(PATIENCE, connection.closed()).await.is_some(), "it is still open");
        });
    });
    lab.finish();
}
