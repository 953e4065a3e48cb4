//! Syncs, and pushes beside them.

use super::*;

#[test]
fn pushes_during_a_sync_are_not_shown_out_of_order_but_reached_by_it() {
    let mut world = World::new();
    world.give(Input::Start);
    assert!(world.push(1).is_empty(), "before the claim");
    world.give(Input::Claimed(Some(ClaimReply::default())));
    assert!(world.push(4).is_empty(), "raises the target");
    let seen =
        world.give(Input::Synced(Some(SyncReply { ranges: vec![range(1..=3)], ..Default::default() })));
    assert_eq!(kinds(&seen), [MsgType::C2cMsgPush; 3]);
    let again = seen.iter().find_map(|s| match s {
        Seen::Other(Output::Sync(request)) => Some(request),
        _ => None,
    });
    assert_eq!(again.expect("another pass").pushed[0].seq, 3, "what was pushed is not asked for again");
    let seen =
        world.give(Input::Synced(Some(SyncReply { ranges: vec![range(4..=4)], ..Default::default() })));
    assert_eq!(kinds(&seen), [MsgType::C2cMsgPush, MsgType::Ready]);
    assert_eq!(kinds(&world.push(5)), [MsgType::C2cMsgPush], "live");
}

#[test]
fn a_push_behind_a_sync_that_has_shown_it_needs_no_other_pass() {
    let mut world = World::new();
    world.give(Input::Start);
    world.give(Input::Claimed(Some(ClaimReply::default())));
    let page = SyncReply {
        ranges: vec![range(1..=3)],
        next_page: Bytes::from_static(b"more"),
        ..Default::default()
    };
    world.give(Input::Synced(Some(page)));
    assert!(world.push(3).is_empty());
    assert_eq!(kinds(&world.give(Input::Synced(Some(SyncReply::default())))), [MsgType::Ready]);
}

#[test]
fn a_gap_or_a_lost_push_leads_to_a_sync() {
    let mut world = World::live();
    world.push(1);
    let seen = world.push(3);
    assert!(matches!(&seen[..], [Seen::Other(Output::Sync(_))]), "{seen:?}");
    let seen =
        world.give(Input::Synced(Some(SyncReply { ranges: vec![range(1..=3)], ..Default::default() })));
    assert_eq!(kinds(&seen), [MsgType::C2cMsgPush; 2], "1 is not shown twice, and READY comes once");
    assert!(world.session.is_live());
    let seen = world.give(Input::Dirty);
    assert!(matches!(&seen[..], [Seen::Other(Output::Sync(_))]));
    world.give(Input::Dirty);
    let seen = world.give(Input::Synced(Some(SyncReply::default())));
    assert!(matches!(&seen[..], [Seen::Other(Output::Sync(_))]), "dirty meanwhile: again");
}

#[test]
fn the_window_closes_at_its_bound_and_reopens_as_acks_come() {
    let mut world = World::live();
    let max = limits::SESSION_UNACKED_MAX as u64;
    for seq in 1..=max {
        assert_eq!(kinds(&world.push(seq)).len(), 1);
    }
    assert!(world.push(max + 1).is_empty(), "no room: nothing shown, nothing asked");
    for seq in 1..=max / 2 {
        for s in world.ack(seq, status::DELIVERED) {
            if let Seen::Other(Output::Sync(request)) = s {
                assert_eq!(request.pushed[0].seq, max);
                return;
            }
        }
    }
    panic!("the window did not reopen");
}

#[test]
fn a_store_out_of_reach_is_asked_again() {
    let mut world = World::new();
    world.give(Input::Start);
    assert!(world.give(Input::Claimed(None)).is_empty());
    let seen = world.give(Input::Sweep);
    assert!(matches!(&seen[..], [Seen::Other(Output::Claim)]), "{seen:?}");
    world.give(Input::Claimed(Some(ClaimReply::default())));
    assert!(world.give(Input::Synced(None)).is_empty());
    let seen = world.give(Input::Sweep);
    assert!(matches!(&seen[..], [Seen::Other(Output::Sync(_))]), "{seen:?}");
}
