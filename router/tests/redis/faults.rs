//! What must hold when Redis is killed, emptied, full, silent, or absent at start.

use std::time::{Duration, Instant};

use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_router::routes::redis::Config;
use petrel_router::routes::{Asserted, Claimed, Refusal, Renewal, Routes};

use crate::server::{Server, silent_port};
use crate::stack::{ANNA, BERT, Stack, address, lease, renewal};

fn on(server: &Server) -> Stack {
    let config = Config { urls: vec![server.url()], prefix: "p:".to_owned() };
    Stack::new(Routes::redis(&config).unwrap(), true)
}

/// Until `is_it`, within the time that a recovery may take.
pub(crate) fn eventually(what: &str, mut is_it: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_it() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What an edge does about an emptied Redis, and that nothing is shown meanwhile under its old epoch.
fn heals_from_loss(stack: &Stack) {
    assert_eq!(stack.look_up(&[ANNA]), [], "nobody is found");
    let old = address(1, 10, 1);
    assert_eq!(
        stack.claim(ANNA, Device::Web, old),
        Err(Refusal::NoLease { edge: 1 }),
        "no route without a lease"
    );
    assert_eq!(stack.lease(&renewal(1, 10)), Renewal::Over, "its sessions missed pushes and must be synced");
    assert!(!stack.is_live(1, 10));
    assert_eq!(stack.lease(&lease(1, 11)), Renewal::New { replaced: None });
    let new = address(1, 11, 1);
    assert_eq!(
        stack.assert(ANNA, Device::Web, new, 9_000),
        Ok(Asserted::Lost),
        "nothing comes back by itself"
    );
    assert_eq!(stack.look_up(&[ANNA]), []);
    assert_eq!(stack.claim_aged(ANNA, Device::Web, new, 9_000), Ok(Claimed::Taken { replaced: None }));
    assert_eq!(stack.found(ANNA), [(Device::Web, new)]);
}

#[test]
fn a_flush_under_live_claims_makes_every_edge_claim_again() {
    let server = Server::start(&[]);
    let stack = on(&server).with_edges();
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    let claims_go_on = std::thread::scope(|scope| {
        let claims = scope.spawn(|| {
            let mut answers = Vec::new();
            for slot in 0..3_000 {
                answers.push(stack.claim_aged(BERT, Device::Web, address(1, 10, slot), 0));
            }
            answers
        });
        std::thread::sleep(Duration::from_millis(100));
        server.command(&["FLUSHALL"]).unwrap();
        claims.join().unwrap()
    });
    // Refused from the moment at which the lost lease was read; those before it went to routes that nobody finds.
    assert!(claims_go_on.iter().all(|c| matches!(c, Ok(_) | Err(Refusal::NoLease { edge: 1 }))));
    assert_eq!(stack.look_up(&[BERT]), []);
    heals_from_loss(&stack);
}

#[test]
fn a_kill_and_a_restart_without_persistence_makes_every_edge_claim_again() {
    let mut server = Server::start(&[]);
    let stack = on(&server).with_edges();
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    server.kill();
    let failed = stack.wait(stack.routes.look_up(stack.now(), &[ANNA]));
    assert_eq!(failed, Err(Refusal::Unavailable), "nobody is taken for offline");
    let failed = stack.claim_aged(ANNA, Device::Web, address(1, 10, 1), 0);
    assert_eq!(failed, Err(Refusal::Unavailable));
    assert!(stack.is_live(1, 10), "that a lease is over is only believed where it was read");
    eventually("it is noticed", || !stack.routes.is_ready());
    server.restart();
    eventually("it recovers", || stack.wait(stack.routes.look_up(stack.now(), &[ANNA])).is_ok());
    heals_from_loss(&stack);
    eventually("it is ready", || stack.routes.is_ready());
}

#[test]
fn a_restart_that_brings_old_data_back_does_not_bring_leases_back() {
    let mut server = Server::start(&["--save", "3600 1"]);
    let stack = on(&server).with_edges();
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    server.command(&["SAVE"]).unwrap();
    // Lost with the crash.
    stack.claim(BERT, Device::Web, address(1, 10, 2)).unwrap();
    server.kill();
    server.restart();
    eventually("it recovers", || stack.wait(stack.routes.look_up(stack.now(), &[ANNA])).is_ok());
    assert_eq!(stack.look_up(&[BERT]), []);
    assert_eq!(stack.lease(&renewal(1, 10)), Renewal::Over, "Bert's session must learn of it");
    assert_eq!(stack.look_up(&[ANNA]), []);
}

#[test]
fn a_full_server_refuses_claims_and_goes_on_telling_routes() {
    let server = Server::start(&[]);
    let stack = on(&server).with_edges();
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(stack.claim(BERT, Device::Web, address(1, 10, 2)), Err(Refusal::Unavailable));
    assert_eq!(stack.found(ANNA), [(Device::Web, address(1, 10, 1))], "what is there is found");
    assert!(stack.release(ANNA, Device::Web, address(1, 10, 1)) || !stack.found(ANNA).is_empty());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(stack.claim(BERT, Device::Web, address(1, 10, 2)), Ok(None));
}

#[test]
fn a_stopped_server_fails_calls_in_time_and_is_found_again() {
    let server = Server::start(&[]);
    let stack = on(&server).with_edges();
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    server.signal("-STOP");
    let failed = stack.wait(stack.routes.look_up(stack.now(), &[ANNA]));
    assert_eq!(failed, Err(Refusal::Unavailable));
    assert_eq!(stack.claim(BERT, Device::Web, address(1, 10, 2)), Err(Refusal::Unavailable));
    assert_eq!(stack.wait(stack.routes.lease(stack.now(), &renewal(1, 10))), Err(Refusal::Unavailable));
    server.signal("-CONT");
    eventually("it recovers", || stack.wait(stack.routes.look_up(stack.now(), &[ANNA])).is_ok());
    assert_eq!(
        stack.found(ANNA),
        [(Device::Web, address(1, 10, 1))],
        "shorter than a lease: nothing was lost"
    );
}

#[test]
fn an_absent_server_is_waited_for() {
    let port = silent_port();
    let config = Config { urls: vec![format!("redis://127.0.0.1:{port}")], prefix: "p:".to_owned() };
    let stack = Stack::new(Routes::redis(&config).unwrap(), true);
    assert_eq!(stack.wait(stack.routes.lease(stack.now(), &lease(1, 10))), Err(Refusal::Unavailable));
    assert!(!stack.routes.is_ready());
    let _server = Server::start_on(port, &[]);
    eventually("it is ready", || stack.routes.is_ready());
    assert_eq!(stack.lease(&lease(1, 10)), Renewal::New { replaced: None });
}

#[test]
fn calls_beyond_the_bound_are_refused_at_once() {
    let server = Server::start(&[]);
    let stack = on(&server).with_edges();
    server.signal("-STOP");
    let claims: Vec<_> = (0..limits::ROUTES_CALLS_MAX as u64 + 10)
        .map(|user| petrel_router::routes::Claimant {
            user: UserId(user + 1),
            device: Device::Web,
            address: address(1, 10, user as u32),
            age_ms: 0,
        })
        .collect();
    let refused = stack.wait(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let routes = std::sync::Arc::new(&stack.routes);
        let mut waiting: Vec<_> = claims.iter().map(|c| Box::pin(routes.claim(stack.now(), c))).collect();
        std::future::poll_fn(|context| {
            waiting.retain_mut(|claim| match claim.as_mut().poll(context) {
                std::task::Poll::Ready(answer) => {
                    tell.send(answer.map(|_| ())).unwrap();
                    false
                }
                std::task::Poll::Pending => true,
            });
            std::task::Poll::Ready(())
        })
        .await;
        let mut busy = 0;
        while let Ok(answer) = told.try_recv() {
            busy += usize::from(answer == Err(Refusal::Busy));
        }
        busy
    });
    server.signal("-CONT");
    assert_eq!(refused, 10);
}

#[test]
fn routes_expire_unless_they_are_asserted() {
    let server = Server::start(&[]);
    let stack = on(&server).with_edges();
    stack.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap();
    let left = |server: &Server| {
        let text = server.text(&["PTTL", "p:route:1"]);
        text.trim_start_matches("int(").trim_end_matches(')').parse::<u64>().unwrap()
    };
    assert!((limits::ROUTE_MS - 5_000..=limits::ROUTE_MS).contains(&left(&server)));
    server.command(&["PEXPIRE", "p:route:1", "5000"]).unwrap();
    assert_eq!(stack.assert(ANNA, Device::Web, address(1, 10, 1), 10), Ok(Asserted::Held));
    assert!(left(&server) > 5_000);
    server.command(&["PEXPIRE", "p:route:1", "5000"]).unwrap();
    assert_eq!(stack.assert(ANNA, Device::Web, address(2, 20, 1), 9_000), Ok(Asserted::Superseded));
    assert!(left(&server) <= 5_000, "somebody else's is not kept alive");
}

#[test]
fn a_revoked_version_is_told_with_claims_and_assertions() {
    let server = Server::start(&[]);
    let stack = on(&server).with_edges();
    let claimant = petrel_router::routes::Claimant {
        user: ANNA,
        device: Device::Web,
        address: address(1, 10, 1),
        age_ms: 0,
    };
    assert_eq!(stack.wait(stack.routes.claim(stack.now(), &claimant)).unwrap().token_version, 0);
    server.command(&["SET", "p:version:1", "7"]).unwrap();
    assert_eq!(stack.wait(stack.routes.assert(stack.now(), &claimant)).unwrap().token_version, 7);
    assert_eq!(stack.wait(stack.routes.claim(stack.now(), &claimant)).unwrap().token_version, 7);
}
