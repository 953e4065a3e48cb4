//! The client's side of the upgrade.

use std::str;

use thiserror::Error;

use super::{Key, elements};
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_HEADERS_MAX};

/// Appends a request for a WebSocket. `host` is the authority of the URL, with its port where that is not the default;
/// `path` may have a query; `nonce` are 16 random bytes; a token goes in the header `token`.
///
/// # Panics
/// `host`, `path` or `token` have bytes that would end their line.
pub fn client_request(out: &mut Vec<u8>, host: &str, path: &str, nonce: [u8; 16], token: Option<&str>) {
    let is_line = |text: &str| !text.bytes().any(|b| b.is_ascii_control() || b == b' ');
    assert!(is_line(host) && is_line(path) && token.is_none_or(is_line), "no spaces or control characters");
    let key = Key::from_nonce(nonce);
    let parts = [
        "GET ",
        path,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        key.as_str(),
        if token.is_some() { "\r\ntoken: " } else { "" },
        token.unwrap_or_default(),
        "\r\n\r\n",
    ];
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Why there is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResponseFault {
    /// Not HTTP, or a head that is too large.
    #[error("the server does not answer in HTTP: is it a WebSocket server?")]
    NotHttp,
    /// The server refused; with as much of its words as came with the answer.
    #[error("the server refused with HTTP {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        text: String,
    },
    /// An acceptance that is not one to this request.
    #[error("the server's answer is not an acceptance of this request: {0}")]
    NotAccepted(&'static str),
}

/// Reads the answer at the start of `bytes` to the request that `nonce` was in: its bytes, or none while it is
/// incomplete. What follows it are frames already.
pub fn parse_response(bytes: &[u8], nonce: [u8; 16]) -> Result<Option<usize>, ResponseFault> {
    let mut headers = [httparse::EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = &bytes[..bytes.len().min(HANDSHAKE_BYTES_MAX)];
    let consumed = match response.parse(head) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if bytes.len() < HANDSHAKE_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(ResponseFault::NotHttp),
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let text = String::from_utf8_lossy(&head[consumed..]).trim().to_owned();
        return Err(ResponseFault::Refused { status, text });
    }
    let (mut upgrades, mut connection, mut accepts) = (false, false, false);
    for httparse::Header { name, value } in response.headers.iter() {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        let value = value.trim_ascii();
        if is("upgrade") {
            upgrades = value.eq_ignore_ascii_case(b"websocket");
        } else if is("connection") {
            connection |= elements(value).any(|e| e.eq_ignore_ascii_case(b"upgrade"));
        } else if is("sec-websocket-accept") {
            accepts = value == Key::from_nonce(nonce).accept();
        } else if is("sec-websocket-extensions") || is("sec-websocket-protocol") {
            return Err(ResponseFault::NotAccepted(
                "it names an extension or a subprotocol that was not offered",
            ));
        }
    }
    if !upgrades || !connection {
        return Err(ResponseFault::NotAccepted("it does not upgrade to websocket"));
    }
    if !accepts {
        return Err(ResponseFault::NotAccepted("its Sec-WebSocket-Accept is not that of the key"));
    }
    Ok(Some(consumed))
}
