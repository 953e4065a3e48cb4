//! Refresh, logout, and the end of tokens.

use super::*;

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
fn new_keys_sign_and_a_removed_one_ends() {
    let world = World::new();
    world.edge(1, 10, 0);
    let addr = world.addr();
    register(addr, "anna");
    let old = login(addr, "anna");
    let mut keys = Keys::clone(&world.keys);
    keys.rotate("k2", [8; 32]);
    world.router().on_new_keys()(Arc::new(keys));
    let new = login(addr, "anna");
    let next = Keys::with_new_key("k2", [8; 32]);
    assert!(next.verify(new["token"].as_str().unwrap(), now_s(), Kind::Access).is_ok());
    assert_eq!(refresh(addr, &old["refresh_token"]).status, 200, "the old key verifies");
    let old = login(addr, "anna");
    world.router().on_new_keys()(Arc::new(Keys::with_new_key("k3", [9; 32])));
    refresh(addr, &old["refresh_token"]).problem(401, "bad_token");
}
