//! The upgrade, both sides.

use petrel_protocol::limits;
use petrel_protocol::token::TokenError;
use petrel_protocol::websocket::upgrade::{
    PATH, Refusal, Request, ResponseFault, Upgrade, accept_response, client_request, parse_request,
    parse_response,
};

const NONCE: [u8; 16] = *b"the sample nonce";
const GOOD: &str = "GET /websocket?userId=7 HTTP/1.1\r\nHost: petrel.example\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The request with these headers more.
fn with(headers: &str) -> String {
    format!("{GOOD}{headers}\r\n")
}

/// The request with `from` replaced.
fn without(from: &str, to: &str) -> String {
    let request = with("");
    assert!(request.contains(from));
    request.replace(from, to)
}

fn upgrade(request: &str) -> Upgrade<'_> {
    match parse_request(request.as_bytes()) {
        Ok(Some(Request::Upgrade(upgrade, consumed))) => {
            assert_eq!(consumed, request.len());
            upgrade
        }
        other => panic!("{other:?} of {request}"),
    }
}

fn refused(request: &str) -> (u16, String) {
    let refusal = parse_request(request.as_bytes()).expect_err("refused");
    (refusal.status(), refusal.text())
}

fn bad(request: &str, names: &str) {
    let (status, text) = refused(request);
    assert_eq!(status, 400);
    assert!(text.contains(names), "{text}");
}

#[test]
fn a_good_request_is_accepted_as_the_standard_says() {
    let request = with("");
    let upgrade = upgrade(&request);
    assert_eq!((upgrade.path(), upgrade.user_id(), upgrade.token()), (PATH, Some(7), None));
    let mut response = Vec::new();
    accept_response(&mut response, &upgrade);
    let text = String::from_utf8(response).expect("text");
    // Section 1.3 has this key and its answer.
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n") && !text.contains("Protocol:"), "{text}");
}

#[test]
fn names_and_lists_are_read_in_any_case() {
    let request =
        GOOD.to_ascii_uppercase().replace("DGHLIHNHBXBSZSBUB25JZQ==", "dGhlIHNhbXBsZSBub25jZQ==") + "\r\n";
    assert_eq!(upgrade(&request).path(), "/WEBSOCKET");
    let lists = without("Connection: keep-alive, Upgrade", "connection: close\r\nconnection:  ,upgrade ,");
    assert_eq!(upgrade(&lists).user_id(), Some(7));
}

#[test]
fn a_target_may_be_a_whole_url() {
    for (target, path, user_id) in [
        ("ws://petrel.example:10001/websocket?userId=9", "/websocket", Some(9)),
        ("http://petrel.example", "/", None),
        ("/websocket?back=http://elsewhere/", "/websocket", None),
        ("/a://b/websocket?x=1&userId=9", "/a://b/websocket", Some(9)),
        ("/websocket?userId=", "/websocket", None),
    ] {
        let request = without("/websocket?userId=7", target);
        let upgrade = upgrade(&request);
        assert_eq!((upgrade.path(), upgrade.user_id()), (path, user_id), "{target}");
    }
}

#[test]
fn a_token_is_taken_from_three_places() {
    for (headers, token) in [
        ("token: a.b.c\r\n", Some("a.b.c")),
        ("Token:a.b.c  \r\n", Some("a.b.c")),
        ("Authorization: Bearer a.b.c\r\n", Some("a.b.c")),
        ("authorization: bearer   a.b.c\r\n", Some("a.b.c")),
        ("Authorization: Basic a.b.c\r\n", None),
        ("Sec-WebSocket-Protocol: petrel.v1, token.a.b.c\r\n", Some("a.b.c")),
        ("Sec-WebSocket-Protocol: petrel.v1\r\nSec-WebSocket-Protocol: token.a.b.c\r\n", Some("a.b.c")),
        ("token: first\r\nAuthorization: Bearer second\r\n", Some("first")),
        ("Authorization: Bearer first\r\nSec-WebSocket-Protocol: token.second\r\n", Some("first")),
    ] {
        assert_eq!(upgrade(&with(headers)).token(), token, "{headers}");
    }
    bad(&with("token: a\r\ntoken: b\r\n"), "twice");
    bad(&with("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"), "twice");
    bad(&with("Sec-WebSocket-Protocol: petrel.v1, token.a, token.b\r\n"), "two tokens");
    bad(&with("token: caf\u{e9}\r\n"), "token");
}

#[test]
fn the_subprotocol_is_named_where_it_was_offered() {
    let request = with("Sec-WebSocket-Protocol: chat, petrel.v1, token.a.b.c\r\n");
    let mut response = Vec::new();
    accept_response(&mut response, &upgrade(&request));
    let text = String::from_utf8(response).expect("text");
    assert!(text.ends_with("\r\nSec-WebSocket-Protocol: petrel.v1\r\n\r\n"), "{text}");
    assert!(!text.contains("a.b.c"), "the token is not sent back");
}

#[test]
fn each_missing_part_is_named() {
    bad(&without("Host: petrel.example\r\n", ""), "Host");
    bad(&without("keep-alive, Upgrade", "keep-alive"), "Connection");
    bad(&without("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1");
    for key in ["", "Sec-WebSocket-Key: short\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!!==\r\n"] {
        bad(&without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", key), "Sec-WebSocket-Key");
    }
    bad(&with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "twice");
    bad(&with("Content-Length: 5\r\n"), "body");
    bad(&with("Transfer-Encoding: chunked\r\n"), "body");
    bad("\x16\x03\x01\x02\x00\x01\x00\x01", "not an HTTP request");
    bad("GET /websocket HTTP/1.1\r\nno colon\r\n\r\n", "not an HTTP request");
}

#[test]
fn another_version_learns_which_one_is_spoken() {
    for version in ["Sec-WebSocket-Version: 8\r\n", ""] {
        let request = without("Sec-WebSocket-Version: 13\r\n", version);
        let refusal = parse_request(request.as_bytes()).expect_err("refused");
        assert_eq!(refusal, Refusal::WrongVersion);
        let mut response = Vec::new();
        refusal.encode(&mut response);
        let text = String::from_utf8(response).expect("text");
        assert!(
            text.starts_with("HTTP/1.1 426 ") && text.contains("\r\nSec-WebSocket-Version: 13\r\n"),
            "{text}"
        );
    }
}

#[test]
fn other_methods_are_refused_and_plain_requests_are_handed_on() {
    assert_eq!(refused("POST /websocket HTTP/1.1\r\nHost: a\r\n\r\n").0, 405);
    let plain = parse_request(b"GET /healthz?deep=1 HTTP/1.0\r\nUser-Agent: probe\r\n\r\n");
    let Ok(Some(Request::Plain(plain))) = plain else { panic!("{plain:?}") };
    assert_eq!((plain.path(), plain.query()), ("/healthz", "deep=1"));
    // An upgrade to something else is none to a WebSocket.
    let h2c = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n");
    assert!(matches!(h2c, Ok(Some(Request::Plain(_)))), "{h2c:?}");
}

#[test]
fn floods_are_refused_at_their_bounds() {
    let many = with(&"X: y\r\n".repeat(limits::HANDSHAKE_HEADERS_MAX));
    assert_eq!(refused(&many).0, 431);
    let long = with(&format!("X: {}\r\n", "y".repeat(limits::HANDSHAKE_BYTES_MAX)));
    assert_eq!(refused(&long).0, 431);
    let endless = format!("{GOOD}X: {}", "y".repeat(limits::HANDSHAKE_BYTES_MAX));
    assert_eq!(refused(&endless[..limits::HANDSHAKE_BYTES_MAX]).0, 431);
    assert!(matches!(parse_request(&endless.as_bytes()[..limits::HANDSHAKE_BYTES_MAX - 1]), Ok(None)));
}

#[test]
fn a_request_is_read_when_it_is_whole_and_keeps_what_follows() {
    let request = with("token: a.b.c\r\n");
    for end in 0..request.len() {
        assert!(matches!(parse_request(&request.as_bytes()[..end]), Ok(None)), "{end} bytes");
    }
    let frames = vec![0x82; 2 * limits::HANDSHAKE_BYTES_MAX];
    let bytes = [request.as_bytes(), &frames].concat();
    let Ok(Some(Request::Upgrade(upgrade, consumed))) = parse_request(&bytes) else { panic!("an upgrade") };
    assert_eq!((upgrade.token(), consumed), (Some("a.b.c"), request.len()));
}

#[test]
fn every_refusal_is_a_whole_answer() {
    for (refusal, status) in [
        (Refusal::Bad("say more"), 400),
        (Refusal::NoToken, 401),
        (Refusal::BadToken(TokenError::Expired), 401),
        (Refusal::NotFound, 404),
        (Refusal::MethodNotAllowed, 405),
        (Refusal::TooSlow, 408),
        (Refusal::NotAnUpgrade, 426),
        (Refusal::WrongVersion, 426),
        (Refusal::TooLarge, 431),
        (Refusal::Unavailable, 503),
    ] {
        let mut bytes = Vec::new();
        refusal.encode(&mut bytes);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(&bytes).expect("valid HTTP") else {
            panic!("incomplete")
        };
        assert_eq!((response.code, refusal.status()), (Some(status), status));
        let header = |name: &str| {
            let found = response.headers.iter().find(|h| h.name == name).expect("the header is there");
            std::str::from_utf8(found.value).expect("text").to_owned()
        };
        assert_eq!(header("Content-Length").parse(), Ok(bytes.len() - head));
        assert_eq!(header("Connection"), "close");
        assert_eq!(std::str::from_utf8(&bytes[head..]), Ok(format!("{}\n", refusal.text()).as_str()));
    }
}

#[test]
fn client_and_server_agree() {
    for token in [None, Some("a.b.c")] {
        let mut request = Vec::new();
        client_request(&mut request, "127.0.0.1:10001", "/websocket?userId=9", NONCE, token);
        let Ok(Some(Request::Upgrade(upgrade, consumed))) = parse_request(&request) else {
            panic!("an upgrade")
        };
        assert_eq!((upgrade.user_id(), upgrade.token(), consumed), (Some(9), token, request.len()));
        let mut response = Vec::new();
        accept_response(&mut response, &upgrade);
        for end in 0..response.len() {
            assert_eq!(parse_response(&response[..end], NONCE), Ok(None));
        }
        let head = response.len();
        response.extend([0x82, 0x00]);
        assert_eq!(parse_response(&response, NONCE), Ok(Some(head)));
        assert!(matches!(parse_response(&response, [1; 16]), Err(ResponseFault::NotAccepted(_))));
    }
}

#[test]
fn the_other_implementation_agrees() {
    use tungstenite::handshake::server::Response;
    let mut request = Vec::new();
    client_request(&mut request, "localhost", PATH, NONCE, Some("t"));
    let key = upgrade_key(&request);
    assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
    let mut response = Vec::new();
    let Ok(Some(Request::Upgrade(upgrade, _))) = parse_request(&request) else { panic!("an upgrade") };
    accept_response(&mut response, &upgrade);
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    assert!(String::from_utf8(response).expect("text").contains(&accept));
    // Its own server makes an answer that this client takes.
    let theirs: Response = tungstenite::handshake::server::create_response(
        &tungstenite::http::Request::builder()
            .uri(PATH)
            .header("Host", "localhost")
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", key)
            .body(())
            .expect("a request"),
    )
    .expect("accepted");
    let mut bytes = Vec::new();
    tungstenite::handshake::server::write_response(&mut bytes, &theirs).expect("written");
    assert_eq!(parse_response(&bytes, NONCE), Ok(Some(bytes.len())));
}

fn upgrade_key(request: &[u8]) -> String {
    let text = std::str::from_utf8(request).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    line.expect("a key").to_owned()
}

#[test]
fn a_client_learns_why_it_was_refused() {
    let mut bytes = Vec::new();
    Refusal::BadToken(TokenError::Expired).encode(&mut bytes);
    let Err(ResponseFault::Refused { status, text }) = parse_response(&bytes, NONCE) else {
        panic!("refused")
    };
    assert_eq!((status, text), (401, TokenError::Expired.to_string()));
    assert_eq!(parse_response(b"SSH-2.0-OpenSSH\r\n", NONCE), Err(ResponseFault::NotHttp));
    for (headers, names) in [
        ("Upgrade: websocket\r\nConnection: Upgrade\r\n", "Accept"),
        ("Connection: Upgrade\r\n", "upgrade"),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", "extension"),
        ("Sec-WebSocket-Protocol: chat\r\n", "subprotocol"),
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n");
        let fault = parse_response(answer.as_bytes(), NONCE).expect_err("not accepted");
        assert!(fault.to_string().contains(names), "{fault}");
    }
}
