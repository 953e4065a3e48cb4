//! The rules of RFC 6455, sections 5 to 8, one by one.

use super::*;
use Opcode::{Binary, Continuation, Ping, Pong, Text};

fn fault(config: Config, bytes: &[u8]) -> Fault {
    let (seen, fault) = read(config, bytes);
    assert_eq!(seen, [], "nothing is given out before the fault");
    fault.expect("a fault")
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 16);
}

#[test]
fn the_examples_of_the_standard() {
    // Section 5.7.
    let hello = Seen::Text("Hello".to_owned());
    let from_server = [0x81, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F];
    assert_eq!(read(CLIENT, &from_server), (vec![hello.clone()], None));
    let from_client = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
    assert_eq!(read(SERVER, &from_client), (vec![hello.clone()], None));
    let fragmented = [0x01, 0x03, 0x48, 0x65, 0x6C, 0x80, 0x02, 0x6C, 0x6F];
    assert_eq!(read(CLIENT, &fragmented), (vec![hello], None));
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F];
    assert_eq!(read(CLIENT, &ping), (vec![Seen::Ping(b"Hello".to_vec())], None));
    let unasked = [0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
    assert_eq!(read(SERVER, &unasked), (vec![Seen::Pong(b"Hello".to_vec())], None));
}

#[test]
fn every_length_at_the_borders_of_its_encodings() {
    for role in [Role::Server, Role::Client] {
        let config = Config { role, message_bytes_max: 70_000, take_text: true };
        for len in [0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 124, 125, 126, 127, 65_534, 65_535, 65_536, 70_000] {
            let payload = random::Random(len as u64).bytes(len);
            let bytes = frame(role, Binary, true, &payload);
            assert_eq!(read(config, &bytes), (vec![Seen::Binary(payload)], None), "{len} bytes");
        }
    }
}

#[test]
fn a_client_masks_and_a_server_does_not() {
    assert_eq!(fault(SERVER, &frame(Role::Client, Binary, true, b"x")), Fault::Unmasked);
    assert_eq!(fault(CLIENT, &frame(Role::Server, Binary, true, b"x")), Fault::Masked);
}

#[test]
fn reserved_bits_and_opcodes() {
    for bit in [0x10, 0x20, 0x40] {
        let mut bytes = sent(Binary, true, b"x");
        bytes[0] |= bit;
        assert_eq!(fault(SERVER, &bytes), Fault::ReservedBits);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let mut bytes = sent(Binary, true, b"x");
        bytes[0] = 0x80 | opcode;
        assert_eq!(fault(SERVER, &bytes), Fault::UnknownOpcode);
    }
}

#[test]
fn a_length_is_in_the_fewest_bytes() {
    let key = [1, 2, 3, 4];
    for (length, bytes) in [(126, vec![0, 125]), (127, vec![0, 0, 0, 0, 0, 0, 0xFF, 0xFF])] {
        let frame = [&[0x82, 0x80 | length][..], &bytes, &key].concat();
        assert_eq!(fault(SERVER, &frame), Fault::BadLength);
    }
    let highest_bit = [&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0][..], &key].concat();
    assert_eq!(fault(SERVER, &highest_bit), Fault::BadLength);
}

#[test]
fn control_frames_are_small_and_whole() {
    assert_eq!(fault(SERVER, &[0x89, 0xFE, 0, 126]), Fault::ControlTooLarge);
    assert_eq!(fault(SERVER, &[0x88, 0xFF]), Fault::ControlTooLarge);
    for opcode in [8, 9, 10] {
        assert_eq!(fault(SERVER, &[opcode, 0x80, 0, 0, 0, 0]), Fault::ControlFragmented);
    }
    let payload = [7; 125];
    assert_eq!(read(SERVER, &sent(Ping, true, &payload)), (vec![Seen::Ping(payload.to_vec())], None));
}

#[test]
fn control_frames_come_between_fragments() {
    let stream = [
        sent(Text, false, "Pet".as_bytes()),
        sent(Ping, true, b"1"),
        sent(Continuation, false, b""),
        sent(Pong, true, b"2"),
        sent(Continuation, true, "rel".as_bytes()),
        sent(Binary, true, b"3"),
    ]
    .concat();
    let seen = [
        Seen::Ping(b"1".to_vec()),
        Seen::Pong(b"2".to_vec()),
        Seen::Text("Petrel".to_owned()),
        Seen::Binary(b"3".to_vec()),
    ];
    assert_eq!(read(SERVER, &stream), (seen.to_vec(), None));
}

#[test]
fn fragments_are_in_their_order() {
    assert_eq!(fault(SERVER, &sent(Continuation, true, b"x")), Fault::NothingToContinue);
    assert_eq!(fault(SERVER, &sent(Continuation, false, b"")), Fault::NothingToContinue);
    let interrupted = [sent(Binary, false, b"x"), sent(Text, true, b"y")].concat();
    assert_eq!(fault(SERVER, &interrupted), Fault::MessageInMessage);
    let ended =
        [sent(Binary, false, b"x"), sent(Continuation, true, b"y"), sent(Continuation, true, b"")].concat();
    let (seen, fault) = read(SERVER, &ended);
    assert_eq!((seen, fault), (vec![Seen::Binary(b"xy".to_vec())], Some(Fault::NothingToContinue)));
}

#[test]
fn a_message_of_empty_fragments_is_empty() {
    let stream =
        [sent(Text, false, b""), sent(Continuation, false, b""), sent(Continuation, true, b"")].concat();
    assert_eq!(read(SERVER, &stream), (vec![Seen::Text(String::new())], None));
}

#[test]
fn unfinished_fragments_are_held_within_the_bound_and_given_back() {
    let config = Config { message_bytes_max: 1_000, ..SERVER };
    let mut reader = Reader::new(config);
    assert!(reader.feed(&sent(Binary, false, &[1; 400])).is_ok());
    for _ in 0..10_000 {
        assert!(reader.feed(&sent(Continuation, false, b"")).is_ok());
    }
    assert!(reader.feed(&sent(Continuation, false, &[2; 600])).is_ok(), "the limit itself is allowed");
    assert!(reader.decoder.buffered_bytes() >= 1_000);
    assert!(reader.feed(&sent(Continuation, true, b"")).is_ok());
    assert_eq!(reader.seen.len(), 1);
    assert_eq!(reader.decoder.buffered_bytes(), 0, "a complete message leaves no memory behind");
}

#[test]
fn a_size_is_refused_before_memory_is_taken() {
    let config = Config { message_bytes_max: 1_000, ..SERVER };
    for header in [
        [0x82, 0xFE, 0x03, 0xE9, 0, 0, 0, 0].as_slice(),
        &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
    ] {
        let mut reader = Reader::new(config);
        assert_eq!(reader.feed(header), Err(Fault::TooLarge));
        assert_eq!(reader.decoder.buffered_bytes(), 0);
    }
    let parts = [sent(Binary, false, &[0; 600]), sent(Continuation, true, &[0; 401])].concat();
    assert_eq!(fault(config, &parts), Fault::TooLarge);
    assert_eq!(Fault::TooLarge.close_code(), 1009);
}

#[test]
fn a_claimed_size_takes_no_memory_before_its_bytes_come() {
    let config = Config { message_bytes_max: 16 << 20, ..SERVER };
    let mut reader = Reader::new(config);
    let whole = sent(Binary, true, &vec![9; 16 << 20]);
    assert!(reader.feed(&whole[..1_000]).is_ok());
    assert!(reader.decoder.buffered_bytes() < 3_000, "{}", reader.decoder.buffered_bytes());
    assert!(reader.feed(&whole[1_000..]).is_ok());
    assert_eq!(reader.seen, [Seen::Binary(vec![9; 16 << 20])]);
}

#[test]
fn text_is_refused_where_it_is_not_taken() {
    let config = Config { take_text: false, ..SERVER };
    assert_eq!(fault(config, &sent(Text, true, b"")), Fault::TextNotTaken);
    assert_eq!(fault(config, &sent(Text, false, b"x")[..6]), Fault::TextNotTaken);
    assert_eq!(Fault::TextNotTaken.close_code(), 1003);
}

#[test]
fn a_fault_is_final() {
    let mut reader = Reader::new(SERVER);
    assert_eq!(reader.feed(&[0xF2, 0x80]), Err(Fault::ReservedBits));
    assert_eq!(reader.feed(&sent(Binary, true, b"x")), Err(Fault::ReservedBits));
    assert_eq!(reader.seen, []);
}

#[test]
fn whoever_breaks_off_gets_nothing_more() {
    let mut stream = [sent(Binary, true, b"1"), sent(Binary, true, b"2")].concat();
    let mut decoder = Decoder::new();
    let mut count = 0;
    let mut on_event = |_: Event<'_>| {
        count += 1;
        ControlFlow::Break(())
    };
    assert_eq!(decoder.feed(&SERVER, &mut stream, &mut on_event), Ok(ControlFlow::Break(())));
    assert_eq!(decoder.feed(&SERVER, &mut stream, &mut on_event), Ok(ControlFlow::Break(())));
    assert_eq!(count, 1);
}

#[test]
fn text_is_utf8() {
    for bad in [&b"\xC3\x28"[..], b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xC0\xAF", b"abc\xFF", b"\xE6\xBC"]
    {
        assert_eq!(fault(SERVER, &sent(Text, true, bad)), Fault::NotUtf8);
        let cut = [sent(Text, false, &bad[..1]), sent(Continuation, true, &bad[1..])].concat();
        assert_eq!(fault(SERVER, &cut), Fault::NotUtf8);
    }
    assert_eq!(Fault::NotUtf8.close_code(), 1007);
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let text = "κόσμε🦅";
    let mut stream = sent(Text, false, b"");
    for byte in text.as_bytes() {
        stream.extend(sent(Continuation, false, &[*byte]));
    }
    stream.extend(sent(Continuation, true, b""));
    assert_eq!(read(SERVER, &stream), (vec![Seen::Text(text.to_owned())], None));
}

#[test]
fn bytes_that_can_never_be_utf8_fail_at_once() {
    // In one frame of which more is to come, byte by byte: the fault comes with the byte that makes it certain.
    let bad = "κόσμε".bytes().chain(*b"\xF4\x90\x80\x80edited").collect::<Vec<_>>();
    let certain = "κόσμε".len() + 1;
    let frame = sent(Text, true, &bad);
    let mut reader = Reader::new(SERVER);
    let mut fed = frame.iter().map(|byte| reader.feed(&[*byte]));
    let failed = fed.position(|fed| fed == Err(Fault::NotUtf8));
    assert_eq!(failed, Some(6 + certain));
    // In a fragment that is complete, while the message is not.
    let fragments = [sent(Text, false, "κόσμε".as_bytes()), sent(Continuation, false, b"\xF4\x90")].concat();
    assert_eq!(fault(SERVER, &fragments), Fault::NotUtf8);
    // In the part that is here of a first fragment.
    let first = sent(Text, false, &bad);
    assert_eq!(fault(SERVER, &first[..=(6 + certain)]), Fault::NotUtf8);
}

#[test]
fn ten_thousand_packets_in_one_segment() {
    let mut stream = Vec::new();
    for n in 0..10_000_u32 {
        stream.extend(sent(Binary, true, &n.to_be_bytes()));
    }
    let (seen, fault) = read(SERVER, &stream);
    assert_eq!(fault, None);
    let wanted: Vec<_> = (0..10_000_u32).map(|n| Seen::Binary(n.to_be_bytes().to_vec())).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn what_is_truncated_is_no_event() {
    let stream = sent(Binary, true, b"truncated");
    for end in 0..stream.len() {
        assert_eq!(read(SERVER, &stream[..end]), (vec![], None));
    }
}

#[test]
fn a_mask_undoes_itself_at_every_length() {
    for len in 0..100 {
        let bytes = random::Random(1).bytes(len);
        let mut masked = bytes.clone();
        mask(&mut masked, [1, 20, 30, 40]);
        let slow: Vec<u8> =
            bytes.iter().zip([1, 20, 30, 40].into_iter().cycle()).map(|(b, k)| b ^ k).collect();
        assert_eq!(masked, slow);
    }
}

#[test]
fn every_fault_has_a_text_that_fits_a_close_frame() {
    use petrel_protocol::websocket::close_payload;
    for fault in [
        Fault::ReservedBits,
        Fault::UnknownOpcode,
        Fault::Unmasked,
        Fault::Masked,
        Fault::BadLength,
        Fault::ControlTooLarge,
        Fault::ControlFragmented,
        Fault::NothingToContinue,
        Fault::MessageInMessage,
        Fault::BadClose,
        Fault::NotUtf8,
        Fault::TextNotTaken,
        Fault::TooLarge,
    ] {
        let payload = close_payload(fault.close_code(), fault.text());
        assert_eq!(&payload[2..], fault.to_string().as_bytes(), "the reason is not cut");
    }
}
