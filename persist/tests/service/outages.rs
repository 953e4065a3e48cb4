//! What becomes of accepted messages when Cassandra is absent, killed or stopped, each on a server of the test's own.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use petrel_bus::Bus;
use petrel_bus::calls::{CallError, PersistCall, Reply};
use petrel_persist::{Persist, Status};
use petrel_protocol::events::Stored;

use crate::place::Place;
use crate::server::Server;
use crate::world::{PARTITIONS, World, config, content, pair, send};

const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const SENDS: u64 = 600;
const A_PACK: u64 = 20;

/// One server at a time: each has some hundred MB.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn until(what: &str, is_true: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether something has to be written and cannot be.
pub(crate) fn is_waiting(world: &World) -> bool {
    let status = world.persist.as_ref().unwrap().status();
    matches!(&status, Status::Waiting { part: "store", why } if why.contains("writes failed"))
}

/// The first half of the sends, and the second.
pub(crate) const HALVES: [std::ops::Range<u64>; 2] = [0..SENDS / 2, SENDS / 2..SENDS];

/// Accepts these sends, in two conversations.
pub(crate) fn accept(world: &World, sends: std::ops::Range<u64>) {
    for first in sends.step_by(A_PACK as usize) {
        for peer in [2, 3] {
            world.uplink((first..first + A_PACK).map(|n| send(1, peer, 10_000 * peer + n)).collect());
        }
    }
}

/// A server, and a persist on it that has accepted the first half and is storing it: it has begun both conversations, so
/// that it reads nothing any more before it writes.
fn half_accepted() -> (MutexGuard<'static, ()>, Server, Place, World) {
    let turn = turn();
    let server = Server::new();
    server.start();
    let place = Place::at(server.node());
    let world = World::start(&place);
    accept(&world, HALVES[0].clone());
    until("it begins to store", || [2, 3].iter().all(|&peer| !world.sync(peer, 1, 100).is_empty()));
    (turn, server, place, world)
}

/// Reads what is published until all of it came once, and compares it with what the store gives back.
pub(crate) fn each_is_there_once_and_in_order(world: &mut World) {
    let is_last = |event: &Stored, peer| event.seq == SENDS && event.conversation.unwrap().b == peer;
    let events =
        world.stored_until(|events| [2, 3].iter().all(|peer| events.iter().any(|e| is_last(e, *peer))));
    for peer in [2, 3] {
        // What is published again, after a time of doubt, says the same.
        for event in events.iter().filter(|event| event.conversation.unwrap().b == peer) {
            assert_eq!(content(event), format!("message {}", 10_000 * peer + event.seq - 1));
        }
        // Nothing is passed over, also where a successor begins again with what was not acknowledged.
        let mut next = 1;
        for event in events.iter().filter(|event| event.conversation.unwrap().b == peer) {
            assert!(event.seq <= next, "{} is published, and {next} was not", event.seq);
            next = next.max(event.seq + 1);
        }
        assert_eq!(next, SENDS + 1);
        let mut from = 1;
        while from <= SENDS {
            let range = world.history(1, pair(1, peer), from, 0);
            assert_eq!(range.head_seq, SENDS);
            for row in &range.rows {
                assert_eq!(
                    (row.seq, content(row)),
                    (from, &*format!("message {}", 10_000 * peer + from - 1))
                );
                from += 1;
            }
        }
        assert_eq!(world.resolve(pair(1, peer), 10_000 * peer).seq, 1);
    }
}

#[test]
fn a_server_that_is_absent_at_the_start_is_waited_for() {
    let _turn = turn();
    let server = Server::new();
    let place = Place::at(server.node());
    let bus = Bus::embedded(&place.path().join("bus"), PARTITIONS).unwrap();
    // Whoever does not want to wait any more need not.
    let persist = Persist::start(config(&place), bus.clone()).unwrap();
    until("it says what it waits for", || persist.status().to_string().contains(&server.node()));
    persist.stop();
    let persist = Persist::start(config(&place), bus.clone()).unwrap();
    until("it says what it waits for", || persist.status().to_string().contains(&server.node()));
    assert!(matches!(persist.status(), Status::Waiting { part: "store", .. }));
    let (reply, answer) = Reply::channel();
    persist.link().call(PersistCall::FindAccount("one".into(), reply));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(answer).unwrap_err(), CallError::Unavailable);
    server.start();
    persist.wait_started().unwrap();
    assert_eq!(persist.status(), Status::Ready);
    persist.stop();
    bus.close();
    let mut world = World::start(&place);
    accept(&world, 0..SENDS);
    each_is_there_once_and_in_order(&mut world);
    world.stop();
}

#[test]
fn a_server_killed_in_mid_write_leaves_rows_as_if_written_once() {
    let (_turn, server, _place, mut world) = half_accepted();
    server.kill();
    accept(&world, HALVES[1].clone());
    until("it says that it waits", || is_waiting(&world));
    server.start();
    each_is_there_once_and_in_order(&mut world);
    until("it is ready again", || world.persist.as_ref().unwrap().status() == Status::Ready);
    world.stop();
}

#[test]
fn a_server_that_does_not_answer_for_a_while_is_waited_for() {
    let (_turn, server, _place, mut world) = half_accepted();
    server.pause();
    accept(&world, HALVES[1].clone());
    until("it says that it waits", || is_waiting(&world));
    // Long enough for late answers to requests that were given up.
    std::thread::sleep(Duration::from_secs(5));
    server.go_on();
    each_is_there_once_and_in_order(&mut world);
    until("it is ready again", || world.persist.as_ref().unwrap().status() == Status::Ready);
    world.stop();
}

#[test]
fn persist_stops_during_an_outage_and_its_successor_does_the_rest() {
    let (_turn, server, place, world) = half_accepted();
    server.pause();
    accept(&world, HALVES[1].clone());
    until("it says that it waits", || is_waiting(&world));
    world.stop();
    server.go_on();
    let mut world = World::start(&place);
    each_is_there_once_and_in_order(&mut world);
    world.stop();
}
