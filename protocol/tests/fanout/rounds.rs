//! Rounds of the log: their order, their acknowledgement, their bounds.

use super::*;

#[test]
fn one_look_up_a_round_names_everybody_once() {
    let mut world = World::new();
    let one = StoredPack { events: vec![message(ANNA, BERT, 1, None), message(BERT, ANNA, 2, None)] };
    let other = StoredPack { events: vec![message(ANNA, CLEO, 1, None)] };
    let one = world.record(Topic::Stored, 0, one.encode_to_vec());
    let other = world.record(Topic::Stored, 3, other.encode_to_vec());
    world.input(Input::Records(vec![one, other]));
    assert_eq!(world.look_ups, [[ANNA, BERT, CLEO]]);
    assert_eq!(world.acks, [(Topic::Stored, 0, 1), (Topic::Stored, 3, 2)], "each partition apart");
}

#[test]
fn a_record_is_acknowledged_after_every_edge_has_answered() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.connect(BERT, Device::Ios, EDGE_2, 2);
    let entry = world.stored(vec![message(ANNA, BERT, 1, None)]);
    assert_eq!(world.calls.len(), 2, "one batch for each edge");
    world.answer(EDGE_1);
    assert!(world.acks.is_empty(), "edge 2 has not answered");
    world.answer(EDGE_2);
    assert_eq!(world.acked(), [entry]);
    assert!(world.fanout.is_idle());
}

#[test]
fn acknowledgements_keep_the_order_of_the_log() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.connect(CLEO, Device::Web, EDGE_2, 2);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    let second = world.stored(vec![message(ANNA, CLEO, 1, None)]);
    world.answer(EDGE_2);
    assert!(world.acks.is_empty(), "the first record is still under way");
    world.answer(EDGE_1);
    assert_eq!(world.acked(), [first, second]);
}

#[test]
fn a_late_look_up_overtakes_nothing() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.held = Some(Vec::new());
    world.stored(vec![message(ANNA, BERT, 1, None)]);
    world.stored(vec![message(ANNA, BERT, 2, None)]);
    let mut held = world.held.take().unwrap();
    let (round, users) = held.pop().unwrap();
    world.answer_look_up(round, &users);
    assert!(world.calls.is_empty(), "seq 2 waits for seq 1");
    let (round, users) = held.pop().unwrap();
    world.answer_look_up(round, &users);
    assert_eq!(seqs(&world.answer(EDGE_1)), [1, 2]);
}

#[test]
fn a_batch_that_was_not_taken_is_sent_again_in_order() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let entries: Vec<u64> = (1..=2).map(|seq| world.stored(vec![message(ANNA, BERT, seq, None)])).collect();
    world.refuse(EDGE_1);
    let third = world.stored(vec![message(ANNA, BERT, 3, None)]);
    assert!(world.calls.is_empty(), "nothing overtakes what failed");
    assert_eq!(world.fanout.tick_at_ms(), Some(world.now.mono_ms + limits::DELIVER_RETRY_MS));
    world.pass(limits::DELIVER_RETRY_MS);
    assert_eq!(seqs(&world.answer(EDGE_1)), [1, 2, 3]);
    assert_eq!(world.acked(), [entries[0], entries[1], third]);
    assert!(world.revoked.is_empty());
}

#[test]
fn what_cannot_be_delivered_is_set_aside_and_never_stops_the_rest() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let garbage = world.record(Topic::Stored, 0, vec![0xff; 9]);
    world.input(Input::Records(vec![garbage]));
    let mut no_conversation = message(ANNA, BERT, 1, None);
    no_conversation.conversation = None;
    let mut group = message(ANNA, BERT, 1, None);
    group.conversation = Some(ConversationId::Group(5).into());
    let mut stranger = message(ANNA, BERT, 1, None);
    stranger.user = CLEO.0;
    let mut empty = message(ANNA, BERT, 1, None);
    empty.body = None;
    let no_seq = message(ANNA, BERT, 0, None);
    world.stored(vec![no_conversation, group, stranger, empty, no_seq, message(ANNA, BERT, 1, None)]);
    let faults = [
        (1, 0, Fault::Undecodable),
        (2, 0, Fault::Conversation),
        (2, 1, Fault::Group),
        (2, 2, Fault::User),
        (2, 3, Fault::Body),
        (2, 4, Fault::Seq),
    ];
    assert_eq!(world.dead, faults);
    assert_eq!(seqs(&world.answer(EDGE_1)), [1]);
    assert_eq!(world.acked(), [1, 2]);
}

#[test]
fn rounds_and_bytes_under_way_are_bounded() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let mut seq = 0;
    while world.fanout.has_room() {
        seq += 1;
        assert!(seq <= limits::FANOUT_ROUNDS_MAX as u64, "the window has no end");
        world.stored(vec![message(ANNA, BERT, seq, None)]);
    }
    assert_eq!(seq, limits::FANOUT_ROUNDS_MAX as u64);
    let (ticket, _) = world.calls[0].clone();
    world.input(Input::Answered { ticket, answer: Some(DeliverReply::default()) });
    assert!(world.fanout.has_room(), "the first round is done");

    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let mut large = message(ANNA, BERT, 1, None);
    if let Some(Body::Message(m)) = &mut large.body {
        m.content = "x".repeat(limits::CONTENT_BYTES_MAX);
    }
    let pack = vec![large; limits::PACK_BYTES_MAX / (limits::CONTENT_BYTES_MAX + 200)];
    let mut rounds = 0;
    while world.fanout.has_room() {
        rounds += 1;
        assert!(rounds <= limits::FANOUT_ROUNDS_MAX, "the window has no end");
        world.stored(pack.clone());
    }
    assert!((8..limits::FANOUT_ROUNDS_MAX).contains(&rounds), "{rounds} rounds of nearly 1 MiB");
    assert!(!world.answer(EDGE_1).is_empty());
    assert!(world.fanout.has_room() && world.fanout.is_idle());
}

#[test]
fn batches_are_bounded_and_stay_in_order() {
    let mut world = World::new();
    for (slot, device) in Device::ALL.into_iter().enumerate() {
        world.connect(BERT, device, EDGE_1, slot as u32);
    }
    let events = (1..=1_000).map(|seq| message(ANNA, BERT, seq, None)).collect();
    let entry = world.stored(events);
    assert_eq!(world.calls.len(), 2);
    assert!(world.calls.iter().all(|(_, b)| b.deliveries.len() <= limits::DELIVER_BATCH_MAX));
    let (ticket, first) = world.calls.remove(0);
    world.input(Input::Answered { ticket, answer: Some(DeliverReply::default()) });
    assert!(world.acks.is_empty(), "half of the record is under way");
    let mut got = first.deliveries;
    got.extend(world.answer(EDGE_1));
    assert_eq!(got.len(), 6_000);
    let of_one: Vec<u64> = got.iter().filter(|d| d.slot == 5).map(|d| push(d).seq).collect();
    assert!(of_one.is_sorted() && of_one.len() == 1_000);
    assert_eq!(world.acked(), [entry]);
}

#[test]
fn a_successor_forwards_what_was_not_acknowledged() {
    let mut old = World::new();
    old.connect(BERT, Device::Web, EDGE_1, 1);
    old.stored(vec![message(ANNA, BERT, 1, None)]);
    old.answer(EDGE_1);
    old.stored(vec![message(ANNA, BERT, 2, None)]);
    old.stored(vec![message(ANNA, BERT, 3, None)]);
    let acked = old.acked();
    assert_eq!(acked, [1]);

    // The old one is killed; the bus gives its successor everything after the last acknowledgement.
    let mut new = World::new();
    new.next_entry = 1;
    new.connect(BERT, Device::Web, EDGE_1, 1);
    new.stored(vec![message(ANNA, BERT, 2, None)]);
    new.stored(vec![message(ANNA, BERT, 3, None)]);
    assert_eq!(seqs(&new.answer(EDGE_1)), [2, 3]);
    assert_eq!(new.acked(), [2, 3]);
}
