//! Acks and statuses: cursors and what a sender is told.

use super::*;

/// A send that the bus has: its message id and its ticket.
fn under_way(world: &mut World) -> (u64, u32) {
    let seen = world.send(1);
    let (event, ticket) = published(&seen);
    let Some(Body::Send(send)) = &event.body else { panic!("{event:?}") };
    (send.msg_id, ticket)
}

#[test]
fn repetitions_do_not_push_out_what_was_told_lately() {
    let mut world = World::live();
    let tell = |world: &mut World, n: usize, status| {
        let told = Status { msg_id: n as u64, client_msg_id: message(n as u8).client_msg_id, status, seq: 1 };
        let update = StatusUpdate { conversation: None, status: Some(told) };
        statuses(&world.give(Input::Delivery(What::Status(update))))
    };
    let last = limits::SESSION_STATUSES;
    for n in 1..=last {
        assert_eq!(tell(&mut world, n, status::DELIVERED), [status::DELIVERED]);
    }
    assert_eq!(tell(&mut world, last, status::READ), [status::READ]);
    for n in 1..last {
        assert_eq!(tell(&mut world, n, status::DELIVERED), [0; 0], "it is known");
    }
    for n in last + 1..last + last / 2 {
        tell(&mut world, n, status::DELIVERED);
    }
    assert_eq!(tell(&mut world, last, status::DELIVERED), [0; 0], "told lately as read");
}

#[test]
fn what_was_told_is_remembered_for_longer_than_it_may_take_to_arrive() {
    let mut world = World::live();
    let (msg_id, ticket) = under_way(&mut world);
    world.give(Input::Published(ticket, Outcome::Accepted));
    own(&mut world, 1, msg_id, true);
    assert_eq!(statuses(&status_of(&mut world, msg_id, status::READ)), [status::READ]);
    world.now.mono_ms += limits::SESSION_MEMORY_MS;
    world.give(Input::Sweep);
    assert!(status_of(&mut world, msg_id, status::DELIVERED).is_empty(), "a lower one late is not told");
    world.now.mono_ms += limits::SESSION_MEMORY_MS + 250;
    world.give(Input::Sweep);
    assert!(world.session.work.is_none(), "nothing is remembered for ever");
}

#[test]
fn statuses_only_rise_even_when_delivery_is_faster_than_the_receipt() {
    let mut world = World::live();
    let (msg_id, ticket) = under_way(&mut world);
    assert_eq!(statuses(&status_of(&mut world, msg_id, status::DELIVERED)), [status::DELIVERED]);
    assert!(world.give(Input::Published(ticket, Outcome::Accepted)).is_empty(), "1 after 3 is silent");
    assert!(own(&mut world, 1, msg_id, true).is_empty(), "2 after 3 is silent");
    assert_eq!(statuses(&status_of(&mut world, msg_id, status::READ)), [status::READ]);
    assert!(status_of(&mut world, msg_id, status::DELIVERED).is_empty());
}

#[test]
fn acks_move_the_cursor_through_what_was_acknowledged_without_a_gap() {
    let mut world = World::live();
    for seq in 1..=4 {
        assert_eq!(kinds(&world.push(seq)), [MsgType::C2cMsgPush]);
    }
    let seen = world.ack(1, status::DELIVERED);
    assert!(matches!(&seen[..], [Seen::Other(Output::FlushReceiptsLater)]), "{seen:?}");
    assert!(world.ack(2, status::DELIVERED).is_empty(), "one flush is asked for once");
    world.ack(4, status::READ);
    let receipts = world.flush();
    let [receipt] = &receipts[..] else { panic!("{receipts:?}") };
    assert_eq!((receipt.delivered_seq, receipt.read_seq), (2, 4));
    let told: Vec<_> = receipt.statuses.iter().map(|s| (s.seq, s.status)).collect();
    assert_eq!(told, [(1, 3), (2, 3), (4, 4)], "the sender learns of each at once");
    world.ack(3, status::DELIVERED);
    let receipts = world.flush();
    assert_eq!(receipts[0].delivered_seq, 4, "the gap is closed");
    assert_eq!(receipts[0].statuses.len(), 1, "nothing is told twice");
    assert!(world.flush().is_empty());
}

#[test]
fn own_sends_count_as_delivered_on_the_sending_device() {
    let mut world = World::live();
    world.push(1);
    own(&mut world, 2, 1_999, false);
    world.push(3);
    world.ack(3, status::DELIVERED);
    assert_eq!(world.flush()[0].delivered_seq, 0, "1 is not acknowledged");
    world.ack(1, status::DELIVERED);
    assert_eq!(world.flush()[0].delivered_seq, 3);
}

#[test]
fn a_read_receipt_of_a_message_acknowledged_lately_needs_no_look_up() {
    let mut world = World::live();
    world.push(1);
    world.ack(1, status::DELIVERED);
    world.flush();
    assert!(matches!(&world.ack(1, status::READ)[..], [Seen::Other(Output::FlushReceiptsLater)]));
    let receipts = world.flush();
    assert_eq!((receipts[0].read_seq, receipts[0].delivered_seq), (1, 0));
    assert!(world.ack(1, status::DELIVERED).iter().all(|s| !matches!(s, Seen::Packet(_))));
}

#[test]
fn an_ack_of_an_older_message_is_looked_up_and_one_of_nothing_refused() {
    let mut world = World::live();
    let seen = world.ack(5, status::READ);
    assert!(matches!(&seen[..], [Seen::Other(Output::Resolve(r))] if r.msg_id == 105), "{seen:?}");
    let found = ResolveReply { seq: 5, sender: PEER.0, msg_id: 105, ..Default::default() };
    let seen = world.give(Input::Resolved(Some(found)));
    assert!(
        matches!(&seen[..], [Seen::Other(Output::Receipt(_, r))] if r.read_seq == 5 && r.delivered_seq == 0)
    );

    world.ack(6, status::READ);
    assert_eq!(code(&world.give(Input::Resolved(Some(ResolveReply::default())))), Code::NotFound as i32);
    world.ack(6, status::READ);
    let own = ResolveReply { seq: 6, sender: ME.0, ..Default::default() };
    assert_eq!(code(&world.give(Input::Resolved(Some(own)))), Code::NotYours as i32);
    world.ack(6, status::READ);
    assert_eq!(code(&world.give(Input::Resolved(None))), Code::Unavailable as i32);
    for _ in 0..limits::SESSION_RESOLVING_MAX {
        world.ack(6, status::READ);
    }
    assert_eq!(code(&world.ack(6, status::READ)), Code::Overloaded as i32);
    let mine = C2cAckReq { msg_id: 1, from: 8, to: PEER.0, status: 3, ..Default::default() };
    assert_eq!(world.nack_of(MsgType::C2cAck, &mine), Code::NotYourUser as i32);
    let one = C2cAckReq { msg_id: 1, from: ME.0, to: PEER.0, status: 1, ..Default::default() };
    assert_eq!(world.nack_of(MsgType::C2cAck, &one), Code::BadPacket as i32);
}

#[test]
fn a_resend_under_another_msg_id_is_not_told_as_accepted_after_it_was_delivered() {
    let mut world = World::live();
    let first = published(&world.send(1)).1;
    world.give(Input::Published(first, Outcome::Accepted));
    status_of(&mut world, 1_999, status::DELIVERED);
    let resend = C2cSendReq { attempt: Some(1), ..message(1) };
    let second = published(&world.packet(MsgType::C2cSend, &resend)).1;
    assert!(world.give(Input::Published(second, Outcome::Accepted)).is_empty(), "1 after 3 is silent");
}

#[test]
fn what_is_a_duplicate_tells_no_lower_status_and_no_recall() {
    let mut world = World::live();
    status_of(&mut world, 50, status::DELIVERED);
    let client_msg_id = message(1).client_msg_id;
    let duplicate =
        events::Duplicate { client_msg_id, msg_id: 50, resent_msg_id: 51, seq: 4, is_recall: false };
    let seen = world.give(Input::Delivery(What::Duplicate(duplicate.clone())));
    assert_eq!(statuses(&seen), [status::DELIVERED], "the ids are news, the status stays");
    let recall = events::Duplicate { is_recall: true, seq: 9, ..duplicate };
    assert!(world.give(Input::Delivery(What::Duplicate(recall))).is_empty(), "9 is no message's seq");
}
