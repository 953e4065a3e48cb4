//! Tokens: what is signed is read again, and nothing else is.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::token::{Claims, Keys, Kind, TokenError};
use sha2::Sha256;

const SECRET: [u8; 32] = [7; 32];
const NOW_S: u64 = 1_800_000_000;

fn keys() -> Keys {
    Keys::with_new_key("k1", SECRET)
}

fn claims() -> Claims {
    Claims {
        user: UserId(42),
        device: Device::Web,
        version: 3,
        issued_at_s: NOW_S,
        expires_at_s: NOW_S + 60,
        kind: Kind::Access,
    }
}

/// A token of these parts, signed with the key as any other implementation would.
fn signed(header: &str, body: &str) -> String {
    let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(body));
    let mac = Hmac::<Sha256>::new_from_slice(&SECRET).expect("a key").chain_update(&signed).finalize();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.into_bytes()))
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#;
const BODY: &str = r#"{"sub":"42","dev":4,"ver":3,"iat":1800000000,"exp":1800000060,"kind":"access"}"#;

fn verify(token: &str) -> Result<Claims, TokenError> {
    keys().verify(token, NOW_S, Kind::Access)
}

#[test]
fn what_was_signed_is_read_again() {
    for kind in [Kind::Access, Kind::Refresh] {
        for device in Device::ALL {
            let claims = Claims { kind, device, user: UserId(u64::MAX), version: u32::MAX, ..claims() };
            let token = keys().sign(&claims);
            assert_eq!(keys().verify(&token, NOW_S, kind), Ok(claims));
        }
    }
}

#[test]
fn the_largest_token_fits_its_bound() {
    let keys = Keys::with_new_key(&"k".repeat(32), SECRET);
    let claims = Claims {
        user: UserId(u64::MAX),
        version: u32::MAX,
        issued_at_s: u64::MAX,
        expires_at_s: u64::MAX,
        kind: Kind::Refresh,
        ..claims()
    };
    let token = keys.sign(&claims);
    assert!(token.len() <= limits::TOKEN_BYTES_MAX);
    assert_eq!(keys.verify(&token, NOW_S, Kind::Refresh), Ok(claims));
}

#[test]
fn it_is_a_plain_jwt() {
    // The layout that other tools read and write, byte for byte.
    assert_eq!(keys().sign(&claims()), signed(HEADER, BODY));
}

#[test]
fn its_time_is_over_at_the_second_it_names() {
    let token = keys().sign(&claims());
    assert!(keys().verify(&token, NOW_S + 59, Kind::Access).is_ok());
    assert_eq!(keys().verify(&token, NOW_S + 60, Kind::Access), Err(TokenError::Expired));
}

#[test]
fn one_kind_does_not_stand_for_the_other() {
    let access = keys().sign(&claims());
    let refresh = keys().sign(&Claims { kind: Kind::Refresh, ..claims() });
    assert_eq!(keys().verify(&access, NOW_S, Kind::Refresh), Err(TokenError::WrongKind));
    assert_eq!(keys().verify(&refresh, NOW_S, Kind::Access), Err(TokenError::WrongKind));
}

#[test]
fn each_changed_character_is_noticed() {
    let token = keys().sign(&claims());
    for at in 0..token.len() {
        for replacement in ["A", "z", ".", "=", "-"] {
            let mut forged = token.clone();
            forged.replace_range(at..=at, replacement);
            if forged != token {
                let error = verify(&forged).expect_err("refused");
                assert_ne!(error, TokenError::Expired, "nothing of it is believed: {forged}");
            }
        }
    }
    for end in 0..token.len() {
        assert!(verify(&token[..end]).is_err());
    }
}

#[test]
fn another_secret_and_another_key_are_told_apart() {
    let token = keys().sign(&claims());
    let forger = Keys::with_new_key("k1", [8; 32]);
    assert_eq!(forger.verify(&token, NOW_S, Kind::Access), Err(TokenError::BadSignature));
    let other = Keys::with_new_key("k2", SECRET);
    assert_eq!(other.verify(&token, NOW_S, Kind::Access), Err(TokenError::UnknownKey));
}

#[test]
fn no_algorithm_but_hs256() {
    assert!(verify(&signed(HEADER, BODY)).is_ok(), "the parts are right");
    for header in [
        r#"{"alg":"none","typ":"JWT","kid":"k1"}"#,
        r#"{"alg":"None","kid":"k1"}"#,
        r#"{"alg":"hs256","kid":"k1"}"#,
        r#"{"alg":"HS512","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1"}"#,
        r#"{"alg":["HS256"],"kid":"k1"}"#,
        r#"{"kid":"k1"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"none","kid":"k1"}"#,
        r#"{"alg":"HS256","kid":"k1","crit":["exp"]}"#,
        r#"{"alg":"HS256","kid":"k1","typ":"JWE"}"#,
    ] {
        assert_eq!(verify(&signed(header, BODY)), Err(TokenError::Malformed), "{header}");
    }
    let none = format!(
        "{}.{}.",
        BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k1"}"#),
        BASE64_URL_SAFE_NO_PAD.encode(BODY)
    );
    assert_eq!(verify(&none), Err(TokenError::Malformed));
}

#[test]
fn a_signed_body_must_still_be_one() {
    for (from, to) in [
        (r#""42""#, r#""0""#),
        (r#""42""#, r#""-1""#),
        (r#""42""#, "42"),
        (r#""dev":4"#, r#""dev":9"#),
        (r#""kind":"access""#, r#""kind":"root""#),
        (r#","exp":1800000060"#, ""),
        ("1800000060", "1e99"),
    ] {
        assert!(BODY.contains(from));
        let token = signed(HEADER, &BODY.replace(from, to));
        assert_eq!(verify(&token), Err(TokenError::Malformed), "{to}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let long = "a".repeat(limits::TOKEN_BYTES_MAX + 1);
    for text in ["", ".", "..", "...", "a.b", "a.b.c", "ä.ö.ü", &long, &format!("{long}.{long}.{long}")] {
        assert_eq!(verify(text), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn keys_rotate() {
    let mut keys = keys();
    let old = keys.sign(&claims());
    keys.rotate("k2", [9; 32]);
    let new = keys.sign(&claims());
    assert_ne!(old, new);
    for keys in [keys.clone(), Keys::from_json(&keys.to_json()).expect("read again")] {
        assert!(keys.verify(&old, NOW_S, Kind::Access).is_ok());
        assert!(keys.verify(&new, NOW_S, Kind::Access).is_ok());
        assert_eq!(keys.sign(&claims()), new);
    }
    for n in 0..limits::TOKEN_KEYS_MAX - 1 {
        keys.rotate(&format!("later-{n}"), [n as u8; 32]);
    }
    assert_eq!(keys.verify(&old, NOW_S, Kind::Access), Err(TokenError::UnknownKey), "the oldest went");
    assert!(keys.verify(&new, NOW_S, Kind::Access).is_ok());
}

#[test]
fn the_file_is_as_documented() {
    let secret = base64::prelude::BASE64_STANDARD.encode(SECRET);
    let text = format!(r#"{{"sign_with":"k1","keys":[{{"id":"k1","secret":"{secret}"}}]}}"#);
    assert_eq!(keys().to_json(), text);
    let read = Keys::from_json(&text).expect("valid");
    assert!(read.verify(&keys().sign(&claims()), NOW_S, Kind::Access).is_ok());
}

#[test]
fn a_bad_file_is_named_without_its_secrets() {
    let secret = base64::prelude::BASE64_STANDARD.encode(SECRET);
    let key = format!(r#"{{"id":"k1","secret":"{secret}"}}"#);
    let short = base64::prelude::BASE64_STANDARD.encode([7; 31]);
    let many = (0..=limits::TOKEN_KEYS_MAX)
        .map(|n| format!(r#"{{"id":"k{n}","secret":"{secret}"}}"#))
        .collect::<Vec<_>>()
        .join(",");
    for (text, names) in [
        (format!(r#"{{"sign_with":"k1","keys":[{key}]"#), "line 1"),
        (format!(r#"{{"sign_with":"k1","keys":[{key}],"more":1}}"#), "line 1"),
        (format!(r#"{{"sign_with":"k1","keys":["{secret}"]}}"#), "line 1"),
        (r#"{"sign_with":"k1","keys":[]}"#.to_owned(), "not 0"),
        (format!(r#"{{"sign_with":"k1","keys":[{many}]}}"#), "not 17"),
        (format!(r#"{{"sign_with":"k1","keys":[{key},{key}]}}"#), "twice"),
        (format!(r#"{{"sign_with":"k2","keys":[{key}]}}"#), "\"k2\""),
        (format!(r#"{{"sign_with":"k1","keys":[{{"id":"k1","secret":"{short}"}}]}}"#), "32 bytes"),
        (format!(r#"{{"sign_with":"","keys":[{{"id":"","secret":"{secret}"}}]}}"#), "letters"),
        (format!(r#"{{"sign_with":"a b","keys":[{{"id":"a b","secret":"{secret}"}}]}}"#), "letters"),
    ] {
        let error = Keys::from_json(&text).expect_err("refused").to_string();
        assert!(error.contains(names), "{error}");
        assert!(!error.contains(&secret) && !error.contains(&short), "{error}");
    }
}

#[test]
fn printing_keys_shows_no_secret() {
    let printed = format!("{:?}", Keys::with_new_key("k1", [0xAB; 32]));
    assert_eq!(printed, r#"Keys { sign_with: "k1", ids: ["k1"] }"#);
}
