//! kill -9 in the middle, again and again: nothing that was accepted is lost, doubled or out of order.

mod harness;

use std::thread;
use std::time::Duration;

use harness::Petrel;
use harness::talk::{At, Talks};
use petrel_protocol::ids::Device;

const PAIRS: u64 = 4;
const KILLS: u32 = 6;

#[test]
fn kill_9_in_the_middle_loses_no_accepted_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut petrel = Petrel::start(dir.path());
    let (edge, http) = (petrel.edge.clone(), petrel.http.clone());
    let at = |user, device| At { edge: edge.clone(), token: petrel.token(user, device), user };
    let talks = Talks::start(
        (1..=PAIRS).map(|pair| (at(10 * pair, Device::Web), at(10 * pair + 1, Device::Android))),
    );
    for kill in 0..KILLS {
        // Long enough to get going, and another moment each time.
        thread::sleep(Duration::from_millis(250 + u64::from(kill * 137 % 300)));
        petrel.kill();
        petrel = Petrel::start_again(dir.path(), &edge, &http);
    }
    thread::sleep(Duration::from_millis(300));
    let counts = talks.end();
    assert!(counts.iter().all(|count| *count > u64::from(KILLS)), "the load went on: {counts:?}");
    assert_eq!(petrel.terminate().code(), Some(0));
}
