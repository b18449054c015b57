//! A crypto session that keeps nothing secret: quinn's own protocol with TLS taken out, since TLS draws its keys from the system.
//!
//! The handshake has TLS's flights and about its sizes, so that loss, order and the limit against amplification mean the same.
//! Packets carry a tag of 16 bytes by which a key tells its own. The server shows a real chain (kept beside this file, without
//! its keys), which the shipped verifier checks at the time that the device believes. A device shows its name, and the centre
//! takes that for the first tier's certificate of it.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionIdGenerator, EndpointConfig, Side, TimeSource, TransportErrorCode};
use quinn_proto::crypto::{
    AeadKey, ClientConfig, CryptoError, ExportKeyingMaterialError, HandshakeTokenKey, HeaderKey, HmacKey,
    KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, TransportError};
use rustls::CertificateError;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::link::ServerVerifier;
use crate::link::quic::Null;
use crate::link::tls::{ALPN_MQTT, ClientTls};
use crate::runtime::{rng, wall_now_us};
use crate::sim::device::certificate;

const TAG: usize = 16;
/// About what TLS sends: a hello, the answer, a server's chain and proof, a client's.
const SIZES: [usize; 4] = [280, 90, 1100, 700];

/// TLS and randomness of one machine. Made while it is entered.
pub(super) struct Nothing {
    /// What it shows as its own.
    pub(super) name: Arc<str>,
}

impl Null for Nothing {
    fn endpoint(&self) -> EndpointConfig {
        let mut rng = rng();
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        let (secret, ids) = (rng.u64(..), rng.u64(..));
        let mut config = EndpointConfig::new(Arc::new(Secret(secret)));
        config.rng_seed(Some(seed)).cid_generator(move || Box::new(Ids(fastrand::Rng::with_seed(ids))));
        config
    }

    fn client(&self, tls: &ClientTls) -> quinn::ClientConfig {
        let (verifier, name) = (tls.verifier.clone(), self.name.clone());
        let (nonce, ids) = (rng().u64(..), Mutex::new(Ids(rng())));
        let mut config = quinn::ClientConfig::new(Arc::new(Client { verifier, name, nonce }));
        config.initial_dst_cid_provider(Arc::new(move || {
            ids.lock().unwrap_or_else(PoisonError::into_inner).generate_cid()
        }));
        config
    }

    fn server(&self) -> quinn::ServerConfig {
        let token_key = Secret(rng().u64(..));
        let nonces = Mutex::new(rng());
        let mut config = quinn::ServerConfig::new(Arc::new(Server { nonces }), Arc::new(token_key));
        config.time_source(Arc::new(Wall));
        config
    }
}

struct Wall;

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(wall_now_us().max(0) as u64)
    }
}

/// Connection ids.
struct Ids(fastrand::Rng);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.u64(..).to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn tag_of(secret: u64, parts: &[&[u8]]) -> [u8; TAG] {
    let mut hash = Xxh3::with_seed(secret);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest128().to_le_bytes()
}

/// A key of every kind.
#[derive(Clone, Copy)]
struct Secret(u64);

impl Secret {
    fn next(self, what: u64) -> Self {
        Self(xxh3_64_with_seed(&what.to_le_bytes(), self.0))
    }

    /// Both directions' keys.
    fn keys(self, side: Side) -> KeyPair<Self> {
        let (client, server) = (self.next(1), self.next(2));
        match side {
            Side::Client => KeyPair { local: client, remote: server },
            Side::Server => KeyPair { local: server, remote: client },
        }
    }

    fn packet_keys(self, side: Side) -> KeyPair<Box<dyn PacketKey>> {
        let KeyPair { local, remote } = self.keys(side);
        KeyPair { local: Box::new(local), remote: Box::new(remote) }
    }

    fn all_keys(self, side: Side) -> Keys {
        Keys {
            header: KeyPair { local: Box::new(Plain), remote: Box::new(Plain) },
            packet: self.packet_keys(side),
        }
    }

    fn initial(id: &ConnectionId) -> Self {
        Self(xxh3_64_with_seed(id, 9))
    }
}

impl PacketKey for Secret {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - TAG;
        let (header, rest) = buf.split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(end - header_len);
        tag.copy_from_slice(&tag_of(self.0 ^ packet, &[header, payload]));
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        let end = payload.len().checked_sub(TAG).ok_or(CryptoError)?;
        let tag = payload.split_off(end);
        if *tag == tag_of(self.0 ^ packet, &[header, payload]) { Ok(()) } else { Err(CryptoError) }
    }

    fn tag_len(&self) -> usize {
        TAG
    }

    fn confidentiality_limit(&self) -> u64 {
        1 << 23
    }

    fn integrity_limit(&self) -> u64 {
        1 << 52
    }
}

impl HmacKey for Secret {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let tag = tag_of(self.0, &[data]);
        signature_out.iter_mut().zip(tag.iter().cycle()).for_each(|(out, byte)| *out = *byte);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut own = [0; 32];
        self.sign(data, &mut own);
        if own == signature { Ok(()) } else { Err(CryptoError) }
    }
}

impl HandshakeTokenKey for Secret {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self(xxh3_64_with_seed(random_bytes, self.0)))
    }
}

impl AeadKey for Secret {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        let tag = tag_of(self.0, &[data, additional_data]);
        data.extend_from_slice(&tag);
        Ok(())
    }

    fn open<'a>(&self, data: &'a mut [u8], additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let end = data.len().checked_sub(TAG).ok_or(CryptoError)?;
        let (data, tag) = data.split_at_mut(end);
        if *tag == tag_of(self.0, &[data, additional_data]) { Ok(data) } else { Err(CryptoError) }
    }
}

/// Headers are not hidden.
struct Plain;

impl HeaderKey for Plain {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        TAG
    }
}

struct Client {
    verifier: Arc<ServerVerifier>,
    name: Arc<str>,
    nonce: u64,
}

impl ClientConfig for Client {
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let mut session = NullSession::new(Side::Client, self.nonce, params);
        session.server = server_name.to_owned();
        session.name = self.name.as_bytes().to_vec();
        session.verifier = Some(self.verifier.clone());
        Ok(Box::new(session))
    }
}

struct Server {
    nonces: Mutex<fastrand::Rng>,
}

impl ServerConfig for Server {
    fn initial_keys(&self, _version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        Ok(Secret::initial(dst_cid).all_keys(Side::Server))
    }

    fn retry_tag(&self, _version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        tag_of(Secret::initial(orig_dst_cid).0, &[packet])
    }

    fn start_session(self: Arc<Self>, _version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let nonce = self.nonces.lock().unwrap_or_else(PoisonError::into_inner).u64(..);
        Box::new(NullSession::new(Side::Server, nonce, params))
    }
}

/// Which message comes or goes next: hello, answer, the server's proof, the client's.
type Flight = usize;

struct NullSession {
    side: Side,
    nonce: u64,
    params: Vec<u8>,
    /// The server's name, as the client asks for it.
    server: String,
    /// The client's own.
    name: Vec<u8>,
    verifier: Option<Arc<ServerVerifier>>,
    /// Flights that came and went.
    done: Flight,
    read: Vec<u8>,
    peer_params: Option<Vec<u8>>,
    secret: Secret,
    updates: u64,
}

impl NullSession {
    fn new(side: Side, nonce: u64, params: &TransportParameters) -> Self {
        let mut bytes = Vec::new();
        params.write(&mut bytes);
        Self {
            side,
            nonce,
            params: bytes,
            server: String::new(),
            name: Vec::new(),
            verifier: None,
            done: 0,
            read: Vec::new(),
            peer_params: None,
            secret: Secret(0),
            updates: 0,
        }
    }

    /// A message: its length, what it says (nonce, then a field), filler.
    fn write(&mut self, out: &mut Vec<u8>, field: &[u8]) {
        let mut body = self.nonce.to_le_bytes().to_vec();
        body.extend_from_slice(&(field.len() as u16).to_le_bytes());
        body.extend_from_slice(field);
        body.resize(SIZES[self.done].max(body.len()), 0);
        out.extend_from_slice(&(body.len() as u16).to_le_bytes());
        out.extend_from_slice(&body);
        self.done += 1;
    }

    fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        let len = usize::from(u16::from_le_bytes(self.read.get(..2)?.try_into().ok()?));
        let body = self.read.get(2..2 + len)?.to_vec();
        self.read.drain(..2 + len);
        let nonce = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
        let field = usize::from(u16::from_le_bytes(body.get(8..10)?.try_into().ok()?));
        Some((nonce, body.get(10..10 + field)?.to_vec()))
    }

    fn verify(&self) -> Result<(), TransportError> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        let chain = chain();
        let name = ServerName::try_from(self.server.clone()).map_err(|e| refused(42, e.to_string()))?;
        let now = UnixTime::since_unix_epoch(Duration::ZERO);
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).map(|_| ()).map_err(|e| {
            let expired =
                matches!(&e, rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. }));
            refused(if expired { 45 } else { 42 }, e.to_string())
        })
    }
}

fn refused(alert: u8, reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(alert), frame: None, reason }
}

/// What the centre shows.
fn chain() -> &'static [CertificateDer<'static>] {
    static CHAIN: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    CHAIN.get_or_init(|| vec![CertificateDer::from_pem_slice(include_bytes!("centre.pem")).unwrap()])
}

impl Session for NullSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        Secret::initial(dst_cid).all_keys(side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.peer_params.as_ref()?;
        Some(Box::new(HandshakeData { protocol: Some(ALPN_MQTT.to_vec()), server_name: None }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        if self.is_handshaking() {
            return None;
        }
        let chain = match self.side {
            Side::Client => chain().to_vec(),
            Side::Server => vec![certificate(std::str::from_utf8(&self.name).ok()?)],
        };
        Some(Box::new(chain))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.done < SIZES.len()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.read.extend_from_slice(buf);
        let mut news = false;
        while let Some((nonce, field)) = self.take() {
            match (self.side, self.done) {
                (Side::Server, 0) => {
                    self.secret = Secret(nonce).next(self.nonce);
                    self.peer_params = Some(field);
                    news = true;
                }
                (Side::Client, 1) => self.secret = Secret(self.nonce).next(nonce),
                (Side::Client, 2) => {
                    self.verify()?;
                    self.peer_params = Some(field);
                    news = true;
                }
                (Side::Server, 3) => self.name = field,
                _ => return Err(refused(10, "a message too many".to_owned())),
            }
            self.done += 1;
        }
        Ok(news)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(bytes) = &self.peer_params else { return Ok(None) };
        let params = TransportParameters::read(self.side, &mut bytes.as_slice())?;
        Ok(Some(params))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let params = self.params.clone();
        match (self.side, self.done) {
            (Side::Client, 0) => {
                self.write(buf, &params);
                None
            }
            (Side::Server, 1) => {
                self.write(buf, b"");
                Some(self.secret.next(100).all_keys(self.side))
            }
            // The answer came: keys, and nothing to say.
            (Side::Client, 2) if self.updates == 0 => {
                self.updates = 1;
                Some(self.secret.next(100).all_keys(self.side))
            }
            (Side::Server, 2) => {
                self.write(buf, &params);
                self.updates = 1;
                Some(self.secret.next(101).all_keys(self.side))
            }
            (Side::Client, 3) => {
                let name = self.name.clone();
                self.write(buf, &name);
                Some(self.secret.next(101).all_keys(self.side))
            }
            _ => None,
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.updates += 1;
        Some(self.secret.next(100 + self.updates).packet_keys(self.side))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some(end) = payload.len().checked_sub(TAG) else { return false };
        let (payload, tag) = payload.split_at(end);
        *tag == tag_of(Secret::initial(orig_dst_cid).0, &[&[header, payload].concat()])
    }

    fn export_keying_material(
        &self,
        _output: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}
