//! From `uplink` to `stored`.

use petrel_protocol::events::stored;

use crate::place::Place;
use crate::world::{World, content, pair, recall, send};

#[test]
fn a_message_gets_its_seq_is_stored_and_published() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 11), send(2, 1, 12)]);
    let stored = world.stored(2);
    assert_eq!(
        stored.iter().map(|s| (s.user, s.seq, s.again)).collect::<Vec<_>>(),
        [(1, 1, false), (2, 2, false)]
    );
    assert_eq!(content(&stored[0]), "message 11");
    let reply = world.resolve(pair(1, 2), 12);
    assert_eq!((reply.seq, reply.sender, reply.msg_id), (2, 2, 12));
    assert_eq!(world.resolve(pair(1, 2), 99).seq, 0);
    world.stop();
}

#[test]
fn a_recalled_message_is_never_served_with_its_content() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 11), recall(1, 2, 11), send(1, 2, 12)]);
    world.stored(3);
    let synced = world.sync_page(2, 1, 100, bytes::Bytes::new());
    for range in [&synced.ranges[0], &world.history(2, pair(1, 2), 1, 0)] {
        match range.rows[0].body.as_ref().unwrap() {
            stored::Body::Message(m) => assert!(m.is_recalled && m.content.is_empty() && m.msg_id == 11),
            body => panic!("a message was expected: {body:?}"),
        }
        assert!(matches!(range.rows[1].body, Some(stored::Body::Recalled(r)) if r.target_seq == 1));
        assert_eq!(content(&range.rows[2]), "message 12");
    }
    world.stop();
}

#[test]
fn thousands_of_events_in_many_conversations_keep_their_order() {
    let place = Place::new();
    let mut world = World::start(&place);
    let mut sent = 0;
    for round in 0..20 {
        for user in 2..12 {
            let ids = (0..25).map(|n| round * 1_000 + user * 30 + n + 1);
            world.uplink(ids.map(|id| send(1, user, id)).collect());
            sent += 25;
        }
    }
    let mut last = std::collections::HashMap::new();
    for stored in world.stored(sent) {
        let seq = last.entry(stored.conversation.unwrap().b).or_insert(0_u64);
        *seq += 1;
        assert_eq!(stored.seq, *seq);
    }
    assert!(last.values().all(|seq| *seq == 500));
    world.stop();
}

#[test]
fn what_was_not_acknowledged_is_only_published_again() {
    let place = Place::new();
    {
        let mut world = World::start(&place);
        world.uplink(vec![send(1, 2, 11), send(1, 2, 12), recall(1, 2, 12)]);
        world.stored(3);
        // As after a crash: persist has synced and acknowledged nothing.
        drop(world.persist.take());
        world.bus.close();
    }
    let mut world = World::start(&place);
    world.uplink(vec![send(2, 1, 13)]);
    // Router has acknowledged nothing either.
    let stored = world.stored_until(|events| events.last().is_some_and(|last| last.seq == 4));
    for event in &stored[3..stored.len() - 1] {
        assert!(event.again, "{event:?}");
        let first = stored.iter().find(|first| first.seq == event.seq).unwrap();
        assert_eq!((first.user, first.edge_time_ms), (event.user, event.edge_time_ms));
    }
    assert_eq!(world.history(1, pair(1, 2), 1, 0).rows.len(), 4);
    world.stop();
}
