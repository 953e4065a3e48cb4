//! Close frames (RFC 6455, sections 5.5.1 and 7.4).

use super::*;
use petrel_protocol::websocket::{close_payload, encode_frame, is_valid_close_code};

fn closed(payload: &[u8]) -> (Vec<Seen>, Option<Fault>) {
    read(SERVER, &sent(Opcode::Close, true, payload))
}

#[test]
fn a_close_may_be_empty_or_have_a_code_and_a_reason() {
    assert_eq!(closed(b""), (vec![Seen::Close(None, String::new())], None));
    assert_eq!(closed(&close_payload(1000, "")), (vec![Seen::Close(Some(1000), String::new())], None));
    assert_eq!(closed(&close_payload(4001, "bye")), (vec![Seen::Close(Some(4001), "bye".to_owned())], None));
}

#[test]
fn codes_that_may_be_sent() {
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        assert!(is_valid_close_code(code), "{code}");
        assert_eq!(closed(&close_payload(code, "")).1, None);
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        assert!(!is_valid_close_code(code), "{code}");
        assert_eq!(closed(&code.to_be_bytes()), (vec![], Some(Fault::BadClose)));
    }
}

#[test]
fn half_a_code_and_a_reason_that_is_not_utf8() {
    assert_eq!(closed(&[3]), (vec![], Some(Fault::BadClose)));
    assert_eq!(closed(b"\x03\xE8\xCE\xBA\xFF"), (vec![], Some(Fault::NotUtf8)));
}

#[test]
fn nothing_counts_after_a_close() {
    let mut stream = sent(Opcode::Close, true, &close_payload(1000, ""));
    stream.extend(sent(Opcode::Binary, true, b"late"));
    stream.extend([0xFF; 40]);
    let mut reader = Reader::new(SERVER);
    assert_eq!(reader.feed(&stream), Ok(ControlFlow::Break(())));
    assert_eq!(reader.feed(&[0xFF; 40]), Ok(ControlFlow::Break(())));
    assert_eq!(reader.seen, [Seen::Close(Some(1000), String::new())]);
}

#[test]
fn a_close_ends_an_unfinished_message() {
    let mut stream = sent(Opcode::Binary, false, b"half");
    stream.extend(sent(Opcode::Close, true, b""));
    let mut reader = Reader::new(SERVER);
    assert_eq!(reader.feed(&stream), Ok(ControlFlow::Break(())));
    assert_eq!(reader.seen, [Seen::Close(None, String::new())]);
    assert_eq!(reader.decoder.buffered_bytes(), 0);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let payload = close_payload(1000, &"é".repeat(100));
    assert_eq!(payload.len(), 2 + 122);
    assert_eq!(std::str::from_utf8(&payload[2..]), Ok("é".repeat(61).as_str()));
    let mut frame = Vec::new();
    encode_frame(&mut frame, Opcode::Close, &payload, None);
    let (seen, fault) = read(CLIENT, &frame);
    assert_eq!((seen, fault), (vec![Seen::Close(Some(1000), "é".repeat(61))], None));
}

#[test]
#[should_panic(expected = "may not be sent")]
fn a_code_that_may_not_be_sent_is_our_own_fault() {
    let _ = close_payload(1005, "");
}
