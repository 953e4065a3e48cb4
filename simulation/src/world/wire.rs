//! Connections as bytes: the real codec at both ends, and pieces of any length between, so that a cut can be anywhere.

use std::ops::ControlFlow;

use bytes::Bytes;
use petrel_protocol::codes::close;
use petrel_protocol::limits;
use petrel_protocol::websocket::{
    Config, Decoder, Event as Decoded, Opcode, Role, close_payload, encode_frame,
};

use super::coverage::Met;
use super::network::Frame;
use super::{Event, World};

/// What each end of a connection has of an incomplete frame.
#[derive(Default)]
pub(crate) struct Wire {
    at_edge: Decoder,
    at_client: Decoder,
}

const AT_EDGE: Config =
    Config { role: Role::Server, message_bytes_max: limits::MESSAGE_BYTES_MAX, take_text: false };
const AT_CLIENT: Config =
    Config { role: Role::Client, message_bytes_max: limits::EGRESS_BYTES_MAX, take_text: false };
/// Pieces of one frame, at most.
const PIECES_MAX: u64 = 3;

impl World {
    /// Sends a frame in pieces of which the first arrives at `at_us`; answers with when the last one does.
    pub(crate) fn send_pieces(&mut self, connection: usize, is_up: bool, frame: &Frame, at_us: u64) -> u64 {
        let mask = is_up.then(|| (self.random.next() as u32).to_ne_bytes());
        let mut bytes = Vec::new();
        match frame {
            Frame::Packet(packet) => encode_frame(&mut bytes, Opcode::Binary, packet, mask),
            Frame::Ping(payload) => encode_frame(&mut bytes, Opcode::Ping, payload, mask),
            Frame::Pong(payload) => encode_frame(&mut bytes, Opcode::Pong, payload, mask),
            Frame::Close => encode_frame(&mut bytes, Opcode::Close, &close_payload(close::NORMAL, ""), mask),
            Frame::Upgraded => unreachable!("comes before the first frame"),
        }
        let mut at_us = at_us;
        for _ in 0..self.random.below(PIECES_MAX) {
            let piece: Vec<u8> = bytes.drain(..self.random.index(bytes.len())).collect();
            self.schedule(at_us, Event::Piece(connection, is_up, piece));
            at_us += self.random.below(2_000);
        }
        self.schedule(at_us, Event::Piece(connection, is_up, bytes));
        at_us
    }

    /// A piece reaches one end.
    pub(crate) fn piece(&mut self, connection: usize, is_up: bool, mut piece: Vec<u8>) {
        let is_reached = self.is_reached(connection, is_up);
        let wire = self.connections[connection].wire.as_mut().expect("only there are pieces");
        let (decoder, config) =
            if is_up { (&mut wire.at_edge, &AT_EDGE) } else { (&mut wire.at_client, &AT_CLIENT) };
        if !is_reached {
            if decoder.buffered_bytes() > 0 {
                *decoder = Decoder::new();
                self.met(Met::CutInsideFrame);
            }
            return;
        }
        let mut frames = Vec::new();
        let fed = decoder.feed(config, &mut piece, &mut |event| {
            frames.push(match event {
                Decoded::Binary(packet) => Frame::Packet(Bytes::copy_from_slice(packet)),
                Decoded::Ping(payload) => Frame::Ping(Bytes::copy_from_slice(payload)),
                Decoded::Pong(payload) => Frame::Pong(Bytes::copy_from_slice(payload)),
                Decoded::Close(..) => Frame::Close,
                Decoded::Text(_) => unreachable!("nobody sends text"),
            });
            ControlFlow::Continue(())
        });
        if let Err(fault) = fed {
            self.fail("codec", super::About::default(), format!("its own frames are refused: {fault}"));
        }
        for frame in frames {
            if is_up {
                self.at_edge(connection, frame);
            } else {
                self.at_client(connection, frame);
            }
        }
    }
}
