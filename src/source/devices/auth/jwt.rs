//! JSON Web Tokens (RFC 7519) in the compact form (RFC 7515), signed by EdDSA, ES256 or RS256. The
//! algorithm is the key's, never the token's choice alone; nothing else of JOSE is understood.

use std::path::Path;

use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::fetched::FetchedKeys;
use super::watched::Watched;
use super::{Denied, DeviceName, Identity, base64};

const MAX_TOKEN_BYTES: usize = 8 << 10;
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Keys of a JWKS that are looked at: each costs a signature's check for a token that names none.
const MAX_KEYS: usize = 64;

/// What a token must say beside being signed.
#[derive(Clone, Debug)]
pub struct JwtRules {
    /// `aud` must be or hold it; `None` does not look.
    pub audience: Option<String>,
    /// How far the clocks may differ.
    pub leeway: std::time::Duration,
}

/// Public keys that sign tokens: of a file, read again when it changes, of a URL, or of both.
#[derive(Debug)]
pub struct JwtKeys {
    file: Option<Watched<Vec<Key>>>,
    fetched: Option<FetchedKeys>,
}

#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    key: Public,
}

#[derive(Debug)]
enum Public {
    Ed25519(Vec<u8>),
    /// Uncompressed point.
    P256(Vec<u8>),
    /// PKCS#1 RSAPublicKey.
    Rsa(Vec<u8>),
    RsaParts {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

#[derive(serde::Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    exp: Option<f64>,
    nbf: Option<f64>,
    aud: Option<serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(serde::Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Three parts of base64url, the first a JSON object.
pub(super) fn looks_like_one(password: &[u8]) -> bool {
    password.starts_with(b"eyJ") && password.iter().filter(|&&b| b == b'.').count() == 2
}

impl JwtKeys {
    /// Reads a JWKS (RFC 7517) or PEM file of public keys or certificates. Keys of a JWKS that are
    /// of another kind are passed over; in a PEM file they are a mistake.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = Watched::open(path, MAX_FILE_BYTES, read_keys)?;
        Ok(Self { file: Some(file), fetched: None })
    }

    /// Keys that somebody else fetches.
    pub fn fetched(keys: FetchedKeys) -> Self {
        Self { file: None, fetched: Some(keys) }
    }

    /// With keys that somebody else fetches, too.
    #[must_use]
    pub fn and_fetched(self, keys: Option<FetchedKeys>) -> Self {
        Self { fetched: keys, ..self }
    }

    /// Checks a token's signature, its time and its audience. `exp` is required.
    pub fn check(&mut self, token: &[u8], rules: &JwtRules, now_us: i64) -> Result<Identity, Denied> {
        let by_any_key = |kid: Option<&str>, verifies: &dyn Fn(&Key) -> bool| {
            let bad = Err(Denied::BadToken);
            if self.file.as_mut().is_some_and(|file| file.get(now_us).iter().any(verifies)) {
                return Ok(());
            }
            let Some(fetched) = &self.fetched else { return bad };
            if fetched.any(verifies) {
                return Ok(());
            }
            // A key that is known and did not sign it will not be another one after a fetch.
            let is_known = kid.is_some() && fetched.any(|key| key.id.as_deref() == kid);
            let has_keys = fetched.any(|_| true);
            let may_come = !is_known && (kid.is_some() || !has_keys);
            if may_come && fetched.ask() { Err(Denied::KeysPending) } else { bad }
        };
        verify(token, rules, now_us, by_any_key)
    }
}

/// Checks a token. `signed_by` says whether a key that it knows verifies it, given the key's name in the
/// token and what a key must do.
pub(super) fn verify(
    token: &[u8],
    rules: &JwtRules,
    now_us: i64,
    signed_by: impl FnOnce(Option<&str>, &dyn Fn(&Key) -> bool) -> Result<(), Denied>,
) -> Result<Identity, Denied> {
    let bad = Denied::BadToken;
    let token = std::str::from_utf8(token).ok().filter(|t| t.len() <= MAX_TOKEN_BYTES).ok_or(bad)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(bad)?;
    let (head, claims) = signed.split_once('.').ok_or(bad)?;
    let json = |part: &str| base64::decode(part).ok_or(bad);
    let head: Head = serde_json::from_slice(&json(head)?).map_err(|_| bad)?;
    if head.crit.is_some() {
        return Err(bad);
    }
    let signature = json(signature)?;
    let named = |key: &Key| key.id.is_none() || head.kid.is_none() || key.id == head.kid;
    let verifies = |key: &Key| named(key) && key.key.verifies(&head.alg, signed.as_bytes(), &signature);
    signed_by(head.kid.as_deref(), &verifies)?;
    let claims: Claims = serde_json::from_slice(&json(claims)?).map_err(|_| bad)?;
    if let Some(audience) = &rules.audience {
        let named = match &claims.aud {
            Some(serde_json::Value::String(one)) => one == audience,
            Some(serde_json::Value::Array(all)) => all.iter().any(|a| a == audience),
            _ => false,
        };
        if !named {
            return Err(bad);
        }
    }
    let (now, leeway) = (now_us as f64 / 1e6, rules.leeway.as_secs_f64());
    let exp = claims.exp.filter(|e| e.is_finite()).ok_or(bad)?;
    if now >= exp + leeway || claims.nbf.is_some_and(|nbf| now < nbf - leeway) {
        return Err(Denied::Expired);
    }
    let device = DeviceName::new(&claims.sub)?;
    // A float that is too large for the integer is the greatest integer.
    Ok(Identity { device, until_us: Some(((exp + leeway) * 1e6) as i64) })
}

impl Public {
    fn verifies(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        match (self, alg) {
            (Self::Ed25519(key), "EdDSA" | "Ed25519") => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, signature).is_ok()
            }
            (Self::P256(key), "ES256") => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                .verify(signed, signature)
                .is_ok(),
            (Self::Rsa(key), "RS256") => UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key)
                .verify(signed, signature)
                .is_ok(),
            (Self::RsaParts { n, e }, "RS256") => RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
            _ => false,
        }
    }
}

impl Jwk {
    fn public(self) -> Option<Key> {
        let bytes = |text: &Option<String>| text.as_deref().and_then(base64::decode);
        let key = match (&*self.kty, self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Public::Ed25519(bytes(&self.x).filter(|x| x.len() == 32)?),
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                Public::P256([&[4][..], &x, &y].concat())
            }
            ("RSA", _) => Public::RsaParts { n: bytes(&self.n)?, e: bytes(&self.e)? },
            _ => return None,
        };
        Some(Key { id: self.kid, key })
    }
}

/// The usable keys of a JWKS; none is an error.
pub(super) fn read_jwks(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: Jwks = serde_json::from_slice(bytes).map_err(|e| format!(" {e}"))?;
    let keys: Vec<Key> = set.keys.into_iter().filter_map(Jwk::public).take(MAX_KEYS).collect();
    if keys.is_empty() { Err(" no usable key".to_owned()) } else { Ok(keys) }
}

pub(super) fn read_keys(bytes: &[u8]) -> Result<Vec<Key>, String> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return read_jwks(bytes);
    }
    let mut keys = Vec::new();
    for pem in Pem::iter_from_buffer(bytes) {
        let pem = pem.map_err(|e| format!(" {e}"))?;
        let key = public_of_pem(&pem).ok_or_else(|| {
            format!(" `{}` is no public key of Ed25519, P-256 or RSA (2048 bits or more)", pem.label)
        })?;
        keys.push(Key { id: None, key });
    }
    if keys.is_empty() { Err(" no usable key".to_owned()) } else { Ok(keys) }
}

fn public_of_pem(pem: &Pem) -> Option<Public> {
    let certificate: X509Certificate<'_>;
    let bare: SubjectPublicKeyInfo<'_>;
    let info = match &*pem.label {
        "CERTIFICATE" => {
            certificate = X509Certificate::from_der(&pem.contents).ok()?.1;
            certificate.public_key()
        }
        "PUBLIC KEY" => {
            bare = SubjectPublicKeyInfo::from_der(&pem.contents).ok()?.1;
            &bare
        }
        _ => return None,
    };
    let key = info.subject_public_key.data.to_vec();
    let parameters = info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    match &*info.algorithm.algorithm.to_id_string() {
        "1.3.101.112" if key.len() == 32 => Some(Public::Ed25519(key)),
        "1.2.840.10045.2.1" => {
            let p256 = parameters.is_some_and(|p| p.to_id_string() == "1.2.840.10045.3.1.7");
            (p256 && key.len() == 65 && key.first() == Some(&4)).then_some(Public::P256(key))
        }
        "1.2.840.113549.1.1.1" => Some(Public::Rsa(key)),
        _ => None,
    }
}
