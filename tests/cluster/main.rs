//! Petrel as it is deployed: edges, routers and persists as processes of their own, on a real Pulsar, a real Cassandra and
//! a real Redis, which PETREL_TEST_PULSAR, PETREL_TEST_PULSAR_ADMIN, PETREL_TEST_CASSANDRA and PETREL_TEST_REDIS name
//! (`deploy/local/up` starts them). `README.md` beside this file says which bad day is staged where.

#[path = "../harness/mod.rs"]
mod harness;
mod link;
mod process;
mod servers;
mod stack;

mod absent;
mod cassandra_lost;
mod keys_reread;
mod log_broken;
mod persist_stopped;
mod push_dropped;
mod redis_lost;
mod same_id;
mod scaling;
mod two_edges;

use std::time::{Duration, Instant};

use harness::PATIENCE;

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
