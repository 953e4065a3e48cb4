//! Register and login.

use super::*;

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
fn a_name_and_a_password_of_the_longest_length_are_taken() {
    let world = World::new();
    world.edge(1, 10, 0);
    let (name, password) = ("é".repeat(32), "🐦".repeat(32));
    let answer = post(world.addr(), "/api/v1/register", &json!({ "username": name, "password": password }));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(try_login(world.addr(), &name, &password).status, 200);
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
