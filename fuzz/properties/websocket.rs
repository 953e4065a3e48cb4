//! However a stream of frames is cut into reads, the same events come out, then the same fault; memory stays within its
//! bound; and what came out can be sent again.

use std::ops::ControlFlow;

use petrel_protocol::websocket::{Config, Decoder, Event, Fault, Opcode, Role, close_payload, encode_frame};

/// The first byte chooses the configuration, the second the cuts; the rest is the stream.
pub(crate) fn check(bytes: &[u8]) {
    let [choice, cuts, stream @ ..] = bytes else { return };
    let config = Config {
        role: if choice & 1 == 0 { Role::Server } else { Role::Client },
        take_text: choice & 2 == 0,
        message_bytes_max: [16, 200, 1_000, 70_000][usize::from(choice >> 2 & 3)],
    };
    let whole = read(config, [stream]);
    assert_eq!(read(config, stream.chunks(1)), whole);
    assert_eq!(read(config, stream.chunks(1 + usize::from(*cuts))), whole);
    let (head, tail) = stream.split_at(stream.len().min(usize::from(*cuts)));
    assert_eq!(read(config, [head, tail]), whole);
    send_again(config, &whole.0);
}

/// A message or control frame, as its opcode and payload.
type Sent = (Opcode, Vec<u8>);

fn read<'a>(config: Config, parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Sent>, Option<Fault>) {
    let mut decoder = Decoder::new();
    let mut sent = Vec::new();
    for part in parts {
        let fed = decoder.feed(&config, &mut part.to_vec(), &mut |event| {
            sent.push(match event {
                Event::Binary(bytes) => (Opcode::Binary, bytes.to_vec()),
                Event::Text(text) => (Opcode::Text, text.as_bytes().to_vec()),
                Event::Ping(bytes) => (Opcode::Ping, bytes.to_vec()),
                Event::Pong(bytes) => (Opcode::Pong, bytes.to_vec()),
                Event::Close(None, _) => (Opcode::Close, Vec::new()),
                Event::Close(Some(code), reason) => (Opcode::Close, close_payload(code, reason).to_vec()),
            });
            ControlFlow::Continue(())
        });
        assert!(decoder.buffered_bytes() <= config.message_bytes_max + 256);
        match fed {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(fault) => {
                assert_eq!(decoder.buffered_bytes(), 0, "a connection that failed keeps nothing");
                return (sent, Some(fault));
            }
        }
    }
    (sent, None)
}

fn send_again(config: Config, sent: &[Sent]) {
    let mask = (config.role == Role::Server).then_some([9, 0, 0xA5, 0xFF]);
    let mut stream = Vec::new();
    for (opcode, payload) in sent {
        encode_frame(&mut stream, *opcode, payload, mask);
    }
    assert_eq!(read(config, [stream.as_slice()]), (sent.to_vec(), None));
}
