//! What a device lacks.

use bytes::Bytes;
use petrel_bus::calls::{CallError, PersistCall};
use petrel_protocol::calls::{Progress, SyncRequest};
use petrel_protocol::limits::SYNC_BYTES_MAX;

use crate::place::Place;
use crate::world::{World, pair, send};

const PHONE: u32 = 1;
const WEB: u32 = 4;

#[test]
fn the_first_device_of_a_user_gets_everything_and_a_further_one_starts_at_the_heads() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 11), send(1, 2, 12)]);
    world.stored(2);
    assert_eq!(world.sync(2, PHONE, 100), [(pair(1, 2), vec![1, 2], 2)]);
    assert_eq!(world.sync(2, WEB, 100), []);
    world.uplink(vec![send(1, 2, 13)]);
    world.stored(1);
    assert_eq!(world.sync(2, WEB, 100), [(pair(1, 2), vec![3], 3)]);
    assert_eq!(world.sync(2, PHONE, 100), [(pair(1, 2), vec![1, 2, 3], 3)], "a sync alone moves no cursor");
    world.stop();
}

#[test]
fn own_sends_are_left_out_on_the_device_that_sent_them_only() {
    let place = Place::new();
    let mut world = World::start(&place);
    assert_eq!(world.sync(1, WEB, 100), []);
    world.uplink(vec![send(2, 1, 11), send(1, 2, 12), send(2, 1, 13), send(1, 2, 14)]);
    world.stored(4);
    assert_eq!(world.sync(1, PHONE, 100), [], "a further device type");
    world.uplink(vec![send(1, 2, 15), send(2, 1, 16)]);
    world.stored(2);
    assert_eq!(world.sync(1, PHONE, 100), [(pair(1, 2), vec![6], 6)]);
    assert_eq!(world.sync(1, WEB, 100), [(pair(1, 2), (1..=6).collect(), 6)]);
    world.stop();
}

#[test]
fn own_sends_at_the_end_are_gone_through_once() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 11), send(1, 2, 12)]);
    world.stored(2);
    assert_eq!(world.sync(1, PHONE, 100), [(pair(1, 2), vec![], 2)]);
    assert_eq!(world.sync(1, PHONE, 100), [], "the cursor stands behind them");
    world.uplink(vec![send(2, 1, 13), send(1, 2, 14)]);
    world.stored(2);
    for _ in 0..2 {
        assert_eq!(world.sync(1, PHONE, 100), [(pair(1, 2), vec![3], 4)], "not beyond another's message");
    }
    world.stop();
}

#[test]
fn pages_cover_everything_once_whatever_their_size() {
    let place = Place::new();
    let mut world = World::start(&place);
    let mut expected = Vec::new();
    for peer in 2..9 {
        // Every third is of the device itself.
        let events: Vec<_> =
            (1..=10).map(|n| if n % 3 == 0 { send(1, peer, n) } else { send(peer, 1, n) }).collect();
        world.uplink(events);
        world.stored(10);
        expected.push((pair(1, peer), vec![1, 2, 4, 5, 7, 8, 10], 10));
    }
    for rows_max in [1, 2, 3, 7, 8, 100] {
        assert_eq!(world.sync(1, PHONE, rows_max), expected, "{rows_max} rows a page");
    }
    world.stop();
}

#[test]
fn cursors_only_rise_and_never_beyond_the_head() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 11), send(1, 2, 12), send(1, 2, 13)]);
    world.stored(3);
    assert_eq!(world.sync(2, PHONE, 100).len(), 1);
    world.receipt(2, pair(1, 2), PHONE, 2);
    world.until_synced(2, PHONE, &[(pair(1, 2), vec![3], 3)]);
    world.receipt(2, pair(1, 2), PHONE, 1);
    world.receipt(2, pair(1, 2), PHONE, 1_000);
    world.until_synced(2, PHONE, &[]);
    // Had the cursor gone to 1,000, this one would be lost for the device.
    world.uplink(vec![send(1, 2, 14)]);
    world.stored(1);
    world.until_synced(2, PHONE, &[(pair(1, 2), vec![4], 4)]);
    world.stop();
}

#[test]
fn receipts_of_strangers_move_nothing() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink((1..=3).map(|n| send(1, 2, n)).collect());
    world.stored(3);
    world.sync(2, PHONE, 100);
    world.receipt(2, pair(1, 2), 77, 3);
    world.receipt(3, pair(1, 2), PHONE, 3);
    // What comes later in the same partition is written later.
    world.receipt(2, pair(1, 2), PHONE, 1);
    world.until_synced(2, PHONE, &[(pair(1, 2), vec![2, 3], 3)]);
    world.stop();
}

#[test]
fn what_a_session_has_pushed_is_not_sent_again() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink((1..=5).map(|n| send(1, 2, n)).collect());
    world.stored(5);
    let pushed = vec![Progress { conversation: Some(pair(1, 2).into()), seq: 4 }];
    let request = SyncRequest { user: 2, device: PHONE, page: Bytes::new(), rows_max: 100, pushed };
    let reply = world.call(|reply| PersistCall::Sync(request, reply)).unwrap();
    assert_eq!(reply.ranges[0].rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [5]);
    world.stop();
}

#[test]
fn a_page_is_bounded_in_bytes() {
    let place = Place::new();
    let mut world = World::start(&place);
    let large = |id| {
        let mut event = send(1, 2, id);
        if let Some(petrel_protocol::events::uplink::Body::Send(send)) = &mut event.body {
            send.content = "x".repeat(30 << 10);
        }
        event
    };
    for id in 1..=60 {
        world.uplink(vec![large(id)]);
    }
    world.stored(60);
    let page = world.sync_page(2, PHONE, 100, Bytes::new());
    assert_eq!(page.ranges[0].rows.len(), SYNC_BYTES_MAX / (30 << 10) + 1);
    assert_eq!(world.sync(2, PHONE, 100), [(pair(1, 2), (1..=60).collect(), 60)]);
    world.stop();
}

#[test]
fn only_members_read_a_conversation() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink(vec![send(1, 2, 11)]);
    world.stored(1);
    let range = world.history(3, pair(1, 2), 1, 0);
    assert_eq!((range.rows.len(), range.head_seq), (0, 0));
    assert_eq!(world.sync(3, PHONE, 100), []);
    world.stop();
}

#[test]
fn requests_that_no_edge_makes_are_refused() {
    let place = Place::new();
    let world = World::start(&place);
    let request = |device, page| SyncRequest { user: 2, device, page, ..Default::default() };
    for request in [request(77, Bytes::new()), request(PHONE, Bytes::from_static(b"not a page"))] {
        let answer = world.call(|reply| PersistCall::Sync(request, reply));
        assert_eq!(answer.unwrap_err(), CallError::Unavailable);
    }
    world.stop();
}

#[test]
fn history_is_a_range_within_the_conversation() {
    let place = Place::new();
    let mut world = World::start(&place);
    world.uplink((1..=5).map(|n| send(1, 2, n)).collect());
    world.stored(5);
    let range = |from, to| {
        let range = world.history(1, pair(1, 2), from, to);
        (
            range.rows.iter().map(|row| row.seq).collect::<Vec<_>>(),
            range.from_seq,
            range.to_seq,
            range.head_seq,
        )
    };
    assert_eq!(range(2, 3), (vec![2, 3], 2, 3, 5));
    assert_eq!(range(0, 0), ((1..=5).collect(), 1, 5, 5), "own sends included");
    assert_eq!(range(4, 99), (vec![4, 5], 4, 5, 5));
    assert!(range(9, 0).0.is_empty());
    world.stop();
}
