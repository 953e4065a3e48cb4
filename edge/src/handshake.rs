//! From the first byte of a connection to a session: the upgrade request, the token, the answer.

use petrel_protocol::limits;
use petrel_protocol::session::Session;
use petrel_protocol::token::Kind;
use petrel_protocol::websocket::upgrade::{self, Refusal, Request};
use petrel_ring::{Ring, SocketId};

use crate::connection::State;
use crate::metrics::Metrics;
use crate::shard::Shard;

/// Room for an answer.
const RESPONSE_BYTES: usize = 256;

/// What became of an upgrade request.
enum Asked {
    /// More of it is to come.
    Incomplete,
    /// It was answered otherwise, or its sender is gone.
    Answered,
    /// The session is open; the frames begin here.
    Opened(usize),
}

impl Shard {
    /// Takes bytes of a connection whose request is not complete.
    pub(crate) fn handshake(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        let Some(State::Handshake(begun)) =
            self.connections().get_mut(id.slot as usize).map(|c| &mut c.state)
        else {
            return;
        };
        // Most requests come whole, and are read where they are. A begun one is bounded before it grows.
        let mut whole = std::mem::take(begun);
        let is_begun = !whole.is_empty();
        if is_begun {
            if whole.len() + bytes.len() > limits::HANDSHAKE_BYTES_MAX + limits::MESSAGE_BYTES_MAX {
                return self.refuse(ring, id, &Refusal::TooLarge);
            }
            whole.extend_from_slice(bytes);
        }
        let request = if is_begun { &mut whole[..] } else { &mut *bytes };
        match self.request(ring, id, request) {
            Asked::Answered => {}
            Asked::Incomplete => {
                let begun = if is_begun { whole } else { bytes.to_vec() };
                if let Some(connection) = self.connections().get_mut(id.slot as usize) {
                    connection.state = State::Handshake(begun);
                }
            }
            Asked::Opened(consumed) => {
                let frames = &mut request[consumed..];
                if !frames.is_empty() {
                    self.frames(ring, id, frames);
                }
            }
        }
    }

    fn request(&mut self, ring: &mut Ring, id: SocketId, bytes: &[u8]) -> Asked {
        match upgrade::parse_request(bytes) {
            Ok(None) => return Asked::Incomplete,
            Ok(Some(Request::Plain(plain))) => self.answer_plain(ring, id, plain.path()),
            Err(refusal) => self.refuse(ring, id, &refusal),
            Ok(Some(Request::Upgrade(request, consumed))) => {
                let session = if self.is_draining() {
                    Err(Refusal::Unavailable)
                } else if request.path() != "/websocket" {
                    Err(Refusal::NotFound)
                } else {
                    self.session_of(request.token())
                };
                match session {
                    Ok(session) => {
                        Metrics::handshake(101);
                        let mut response = Vec::with_capacity(RESPONSE_BYTES);
                        upgrade::accept_response(&mut response, &request);
                        if ring.send(id, &response).is_ok() {
                            self.open(ring, id, session);
                            return Asked::Opened(consumed);
                        }
                        ring.abort(id);
                    }
                    Err(refusal) => self.refuse(ring, id, &refusal),
                }
            }
        }
        Asked::Answered
    }

    fn session_of(&self, token: Option<&str>) -> Result<Session, Refusal> {
        let token = token.ok_or(Refusal::NoToken)?;
        let now = self.now();
        match self.keys().verify(token, now.wall_ms / 1_000, Kind::Access) {
            Ok(claims) => Ok(Session::new(now, claims.user, claims.device, claims.version)),
            Err(error) => Err(Refusal::BadToken(error)),
        }
    }

    /// A handshake took longer than it may.
    pub(crate) fn refuse_slow(&mut self, ring: &mut Ring, id: SocketId) {
        self.refuse(ring, id, &Refusal::TooSlow);
    }

    fn refuse(&mut self, ring: &mut Ring, id: SocketId, refusal: &Refusal) {
        Metrics::handshake(refusal.status());
        let mut response = Vec::with_capacity(RESPONSE_BYTES);
        refusal.encode(&mut response);
        self.answer(ring, id, &response);
    }

    fn answer_plain(&mut self, ring: &mut Ring, id: SocketId, path: &str) {
        if path == "/healthz" {
            self.answer(ring, id, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
        } else {
            self.refuse(ring, id, &Refusal::NotAnUpgrade);
        }
    }

    fn answer(&mut self, ring: &mut Ring, id: SocketId, response: &[u8]) {
        if let Some(connection) = self.connections().get_mut(id.slot as usize) {
            connection.state = State::Closing;
        }
        // A peer that is gone already needs no answer.
        let _ = ring.send(id, response);
        ring.close(id);
    }
}
