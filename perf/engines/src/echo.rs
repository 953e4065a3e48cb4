//! One connection of an echo server over `petrel-protocol`'s codec: bytes in, bytes out.

use std::ops::ControlFlow::{Break, Continue};

use petrel_protocol::websocket::upgrade::{self, Request};
use petrel_protocol::websocket::{
    Config, Decoder, Event, HEADER_BYTES_MAX, Opcode, Role, close_payload, encode_header,
};

use crate::Options;

/// A connection from its first byte on.
#[derive(Debug)]
pub enum Echo {
    /// The upgrade request so far.
    Request(Vec<u8>),
    /// It was answered; frames follow.
    Open(Decoder),
}

impl Default for Echo {
    fn default() -> Self {
        Self::Request(Vec::new())
    }
}

/// The connection is over once what was sent is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

impl Echo {
    /// What all connections of a server share.
    pub fn config(options: &Options) -> Config {
        Config { role: Role::Server, message_bytes_max: options.message_bytes_max, take_text: true }
    }

    /// Takes the bytes of one read and gives `send` what goes back, in pieces.
    pub fn read(
        &mut self,
        config: &Config,
        bytes: &mut [u8],
        send: &mut impl FnMut(&[u8]),
    ) -> Result<(), Over> {
        self.read_with(config, bytes, &mut |piece| match piece {
            Piece::Message(opcode, payload) => send_frame(send, opcode, payload),
            Piece::Raw(bytes) => send(bytes),
        })
    }

    /// The same, with messages apart from what the protocol itself answers.
    pub fn read_with(
        &mut self,
        config: &Config,
        bytes: &mut [u8],
        answer: &mut impl FnMut(Piece<'_>),
    ) -> Result<(), Over> {
        let mut request = match self {
            Self::Open(decoder) => return frames(decoder, config, bytes, answer),
            Self::Request(begun) => std::mem::take(begun),
        };
        request.extend_from_slice(bytes);
        let mut response = Vec::new();
        match upgrade::parse_request(&request) {
            Ok(None) => {
                *self = Self::Request(request);
                return Ok(());
            }
            Ok(Some(Request::Upgrade(upgrade, consumed))) => {
                upgrade::accept_response(&mut response, &upgrade);
                answer(Piece::Raw(&response));
                let mut decoder = Decoder::new();
                let read = frames(&mut decoder, config, &mut request[consumed..], answer);
                *self = Self::Open(decoder);
                return read;
            }
            Ok(Some(Request::Plain(_))) => upgrade::Refusal::NotAnUpgrade.encode(&mut response),
            Err(refusal) => refusal.encode(&mut response),
        }
        answer(Piece::Raw(&response));
        Err(Over)
    }
}

fn frames(
    decoder: &mut Decoder,
    config: &Config,
    bytes: &mut [u8],
    answer: &mut impl FnMut(Piece<'_>),
) -> Result<(), Over> {
    let mut closing = None;
    let fed = decoder.feed(config, bytes, &mut |event| {
        match event {
            Event::Binary(payload) => answer(Piece::Message(Opcode::Binary, payload)),
            Event::Text(text) => answer(Piece::Message(Opcode::Text, text.as_bytes())),
            Event::Ping(payload) => {
                send_frame(&mut |bytes| answer(Piece::Raw(bytes)), Opcode::Pong, payload);
            }
            Event::Pong(_) => {}
            Event::Close(code, _) => {
                closing = Some(code);
                return Break(());
            }
        }
        Continue(())
    });
    let code = match (closing, fed) {
        (Some(code), _) => code,
        (None, Err(fault)) => Some(fault.close_code()),
        (None, Ok(_)) => return Ok(()),
    };
    let payload = code.map(|code| close_payload(code, ""));
    let payload = payload.as_deref().unwrap_or_default();
    send_frame(&mut |bytes| answer(Piece::Raw(bytes)), Opcode::Close, payload);
    Err(Over)
}

/// What goes back to the peer, or to whom the server wants.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// A message's kind and content.
    Message(Opcode, &'a [u8]),
    /// Bytes as they go out.
    Raw(&'a [u8]),
}

/// Gives out an unmasked frame in two pieces.
pub fn send_frame(send: &mut impl FnMut(&[u8]), opcode: Opcode, payload: &[u8]) {
    let mut head = [0; HEADER_BYTES_MAX];
    let len = encode_header(&mut head, None, opcode, true, payload.len());
    send(&head[..len]);
    if !payload.is_empty() {
        send(payload);
    }
}
