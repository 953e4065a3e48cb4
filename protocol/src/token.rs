//! The tokens that users log in with: JWTs (RFC 7519) signed with HS256 and nothing else, under several keys so that a
//! key can be replaced while tokens of the one before it are still good.

use std::fmt;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use thiserror::Error;

use crate::ids::{Device, UserId};
use crate::limits;

/// Bytes of a key's secret: as many as SHA-256 gives (RFC 7518, section 3.2).
pub const SECRET_BYTES: usize = 32;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To connect, and for HTTP calls.
    Access,
    /// To get a new access token.
    Refresh,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is.
    pub user: UserId,
    /// The device type that logged in.
    pub device: Device,
    /// The account's token version when it was issued. A token of an earlier version than the account's is revoked.
    pub version: u32,
    /// Seconds since 1970.
    pub issued_at_s: u64,
    /// Seconds since 1970 at which it is no longer good.
    pub expires_at_s: u64,
    /// What it is good for.
    pub kind: Kind,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not a JWT with HS256 and Petrel's claims, or too long.
    #[error("the token is malformed: send the one that the login gave, whole")]
    Malformed,
    /// Signed with a key that is not there, or not any more.
    #[error("the token's key is unknown here: log in again")]
    UnknownKey,
    /// Changed after it was signed, or signed by somebody else.
    #[error("the token's signature is wrong: log in again")]
    BadSignature,
    /// Its time is over.
    #[error("the token has expired: refresh it, or log in again")]
    Expired,
    /// A refresh token where an access token belongs, or the other way round.
    #[error("the token is of the wrong kind: connect with the access token, refresh with the refresh token")]
    WrongKind,
}

/// The keys that sign and verify tokens. Printing them for debugging shows their ids alone.
#[derive(Clone)]
pub struct Keys {
    /// In the order in which they were added; never empty.
    keys: Vec<Key>,
    sign_with: usize,
}

/// Why a text does not hold keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// Not the JSON that [`Keys::to_json`] writes. The parser's words name a place, never a secret.
    #[error("the token keys are not valid JSON of the expected form at line {line}, column {column}")]
    NotJson {
        /// The line at which the parser stopped.
        line: usize,
        /// The column.
        column: usize,
    },
    /// No keys, or too many.
    #[error("there must be 1 to {max} token keys, not {0}", max = limits::TOKEN_KEYS_MAX)]
    BadCount(usize),
    /// An id that cannot be one.
    #[error("the token key id {0:?} must be 1 to 32 letters, digits, `-` or `_`")]
    BadId(String),
    /// The same id twice.
    #[error("the token key id {0:?} is there twice: remove one")]
    Twice(String),
    /// A secret that is not 32 bytes in base64.
    #[error("the secret of the token key {0:?} must be 32 bytes in base64")]
    BadSecret(String),
    /// The key to sign with is not among the keys.
    #[error("`sign_with` names the token key {0:?}, which is not among `keys`")]
    NoSigner(String),
}

impl Keys {
    /// Keys with this one alone.
    ///
    /// # Panics
    /// The id is not 1 to 32 letters, digits, `-` or `_`.
    pub fn with_new_key(id: &str, secret: [u8; SECRET_BYTES]) -> Self {
        assert!(is_key_id(id), "a key id is 1 to 32 letters, digits, `-` or `_`");
        Self { keys: vec![Key::new(id, secret)], sign_with: 0 }
    }

    /// Adds a key, which signs from now on; the others still verify. The oldest goes where there are more than
    /// [`limits::TOKEN_KEYS_MAX`].
    ///
    /// # Panics
    /// The id is taken, or not 1 to 32 letters, digits, `-` or `_`.
    pub fn rotate(&mut self, id: &str, secret: [u8; SECRET_BYTES]) {
        assert!(is_key_id(id) && self.find(id).is_none(), "a new key has an id of its own");
        if self.keys.len() == limits::TOKEN_KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(Key::new(id, secret));
        self.sign_with = self.keys.len() - 1;
    }

    /// Reads what [`Self::to_json`] wrote:
    /// `{"sign_with":"k1","keys":[{"id":"k1","secret":"<base64, 32 bytes>"}]}`.
    pub fn from_json(text: &str) -> Result<Self, KeysError> {
        let file: KeysFile = serde_json::from_str(text)
            .map_err(|e| KeysError::NotJson { line: e.line(), column: e.column() })?;
        if file.keys.is_empty() || file.keys.len() > limits::TOKEN_KEYS_MAX {
            return Err(KeysError::BadCount(file.keys.len()));
        }
        let mut keys: Vec<Key> = Vec::with_capacity(file.keys.len());
        for KeyFile { id, secret } in file.keys {
            if !is_key_id(&id) {
                return Err(KeysError::BadId(id));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(KeysError::Twice(id));
            }
            let secret = BASE64_STANDARD.decode(&secret).ok().and_then(|bytes| bytes.try_into().ok());
            let Some(secret) = secret else { return Err(KeysError::BadSecret(id)) };
            keys.push(Key::new(&id, secret));
        }
        let Some(sign_with) = keys.iter().position(|key| key.id == file.sign_with) else {
            return Err(KeysError::NoSigner(file.sign_with));
        };
        Ok(Self { keys, sign_with })
    }

    /// The keys, secrets included, as JSON.
    pub fn to_json(&self) -> String {
        // Ids and base64 need no escaping.
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!(r#"{{"id":"{}","secret":"{}"}}"#, key.id, BASE64_STANDARD.encode(key.secret)))
            .collect();
        format!(r#"{{"sign_with":"{}","keys":[{}]}}"#, self.keys[self.sign_with].id, keys.join(","))
    }

    /// Makes a token.
    pub fn sign(&self, claims: &Claims) -> String {
        let key = &self.keys[self.sign_with];
        let Claims { user, device, version, issued_at_s, expires_at_s, kind } = *claims;
        let device = device as u32;
        let kind = match kind {
            Kind::Access => ACCESS,
            Kind::Refresh => REFRESH,
        };
        // Numbers and two known words need no escaping.
        let body = format!(
            r#"{{"sub":"{user}","dev":{device},"ver":{version},"iat":{issued_at_s},"exp":{expires_at_s},"kind":"{kind}"}}"#
        );
        let mut token = String::with_capacity(TOKEN_CAPACITY);
        token.push_str(&key.header);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(body, &mut token);
        let mac = key.mac.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        debug_assert!(token.len() <= limits::TOKEN_BYTES_MAX);
        token
    }

    /// Reads a token that must be good at `now_s` (seconds since 1970) for `kind`. Nothing of its claims is parsed before
    /// its signature was found right, and the signature is compared in constant time.
    pub fn verify(&self, token: &str, now_s: u64, kind: Kind) -> Result<Claims, TokenError> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, body) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let mut room = [0; limits::TOKEN_BYTES_MAX];
        let header: Header<'_> = parse(header, &mut room)?;
        if header.alg != "HS256" || header.crit.is_some() || header.typ.is_some_and(|typ| typ != "JWT") {
            return Err(TokenError::Malformed);
        }
        let key = self.find(header.kid).ok_or(TokenError::UnknownKey)?;
        let mut mac = [0; MAC_BYTES];
        match BASE64_URL_SAFE_NO_PAD.decode_slice(signature, &mut mac) {
            Ok(MAC_BYTES) => {}
            _ => return Err(TokenError::Malformed),
        }
        key.mac.clone().chain_update(signed).verify_slice(&mac).map_err(|_| TokenError::BadSignature)?;
        let claims = parse::<Body<'_>>(body, &mut room)?.claims().ok_or(TokenError::Malformed)?;
        if now_s >= claims.expires_at_s {
            return Err(TokenError::Expired);
        }
        if claims.kind != kind {
            return Err(TokenError::WrongKind);
        }
        Ok(claims)
    }

    fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("Keys").field("sign_with", &ids[self.sign_with]).field("ids", &ids).finish()
    }
}

const MAC_BYTES: usize = 32;
const KEY_ID_BYTES_MAX: usize = 32;
/// Room for the usual token, so that signing takes memory once.
const TOKEN_CAPACITY: usize = 256;
const ACCESS: &str = "access";
const REFRESH: &str = "refresh";

#[derive(Clone)]
struct Key {
    id: String,
    secret: [u8; SECRET_BYTES],
    /// The MAC with the secret already taken in: half of the work of a short token.
    mac: Hmac<Sha256>,
    /// The encoded header of the tokens that this key signs.
    header: String,
}

impl Key {
    fn new(id: &str, secret: [u8; SECRET_BYTES]) -> Self {
        let mac = Hmac::new_from_slice(&secret).expect("a MAC takes a key of any length");
        let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{id}"}}"#));
        Self { id: id.to_owned(), secret, mac, header }
    }
}

fn is_key_id(id: &str) -> bool {
    (1..=KEY_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Decodes one part of a token into `room` and reads it.
fn parse<'a, T: Deserialize<'a>>(part: &str, room: &'a mut [u8]) -> Result<T, TokenError> {
    let len = BASE64_URL_SAFE_NO_PAD.decode_slice(part, room).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&room[..len]).map_err(|_| TokenError::Malformed)
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: Option<&'a str>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11): none is.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Body<'a> {
    sub: &'a str,
    dev: u32,
    ver: u32,
    iat: u64,
    exp: u64,
    kind: &'a str,
}

impl Body<'_> {
    fn claims(&self) -> Option<Claims> {
        Some(Claims {
            user: self.sub.parse().ok().filter(|&id| id != 0).map(UserId)?,
            device: Device::from_number(self.dev)?,
            version: self.ver,
            issued_at_s: self.iat,
            expires_at_s: self.exp,
            kind: match self.kind {
                ACCESS => Kind::Access,
                REFRESH => Kind::Refresh,
                _ => return None,
            },
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    sign_with: String,
    keys: Vec<KeyFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    id: String,
    secret: String,
}
