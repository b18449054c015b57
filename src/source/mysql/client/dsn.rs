//! Where the server is and how to get in: Go's driver's form, and URLs.
//!
//! `user:password@tcp(host:3306)/db?timeout=5s&tls=true`, `user:password@unix(/run/mysqld.sock)/`,
//! `mysql://user:password@host:3306/db?tls=true`. In Go's form the password is as it is, whatever it holds; in a URL it is
//! percent-encoded. Source: go-sql-driver/mysql's README, "DSN (Data Source Name)".

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Context, Field, Node, Secret, node};

/// Whether and how the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// `tls=false`: not.
    #[default]
    Off,
    /// `tls=preferred`: if the server offers it, without a look at its certificate.
    Preferred,
    /// `tls=skip-verify`: without a look at the server's certificate.
    SkipVerify,
    /// `tls=true`: the certificate must hold the host's name and be signed by a CA that is trusted.
    Verify,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A socket of this machine.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A data source name, read. Neither `Debug` nor an error shows the password.
#[derive(Clone, Debug)]
pub struct Dsn {
    /// User; may be empty.
    pub user: String,
    /// Password; may be empty.
    pub password: Secret,
    /// Where the server is.
    pub address: Address,
    /// Default database.
    pub db: Option<String>,
    /// Encryption.
    pub tls: Tls,
    /// CAs to trust, PEM (`tlsCa=`); the system's if `None`.
    pub tls_ca: Option<PathBuf>,
    /// Longest wait for a connection and the login. Default: 10 s.
    pub timeout: Duration,
    /// Longest wait for an answer. Default: 60 s.
    pub read_timeout: Duration,
    /// Whether the password may go encrypted by a key that the server sends over a plain connection
    /// (`allowPublicKeyRetrieval=true`): somebody in between could send a key of his own.
    pub allow_public_key_retrieval: bool,
}

/// Parameters of Go's driver that have nothing to do with what dts does.
const IGNORED: &[&str] = &[
    "allowAllFiles",
    "allowNativePasswords",
    "allowFallbackToPlaintext",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "rejectReadOnly",
    "timeTruncate",
    "writeTimeout",
];

impl Dsn {
    /// Reads either form. The error says what is wrong without repeating what may be the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("mysql" | "mariadb", rest)) => Self::url(rest),
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
                Err(format!("expected `mysql://`, found `{scheme}://`"))
            }
            _ => Self::go(text),
        }
    }

    fn go(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "expected `user:password@tcp(host:3306)/db?timeout=5s` or `mysql://user:password@host:3306/db`";
        // The database's name may hold no slash, a password may.
        let (head, tail) =
            text.rsplit_once('/').ok_or_else(|| format!("{FORM}; there is no `/` behind the address"))?;
        let (login, address) = head.rsplit_once('@').unwrap_or(("", head));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (net, address) = match address.split_once('(') {
            Some((net, address)) => (
                net,
                address
                    .strip_suffix(')')
                    .ok_or_else(|| format!("{FORM}; `)` is missing behind the address"))?,
            ),
            None => (address, ""),
        };
        let address = match net {
            "" | "tcp" => tcp(address)?,
            "unix" if address.is_empty() => Address::Unix("/tmp/mysql.sock".into()),
            "unix" => Address::Unix(address.into()),
            _ => return Err(format!("{FORM}; only `tcp(…)` and `unix(…)` can be dialled")),
        };
        let (db, parameters) = tail.split_once('?').unwrap_or((tail, ""));
        Self::new(user.to_owned(), password.to_owned(), address, &decoded(db)?, parameters)
    }

    fn url(rest: &str) -> Result<Self, String> {
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        Self::new(decoded(user)?, decoded(password)?, tcp(address)?, &decoded(db)?, parameters)
    }

    fn new(
        user: String,
        password: String,
        address: Address,
        db: &str,
        parameters: &str,
    ) -> Result<Self, String> {
        let mut dsn = Self {
            user,
            password: Secret::new(password),
            address,
            db: (!db.is_empty()).then(|| db.to_owned()),
            tls: Tls::Off,
            tls_ca: None,
            timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            allow_public_key_retrieval: false,
        };
        if dsn.user.contains('\0') || dsn.password.expose().contains('\0') || db.contains('\0') {
            return Err("a NUL in user, password or database".into());
        }
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            dsn.parameter(name, &decoded(value)?)?;
        }
        Ok(dsn)
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("parameter `{name}`: expected {expected}");
        let yes = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong("true or false")),
        };
        let time = || duration(value).ok_or_else(|| wrong("a time such as `5s` or `500ms`"));
        match name {
            "timeout" => self.timeout = time()?,
            "readTimeout" => self.read_timeout = time()?,
            "allowPublicKeyRetrieval" => self.allow_public_key_retrieval = yes()?,
            "tlsCa" => self.tls_ca = Some(value.into()),
            "tls" | "ssl-mode" | "sslMode" => {
                self.tls = match value.to_ascii_lowercase().as_str() {
                    "false" | "disabled" => Tls::Off,
                    "preferred" => Tls::Preferred,
                    "skip-verify" | "required" => Tls::SkipVerify,
                    "true" | "verify_identity" => Tls::Verify,
                    _ => return Err(wrong("true, skip-verify, preferred or false")),
                };
            }
            _ if IGNORED.contains(&name) => {}
            _ => {
                let known = ["timeout", "readTimeout", "allowPublicKeyRetrieval", "tlsCa", "tls"];
                let near = crate::config::section::nearest(name, known.into_iter());
                let hint = near.map_or_else(
                    || format!("known: {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let name: String = name.chars().take(40).collect();
                return Err(format!("unknown parameter `{}`; {hint}", name.escape_debug()));
            }
        }
        Ok(())
    }

    /// Name that the server's certificate must hold.
    pub(super) fn host(&self) -> &str {
        match &self.address {
            Address::Tcp(host, _) => host,
            Address::Unix(_) => "localhost",
        }
    }
}

fn tcp(text: &str) -> Result<Address, String> {
    const PORT: u16 = 3306;
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|&p| p > 0).ok_or("the port is no number from 1 to 65535")?,
        None => PORT,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "@/()".contains(c)) {
        return Err("the host's name holds characters that no host has".into());
    }
    Ok(Address::Tcp(host.to_owned(), port))
}

/// Percent-decoding.
fn decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("a `%` that is not followed by two hexadecimal digits (write `%25` for it)".into());
        };
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).map_err(|_| "percent-encoded bytes that are no UTF-8".into())
}

/// A time as Go writes it: `5s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return None,
        };
        total =
            total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = tail;
    }
    (!total.is_zero()).then_some(total)
}

impl Field for Dsn {
    const FROM_FILE: bool = true;

    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        // Never what was found: it holds a password.
        match &node.kind {
            node::Kind::Scalar { text, .. } => match Self::parse(text.trim()) {
                Ok(dsn) => Some(dsn),
                Err(why) => {
                    cx.mistake(node.place, why);
                    None
                }
            },
            _ => {
                cx.mistake(node.place, "expected a data source name such as `user:password@tcp(host:3306)/`");
                None
            }
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "minLength": 1 })
    }
}
