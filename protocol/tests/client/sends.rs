//! Sends, from the draft to the acceptance.

use super::*;

#[test]
fn a_send_goes_out_whole_and_is_accepted_once() {
    let mut world = World::connected();
    let (outputs, sent) = world.handle(Input::Send(draft(1, PEER)));
    assert_eq!(outputs, [Output::Sent(id(1), 0)]);
    let [(MsgType::C2cSend, payload)] = &sent[..] else { panic!("{sent:?}") };
    let expected = C2cSendReq {
        client_msg_id: Bytes::copy_from_slice(&id(1)),
        msg_id: 0,
        from: ME.0,
        to: PEER.0,
        format: 1,
        content: "hello".into(),
        time: 1_700_000_001_000,
        attempt: Some(0),
    };
    assert_eq!(C2cSendReq::decode(&payload[..]), Ok(expected));

    let (outputs, _) = world.handle(Input::Packet(&ack(1, 1, 0)));
    let status = Output::Status { id: id(1), msg_id: 101, seq: 0, status: 1, before: Some(0) };
    assert_eq!(outputs, [Output::Accepted { id: id(1), msg_id: 101 }, status]);
    assert_eq!(world.client.pending(), 0);

    // The same again is a status, not an acceptance.
    let (outputs, _) = world.handle(Input::Packet(&ack(1, 1, 0)));
    assert_eq!(outputs, [Output::Status { id: id(1), msg_id: 101, seq: 0, status: 1, before: Some(1) }]);
}

#[test]
fn any_status_of_one_or_above_is_the_acceptance() {
    let mut world = World::connected();
    world.send(1, PEER);
    let (outputs, _) = world.handle(Input::Packet(&ack(1, 3, 1)));
    let status = Output::Status { id: id(1), msg_id: 101, seq: 1, status: 3, before: Some(0) };
    let own = Output::Shown(PEER, Row::Own(1));
    assert_eq!(outputs, [Output::Accepted { id: id(1), msg_id: 101 }, status, own]);
    // A lower one after it is told as it came, with what was known before.
    let (outputs, _) = world.handle(Input::Packet(&ack(1, 2, 1)));
    assert_eq!(outputs, [Output::Status { id: id(1), msg_id: 101, seq: 1, status: 2, before: Some(3) }]);
}

#[test]
fn within_a_conversation_one_send_waits_for_the_other() {
    let mut world = World::connected();
    assert_eq!(world.send(1, PEER), [(1, 0)]);
    assert_eq!(world.send(2, PEER), []);
    assert_eq!(world.send(3, OTHER), [(3, 0)]);
    assert_eq!(world.sends(Input::Packet(&ack(1, 1, 0))), [(2, 0)]);
    assert_eq!(world.client.pending(), 2);
}

#[test]
fn a_pipeline_lets_several_go_but_none_past_an_unknown_outcome() {
    let mut world = World::new(Config { pipeline: 2, ..Config::default() });
    world.handle(Input::Connected);
    assert_eq!(world.send(1, PEER), [(1, 0)]);
    assert_eq!(world.send(2, PEER), [(2, 0)]);
    assert_eq!(world.send(3, PEER), []);
    world.handle(Input::Disconnected);
    // One at a time and in order, until everything that was unknown is known.
    assert_eq!(world.sends(Input::Connected), [(1, 1)]);
    assert_eq!(world.sends(Input::Packet(&ack(1, 1, 0))), [(2, 1)]);
    assert_eq!(world.sends(Input::Packet(&ack(2, 1, 0))), [(3, 0)]);
}

#[test]
fn a_lost_connection_makes_the_outcome_unknown_and_the_send_is_repeated() {
    let mut world = World::connected();
    world.send(1, PEER);
    world.send(2, PEER);
    world.send(3, OTHER);
    world.handle(Input::Disconnected);
    assert_eq!(world.send(4, OTHER), []);
    assert_eq!(world.sends(Input::Connected), [(1, 1), (3, 1)]);
    assert_eq!(world.sends(Input::Packet(&ack(3, 1, 0))), [(4, 0)]);
    // Refused for good after an attempt that nobody knows about: it may exist.
    let (outputs, _) = world.handle(Input::Packet(&nack(1, Code::TooLarge, 0)));
    let refusal = Refusal::Code(Code::TooLarge as i32, "a text".into());
    assert!(outputs.contains(&Output::Refused { id: id(1), refusal, may_exist: true }), "{outputs:?}");
}

#[test]
fn a_refusal_for_now_is_retried_not_before_its_time_and_nothing_passes_it() {
    let mut world = World::connected();
    world.send(1, PEER);
    world.send(2, PEER);
    let (outputs, sent) = world.handle(Input::Packet(&nack(1, Code::Overloaded, 200)));
    let code = Code::Overloaded as i32;
    assert_eq!(outputs, [Output::Postponed { id: id(1), code, retry_after_ms: 200 }]);
    assert_eq!(sent, []);
    let due = world.client.due_ms().expect("a retry is due");
    assert!((1_200..=1_300).contains(&due), "{due}");
    assert_eq!(world.tick_at(due - 1, Input::Tick), []);
    // It certainly left nothing behind, so nobody has to look for it.
    assert_eq!(world.tick_at(due, Input::Tick), [(1, 0)]);
    assert_eq!(world.sends(Input::Packet(&ack(1, 1, 0))), [(2, 0)]);
}

#[test]
fn a_certain_refusal_after_an_unknown_outcome_leaves_it_unknown() {
    let mut world = World::connected();
    world.send(1, PEER);
    world.handle(Input::Disconnected);
    assert_eq!(world.sends(Input::Connected), [(1, 1)]);
    world.handle(Input::Packet(&nack(1, Code::Overloaded, 200)));
    assert_eq!(world.tick_at(2_000, Input::Tick), [(1, 2)]);
}

#[test]
fn refusals_end_a_send_when_they_are_for_good_or_too_many() {
    let mut world = World::new(Config { refusals_max: 2, ..Config::default() });
    world.handle(Input::Connected);
    world.send(1, PEER);
    world.send(2, PEER);
    world.handle(Input::Packet(&nack(1, Code::Overloaded, 0)));
    assert_eq!(world.tick_at(2_000, Input::Tick), [(1, 0)]);
    let (outputs, sent) = world.handle(Input::Packet(&nack(1, Code::Overloaded, 0)));
    let refusal = Refusal::Code(Code::Overloaded as i32, "a text".into());
    assert!(outputs.contains(&Output::Refused { id: id(1), refusal, may_exist: false }), "{outputs:?}");
    assert_eq!(sent, [], "the edge is overloaded");
    assert_eq!(world.tick_at(3_000, Input::Tick), [(2, 0)]);

    let (outputs, _) = world.handle(Input::Packet(&nack(2, Code::BadRecipient, 0)));
    let refusal = Refusal::Code(Code::BadRecipient as i32, "a text".into());
    assert_eq!(outputs, [Output::Refused { id: id(2), refusal, may_exist: false }]);
    // A refusal of what is no longer there is nothing.
    assert_eq!(world.handle(Input::Packet(&nack(2, Code::BadRecipient, 0))).0, []);
}

#[test]
fn an_overloaded_edge_is_left_alone_and_then_asked_by_one() {
    let mut world = World::connected();
    let peers: Vec<UserId> = (10..14).map(UserId).collect();
    for (n, peer) in (1..).zip(&peers) {
        assert_eq!(world.send(n, *peer), [(n, 0)]);
    }
    for n in 1..=4 {
        world.handle(Input::Packet(&nack(n, Code::Overloaded, 200)));
    }
    // Also what is new waits.
    assert_eq!(world.send(5, OTHER), []);
    let due = world.client.due_ms().expect("a time is due");
    assert!((1_200..=1_300).contains(&due), "{due}");
    assert_eq!(world.tick_at(due - 1, Input::Tick), []);
    // 128 may be under way by default, so one halving lets all of these go; refused again and again, it is one at a time.
    let mut at_once = Vec::new();
    let mut out = world.tick_at(2_000, Input::Tick);
    for _ in 0..10 {
        at_once.push(out.len());
        for (n, _) in out {
            world.handle(Input::Packet(&nack(n, Code::Overloaded, 200)));
        }
        // Long enough for any retry.
        let later = world.now_ms + 60_000;
        world.handle(Input::Packet(&packets::response(MsgType::Ready, &Ready::default())));
        out = world.tick_at(later, Input::Pong);
        out.extend(world.sends(Input::Tick));
    }
    assert_eq!((at_once[0], at_once[9]), (5, 1), "{at_once:?}");
    // Each that is accepted makes room for one more.
    let (n, _) = out[0];
    let sent = world.sends(Input::Packet(&ack(n, 1, 0)));
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_client_that_does_not_back_off_keeps_offering() {
    let mut world = World::new(Config { backs_off: false, refusals_max: 1, ..Config::default() });
    world.handle(Input::Connected);
    assert_eq!(world.send(1, PEER), [(1, 0)]);
    world.handle(Input::Packet(&nack(1, Code::Overloaded, 200)));
    assert_eq!(world.send(2, OTHER), [(2, 0)]);
}

#[test]
fn an_unknown_outcome_is_resolved_by_the_same_id() {
    let mut world = World::connected();
    world.send(1, PEER);
    world.handle(Input::Packet(&nack(1, Code::OutcomeUnknown, 1_000)));
    assert_eq!(world.tick_at(3_000, Input::Tick), [(1, 1)]);
    let (outputs, _) = world.handle(Input::Packet(&ack(1, 1, 7)));
    assert!(outputs.contains(&Output::Accepted { id: id(1), msg_id: 101 }), "{outputs:?}");
}

#[test]
fn a_send_without_an_answer_is_told_and_repeated() {
    let mut world = World::connected();
    world.send(1, PEER);
    assert_eq!(world.tick_at(10_999, Input::Tick), []);
    world.now_ms = 11_000;
    let (outputs, sent) = world.handle(Input::Tick);
    assert!(outputs.contains(&Output::Unanswered(id(1))), "{outputs:?}");
    assert_eq!(sent.len(), 1);
}

#[test]
fn the_outbox_is_bounded() {
    let mut world = World::new(Config { outbox_max: 2, ..Config::default() });
    world.send(1, PEER);
    world.send(2, PEER);
    let (outputs, _) = world.handle(Input::Send(draft(3, PEER)));
    assert_eq!(outputs, [Output::Refused { id: id(3), refusal: Refusal::OutboxFull, may_exist: false }]);
    assert_eq!(world.client.pending(), 2);
}

#[test]
fn own_recalls_are_sent_and_their_refusals_told() {
    let mut world = World::connected();
    let (_, sent) = world.handle(Input::Recall(PEER, 77));
    let [(MsgType::C2cWithdraw, payload)] = &sent[..] else { panic!("{sent:?}") };
    let recall = C2cWithdrawReq::decode(&payload[..]).expect("a recall");
    assert_eq!((recall.msg_id, recall.from, recall.to), (77, ME.0, PEER.0));
    let refused = packets::nack(Code::RecallTooLate, "late", 0, MsgType::C2cWithdraw, Bytes::new(), 77);
    let (outputs, _) = world.handle(Input::Packet(&refused));
    assert_eq!(outputs, [Output::RecallRefused(77, Code::RecallTooLate as i32, 0)]);
}
