//! A request is incomplete until it is whole, whatever follows it; an acceptance and a refusal are whole answers.

use petrel_protocol::limits::HANDSHAKE_BYTES_MAX;
use petrel_protocol::websocket::upgrade::{
    Request, ResponseFault, accept_response, parse_request, parse_response,
};

/// The bytes are what a connection brought, to a server and to a client.
pub(crate) fn check(bytes: &[u8]) {
    match parse_request(bytes) {
        Ok(None) => assert!(bytes.len() < HANDSHAKE_BYTES_MAX, "a request that does not end is refused"),
        Ok(Some(Request::Upgrade(upgrade, consumed))) => {
            assert!(consumed <= bytes.len().min(HANDSHAKE_BYTES_MAX));
            assert!(upgrade.token().is_none_or(str::is_ascii));
            assert!(!upgrade.path().contains('?'));
            let mut response = Vec::new();
            accept_response(&mut response, &upgrade);
            assert_answer(&response, 101);
            for end in (0..consumed).rev().take(64) {
                assert!(matches!(parse_request(&bytes[..end]), Ok(None)), "complete at {end} of {consumed}");
            }
            let followed = [&bytes[..consumed], &[0xFF; 9]].concat();
            assert!(
                matches!(parse_request(&followed), Ok(Some(Request::Upgrade(_, again))) if again == consumed)
            );
        }
        Ok(Some(Request::Plain(plain))) => assert!(!plain.path().contains('?')),
        Err(refusal) => {
            let mut response = Vec::new();
            refusal.encode(&mut response);
            assert_answer(&response, refusal.status());
        }
    }
    match parse_response(bytes, *b"the sample nonce") {
        Ok(Some(consumed)) => assert!(consumed <= bytes.len().min(HANDSHAKE_BYTES_MAX)),
        Ok(None) => assert!(bytes.len() < HANDSHAKE_BYTES_MAX),
        Err(ResponseFault::Refused { text, .. }) => assert!(text.len() <= 3 * HANDSHAKE_BYTES_MAX),
        Err(_) => {}
    }
}

fn assert_answer(bytes: &[u8], status: u16) {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    assert!(response.parse(bytes).is_ok_and(|parsed| parsed.is_complete()));
    assert_eq!(response.code, Some(status));
}
