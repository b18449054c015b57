//! What is sent in place of a password.
//!
//! Sources: MySQL's "Caching SHA-2 Authentication", "Native Authentication".

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, SHA256, digest};

/// How a server wants to be convinced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// MySQL's default since 8.0.
    CachingSha2,
    /// MariaDB's default, and MySQL's before 8.0.
    Native,
}

impl Plugin {
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"caching_sha2_password" => Some(Self::CachingSha2),
            b"mysql_native_password" | b"" => Some(Self::Native),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CachingSha2 => "caching_sha2_password",
            Self::Native => "mysql_native_password",
        }
    }

    /// The answer to the server's `nonce`.
    pub(super) fn scramble(self, password: &[u8], nonce: &[u8]) -> Vec<u8> {
        if password.is_empty() {
            return Vec::new();
        }
        match self {
            // XOR(SHA1(password), SHA1(nonce, SHA1(SHA1(password))))
            Self::Native => {
                let once = digest(&SHA1, password);
                let twice = digest(&SHA1, once.as_ref());
                xor(once.as_ref(), digest(&SHA1, &[nonce, twice.as_ref()].concat()).as_ref())
            }
            // XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce))
            Self::CachingSha2 => {
                let once = digest(&SHA256, password);
                let twice = digest(&SHA256, once.as_ref());
                xor(once.as_ref(), digest(&SHA256, &[twice.as_ref(), nonce].concat()).as_ref())
            }
        }
    }
}

/// The password as it is encrypted with the server's key: with its NUL, XOR the nonce.
pub(super) fn masked(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let with_nul = password.iter().copied().chain([0]);
    with_nul.zip(nonce.iter().copied().cycle()).map(|(a, b)| a ^ b).collect()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}
