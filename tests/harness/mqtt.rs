//! An MQTT client that sends what it is told to, right or wrong.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use dts::mqtt::{self, ConnAck, Connect, Packet, Version};

use super::{Files, PATIENCE};

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A connection.
pub(crate) struct Mqtt {
    stream: Box<dyn Stream>,
    read: BytesMut,
    version: Version,
}

/// The CONNECT of device `name` with its password, as [`super::Centre`] knows them.
pub(crate) fn connect_as(name: &str, version: Version) -> Connect {
    Connect {
        username: Some(name.to_owned()),
        password: Some(super::node::password_of(name).into()),
        keep_alive_s: 60,
        ..Connect::new(version, name)
    }
}

/// How a device does TLS.
pub(crate) fn client_config(ca: &Path, own: Option<&Files>) -> Result<rustls::ClientConfig, rustls::Error> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_file(&own.cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&own.key).unwrap())?
        }
    })
}

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Mqtt {
    /// Plain TCP.
    pub(crate) fn plain(port: u16) -> Self {
        Self { stream: Box::new(tcp(port)), read: BytesMut::new(), version: Version::V5 }
    }

    /// TLS, with a certificate of its own if there is one.
    pub(crate) fn tls(port: u16, ca: &Path, own: Option<&Files>) -> Self {
        Self::with(port, client_config(ca, own).unwrap())
    }

    /// `None` if the certificate and its key do not fit.
    pub(crate) fn try_tls(port: u16, ca: &Path, own: &Files) -> Option<Self> {
        Some(Self::with(port, client_config(ca, Some(own)).ok()?))
    }

    fn with(port: u16, config: rustls::ClientConfig) -> Self {
        let name = "localhost".try_into().unwrap();
        let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = Box::new(rustls::StreamOwned::new(tls, tcp(port)));
        Self { stream, read: BytesMut::new(), version: Version::V5 }
    }

    /// CONNECT, and the answer.
    pub(crate) fn connect(&mut self, connect: Connect) -> ConnAck {
        self.version = connect.version;
        self.send(&Packet::Connect(Box::new(connect)));
        match self.receive() {
            Some(Packet::ConnAck(ack)) => *ack,
            other => panic!("CONNACK is expected, {other:?} came"),
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        mqtt::encode(packet, self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    /// Errors are seen at the next [`Self::receive`].
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).ok();
    }

    /// The next packet; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<Packet> {
        loop {
            let packet = mqtt::decode(&mut self.read, Some(self.version), 1 << 20).unwrap();
            if packet.is_some() {
                return packet;
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.read.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("neither a packet nor the end of the connection came")
                }
                Err(_) => return None,
            }
        }
    }

    /// Waits for the end of the connection; the reason of the DISCONNECT before it, if there was one.
    pub(crate) fn closed(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some(packet) = self.receive() {
            match packet {
                Packet::Disconnect(d) => reason = Some(d.reason),
                other => panic!("the end is expected, {other:?} came"),
            }
        }
        reason
    }

    /// Waits for the end of the connection, whatever comes before it.
    pub(crate) fn ends(&mut self) {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the end of the connection did not come")
                }
                Err(_) => return,
            }
        }
    }
}
