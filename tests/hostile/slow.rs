//! Who takes his time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use dts::mqtt::{self, Filter, Packet, QoS, Subscribe, Version};

use super::Lab;
use crate::harness::*;

fn connect_bytes(name: &str) -> BytesMut {
    let mut bytes = BytesMut::new();
    mqtt::encode(&Packet::Connect(Box::new(connect_as(name, Version::V5))), Version::V5, &mut bytes).unwrap();
    bytes
}

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `bytes` one by one, as slow as none, until the other side closes.
fn drip(mut stream: TcpStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    for n in 0.. {
        if let Some(byte) = bytes.get(n)
            && stream.write_all(&[*byte]).is_err()
        {
            return;
        }
        match stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
            Ok(_) => {}
        }
        assert!(n < 1800, "the connection is still open");
    }
}

/// A ClientHello's beginning: a record of 512 bytes is announced.
const HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[test]
fn slow_loris() {
    let mut lab = Lab::new("loris", "  connect_timeout: 1s\n");
    let (tls, plain) = (lab.centre.tls, lab.centre.plain);
    lab.case(
        "TCP connections that say nothing, before TLS",
        ("dts_handshakes_failed_total", "timeout"),
        |_| {
            let mut all: Vec<_> = (0..200).map(|_| tcp(tls)).collect();
            for stream in &mut all {
                assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
            }
        },
    );
    lab.case("a TLS handshake byte by byte", ("dts_handshakes_failed_total", "timeout"), |_| {
        drip(tcp(tls), &HELLO);
    });
    lab.case("half a CONNECT", ("dts_disconnects_total", "keep alive timeout"), |_| {
        let bytes = connect_bytes("box-7");
        let mut all: Vec<_> = (0..50).map(|_| tcp(plain)).collect();
        all.iter_mut().for_each(|s| s.write_all(&bytes[..bytes.len() / 2]).unwrap());
        for stream in &mut all {
            assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
        }
    });
    lab.case("half a CONNECT in TLS", ("dts_disconnects_total", "keep alive timeout"), |lab| {
        let bytes = connect_bytes("box-7");
        let own = lab.pki.device("box-7");
        let mut client = Mqtt::tls(tls, &lab.centre.ca, Some(&own));
        client.send_bytes(&bytes[..bytes.len() / 2]);
        client.ends();
    });
    lab.case(
        "a packet byte by byte, slower than 1 KiB/s",
        ("dts_disconnects_total", "keep alive timeout"),
        |_| {
            let mut stream = tcp(plain);
            let mut connect = connect_as("box-7", Version::V5);
            connect.keep_alive_s = 1;
            let mut bytes = BytesMut::new();
            mqtt::encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            // A PUBLISH of 1,000 bytes, of which three are there.
            drip(stream, &[0x30, 0xe8, 7, 0, 1]);
        },
    );
    lab.finish();
}

#[test]
fn who_never_reads_over_tcp() {
    let mut lab = Lab::new("deaf-tcp", "");
    let plain = lab.centre.plain;
    lab.case("a TCP receive window of 0", ("dts_disconnects_total", "slow reader"), |_| {
        let mut stream = tcp(plain);
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 2048).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&connect_bytes("box-7")).unwrap();
        let filter = Filter {
            filter: "a".into(),
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        let subscribe =
            Subscribe { packet_id: 1, filters: vec![filter; 1000], subscription_id: None, user: Vec::new() };
        let mut bytes = BytesMut::new();
        mqtt::encode(&Packet::Subscribe(Box::new(subscribe)), Version::V5, &mut bytes).unwrap();
        // 1,000 bytes come back for each. At some time neither side takes any more, and then it is over.
        let mut sent = 0_u64;
        while stream.write_all(&bytes).is_ok() {
            sent += bytes.len() as u64;
            assert!(sent < 1 << 30, "a client that never reads is read for ever");
        }
        println!("it was read for {} KiB", sent >> 10);
    });
    lab.finish();
}
