use std::path::PathBuf;
use std::time::Duration;

use super::fixtures::{JWKS, PASSWORDS, TOKENS};
use super::*;

const NOW: i64 = 1_500_000_000_000_000;

struct Temp(PathBuf);

impl Temp {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dts-auth-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn rules() -> JwtRules {
    JwtRules { audience: Some("dts".into()), leeway: Duration::from_secs(60) }
}

fn all_keys() -> String {
    TOKENS.iter().map(|(_, key, _)| *key).collect()
}

#[test]
fn names_fit_a_topic() {
    for good in ["a", "box-7", "A.b_c-9", &"x".repeat(64)] {
        assert_eq!(&*DeviceName::new(good).unwrap(), good);
    }
    for bad in ["", "a/b", "a+b", "#", "ä", "a b", "a\0", &"x".repeat(65)] {
        assert_eq!(DeviceName::new(bad), Err(Denied::BadName), "{bad:?}");
    }
}

#[test]
fn client_ids_are_the_device_s_own() {
    let device = DeviceName::new("box").unwrap();
    let instance = |id: &str| ClientId::of(&device, id).map(|c| c.instance);
    assert_eq!(instance("box"), Ok("".into()));
    assert_eq!(instance("box:x"), Ok("x".into()));
    for bad in ["bo", "boxy", "other", "box2:x", "", "box:\u{7}", &format!("box:{}", "x".repeat(65))] {
        assert_eq!(instance(bad), Err(Denied::BadClientId), "{bad:?}");
    }
    assert_eq!(ClientId::of(&device, "box:00000000000000ff").unwrap().agent(), Some(255));
    assert_eq!(ClientId::of(&device, "box:ff").unwrap().agent(), None);
}

#[test]
fn certificates_name_devices() {
    let made = |urns: &[&str], names: &[&str]| {
        let mut p = rcgen::CertificateParams::default();
        p.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            p.distinguished_name.push(rcgen::DnType::CommonName, *name);
        }
        for urn in urns {
            p.subject_alt_names.push(rcgen::SanType::URI((*urn).try_into().unwrap()));
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let der = p.self_signed(&key).unwrap();
        device_of_certificate(der.der()).map(|n| n.to_string())
    };
    assert_eq!(made(&["urn:dts:device:box-7"], &["other"]).as_deref(), Ok("box-7"));
    assert_eq!(made(&["https://example.org/x"], &["box-8"]).as_deref(), Ok("box-8"));
    assert_eq!(made(&["urn:dts:device:a", "urn:dts:device:b"], &["c"]), Err(Denied::BadCertificate));
    assert_eq!(made(&["urn:dts:device:a/b"], &["c"]), Err(Denied::BadName), "no way around a bad URI");
    assert_eq!(made(&[], &[]), Err(Denied::BadCertificate));
    assert_eq!(made(&[], &["two words"]), Err(Denied::BadName));
    assert_eq!(device_of_certificate(b"no certificate"), Err(Denied::BadCertificate));
}

#[test]
fn passwords_are_mosquitto_s() {
    let file = Temp::new("passwords", PASSWORDS);
    let mut users = PasswordFile::open(&file.0).unwrap();
    assert!(users.check("box-7", b"correct horse", NOW));
    assert!(users.check("box-8", b"other", NOW));
    assert!(!users.check("box-7", b"other", NOW));
    assert!(!users.check("box-7", b"", NOW));
    assert!(!users.check("nobody", b"correct horse", NOW));
    assert!(!format!("{users:?}").contains("$7$"));
}

#[test]
fn a_changed_password_file_is_read_again_and_a_broken_one_is_not() {
    let file = Temp::new("changed", PASSWORDS);
    let mut users = PasswordFile::open(&file.0).unwrap();
    assert!(users.check("box-7", b"correct horse", NOW));
    let only_other: Vec<&str> = PASSWORDS.lines().filter(|l| !l.starts_with("box-7")).collect();
    std::fs::write(&file.0, only_other.join("\n")).unwrap();
    assert!(users.check("box-7", b"correct horse", NOW + 1), "looked at once a second");
    assert!(!users.check("box-7", b"correct horse", NOW + 1_000_001));
    std::fs::write(&file.0, "box-8:plain").unwrap();
    assert!(users.check("box-8", b"other", NOW + 3_000_000), "the last good one counts");
    std::fs::remove_file(&file.0).unwrap();
    assert!(users.check("box-8", b"other", NOW + 6_000_000));
}

#[test]
fn bad_password_files_say_the_line_and_no_hash() {
    for (text, why) in [
        ("ok\n", ":1: expected user:hash"),
        ("\na:$6$secret$hash", ":2: only $7$"),
        ("a:$7$0$AAAA$AAAA", "iterations"),
        ("a:$7$9999999$AAAA$AAAA", "iterations"),
        ("a:$7$101$AAAA", "expected $7$"),
        ("a:$7$101$!$AAAA", "salt"),
        ("a:$7$101$AAAA$c2VjcmV0", "hash is not"),
    ] {
        let file = Temp::new("bad", text);
        let error = PasswordFile::open(&file.0).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("secret") && !error.contains("c2Vj"), "{error}");
    }
}

#[test]
fn tokens_of_each_algorithm_are_taken_with_keys_of_each_form() {
    for (form, text) in [("pem", all_keys()), ("jwks", JWKS.to_owned())] {
        let file = Temp::new(form, &text);
        let mut keys = JwtKeys::open(&file.0).unwrap();
        for (alg, _, token) in TOKENS {
            let who = keys.check(token.as_bytes(), &rules(), NOW).unwrap();
            assert_eq!((&*who.device, who.until_us), ("box-7", Some(2_000_000_060_000_000)), "{alg} {form}");
        }
    }
}

#[test]
fn a_token_has_its_time_and_its_audience() {
    let file = Temp::new("time", &all_keys());
    let mut keys = JwtKeys::open(&file.0).unwrap();
    let mut at = |s: i64| keys.check(TOKENS[0].2.as_bytes(), &rules(), s * 1_000_000).map(|_| ());
    assert_eq!(at(2_000_000_059), Ok(()));
    assert_eq!(at(2_000_000_060), Err(Denied::Expired));
    assert_eq!(at(999_999_940), Ok(()));
    assert_eq!(at(999_999_939), Err(Denied::Expired));
    let mut check = |audience: Option<&str>| {
        let rules = JwtRules { audience: audience.map(Into::into), ..rules() };
        keys.check(TOKENS[1].2.as_bytes(), &rules, NOW).is_ok()
    };
    assert!(check(None) && check(Some("other")) && !check(Some("elsewhere")));
}

#[test]
fn tokens_that_are_not_signed_for_us_are_refused() {
    let one = Temp::new("one", TOKENS[0].1);
    let mut keys = JwtKeys::open(&one.0).unwrap();
    let mut bad = |token: &str| {
        assert_eq!(keys.check(token.as_bytes(), &rules(), NOW), Err(Denied::BadToken), "{token}")
    };
    // Another's key, whatever the algorithm.
    bad(TOKENS[1].2);
    bad(TOKENS[2].2);
    let (signed, signature) = TOKENS[0].2.rsplit_once('.').unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    // No signature, another head, other claims, cut short, too long.
    let url = |text: &str| base64::encode_url(text.as_bytes());
    bad(&format!("{}.{claims}.", url(r#"{"alg":"none"}"#)));
    bad(&format!("{}.{claims}.{signature}", url(r#"{"alg":"HS256"}"#)));
    bad(&format!("{}.{claims}.{signature}", url(r#"{"alg":"EdDSA","crit":["x"]}"#)));
    bad(&format!("{head}.{}.{signature}", url(r#"{"sub":"box-8","exp":2000000000,"aud":"dts"}"#)));
    for text in ["", ".", "..", "...", "eyJ.!.x", signed, head] {
        bad(text);
    }
    bad(&format!("{}.{}", signed, "A".repeat(9000)));
}

#[test]
fn a_key_that_is_taken_out_of_the_file_signs_nothing_more() {
    let file = Temp::new("rotated", TOKENS[0].1);
    let mut keys = JwtKeys::open(&file.0).unwrap();
    assert!(keys.check(TOKENS[0].2.as_bytes(), &rules(), NOW).is_ok());
    std::fs::write(&file.0, TOKENS[1].1).unwrap();
    assert!(keys.check(TOKENS[0].2.as_bytes(), &rules(), NOW + 2_000_000).is_err());
    assert!(keys.check(TOKENS[1].2.as_bytes(), &rules(), NOW + 2_000_000).is_ok());
}

#[test]
fn key_files_without_a_usable_key_are_refused() {
    for text in [
        "",
        "garbage",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct"}]}"#,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        let file = Temp::new("none", text);
        assert!(JwtKeys::open(&file.0).is_err(), "{text}");
    }
}

#[test]
fn the_authority_takes_tokens_and_passwords_side_by_side() {
    let (users, keys) = (Temp::new("both-users", PASSWORDS), Temp::new("both-keys", &all_keys()));
    let mut all = Authority {
        passwords: Some(PasswordFile::open(&users.0).unwrap()),
        tokens: Some((JwtKeys::open(&keys.0).unwrap(), rules())),
    };
    let mut who = |user: Option<&str>, password: Option<&[u8]>| {
        all.check(user, password, NOW).map(|i| i.device.to_string())
    };
    assert_eq!(who(Some("box-8"), Some(b"other")).as_deref(), Ok("box-8"));
    assert_eq!(who(Some("whatever"), Some(TOKENS[0].2.as_bytes())).as_deref(), Ok("box-7"));
    assert_eq!(who(Some("box-8"), Some(b"wrong")), Err(Denied::WrongPassword));
    assert_eq!(who(None, Some(b"other")), Err(Denied::Nobody));
    assert_eq!(who(Some("box-8"), None), Err(Denied::Nobody));
    assert_eq!(Authority::default().check(Some("a"), Some(b"b"), NOW), Err(Denied::WrongPassword));
}

#[test]
fn base64_reads_back_and_refuses_garbage() {
    for text in ["", "f", "fo", "foo", "foob"] {
        assert_eq!(base64::decode(&base64::encode_url(text.as_bytes())).unwrap(), text.as_bytes());
    }
    assert_eq!(base64::decode("Zm9vYg==").unwrap(), b"foob");
    assert_eq!(base64::decode("-_-_").unwrap(), base64::decode("+/+/").unwrap());
    for bad in ["A", "AB!", "A B", "AAAAB"] {
        assert_eq!(base64::decode(bad), None, "{bad}");
    }
}
