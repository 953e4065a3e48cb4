//! Edges that end, and edges that do not answer.

use super::*;

#[test]
fn the_end_of_a_lease_releases_what_its_edge_owes() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.connect(BERT, Device::Ios, EDGE_2, 2);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    assert_eq!(world.fanout.waiting_for().count(), 2);
    world.answer(EDGE_2);
    world.input(Input::LeaseEnded(EDGE_1));
    assert_eq!(world.acked(), [first]);

    // The dead edge's late answer means nothing.
    world.answer(EDGE_1);
    world.routes.remove(&BERT);
    let second = world.stored(vec![message(ANNA, BERT, 2, None)]);
    assert_eq!(world.acked(), [first, second]);
}

#[test]
fn nothing_goes_to_an_incarnation_after_its_end() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    world.input(Input::LeaseEnded(EDGE_1));
    world.calls.clear();
    // Looked up before the end: pushed now, it would follow a gap, and its ack would move the cursor over it.
    let second = world.stored(vec![message(ANNA, BERT, 2, None)]);
    assert!(world.calls.is_empty());
    assert_eq!(world.acked(), [first, second]);
}

#[test]
fn an_edge_that_does_not_answer_in_time_has_its_epoch_revoked() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.connect(CLEO, Device::Web, EDGE_2, 2);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    world.pass(limits::DELIVER_ANSWER_MS_MAX - 1);
    let second = world.stored(vec![message(ANNA, CLEO, 1, None)]);
    assert!(world.revoked.is_empty());
    world.pass(1);
    assert_eq!(world.revoked, [EDGE_1], "edge 2 still has time");
    assert!(world.acked().is_empty(), "until its epoch is over, nobody syncs its sessions");
    world.pass(limits::DELIVER_ANSWER_MS_MAX / 2);
    assert_eq!(world.revoked, [EDGE_1], "asked for once");
    world.input(Input::LeaseEnded(EDGE_1));
    assert_eq!(world.acked(), [first]);
    world.answer(EDGE_2);
    assert_eq!(world.acked(), [first, second]);
    assert_eq!(world.fanout.tick_at_ms(), None);
}

#[test]
fn refusing_over_and_over_ends_in_revocation() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let entry = world.stored(vec![message(ANNA, BERT, 1, None)]);
    let mut tries = 0;
    while world.revoked.is_empty() {
        tries += world.calls.len();
        world.refuse(EDGE_1);
        world.pass(limits::DELIVER_RETRY_MS);
        assert!(tries < 1_000, "it must end");
    }
    assert!(tries > 2);
    world.input(Input::LeaseEnded(EDGE_1));
    assert_eq!(world.acked(), [entry]);
}
