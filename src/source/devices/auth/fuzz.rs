//! What strangers show, bent: tokens, certificates, key files. For [`crate::fuzzing`].

use std::time::Duration;

use super::jwt::{read_keys, verify};
use super::{Denied, DeviceName, JwtRules, device_of_certificate};
use crate::codec::base64;
use crate::mqtt::codec::sample::Gen;

/// Public keys of the RFCs' examples, and an RSA key that is none.
const KEYS: &[u8] = br#"{"keys":[
{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
{"kty":"EC","crv":"P-256","kid":"e","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"}]}"#;

/// The first byte says what `data` is.
pub fn token(data: &[u8]) {
    let g = &mut Gen(data);
    match g.pick(4) {
        0 => {
            if let Ok(name) = device_of_certificate(g.0) {
                assert!(DeviceName::new(&name).is_ok());
            }
        }
        // A key file may be refused, or hold keys that fit nothing.
        1 => assert!(read_keys(g.0).is_ok_and(|keys| !keys.is_empty()) || read_keys(g.0).is_err()),
        choice => {
            let keys = read_keys(KEYS).unwrap_or_default();
            assert_eq!(keys.len(), 3);
            let rules =
                JwtRules { audience: g.bit().then(|| "a".to_owned()), leeway: Duration::from_secs(9) };
            let token = if choice == 2 { g.0.to_vec() } else { made(g) };
            let checked = verify(&token, &rules, 1_790_000_000_000_000, |_, verifies| {
                if keys.iter().any(verifies) { Ok(()) } else { Err(Denied::BadToken) }
            });
            assert!(checked.is_err(), "nobody signed this: {checked:?}");
        }
    }
}

/// Three parts in base64, as they should be; only the signature cannot be right.
fn made(g: &mut Gen<'_>) -> Vec<u8> {
    let alg = ["EdDSA", "ES256", "RS256", "none", "HS256", ""][usize::from(g.pick(6))];
    let kid = ["k", "e", "r", "x"][usize::from(g.pick(4))];
    let head = format!("{{\"alg\":\"{alg}\",\"kid\":\"{kid}\"}}");
    let n = usize::from(g.u8());
    let plain = br#"{"sub":"box","aud":"a","exp":1e99}"#;
    let claims = if g.bit() { g.take(n) } else { plain };
    let mut out = Vec::new();
    for (n, part) in [head.as_bytes(), claims, g.take(256)].into_iter().enumerate() {
        if n > 0 {
            out.push(b'.');
        }
        base64::encode(part, &mut out);
    }
    out
}
