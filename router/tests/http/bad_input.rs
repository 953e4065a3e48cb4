//! What is no request, and what is a bad one.

use super::*;

#[test]
fn bad_fields_are_named() {
    let world = World::new();
    let addr = world.addr();
    let names =
        [json!(null), json!(7), json!(""), json!("x".repeat(65)), json!(" a"), json!("a\nb"), json!(["a"])];
    for path in ["/api/v1/register", "/api/v1/login"] {
        for name in &names {
            let body = json!({ "username": name, "password": "p", "device_type": 4 });
            assert_eq!(post(addr, path, &body).problem(400, "bad_field")["field"], "username", "{name}");
        }
        for password in [json!(null), json!(1), json!(""), json!("x".repeat(129))] {
            let body = json!({ "username": "anna", "password": password, "device_type": 4 });
            assert_eq!(post(addr, path, &body).problem(400, "bad_field")["field"], "password", "{password}");
        }
        let missing = post(addr, path, &json!({ "user": "anna" })).problem(400, "bad_field");
        assert_eq!(missing["field"], "username");
        assert!(missing["detail"].as_str().unwrap().contains("username"));
    }
    for device in
        [json!(null), json!(0), json!(7), json!("web"), json!(-1), json!(1.5), json!(4_294_967_300_u64)]
    {
        let body = json!({ "username": "anna", "password": "p", "device_type": device });
        assert_eq!(
            post(addr, "/api/v1/login", &body).problem(400, "bad_field")["field"],
            "device_type",
            "{device}"
        );
    }
    for token in [json!(null), json!(5), json!({})] {
        assert_eq!(refresh(addr, &token).problem(400, "bad_field")["field"], "refresh_token");
    }
    assert!(world.persist.accounts.lock().unwrap().is_empty());
}

#[test]
fn bodies_that_are_not_one_json_object_are_refused() {
    let world = World::new();
    let addr = world.addr();
    for body in ["", "{", "nonsense", "[]", "\"text\"", "{} {}", "null", "{\"username\":\"\u{1}\"}"] {
        send(addr, &post_text("/api/v1/login", JSON, body)).problem(400, "bad_json");
    }
    let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
    send(addr, &post_text("/api/v1/login", JSON, &deep)).problem(400, "bad_json");
    for kind in ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"] {
        send(addr, &post_text("/api/v1/login", kind, "{}")).problem(415, "not_json");
    }
    let with_charset = "content-type: Application/JSON; charset=utf-8\r\n";
    send(addr, &post_text("/api/v1/login", with_charset, "{}")).problem(400, "bad_field");
}

#[test]
fn bodies_that_are_too_large_are_refused() {
    let world = World::new();
    let addr = world.addr();
    let large = limits::HTTP_BODY_BYTES_MAX + 1;
    let declared =
        format!("POST /api/v1/login HTTP/1.1\r\nhost: petrel\r\n{JSON}content-length: {large}\r\n\r\n");
    send(addr, &declared).problem(413, "body_too_large");
    let huge = declared.replace(&large.to_string(), "99999999999999");
    send(addr, &huge).problem(413, "body_too_large");

    // Chunked: the size shows only as it comes.
    let head =
        format!("POST /api/v1/login HTTP/1.1\r\nhost: petrel\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    let chunk = format!("{:x}\r\n{}\r\n", 8_192, " ".repeat(8_192));
    send(addr, &format!("{head}{chunk}{chunk}1\r\n \r\n")).problem(413, "body_too_large");

    let fits = format!("{{\"username\":\"anna\"{}}}", " ".repeat(limits::HTTP_BODY_BYTES_MAX - 19));
    assert_eq!(fits.len(), limits::HTTP_BODY_BYTES_MAX);
    send(addr, &post_text("/api/v1/login", JSON, &fits)).problem(400, "bad_field");
}

#[test]
fn slow_clients_are_cut_off_and_broken_ones_hurt_nobody() {
    let world = World::with(|config| {
        config.head_timeout = Duration::from_millis(300);
        config.body_timeout = Duration::from_millis(300);
    });
    let addr = world.addr();
    let mut slow_body = connect(addr);
    slow_body.write_all(post_text("/api/v1/login", JSON, "{}").trim_end_matches("{}").as_bytes()).unwrap();
    read(&mut slow_body).expect("an answer").problem(408, "body_too_slow");

    let mut slow_head = connect(addr);
    slow_head.write_all(b"GET / HTTP/1.1\r\nho").unwrap();
    assert!(read(&mut slow_head).is_none(), "closed without an answer");

    let mut silent = connect(addr);
    assert!(read(&mut silent).is_none());

    // Idle after a request: closed as well.
    let mut idle = connect(addr);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: petrel\r\n\r\n").unwrap();
    assert_eq!(read(&mut idle).unwrap().status, 200);
    assert!(read(&mut idle).is_none());

    let mut half = connect(addr);
    half.write_all(format!("POST /api/v1/login HTTP/1.1\r\n{JSON}content-length: 9\r\n\r\n{{").as_bytes())
        .unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    if let Some(answer) = read(&mut half) {
        answer.problem(400, "broken_body");
    }

    let mut garbage = connect(addr);
    garbage.write_all(&[0xff; 64]).unwrap();
    assert!(read(&mut garbage).is_none_or(|a| a.status == 400));

    let mut flood = connect(addr);
    let head = format!("GET / HTTP/1.1\r\nhost: petrel\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    let _ = flood.write_all(head.as_bytes());
    assert!(read(&mut flood).is_none_or(|a| a.status == 431));
    assert_eq!(get(addr, "/healthz").status, 200);
}

#[test]
fn unknown_paths_and_methods_are_told_apart() {
    let world = World::new();
    get(world.addr(), "/api/v1/nothing").problem(404, "not_found");
    let wrong = get(world.addr(), "/api/v1/login");
    wrong.problem(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("POST"));
    let index = get(world.addr(), "/");
    assert!(index.status == 200 && index.body.lines().count() == 1 && index.body.contains("/login"));
}
