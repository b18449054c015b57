//! The way in: the server's greeting, our answer, and what the password's plugin asks for. No IO.
//!
//! Source: MySQL's "Connection Phase", "Protocol::HandshakeV10", "Protocol::HandshakeResponse41".

use super::answer::ServerError;
use super::auth::{Plugin, masked};
use super::dsn::{Dsn, Tls};
use super::error::ClientError;
use super::rsa::PublicKey;
use crate::source::mysql::binlog::bytes::Bytes;

mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const LONG_FLAG: u32 = 4;
    pub(super) const CONNECT_WITH_DB: u32 = 8;
    pub(super) const PROTOCOL_41: u32 = 0x200;
    pub(super) const SSL: u32 = 0x800;
    pub(super) const TRANSACTIONS: u32 = 0x2000;
    pub(super) const SECURE_CONNECTION: u32 = 0x8000;
    pub(super) const PLUGIN_AUTH: u32 = 0x8_0000;
    pub(super) const CONNECT_ATTRS: u32 = 0x10_0000;
}

/// Collation of the connection: `utf8mb4_general_ci`, which every server has.
const COLLATION: u8 = 45;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this as a packet, and read on.
    Send(Vec<u8>),
    /// Send this as a packet, begin TLS, then send what [`Login::encrypted`] gives.
    StartTls(Vec<u8>),
    /// Read on.
    Wait,
    /// We are in.
    Done,
}

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// As it calls itself; MariaDB's prefix `5.5.5-` is cut off.
    pub(super) version: String,
    /// Number of the connection.
    pub(super) thread: u32,
}

/// A login under way.
#[derive(Debug)]
pub(super) struct Login<'a> {
    dsn: &'a Dsn,
    pub(super) greeting: Greeting,
    state: State,
    capabilities: u32,
    /// Nobody can listen: TLS, or a socket of this machine.
    secure: bool,
    plugin: Plugin,
    nonce: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Tls,
    Answer,
    /// The server's public key was asked for.
    Key,
}

const SHORT: ClientError = ClientError::Protocol("the greeting is cut short");

impl<'a> Login<'a> {
    /// `secure` if the connection is a socket of this machine.
    pub(super) fn new(dsn: &'a Dsn, secure: bool) -> Self {
        Self {
            dsn,
            greeting: Greeting::default(),
            state: State::Greeting,
            capabilities: 0,
            secure,
            plugin: Plugin::Native,
            nonce: Vec::new(),
        }
    }

    /// Takes a packet of the server. `seed` is random.
    pub(super) fn packet(&mut self, payload: &[u8], seed: [u8; 20]) -> Result<Step, ClientError> {
        if let Some((0xff, rest)) = payload.split_first() {
            return Err(self.refused(ServerError::parse(rest)));
        }
        match (self.state, payload.split_first()) {
            (State::Greeting, _) => self.greeting(payload),
            (State::Answer, Some((0, _))) => Ok(Step::Done),
            (State::Answer, Some((0xfe, rest))) => self.switch(rest),
            (State::Answer, Some((1, rest))) if self.plugin == Plugin::CachingSha2 => self.more(rest),
            (State::Key, Some((1, pem))) => self.encrypt(pem, seed),
            _ => Err(ClientError::Protocol("an unexpected packet during login")),
        }
    }

    /// TLS stands: what is sent over it.
    pub(super) fn encrypted(&mut self) -> Vec<u8> {
        self.secure = true;
        self.state = State::Answer;
        self.response()
    }

    /// An error of the server, with what the user can do where that is known.
    fn refused(&self, error: ServerError) -> ClientError {
        match error.code {
            1044 | 1045 | 1698 => {
                ClientError::Login(format!("{error}; check user, password and host in the dsn"))
            }
            1049 => ClientError::Login(format!("{error}; name another database in the dsn, or none")),
            3159 => ClientError::Login(format!("{error}; add `tls=true` to the dsn")),
            _ => error.into(),
        }
    }

    fn greeting(&mut self, payload: &[u8]) -> Result<Step, ClientError> {
        let mut b = Bytes(payload);
        if b.u8("").map_err(|_| SHORT)? != 10 {
            return Err(ClientError::Protocol("expected a greeting of version 10; is this a MySQL server?"));
        }
        let version = b.until(0, "").map_err(|_| SHORT)?;
        let version = String::from_utf8_lossy(version.get(..64).unwrap_or(version)).into_owned();
        self.greeting.version = version.strip_prefix("5.5.5-").map_or_else(|| version.clone(), str::to_owned);
        self.greeting.thread = b.u32("").map_err(|_| SHORT)?;
        self.nonce = b.take(8, "").map_err(|_| SHORT)?.to_vec();
        b.take(1, "").map_err(|_| SHORT)?;
        let low = b.u16("").map_err(|_| SHORT)?;
        b.take(3, "").map_err(|_| SHORT)?;
        let high = b.u16("").map_err(|_| SHORT)?;
        let offered = u32::from(high) << 16 | u32::from(low);
        let length = usize::from(b.u8("").map_err(|_| SHORT)?);
        b.take(10, "").map_err(|_| SHORT)?;
        let more = b.take(length.saturating_sub(8).max(13).min(b.0.len()), "").map_err(|_| SHORT)?;
        // The last byte is a NUL.
        self.nonce.extend_from_slice(more.get(..12).ok_or(SHORT)?);
        let name = if offered & capability::PLUGIN_AUTH != 0 { b.until(0, "").unwrap_or(b.0) } else { b"" };
        // What is unknown here may be switched away from.
        self.plugin = Plugin::named(name).unwrap_or(Plugin::Native);
        use capability as c;
        let needed = c::PROTOCOL_41 | c::SECURE_CONNECTION;
        if offered & needed != needed {
            return Err(ClientError::Login("the server is too old: MySQL 5.5 or later is needed".into()));
        }
        let wanted =
            needed | c::LONG_PASSWORD | c::LONG_FLAG | c::TRANSACTIONS | c::PLUGIN_AUTH | c::CONNECT_ATTRS;
        self.capabilities = wanted & offered;
        if self.dsn.db.is_some() {
            self.capabilities |= c::CONNECT_WITH_DB & offered;
        }
        let has_tls = offered & c::SSL != 0;
        match self.dsn.tls {
            Tls::Off => {}
            // A socket of this machine needs none.
            _ if self.secure => {}
            Tls::Preferred if !has_tls => {}
            _ if !has_tls => {
                let why =
                    "the server does not offer TLS: set up its certificate, or take `tls` out of the dsn";
                return Err(ClientError::Login(why.into()));
            }
            _ => {
                self.capabilities |= c::SSL;
                self.state = State::Tls;
                return Ok(Step::StartTls(self.head()));
            }
        }
        self.state = State::Answer;
        Ok(Step::Send(self.response()))
    }

    /// What SSLRequest and HandshakeResponse41 begin with.
    fn head(&self) -> Vec<u8> {
        let mut out = self.capabilities.to_le_bytes().to_vec();
        out.extend_from_slice(&(1u32 << 30).to_le_bytes());
        out.push(COLLATION);
        out.extend_from_slice(&[0; 23]);
        out
    }

    fn response(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(self.dsn.user.as_bytes());
        out.push(0);
        let scramble = self.plugin.scramble(self.dsn.password.expose().as_bytes(), &self.nonce);
        out.push(scramble.len() as u8);
        out.extend_from_slice(&scramble);
        if self.capabilities & capability::CONNECT_WITH_DB != 0 {
            out.extend_from_slice(self.dsn.db.as_deref().unwrap_or_default().as_bytes());
            out.push(0);
        }
        if self.capabilities & capability::PLUGIN_AUTH != 0 {
            out.extend_from_slice(self.plugin.name().as_bytes());
            out.push(0);
        }
        if self.capabilities & capability::CONNECT_ATTRS != 0 {
            let attributes = b"\x0cprogram_name\x03dts";
            out.push(attributes.len() as u8);
            out.extend_from_slice(attributes);
        }
        out
    }

    /// The account has another plugin than the server's default.
    fn switch(&mut self, rest: &[u8]) -> Result<Step, ClientError> {
        let mut b = Bytes(rest);
        let name = b.until(0, "").unwrap_or_default();
        let Some(plugin) = Plugin::named(name).filter(|_| !name.is_empty()) else {
            let name = String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned();
            return Err(ClientError::Login(format!(
                "the account logs in by `{}`, which dts does not speak; give it caching_sha2_password or \
                 mysql_native_password",
                name.escape_debug()
            )));
        };
        self.plugin = plugin;
        self.nonce = b.0.strip_suffix(&[0]).unwrap_or(b.0).to_vec();
        if self.nonce.len() != 20 {
            return Err(ClientError::Protocol("a nonce that is not 20 bytes long"));
        }
        Ok(Step::Send(plugin.scramble(self.dsn.password.expose().as_bytes(), &self.nonce)))
    }

    /// caching_sha2_password: 3 the scramble was right, 4 the whole password is wanted.
    fn more(&mut self, rest: &[u8]) -> Result<Step, ClientError> {
        match rest {
            [3] => Ok(Step::Wait),
            [4] if self.secure => {
                let mut password = self.dsn.password.expose().as_bytes().to_vec();
                password.push(0);
                Ok(Step::Send(password))
            }
            [4] if self.dsn.allow_public_key_retrieval => {
                self.state = State::Key;
                Ok(Step::Send(vec![2]))
            }
            [4] => Err(ClientError::Login(
                "the server wants the password itself (caching_sha2_password, not in its cache), and the connection is \
                 not encrypted: add `tls=true` to the dsn, or, on a network that you trust, `allowPublicKeyRetrieval=true`"
                    .into(),
            )),
            _ => Err(ClientError::Protocol("an unexpected word of caching_sha2_password")),
        }
    }

    fn encrypt(&mut self, pem: &[u8], seed: [u8; 20]) -> Result<Step, ClientError> {
        let key = PublicKey::from_pem(pem).ok_or(ClientError::Protocol("expected its public RSA key"))?;
        let message = masked(self.dsn.password.expose().as_bytes(), &self.nonce);
        let sealed = key.encrypt(&message, seed);
        self.state = State::Answer;
        sealed
            .map(Step::Send)
            .ok_or_else(|| ClientError::Login("the password is too long for the server's key".into()))
    }
}
