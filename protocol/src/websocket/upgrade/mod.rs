//! The HTTP part of WebSocket (RFC 6455, section 4): the server reads a request and accepts or refuses it, the client
//! writes one and reads the answer.
//!
//! A request that does not ask for an upgrade is given to the caller as it is ([`Request::Plain`]), so that one port
//! can answer a health check too. Every answer but an acceptance ends the connection.

mod client;
mod refusal;

use std::str;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_HEADERS_MAX};

pub use client::{ResponseFault, client_request, parse_response};
pub use refusal::Refusal;

/// The path that clients connect to.
pub const PATH: &str = "/websocket";
/// The subprotocol of a client that cannot set headers: it offers this one and `token.<jwt>`.
pub const SUBPROTOCOL: &str = "petrel.v1";

/// A complete request.
#[derive(Debug)]
pub enum Request<'a> {
    /// A valid request for a WebSocket, and its bytes. What follows them are frames already.
    Upgrade(Upgrade<'a>, usize),
    /// A GET that asks for no upgrade.
    Plain(Plain<'a>),
}

/// A valid request for a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    target: &'a str,
    token: Option<&'a str>,
    key: Key,
    offers_petrel: bool,
}

impl<'a> Upgrade<'a> {
    /// The path, without a query.
    pub fn path(&self) -> &'a str {
        split_target(self.target).0
    }

    /// `userId` of the query, where it is a number. It is for load balancers; who the user is, the token says.
    pub fn user_id(&self) -> Option<u64> {
        let mut pairs = split_target(self.target).1.split('&');
        pairs.find_map(|pair| pair.strip_prefix("userId="))?.parse().ok()
    }

    /// The token: from the header `token`, else from `Authorization: Bearer`, else from the subprotocols.
    pub fn token(&self) -> Option<&'a str> {
        self.token
    }

    /// The subprotocol that the answer names: `petrel.v1` where it was offered.
    pub fn subprotocol(&self) -> Option<&'static str> {
        self.offers_petrel.then_some(SUBPROTOCOL)
    }
}

/// A GET that asks for no upgrade.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    target: &'a str,
}

impl<'a> Plain<'a> {
    /// The path, without a query.
    pub fn path(&self) -> &'a str {
        split_target(self.target).0
    }

    /// The query, without its question mark.
    pub fn query(&self) -> &'a str {
        split_target(self.target).1
    }
}

/// `Sec-WebSocket-Key`: 16 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key([u8; 24]);

impl Key {
    /// The key of a client's 16 random bytes.
    fn from_nonce(nonce: [u8; 16]) -> Self {
        let mut text = [0; 24];
        BASE64_STANDARD.encode_slice(nonce, &mut text).expect("16 bytes are 24 in base64");
        Self(text)
    }

    fn from_header(value: &[u8]) -> Option<Self> {
        let text: [u8; 24] = value.try_into().ok()?;
        let mut nonce = [0; 18];
        (BASE64_STANDARD.decode_slice(text, &mut nonce) == Ok(16)).then_some(Self(text))
    }

    /// As it stands in the header.
    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("base64 is ASCII")
    }

    /// `Sec-WebSocket-Accept` of this key.
    fn accept(&self) -> [u8; 28] {
        let digest = Sha1::new().chain_update(self.0).chain_update(ACCEPT_GUID).finalize();
        let mut text = [0; 28];
        BASE64_STANDARD.encode_slice(digest, &mut text).expect("20 bytes are 28 in base64");
        text
    }
}

/// Section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Reads the request at the start of `bytes`, which are all that the connection brought so far; none while it is
/// incomplete. The request is at most [`HANDSHAKE_BYTES_MAX`] long, whatever follows it.
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = &bytes[..bytes.len().min(HANDSHAKE_BYTES_MAX)];
    let consumed = match request.parse(head) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if bytes.len() < HANDSHAKE_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::TooLarge);
        }
        Err(_) => return Err(Refusal::Bad("this is not an HTTP request: send a WebSocket upgrade request")),
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if method != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    let found = Headers::read(request.headers)?;
    if !found.asks_for_websocket {
        return Ok(Some(Request::Plain(Plain { target })));
    }
    if request.version != Some(1) {
        return Err(Refusal::Bad("the upgrade needs HTTP/1.1"));
    }
    if !found.has_host {
        return Err(Refusal::Bad("the header Host is missing"));
    }
    if !found.connection_upgrades {
        return Err(Refusal::Bad("the header Connection must contain Upgrade"));
    }
    if found.has_body {
        return Err(Refusal::Bad(
            "an upgrade request has no body: leave out Content-Length and Transfer-Encoding",
        ));
    }
    if found.version != Some(b"13") {
        return Err(Refusal::WrongVersion);
    }
    let Some(key) = found.key.and_then(Key::from_header) else {
        return Err(Refusal::Bad("the header Sec-WebSocket-Key must be 16 bytes in base64"));
    };
    let token = found.token.or(found.bearer).or(found.subprotocol_token);
    let upgrade = Upgrade { target, token, key, offers_petrel: found.offers_petrel };
    Ok(Some(Request::Upgrade(upgrade, consumed)))
}

/// Appends the answer that accepts a request.
pub fn accept_response(out: &mut Vec<u8>, request: &Upgrade<'_>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&request.key.accept());
    if let Some(subprotocol) = request.subprotocol() {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a whole answer to a plain request; it ends the connection. `status` is the number and its words, as in
/// `200 OK`; `headers` are whole lines, each with its line end.
pub fn plain_response(out: &mut Vec<u8>, status: &str, headers: &str, body: &str) {
    let length = body.len().to_string();
    let parts = [
        "HTTP/1.1 ",
        status,
        "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ",
        &length,
        "\r\nConnection: close\r\n",
        headers,
        "\r\n",
        body,
    ];
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What the headers of a request say.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a header that was there or not")]
struct Headers<'a> {
    has_host: bool,
    has_body: bool,
    asks_for_websocket: bool,
    connection_upgrades: bool,
    offers_petrel: bool,
    version: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    token: Option<&'a str>,
    bearer: Option<&'a str>,
    subprotocol_token: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for httparse::Header { name, value } in headers {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            let value = value.trim_ascii();
            if is("host") {
                found.has_host = true;
            } else if is("upgrade") {
                found.asks_for_websocket |= elements(value).any(|e| e.eq_ignore_ascii_case(b"websocket"));
            } else if is("connection") {
                found.connection_upgrades |= elements(value).any(|e| e.eq_ignore_ascii_case(b"upgrade"));
            } else if is("sec-websocket-version") {
                once(&mut found.version, value, "the header Sec-WebSocket-Version is there twice")?;
            } else if is("sec-websocket-key") {
                once(&mut found.key, value, "the header Sec-WebSocket-Key is there twice")?;
            } else if is("sec-websocket-protocol") {
                found.read_subprotocols(value)?;
            } else if is("token") {
                once(&mut found.token, ascii(value)?, "the header token is there twice")?;
            } else if is("authorization") {
                // Other schemes may belong to a proxy on the way.
                if let Some((scheme, credentials)) = ascii(value)?.split_once(' ')
                    && scheme.eq_ignore_ascii_case("bearer")
                {
                    once(&mut found.bearer, credentials.trim(), "the header Authorization is there twice")?;
                }
            } else if is("content-length") {
                found.has_body |= value != b"0";
            } else if is("transfer-encoding") {
                found.has_body = true;
            }
        }
        Ok(found)
    }

    fn read_subprotocols(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        for offer in elements(value) {
            if offer == SUBPROTOCOL.as_bytes() {
                self.offers_petrel = true;
            } else if let Some(token) = offer.strip_prefix(b"token.") {
                once(
                    &mut self.subprotocol_token,
                    ascii(token)?,
                    "two tokens among the subprotocols: offer one",
                )?;
            }
        }
        Ok(())
    }
}

/// Two values for what must be one could be read differently by a proxy on the way.
fn once<T>(place: &mut Option<T>, value: T, twice: &'static str) -> Result<(), Refusal> {
    if place.replace(value).is_some() { Err(Refusal::Bad(twice)) } else { Ok(()) }
}

fn ascii(value: &[u8]) -> Result<&str, Refusal> {
    let value = str::from_utf8(value).ok().filter(|text| text.is_ascii());
    value.ok_or(Refusal::Bad("a token is letters, digits and punctuation only"))
}

/// The elements of a comma-separated list (RFC 9110, section 5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The path and the query of a target, which may be a whole URL (RFC 9112, section 3.2.2).
fn split_target(target: &str) -> (&str, &str) {
    let (target, query) = target.split_once('?').unwrap_or((target, ""));
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    (path, query)
}
