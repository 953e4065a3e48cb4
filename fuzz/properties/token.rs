//! Nothing but a signed token is believed; what is signed is read without a panic and, where it is good, means the same
//! when it is signed again; keys that are read are written alike.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use petrel_protocol::token::{Keys, Kind, TokenError};
use sha2::Sha256;

const SECRET: [u8; 32] = [7; 32];
const NOW_S: u64 = 1_800_000_000;

/// A text that stands for a token, a key file, or, if it has a line end, a header and a body to be signed.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keys = Keys::with_new_key("k1", SECRET);
    for kind in [Kind::Access, Kind::Refresh] {
        assert!(keys.verify(text, NOW_S, kind).is_err(), "nobody knows the secret");
    }
    if let Ok(keys) = Keys::from_json(text) {
        let written = keys.to_json();
        assert_eq!(Keys::from_json(&written).expect("what was written is valid").to_json(), written);
    }
    if let Some((header, body)) = text.split_once('\n') {
        check_signed(&keys, header, body);
    }
}

fn check_signed(keys: &Keys, header: &str, body: &str) {
    let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(body));
    let mac = Hmac::<Sha256>::new_from_slice(&SECRET).expect("any length").chain_update(&signed).finalize();
    let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.into_bytes()));
    let verified = keys.verify(&token, NOW_S, Kind::Access);
    assert_ne!(verified, Err(TokenError::BadSignature));
    if let Ok(claims) = verified {
        assert!(claims.user.0 != 0 && claims.expires_at_s > NOW_S && claims.kind == Kind::Access);
        assert_eq!(keys.verify(&keys.sign(&claims), NOW_S, Kind::Access), Ok(claims));
    }
}
