//! The same streams read by `tungstenite`: the same messages come out, and what one refuses the other does too.

use std::io::{self, Read, Write};

use tungstenite::protocol::{Message, Role as TheirRole, WebSocket, WebSocketConfig};

use super::random::Random;
use super::*;

/// The end of the other implementation: a stream that gives bytes in parts, then ends.
struct Parts<'a> {
    rest: &'a [u8],
    random: Random,
}

impl Read for Parts<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = (1 + self.random.below(700)).min(out.len()).min(self.rest.len());
        let (part, rest) = self.rest.split_at(len);
        out[..len].copy_from_slice(part);
        self.rest = rest;
        Ok(len)
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the other implementation reads, and whether it found a fault (the end of the stream is none).
fn theirs(config: Config, bytes: &[u8], parts: u64) -> (Vec<Seen>, bool) {
    let role = if config.role == Role::Server { TheirRole::Server } else { TheirRole::Client };
    let limits = WebSocketConfig::default()
        .max_message_size(Some(config.message_bytes_max))
        .max_frame_size(Some(config.message_bytes_max))
        .read_buffer_size(4096);
    let stream = Parts { rest: bytes, random: Random(parts) };
    let mut socket = WebSocket::from_raw_socket(stream, role, Some(limits));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => seen.push(Seen::Binary(bytes.to_vec())),
            Ok(Message::Text(text)) => seen.push(Seen::Text(text.as_str().to_owned())),
            Ok(Message::Ping(bytes)) => seen.push(Seen::Ping(bytes.to_vec())),
            Ok(Message::Pong(bytes)) => seen.push(Seen::Pong(bytes.to_vec())),
            Ok(Message::Close(frame)) => {
                let (code, reason) = frame
                    .map_or((None, String::new()), |f| (Some(f.code.into()), f.reason.as_str().to_owned()));
                seen.push(Seen::Close(code, reason));
                return (seen, false);
            }
            Ok(Message::Frame(_)) => unreachable!("only written, never read"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (seen, false),
            Err(_) => return (seen, true),
        }
    }
}

/// What ours reads, in parts.
fn ours(config: Config, bytes: &[u8], seed: u64) -> (Vec<Seen>, Option<Fault>) {
    let mut random = Random(seed);
    let mut reader = Reader::new(config);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, next) = rest.split_at((1 + random.below(700)).min(rest.len()));
        rest = next;
        if let Err(fault) = reader.feed(part) {
            return (reader.seen, Some(fault));
        }
    }
    (reader.seen, None)
}

/// A valid stream: messages in any fragmentation, with control frames between.
fn stream(role: Role, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=random.below(12) {
        let size = [0, 3, 30, 125, 126, 300, 3_000][random.below(7)];
        let (kind, message) = if random.one_in(2) {
            (Opcode::Text, random.text(size).into_bytes())
        } else {
            (Opcode::Binary, random.bytes(size))
        };
        let mut opcode = kind;
        let mut rest = message.as_slice();
        loop {
            while random.one_in(4) {
                let control = if random.one_in(2) { Opcode::Ping } else { Opcode::Pong };
                let len = random.below(126);
                let payload = random.bytes(len);
                out.extend(frame(role, control, true, &payload));
            }
            let len = if random.one_in(2) { rest.len() } else { random.below(rest.len() + 1) };
            let (part, next) = rest.split_at(len);
            rest = next;
            let fin = rest.is_empty() && !random.one_in(8);
            out.extend(frame(role, opcode, fin, part));
            opcode = Opcode::Continuation;
            if fin {
                break;
            }
        }
    }
    if random.one_in(3) {
        let payload: &[u8] = if random.one_in(2) { b"" } else { b"\x03\xE9going" };
        out.extend(frame(role, Opcode::Close, true, payload));
    }
    out
}

fn config(role: Role) -> Config {
    Config { role, message_bytes_max: 16 << 10, take_text: true }
}

#[test]
fn valid_streams_are_read_alike() {
    for seed in 0..600 {
        let mut random = Random(seed);
        let role = if random.one_in(2) { Role::Server } else { Role::Client };
        let bytes = stream(role, &mut random);
        let (seen, fault) = ours(config(role), &bytes, seed + 1);
        assert_eq!(fault, None, "seed {seed}");
        assert_eq!((seen, false), theirs(config(role), &bytes, seed), "seed {seed}");
    }
}

#[test]
fn malformed_streams_are_refused_alike() {
    let mut faults = 0;
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let role = if random.one_in(2) { Role::Server } else { Role::Client };
        let mut bytes = stream(role, &mut random);
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        // So much more that whatever frame is claimed is complete: a fault that the other side finds only at a frame's
        // end is found.
        bytes.resize(bytes.len() + 2 * config(role).message_bytes_max, 0);
        let (seen, fault) = ours(config(role), &bytes, seed + 1);
        let (their_seen, their_fault) = theirs(config(role), &bytes, seed);
        match fault {
            // The other side takes lengths that are not minimal, and answers a bad close code itself.
            Some(Fault::BadLength | Fault::BadClose) => {
                assert!(their_seen.starts_with(&seen), "seed {seed}: {fault:?}");
            }
            _ => assert_eq!((seen, fault.is_some()), (their_seen, their_fault), "seed {seed}: {fault:?}"),
        }
        faults += u32::from(fault.is_some());
    }
    assert!(faults > 1_000, "most of these streams are malformed: {faults}");
}

#[test]
fn what_is_encoded_is_read_by_the_other_side() {
    use petrel_protocol::websocket::encode_frame;
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut bytes = Vec::new();
        let mut wanted = Vec::new();
        let (reads, key) = if random.one_in(2) {
            (Role::Server, Some((random.next() as u32).to_be_bytes()))
        } else {
            (Role::Client, None)
        };
        for _ in 0..10 {
            let len = random.below(2_000);
            let payload = random.bytes(len);
            encode_frame(&mut bytes, Opcode::Binary, &payload, key);
            wanted.push(Seen::Binary(payload));
        }
        assert_eq!(theirs(config(reads), &bytes, seed), (wanted, false), "seed {seed}");
    }
}
