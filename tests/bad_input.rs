//! What must not hurt: each bad input is refused with a code and a text, and everybody else goes on.

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use harness::{PATIENCE, Petrel, token};
use petrel_protocol::codes::{Code, close};
use petrel_protocol::ids::Device;
use petrel_protocol::limits;
use petrel_protocol::packets::{C2cAckReq, C2cSendReq, GetBatchMsgIdsReq, ImProtoRequest, MsgType, request};
use petrel_protocol::token::Keys;
use prost::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// A Petrel with two users who talk before and after, so that every test proves that others are unharmed.
struct World {
    _dir: tempfile::TempDir,
    petrel: Petrel,
}

impl World {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self { petrel: Petrel::start(dir.path()), _dir: dir }
    }

    /// Two other users still reach each other.
    fn is_well(&self) {
        let (mut carol, mut dave) =
            (self.petrel.client(101, Device::Web), self.petrel.client(102, Device::Web));
        carol.send(102, "still here");
        let push = dave.until_push();
        assert_eq!(push.content, "still here");
        dave.ack(&push, 3);
        carol.until_status(3);
    }

    /// Sends bytes to the edge's port; what comes back until it closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.stream();
        // The edge may close in the middle of too much.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }

    fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.petrel.edge).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    fn upgrade(&self, headers: &str) -> String {
        let head = "GET /websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.raw(format!("{head}{key}{headers}\r\n").as_bytes())
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

fn assert_refused(response: &str, status: u16) {
    assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{status} expected: {response}");
    let body = response.split_once("\r\n\r\n").expect("a whole response").1;
    assert!(!body.trim().is_empty(), "the text says what to do: {response}");
}

#[test]
fn what_is_not_a_websocket_request() {
    let world = World::start();
    assert_refused(&world.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n"), 400);
    assert_refused(&world.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 426);
    assert_refused(&world.raw(b"POST /websocket HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_refused(&world.upgrade("Sec-WebSocket-Version: 8\r\n"), 426);
    assert!(world.upgrade("Sec-WebSocket-Version: 8\r\n").contains("Sec-WebSocket-Version: 13"));
    assert!(world.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200 "));
    world.is_well();
}

#[test]
fn tokens_that_are_missing_expired_forged_or_signed_by_nobody() {
    let world = World::start();
    let version = "Sec-WebSocket-Version: 13\r\n";
    assert_refused(&world.upgrade(version), 401);
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let text = std::fs::read_to_string(world.petrel.dir.join("keys.json")).expect("there");
    let keys = Keys::from_json(&text).expect("valid");
    let expired = token(&keys, 1, Device::Web, now_s - 10);
    let forged = token(&Keys::with_new_key("k1", [7; 32]), 1, Device::Web, now_s + 100);
    let unknown = token(&Keys::with_new_key("other", [7; 32]), 1, Device::Web, now_s + 100);
    let good = world.petrel.token(1, Device::Web);
    let cut = &good[..good.len() - 3];
    for bad in [expired.as_str(), &forged, &unknown, cut, "x", "a.b.c", ""] {
        assert_refused(&world.upgrade(&format!("{version}token: {bad}\r\n")), 401);
    }
    let accepted = |headers: String| {
        let mut stream = world.stream();
        let head = "GET /websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write!(stream, "{head}{key}{version}{headers}\r\n").expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 101", "{headers}");
    };
    accepted(format!("token: {good}\r\n"));
    accepted(format!("Authorization: Bearer {good}\r\n"));
    accepted(format!("Sec-WebSocket-Protocol: petrel.v1, token.{good}\r\n"));
    world.is_well();
}

#[test]
fn a_flood_of_headers_and_a_handshake_that_takes_its_time() {
    let world = World::start();
    let many = "X: y\r\n".repeat(limits::HANDSHAKE_HEADERS_MAX + 1);
    assert_refused(&world.upgrade(&many), 431);
    let long = format!("X: {}\r\n", "y".repeat(limits::HANDSHAKE_BYTES_MAX));
    assert_refused(&world.upgrade(&long), 431);

    let mut endless = world.stream();
    let _ = endless.write_all(b"GET /websocket HTTP/1.1\r\n");
    let _ = endless.write_all(&b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(2_000));
    assert_refused(&read_all(&mut endless), 431);

    let mut slow: Vec<_> = (0..20).map(|_| world.stream()).collect();
    let started = Instant::now();
    for stream in &mut slow {
        stream.write_all(b"GET /websocket HT").expect("sent");
    }
    world.is_well();
    for stream in &mut slow {
        assert_refused(&read_all(stream), 408);
    }
    assert!(started.elapsed() < PATIENCE, "bounded in time");
    world.is_well();
}

/// A frame as it stands on the wire, masked by zeroes unless told otherwise.
fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..=125 => bytes.push(mask | n as u8),
        n @ 126..=0xffff => {
            bytes.push(mask | 0x7e);
            bytes.extend((n as u16).to_be_bytes());
        }
        n => {
            bytes.push(mask | 0x7f);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    if is_masked {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
    bytes
}

#[test]
fn frames_that_break_the_rules_close_with_the_rules_code() {
    let world = World::start();
    let packet = request(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: 1 });
    let huge_length = [&[0x82, 0xff][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat();
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("text", frame(0x81, b"hello", true), close::UNSUPPORTED),
        ("unmasked", frame(0x82, &packet, false), close::PROTOCOL),
        ("reserved bit", frame(0xc2, &packet, true), close::PROTOCOL),
        ("reserved opcode", frame(0x83, &packet, true), close::PROTOCOL),
        ("oversized", frame(0x82, &vec![0; limits::MESSAGE_BYTES_MAX + 1], true), close::TOO_LARGE),
        ("a length beyond everything", huge_length, close::TOO_LARGE),
        ("a fragmented ping", frame(0x09, b"", true), close::PROTOCOL),
        ("a long ping", frame(0x89, &[0; 126], true), close::PROTOCOL),
        ("a continuation of nothing", frame(0x80, b"x", true), close::PROTOCOL),
    ];
    for (what, bytes, expected) in cases {
        let mut alice = world.petrel.client(1, Device::Web);
        // The edge may close before it has all of it.
        let _ = alice.socket.get_mut().write_all(&bytes);
        assert_eq!(alice.until_closed(), Some(expected), "{what}");
    }
    world.is_well();
}

#[test]
fn unfinished_fragments_are_bounded_and_harm_nobody() {
    let world = World::start();
    let mut alice = world.petrel.client(1, Device::Web);
    let part = vec![0; limits::MESSAGE_BYTES_MAX / 4];
    alice.socket.get_mut().write_all(&frame(0x02, &part, true)).expect("sent");
    let mut closed = None;
    for _ in 0..8 {
        if alice.socket.get_mut().write_all(&frame(0x00, &part, true)).is_err() {
            break;
        }
    }
    closed = alice.until_closed().or(closed);
    assert_eq!(closed, Some(close::TOO_LARGE));
    // Fragments that are begun and left are freed with their connection.
    for _ in 0..50 {
        let mut gone = world.petrel.connect(2, Device::Web);
        gone.socket.get_mut().write_all(&frame(0x02, &part, true)).expect("sent");
    }
    world.is_well();
}

#[test]
fn packets_that_are_wrong_are_refused_and_the_session_goes_on() {
    let world = World::start();
    let (mut alice, mut bob) = (world.petrel.client(1, Device::Web), world.petrel.client(2, Device::Web));
    let send = |bytes: Vec<u8>, alice: &mut harness::Client| {
        alice.socket.send(tungstenite::Message::Binary(bytes.into())).expect("sent");
        alice.until_nack()
    };
    assert_eq!(send(vec![0xff; 40], &mut alice).code, Code::BadPacket as i32);
    let whole =
        request(MsgType::C2cSend, &C2cSendReq { from: 1, to: 2, content: "x".into(), ..Default::default() });
    assert_eq!(send(whole[..whole.len() - 1].to_vec(), &mut alice).code, Code::BadPacket as i32, "truncated");
    let envelope = |kind: i32, payload: &'static [u8]| {
        ImProtoRequest { r#type: kind, payload: Bytes::from_static(payload) }.encode_to_vec()
    };
    assert_eq!(
        send(envelope(1, &[0x32, 2, 0xc3, 0x28]), &mut alice).code,
        Code::BadPacket as i32,
        "not UTF-8"
    );
    assert_eq!(send(envelope(99, b""), &mut alice).code, Code::UnknownType as i32);
    assert_eq!(send(envelope(5, b""), &mut alice).code, Code::UnknownType as i32, "only a server pushes");
    let forged = C2cSendReq { client_msg_id: vec![1; 16].into(), from: 3, to: 2, ..Default::default() };
    let nack = send(request(MsgType::C2cSend, &forged).to_vec(), &mut alice);
    assert_eq!((nack.code, &nack.payload[..]), (Code::NotYourUser as i32, &[1; 16][..]));
    let nothing = C2cAckReq { msg_id: 99, from: 1, to: 2, status: 3, ..Default::default() };
    let nack = send(request(MsgType::C2cAck, &nothing).to_vec(), &mut alice);
    assert_eq!((nack.code, nack.refused_msg_id), (Code::NotFound as i32, 99));
    alice.send(2, "and yet it works");
    assert_eq!(bob.until_push().content, "and yet it works");
}

#[test]
fn an_unreachable_fault_count_ends_the_session() {
    let world = World::start();
    let mut alice = world.petrel.client(1, Device::Web);
    for _ in 0..limits::SESSION_FAULTS_MAX {
        // The last ones may meet a closed connection.
        let _ = alice.socket.send(tungstenite::Message::Binary(vec![0xff; 8].into()));
    }
    assert_eq!(alice.until_closed(), Some(close::TOO_MANY_FAULTS));
    world.is_well();
}

#[test]
fn ten_thousand_packets_in_one_segment() {
    let world = World::start();
    let mut alice = world.petrel.client(1, Device::Web);
    let packet =
        request(MsgType::C2cAck, &C2cAckReq { msg_id: 1, from: 1, to: 1, status: 3, ..Default::default() });
    let packets = 10_000;
    let bytes = frame(0x82, &packet, true).repeat(packets);
    let mut writer = alice.socket.get_ref().try_clone().expect("cloned");
    let written = std::thread::spawn(move || writer.write_all(&bytes).expect("taken"));
    for _ in 0..packets {
        assert_eq!(alice.until_nack().code, Code::NotFound as i32);
    }
    written.join().expect("written");
    alice.send(2, "after all that");
    alice.until_status(1);
    world.is_well();
}

#[test]
fn one_byte_at_a_time() {
    let world = World::start();
    let mut bob = world.petrel.client(2, Device::Web);
    let mut alice = world.petrel.client(1, Device::Web);
    let send = C2cSendReq {
        client_msg_id: vec![9; 16].into(),
        from: 1,
        to: 2,
        content: "slowly".into(),
        ..Default::default()
    };
    let bytes = frame(0x82, &request(MsgType::C2cSend, &send), true);
    for byte in bytes {
        alice.socket.get_mut().write_all(&[byte]).expect("sent");
    }
    assert_eq!(bob.until_push().content, "slowly");
    alice.until_status(1);
}

#[test]
fn a_client_that_never_reads_is_closed_at_a_bound_and_loses_nothing() {
    let world = World::start();
    let mut alice = world.petrel.client(1, Device::Web);
    let mut deaf = world.petrel.client(2, Device::Web);
    // The deaf client asks for ids over and over: 9 kB each, which it never reads.
    let ask = frame(0x82, &request(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: 2 }), true);
    let before = world.petrel.resident();
    let until = Instant::now() + PATIENCE;
    deaf.socket.get_ref().set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    while deaf.socket.get_mut().write_all(&ask).is_ok() {
        assert!(Instant::now() < until, "a client that never reads is never closed");
    }
    let grown = world.petrel.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "memory stays bounded: {grown}");
    alice.send(2, "for later");
    alice.until_status(1);
    drop(deaf);
    let mut bob = world.petrel.connect(2, Device::Web);
    assert_eq!(bob.until_push().content, "for later");
    world.is_well();
}

#[test]
fn pings_are_answered_and_a_closing_client_is_answered_too() {
    let world = World::start();
    let mut alice = world.petrel.client(1, Device::Web);
    alice.socket.send(tungstenite::Message::Ping(Bytes::from_static(b"are you there"))).expect("sent");
    loop {
        if let tungstenite::Message::Pong(payload) = alice.socket.read().expect("an answer") {
            assert_eq!(&payload[..], b"are you there");
            break;
        }
    }
    let fragment = |opcode, payload: &'static [u8], is_final| Frame::message(payload, opcode, is_final);
    let packet = request(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: 1 });
    let (head, tail) = packet.split_at(2);
    let (head, tail): (&'static [u8], &'static [u8]) = (head.to_vec().leak(), tail.to_vec().leak());
    let parts = [
        fragment(OpCode::Data(Data::Binary), head, false),
        Frame::ping(Bytes::new()),
        fragment(OpCode::Data(Data::Continue), tail, true),
    ];
    for part in parts {
        alice.socket.send(tungstenite::Message::Frame(part)).expect("sent");
    }
    alice.until(|p| p.r#type() == MsgType::PushBatchMsgIds);
    alice.socket.close(None).expect("sent");
    assert!(matches!(alice.until_closed(), Some(close::NORMAL) | None));
}
