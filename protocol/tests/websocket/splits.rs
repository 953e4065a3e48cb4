//! However a stream is cut into reads, the events are the same.

use super::random::Random;
use super::*;

/// A stream with each kind of frame and each length encoding, and what is in it.
fn stream(role: Role, seed: u64) -> (Vec<u8>, Vec<Seen>) {
    let mut random = Random(seed);
    let text = random.text(40);
    let cut = text.len() / 2;
    let (long, short) = (random.bytes(300), random.bytes(5));
    let bytes = [
        frame(role, Opcode::Binary, true, &short),
        frame(role, Opcode::Ping, true, b""),
        frame(role, Opcode::Text, false, &text.as_bytes()[..cut]),
        frame(role, Opcode::Pong, true, &short),
        frame(role, Opcode::Continuation, false, b""),
        frame(role, Opcode::Continuation, true, &text.as_bytes()[cut..]),
        frame(role, Opcode::Binary, true, &long),
        frame(role, Opcode::Text, true, text.as_bytes()),
        frame(role, Opcode::Binary, true, b""),
        frame(role, Opcode::Close, true, b"\x03\xE8done"),
    ]
    .concat();
    let events = vec![
        Seen::Binary(short.clone()),
        Seen::Ping(vec![]),
        Seen::Pong(short),
        Seen::Text(text.clone()),
        Seen::Binary(long),
        Seen::Text(text),
        Seen::Binary(vec![]),
        Seen::Close(Some(1000), "done".to_owned()),
    ];
    (bytes, events)
}

fn both() -> [(Config, Role); 2] {
    [(SERVER, Role::Server), (CLIENT, Role::Client)]
}

#[test]
fn at_every_position() {
    for (config, role) in both() {
        let (bytes, wanted) = stream(role, 1);
        for at in 0..=bytes.len() {
            let mut reader = Reader::new(config);
            assert!(reader.feed(&bytes[..at]).is_ok());
            assert!(reader.feed(&bytes[at..]).is_ok());
            assert_eq!(reader.seen, wanted, "cut at {at}");
        }
    }
}

#[test]
fn at_every_two_positions() {
    let (bytes, wanted) = stream(Role::Server, 2);
    for first in (0..bytes.len()).step_by(3) {
        for second in (first..bytes.len()).step_by(7) {
            let mut reader = Reader::new(SERVER);
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                assert!(reader.feed(part).is_ok());
            }
            assert_eq!(reader.seen, wanted, "cut at {first} and {second}");
        }
    }
}

#[test]
fn in_parts_of_each_size() {
    for (config, role) in both() {
        let (bytes, wanted) = stream(role, 3);
        for size in 1..200 {
            let mut reader = Reader::new(config);
            for part in bytes.chunks(size) {
                assert!(reader.feed(part).is_ok());
            }
            assert_eq!(reader.seen, wanted, "parts of {size}");
            assert_eq!(reader.decoder.buffered_bytes(), 0);
        }
    }
}

#[test]
fn a_large_message_one_byte_at_a_time() {
    let payload = Random(4).bytes(1 << 20);
    let config = Config { message_bytes_max: 1 << 20, ..SERVER };
    let mut reader = Reader::new(config);
    let (mut growths, mut before) = (0, 0);
    for byte in sent(Opcode::Binary, true, &payload) {
        assert!(reader.feed(&[byte]).is_ok());
        growths += u32::from(reader.decoder.buffered_bytes() > before);
        before = reader.decoder.buffered_bytes();
    }
    assert_eq!(reader.seen, [Seen::Binary(payload)]);
    assert!(growths < 20, "memory doubles, so the bytes are moved a few times in all: {growths}");
}

#[test]
fn large_text_in_small_fragments() {
    let text = Random(5).text(20_000);
    let config = Config { message_bytes_max: text.len(), ..SERVER };
    let mut stream = Vec::new();
    let mut parts = text.as_bytes().chunks(7).peekable();
    let mut opcode = Opcode::Text;
    while let Some(part) = parts.next() {
        stream.extend(sent(opcode, parts.peek().is_none(), part));
        opcode = Opcode::Continuation;
    }
    assert_eq!(read(config, &stream), (vec![Seen::Text(text)], None));
}
