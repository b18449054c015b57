//! A file of users and hashed passwords, in the format of `mosquitto_passwd`:
//! `user:$7$iterations$salt$hash`, PBKDF2 with HMAC-SHA512, salt and hash in base64.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;

use ring::pbkdf2;

use super::base64;
use super::watched::Watched;

/// More would let one CONNECT cost seconds.
const MAX_ITERATIONS: u32 = 2_000_000;
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Users and hashed passwords, read again when the file changes.
#[derive(Debug)]
pub struct PasswordFile(Watched<Users>);

#[derive(Debug)]
struct Users {
    users: HashMap<Box<str>, Hash>,
    /// What an unknown user is checked against, so that it costs as much as a known one.
    nobody: Hash,
}

#[derive(Clone)]
struct Hash {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

impl PasswordFile {
    /// Reads it. The error says the file and the line, never a hash.
    pub fn open(path: &Path) -> Result<Self, String> {
        Watched::open(path, MAX_FILE_BYTES, Users::read).map(Self)
    }

    /// Whether `password` is `user`'s.
    pub fn check(&mut self, user: &str, password: &[u8], now_us: i64) -> bool {
        let all = self.0.get(now_us);
        let known = all.users.get(user);
        let hash = known.unwrap_or(&all.nobody);
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
        let right = pbkdf2::verify(algorithm, hash.iterations, &hash.salt, password, &hash.hash).is_ok();
        known.is_some() && right
    }
}

impl Users {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| " not UTF-8".to_owned())?;
        let mut users = HashMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |why: &str| format!("{}: {why}", n + 1);
            let (user, hash) = line.split_once(':').ok_or_else(|| fail("expected user:hash"))?;
            users.insert(user.into(), Hash::parse(hash).map_err(fail)?);
        }
        let nobody = users.values().max_by_key(|h| h.iterations).cloned().unwrap_or_else(Hash::nobody);
        Ok(Self { users, nobody })
    }
}

impl Hash {
    fn nobody() -> Self {
        let iterations = NonZeroU32::MIN.saturating_add(100);
        Self { iterations, salt: [7; 12].into(), hash: [0; 64].into() }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("$7$");
        let rest = rest.ok_or("only $7$ (PBKDF2-SHA512) hashes are known; run mosquitto_passwd -U")?;
        let mut parts = rest.split('$');
        let (Some(iterations), Some(salt), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("expected $7$iterations$salt$hash");
        };
        let iterations = iterations.parse().ok().filter(|&n: &NonZeroU32| n.get() <= MAX_ITERATIONS);
        let iterations = iterations.ok_or("iterations must be 1 to 2000000")?;
        let salt = base64::decode(salt).filter(|s| !s.is_empty()).ok_or("the salt is not base64")?;
        let hash = base64::decode(hash).filter(|h| h.len() == 64);
        let hash = hash.ok_or("the hash is not 64 bytes of base64")?;
        Ok(Self { iterations, salt: salt.into(), hash: hash.into() })
    }
}
