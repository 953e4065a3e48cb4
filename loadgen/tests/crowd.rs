//! A crowd against a small edge: it comes, talks, shrinks, and counts whom it loses.

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use fake::{FakeEdge, Mischief};
use petrel_loadgen::accounts::Minter;
use petrel_loadgen::crowd::{Config, Crowd};
use petrel_loadgen::url::Target;
use petrel_protocol::ids::Device;

/// What is not there by then fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

fn crowd(edge: &FakeEdge, clients: u32) -> Crowd {
    let config = Config {
        target: Target::parse(&format!("ws://{}/websocket", edge.address), "ws://").expect("a URL"),
        minter: Some(Arc::new(Minter::read(edge.data.path()).expect("keys"))),
        first_user: 1_000,
        device: Device::Android,
        clients,
        // The clients do not divide evenly among them.
        sections: 3,
        network: 12,
        opening_max: 8,
    };
    Crowd::start(config).expect("rings")
}

fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn everybody_comes_messages_arrive_and_some_leave() {
    let edge = FakeEdge::start(Mischief::None);
    let mut crowd = crowd(&edge, 40);
    let mut seen = 0;
    assert!(crowd.go_to(40, 200.0, PATIENCE, |ready| seen = ready), "{:?}", crowd.take_times().last_fault);
    assert!(seen > 0, "the way there is told");
    // Of every section to every other, the last client included.
    for from in 0..40 {
        crowd.send(from, (from + 7) % 40, crowd.elapsed());
    }
    wait_for("the messages", || crowd.counts().arrived.load(Acquire) == 40);
    wait_for("their acks", || crowd.counts().accepted.load(Acquire) == 40);
    let times = crowd.take_times();
    assert_eq!(times.login.percentiles().count, 40);
    assert_eq!(times.delivery.percentiles().count, 40);
    assert!(crowd.go_to(10, 1e6, PATIENCE, |_| {}));
    assert_eq!((crowd.ready(), crowd.counts().sockets.load(Acquire)), (10, 10));
    assert!(crowd.go_to(25, 1e6, PATIENCE, |_| {}), "those who left come back");
    assert_eq!(crowd.ready(), 25);
    assert_eq!(crowd.counts().dropped.load(Acquire), 0, "who was asked to go is not missed");
    assert_eq!(crowd.counts().failed.load(Acquire), 0);
}

#[test]
fn whom_the_server_drops_is_counted_and_stays_away() {
    let edge = FakeEdge::start(Mischief::Crash);
    let mut crowd = crowd(&edge, 20);
    assert!(crowd.go_to(20, 1e6, PATIENCE, |_| {}));
    let mut sent = 0;
    wait_for("the crash", || {
        crowd.send(sent % 20, (sent + 1) % 20, crowd.elapsed());
        sent += 1;
        crowd.counts().dropped.load(Acquire) == 20
    });
    assert_eq!(crowd.ready(), 0);
    assert!(crowd.take_times().last_fault.is_some_and(|fault| fault.contains("ended")));
}

#[test]
fn a_server_that_is_not_there_is_tried_again_and_named() {
    let edge = FakeEdge::start(Mischief::None);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut config_edge = edge;
    config_edge.address = free;
    let mut crowd = crowd(&config_edge, 2);
    assert!(!crowd.go_to(2, 1e6, Duration::from_millis(300), |_| {}));
    assert!(crowd.counts().failed.load(Acquire) >= 2);
    assert!(crowd.take_times().last_fault.is_some());
}
