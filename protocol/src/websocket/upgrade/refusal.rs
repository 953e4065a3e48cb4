//! Why a request gets no WebSocket, as an HTTP answer that says what to do.

use super::plain_response;
use crate::limits;
use crate::token::TokenError;

/// Why a request is refused. Every refusal ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP, or not a valid upgrade request; the text says where it fails.
    Bad(&'static str),
    /// No token in any of the places where one may be.
    NoToken,
    /// A token that is not good.
    BadToken(TokenError),
    /// A path that is nothing here.
    NotFound,
    /// Any method but GET.
    MethodNotAllowed,
    /// The request took too long ([`limits::HANDSHAKE_MS_MAX`]).
    TooSlow,
    /// A plain request for the path of the WebSocket.
    NotAnUpgrade,
    /// A WebSocket version other than 13.
    WrongVersion,
    /// More bytes or headers than a request may have.
    TooLarge,
    /// The server is about to stop, or full.
    Unavailable,
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::NoToken | Self::BadToken(_) => 401,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::NotAnUpgrade | Self::WrongVersion => 426,
            Self::TooLarge => 431,
            Self::Unavailable => 503,
        }
    }

    /// What happened and what to do.
    pub fn text(&self) -> String {
        match self {
            Self::Bad(text) => (*text).to_owned(),
            Self::NoToken => "no token: send it in the header token, as Authorization: Bearer, \
                or as the subprotocols petrel.v1, token.<jwt>"
                .to_owned(),
            Self::BadToken(error) => error.to_string(),
            Self::NotFound => "nothing is here: connect to /websocket".to_owned(),
            Self::MethodNotAllowed => "use GET".to_owned(),
            Self::TooSlow => {
                format!("the request was not complete after {} ms: connect again", limits::HANDSHAKE_MS_MAX)
            }
            Self::NotAnUpgrade => "this is a WebSocket: ask for an upgrade to it".to_owned(),
            Self::WrongVersion => "use WebSocket version 13".to_owned(),
            Self::TooLarge => format!(
                "the request is too large: at most {} bytes and {} headers",
                limits::HANDSHAKE_BYTES_MAX,
                limits::HANDSHAKE_HEADERS_MAX
            ),
            Self::Unavailable => "no new connections here now: connect again in a second".to_owned(),
        }
    }

    /// Appends the whole HTTP answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (status, headers) = match self {
            Self::Bad(_) => ("400 Bad Request", ""),
            Self::NoToken | Self::BadToken(_) => ("401 Unauthorized", "WWW-Authenticate: Bearer\r\n"),
            Self::NotFound => ("404 Not Found", ""),
            Self::MethodNotAllowed => ("405 Method Not Allowed", "Allow: GET\r\n"),
            Self::TooSlow => ("408 Request Timeout", ""),
            Self::NotAnUpgrade | Self::WrongVersion => {
                ("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
            }
            Self::TooLarge => ("431 Request Header Fields Too Large", ""),
            Self::Unavailable => ("503 Service Unavailable", "Retry-After: 1\r\n"),
        };
        plain_response(out, status, headers, &(self.text() + "\n"));
    }
}
