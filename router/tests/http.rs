//! Accounts over a real socket: what every answer is, and what bad input meets.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use petrel_bus::calls::{CallError, Link, PersistCall};
use petrel_protocol::calls::{Lease, delivery::What};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::token::Kind;
use petrel_router::{Config, PasswordCost, Router, StartError};
use serde_json::{Value, json};
use support::{SOON, World, address, lease};

/// An answer, as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| *n == name));
        line.map(|(_, value)| value)
    }

    /// Asserts a refusal with this status and code; its details.
    fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], status);
        assert!(
            !problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty()
        );
        problem
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Reads one answer; none where the connection ends without one.
fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let mut some = [0; 1024];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend(&some[..n]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let length: usize = answer.header("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = bytes[head_end..].to_vec();
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[have..]).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    Some(answer)
}

fn send(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    read(&mut stream).expect("an answer")
}

fn get(addr: SocketAddr, path: &str) -> Answer {
    send(addr, &format!("GET {path} HTTP/1.1\r\nhost: petrel\r\n\r\n"))
}

fn post_text(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: petrel\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

const JSON: &str = "content-type: application/json\r\n";

fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    send(addr, &post_text(path, JSON, &body.to_string()))
}

fn register(addr: SocketAddr, username: &str) -> u64 {
    let answer = post(addr, "/api/v1/register", &json!({ "username": username, "password": "secret" }));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["user_id"].as_str().expect("ids are decimal strings").parse().unwrap()
}

fn try_login(addr: SocketAddr, username: &str, password: &str) -> Answer {
    let body = json!({ "username": username, "password": password, "device_type": 4 });
    post(addr, "/api/v1/login", &body)
}

fn login(addr: SocketAddr, username: &str) -> Value {
    let answer = try_login(addr, username, "secret");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn refresh(addr: SocketAddr, token: &Value) -> Answer {
    post(addr, "/api/v1/refresh", &json!({ "refresh_token": token }))
}

fn logout(addr: SocketAddr, token: &str) -> Answer {
    send(addr, &post_text("/api/v1/logout", &format!("authorization: Bearer {token}\r\n"), ""))
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn register_and_login() {
    let world = World::new();
    world.edge(1, 10, 3);
    let addr = world.addr();
    let user = register(addr, "anna");
    let again = post(addr, "/api/v1/register", &json!({ "username": "anna", "password": "other" }));
    again.problem(409, "username_taken");
    let stored = world.persist.accounts.lock().unwrap()["anna"].password_hash.clone();
    assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$") && !stored.contains("secret"), "{stored}");

    let before = now_s();
    let told = login(addr, "anna");
    assert_eq!(told["user_id"], user.to_string());
    assert_eq!(told["edge"], "ws://127.0.0.1:1/1");
    let claims = world.keys.verify(told["token"].as_str().unwrap(), now_s(), Kind::Access).unwrap();
    assert_eq!((claims.user, claims.device, claims.version), (UserId(user), Device::Web, 1));
    assert!((before..=now_s()).contains(&claims.issued_at_s));
    assert_eq!(claims.expires_at_s - claims.issued_at_s, 24 * 3_600);
    assert_eq!(told["expires_at"].as_u64().unwrap(), claims.expires_at_s * 1_000, "ms since 1970");
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let world = World::new();
    world.edge(1, 10, 0);
    register(world.addr(), "anna");
    let wrong = try_login(world.addr(), "anna", "Secret");
    let unknown = try_login(world.addr(), "nobody", "secret");
    wrong.problem(401, "wrong_credentials");
    unknown.problem(401, "wrong_credentials");
    assert_eq!(wrong.body, unknown.body);
}

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
fn a_name_and_a_password_of_the_longest_length_are_taken() {
    let world = World::new();
    world.edge(1, 10, 0);
    let (name, password) = ("é".repeat(32), "🐦".repeat(32));
    let answer = post(world.addr(), "/api/v1/register", &json!({ "username": name, "password": password }));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(try_login(world.addr(), &name, &password).status, 200);
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

#[test]
fn failed_logins_are_limited_for_each_account() {
    let world = World::new();
    world.edge(1, 10, 0);
    let addr = world.addr();
    register(addr, "anna");
    register(addr, "bert");
    for name in ["anna", "nobody"] {
        for _ in 0..limits::LOGIN_FAILURES_MAX {
            try_login(addr, name, "wrong").problem(401, "wrong_credentials");
        }
        let refused = try_login(addr, name, "secret");
        let wait_ms = refused.problem(429, "too_many_failures")["retry_after_ms"].as_u64().unwrap();
        assert!((1..=limits::LOGIN_FAILURES_MS).contains(&wait_ms), "{wait_ms}");
        assert_eq!(refused.header("retry-after"), Some((wait_ms / 1_000).to_string().as_str()));
    }
    login(addr, "bert");
    // Success clears the count.
    for _ in 0..3 {
        for _ in 1..limits::LOGIN_FAILURES_MAX {
            try_login(addr, "bert", "wrong").problem(401, "wrong_credentials");
        }
        login(addr, "bert");
    }
}

#[test]
fn login_gives_the_least_loaded_edge_that_takes_sessions() {
    let world = World::new();
    let addr = world.addr();
    register(addr, "anna");
    let refused = try_login(addr, "anna", "secret");
    refused.problem(503, "no_edge");
    assert!(refused.header("retry-after").is_some());

    let set = |edge, sessions, sessions_max, is_draining| {
        let lease = Lease { sessions, sessions_max, is_draining, ..lease(edge, u64::from(edge), 0) };
        assert_eq!(world.lease(lease), Ok(true));
    };
    let chosen = || login(addr, "anna")["edge"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    set(1, 50, 100, false);
    assert_eq!(chosen(), "1");
    set(2, 90, 1_000, false);
    assert_eq!(chosen(), "2", "9 % of its places are taken, though more sessions");
    set(3, 0, 100, true);
    assert_eq!(chosen(), "2", "3 is draining");
    set(2, 1_000, 1_000, false);
    assert_eq!(chosen(), "1", "2 is full");
    set(1, 50, 100, true);
    try_login(addr, "anna", "secret").problem(503, "no_edge");
}

#[test]
fn refresh_tokens_rotate() {
    let world = World::new();
    world.edge(1, 10, 0);
    let addr = world.addr();
    let user = register(addr, "anna");
    let first = login(addr, "anna");
    let second = refresh(addr, &first["refresh_token"]);
    assert_eq!(second.status, 200, "{second:?}");
    let second = second.json();
    assert_eq!(second["user_id"], user.to_string());
    assert_eq!(second["edge"], first["edge"]);
    let claims = world.keys.verify(second["token"].as_str().unwrap(), now_s(), Kind::Access).unwrap();
    assert_eq!((claims.user, claims.device), (UserId(user), Device::Web));

    refresh(addr, &first["refresh_token"]).problem(401, "bad_token");
    let third = refresh(addr, &second["refresh_token"]);
    assert_eq!(third.status, 200, "{third:?}");
    // A login meanwhile is good whatever was used up within the same second.
    let fresh = login(addr, "anna");
    assert_eq!(refresh(addr, &fresh["refresh_token"]).status, 200);

    let (token, name) = fresh["refresh_token"].as_str().unwrap().rsplit_once('~').unwrap();
    register(addr, "bert");
    assert_eq!(name, "anna");
    refresh(addr, &json!(format!("{token}~bert"))).problem(401, "bad_token");
    refresh(addr, &json!(format!("{token}~nobody"))).problem(401, "bad_token");
    refresh(addr, &json!(token)).problem(401, "bad_token");
    refresh(addr, &json!(format!("{}~anna", fresh["token"].as_str().unwrap()))).problem(401, "bad_token");
    refresh(addr, &json!("")).problem(401, "bad_token");
}

#[test]
fn logout_revokes_and_ends_live_sessions() {
    let world = World::new();
    let edge = world.edge(1, 10, 0);
    let addr = world.addr();
    let user = UserId(register(addr, "anna"));
    let told = login(addr, "anna");
    let token = told["token"].as_str().unwrap();
    world.claim(user, Device::Web, address(1, 10, 1)).unwrap();
    world.claim(user, Device::Ios, address(1, 10, 2)).unwrap();
    world.claim(UserId(77), Device::Ios, address(1, 10, 3)).unwrap();

    logout(addr, "nonsense").problem(401, "bad_token");
    logout(addr, told["refresh_token"].as_str().unwrap()).problem(401, "bad_token");
    let nothing = send(addr, &post_text("/api/v1/logout", "", ""));
    nothing.problem(401, "bad_token");
    assert_eq!(nothing.header("www-authenticate"), Some("Bearer"));
    let basic = post_text("/api/v1/logout", &format!("authorization: Basic {token}\r\n"), "");
    send(addr, &basic).problem(401, "bad_token");
    assert!(edge.deliveries().is_empty());

    let answer = logout(addr, token);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let mut slots: Vec<_> = edge.deliveries().iter().map(|d| d.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [1, 2], "all of this user's devices and nobody else's");
    assert!(edge.deliveries().iter().all(
        |d| matches!(&d.what, Some(What::Kick(k)) if k.code == Code::BadToken as i32 && d.user == user.0)
    ));
    logout(addr, token).problem(401, "bad_token");
    refresh(addr, &told["refresh_token"]).problem(401, "bad_token");
    login(addr, "anna");
}

#[test]
fn expired_tokens_are_refused() {
    let world = World::with(|config| {
        config.token_ttl = Duration::ZERO;
        config.refresh_ttl = Duration::ZERO;
    });
    world.edge(1, 10, 0);
    register(world.addr(), "anna");
    let told = login(world.addr(), "anna");
    logout(world.addr(), told["token"].as_str().unwrap()).problem(401, "bad_token");
    refresh(world.addr(), &told["refresh_token"]).problem(401, "bad_token");
}

#[test]
fn without_persist_accounts_are_unavailable() {
    let world = World::new();
    world.edge(1, 10, 0);
    let addr = world.addr();
    register(addr, "anna");
    let told = login(addr, "anna");
    for (failure, code) in [(CallError::Unavailable, "unavailable"), (CallError::Full, "overloaded")] {
        world.persist.fail(Some(failure));
        let answers = [
            post(addr, "/api/v1/register", &json!({ "username": "bert", "password": "p" })),
            try_login(addr, "anna", "secret"),
            refresh(addr, &told["refresh_token"]),
            logout(addr, told["token"].as_str().unwrap()),
        ];
        for answer in answers {
            answer.problem(503, code);
            assert!(answer.header("retry-after").is_some());
        }
    }
    world.persist.fail(None);
    // What could not be tried did not count as failed, and the refresh token is still good.
    assert_eq!(refresh(addr, &told["refresh_token"]).status, 200);
    login(addr, "anna");
}

#[test]
fn too_many_passwords_at_once_are_refused_and_the_rest_of_the_door_stays_open() {
    // So slow that none is done before all have come.
    let world = World::with(|config| config.password_cost = PasswordCost { memory_kib: 19_456, passes: 10 });
    let addr = world.addr();
    let places = limits::HASHES_AT_ONCE + limits::HASHES_WAITING_MAX;
    let request = |n| {
        let body = json!({ "username": format!("user {n}"), "password": "p" }).to_string();
        let mut stream = connect(addr);
        stream.write_all(post_text("/api/v1/register", JSON, &body).as_bytes()).unwrap();
        stream
    };
    let mut all: Vec<TcpStream> = (0..places + 5).map(request).collect();
    let refused = all.split_off(places);
    for mut stream in refused {
        let answer = read(&mut stream).expect("an answer");
        answer.problem(503, "overloaded");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(get(addr, "/healthz").status, 200);
    // Clients that go away give their places back.
    drop(all);
    support::eventually("a place", || {
        let mut stream = request(1_000);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        read(&mut stream).is_none().then_some(())
    });
}

#[test]
fn health_readiness_and_metrics() {
    let world = World::new();
    let addr = world.addr();
    assert_eq!(get(addr, "/healthz").status, 200);
    let detail = get(addr, "/readyz").problem(503, "not_ready")["detail"].clone();
    assert_eq!(detail, "not ready: edge");
    world.edge(1, 10, 0);
    let ready = get(addr, "/readyz");
    assert_eq!((ready.status, &ready.json()["is_ready"]), (200, &json!(true)));
    world.persist.fail(Some(CallError::Unavailable));
    assert_eq!(get(addr, "/readyz").problem(503, "not_ready")["detail"], "not ready: persist");

    world.claim(UserId(1), Device::Web, address(1, 10, 1)).unwrap();
    let metrics = get(addr, "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for name in [
        "process_resident_memory_bytes",
        "petrel_router_routes",
        "petrel_router_lease_age_ms{edge=\"1\"}",
        "petrel_router_http_requests_total{path=\"/readyz\",status=\"503\"}",
        "petrel_router_refusals_total{code=\"not_ready\"}",
    ] {
        assert!(metrics.body.contains(name), "{name} is missing in\n{}", metrics.body);
    }
}

#[test]
fn a_connection_is_kept_and_many_are_served() {
    let world = World::new();
    let addr = world.addr();
    let mut one = connect(addr);
    for _ in 0..3 {
        one.write_all(b"GET /healthz HTTP/1.1\r\nhost: petrel\r\n\r\n").unwrap();
        assert_eq!(read(&mut one).unwrap().status, 200);
    }
    let clients: Vec<_> = (0..8).map(|_| thread::spawn(move || get(addr, "/healthz").status)).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
}

#[test]
fn a_port_in_use_is_named_with_its_mend() {
    let world = World::new();
    let persist: Link<PersistCall> = world.persist.clone();
    let config = Config::new(world.addr());
    let error = match Router::start(config, world.bus.clone(), persist, Arc::clone(&world.keys)) {
        Err(error @ StartError::Listen { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the port is taken"),
    };
    assert!(error.contains(&world.addr().port().to_string()) && error.contains("--http"), "{error}");
    assert_eq!(get(world.addr(), "/healthz").status, 200, "the other one goes on");
}
