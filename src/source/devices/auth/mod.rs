//! Who a device is: by its certificate, else by user and password, else by a JWT.

mod base64;
mod certificate;
mod fetched;
#[cfg(test)]
mod fixtures;
#[cfg(any(feature = "fuzzing", all(test, feature = "full")))]
pub(crate) mod fuzz;
mod jwt;
mod password;
#[cfg(test)]
mod tests;
mod watched;

#[cfg(test)]
pub(in crate::source::devices) use base64::encode_url as base64_url;
#[cfg(test)]
pub(super) use fixtures::PASSWORDS;

pub use certificate::device_of_certificate;
pub use fetched::FetchedKeys;
pub use jwt::{JwtKeys, JwtRules};
pub use password::PasswordFile;

use std::fmt;
use std::sync::Arc;

/// The name of a device: 1–64 of `A-Za-z0-9._-`, so that it can stand in a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(Arc<str>);

impl DeviceName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, Denied> {
        let fits = (1..=64).contains(&name.len());
        if fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            Ok(Self(name.into()))
        } else {
            Err(Denied::BadName)
        }
    }

    /// The name, shared.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl std::ops::Deref for DeviceName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device that is who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub device: DeviceName,
    /// When what it showed ends, in microseconds since 1970 UTC; `None` if it does not.
    pub until_us: Option<i64>,
}

/// Why a device is not let in. Never says more than the peer may know; holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// Neither certificate nor user.
    #[error("no certificate, user or token")]
    Nobody,
    /// A name that no device can have.
    #[error("a device's name is 1 to 64 of A-Z a-z 0-9 . _ -")]
    BadName,
    /// A certificate that names no device, or more than one.
    #[error("the certificate names no device: it needs a URI urn:dts:device:NAME or one CN")]
    BadCertificate,
    /// Unknown user or wrong password.
    #[error("wrong user or password")]
    WrongPassword,
    /// A token that is malformed, by an unknown key, of a wrong signature, or for another audience.
    #[error("the token is not valid here")]
    BadToken,
    /// A token whose time is over or has not come.
    #[error("the token has expired or is not valid yet")]
    Expired,
    /// A token by a key that is not known yet: keys are being fetched.
    #[error("the keys of tokens are being fetched; come again")]
    KeysPending,
    /// A client id that is not the device's.
    #[error("the client id must be the device's name or NAME:INSTANCE")]
    BadClientId,
}

impl Denied {
    /// MQTT 5 reason code for CONNACK.
    pub fn reason(self) -> u8 {
        match self {
            Self::BadClientId => 0x85,
            Self::KeysPending => 0x88,
            Self::WrongPassword | Self::BadToken | Self::Expired => 0x86,
            Self::Nobody | Self::BadName | Self::BadCertificate => 0x87,
        }
    }

    /// A word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::BadName => "bad_name",
            Self::BadCertificate => "bad_certificate",
            Self::WrongPassword => "wrong_password",
            Self::BadToken => "bad_token",
            Self::Expired => "expired",
            Self::KeysPending => "keys_pending",
            Self::BadClientId => "bad_client_id",
        }
    }
}

/// What a client calls itself: its device's name, and which of its clients it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// Behind the colon; empty if there is none.
    pub instance: Box<str>,
}

impl ClientId {
    /// Reads a client id that is `device`'s: `NAME` or `NAME:INSTANCE`.
    pub fn of(device: &DeviceName, client_id: &str) -> Result<Self, Denied> {
        let instance = match client_id.strip_prefix(&**device) {
            Some("") => "",
            Some(rest) => rest.strip_prefix(':').ok_or(Denied::BadClientId)?,
            None => return Err(Denied::BadClientId),
        };
        if instance.len() > 64 || instance.chars().any(char::is_control) {
            return Err(Denied::BadClientId);
        }
        Ok(Self { instance: instance.into() })
    }

    /// The instance of a dts agent: 16 hex digits.
    pub fn agent(&self) -> Option<u64> {
        (self.instance.len() == 16).then(|| u64::from_str_radix(&self.instance, 16).ok()).flatten()
    }
}

/// Everything that can tell who a client is, when it has no certificate.
#[derive(Debug, Default)]
pub struct Authority {
    /// Users with passwords.
    pub passwords: Option<PasswordFile>,
    /// Keys of tokens.
    pub tokens: Option<(JwtKeys, JwtRules)>,
}

impl Authority {
    /// Who `user` with `password` is. A password that looks like a token is read as one where there
    /// are keys; the user's name is then not read. Reads files that changed and costs a key
    /// derivation: call it on a thread that may block.
    pub fn check(
        &mut self,
        user: Option<&str>,
        password: Option<&[u8]>,
        now_us: i64,
    ) -> Result<Identity, Denied> {
        let Some(password) = password else { return Err(Denied::Nobody) };
        if let Some((keys, rules)) = &mut self.tokens
            && jwt::looks_like_one(password)
        {
            return keys.check(password, rules, now_us);
        }
        match (&mut self.passwords, user) {
            (Some(file), Some(user)) => {
                // The name is checked last, so that bad ones cost as much as good ones.
                let right = file.check(user, password, now_us);
                let device = DeviceName::new(user)?;
                if right { Ok(Identity { device, until_us: None }) } else { Err(Denied::WrongPassword) }
            }
            (Some(_), None) => Err(Denied::Nobody),
            (None, _) => Err(if self.tokens.is_some() { Denied::BadToken } else { Denied::WrongPassword }),
        }
    }

    /// Nobody can come in without a certificate.
    pub fn is_empty(&self) -> bool {
        self.passwords.is_none() && self.tokens.is_none()
    }
}
