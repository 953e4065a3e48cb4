//! What others send, shown once and in order.

use super::*;

#[test]
fn pushes_are_acknowledged_at_once_and_shown_once_in_order() {
    let mut world = World::connected();
    let (outputs, sent) = world.receive(MsgType::C2cMsgPush, &push(PEER, 2));
    assert_eq!((arrived(&outputs), shown(&outputs)), (vec![2], vec![]));
    let [(MsgType::C2cAck, payload)] = &sent[..] else { panic!("{sent:?}") };
    let ack = C2cAckReq::decode(&payload[..]).expect("an ack");
    assert_eq!((ack.msg_id, ack.from, ack.to, ack.status), (1_002, ME.0, PEER.0, 3));
    assert_eq!(world.client.gaps(), 1);

    // Again, while it is held: acknowledged again, counted, not shown.
    let (outputs, sent) = world.receive(MsgType::C2cMsgPush, &push(PEER, 2));
    assert_eq!(outputs, [Output::Repeated(PEER, 2)]);
    assert_eq!(sent.len(), 1);

    let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, 1));
    assert_eq!(shown(&outputs), [1, 2]);
    assert_eq!(world.client.gaps(), 0);
    let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, 1));
    assert_eq!(outputs, [Output::Repeated(PEER, 1)]);
    assert_eq!(world.client.shown_seq(PEER), 2);
}

#[test]
fn an_own_sends_seq_closes_the_gap_it_made() {
    let mut world = World::connected();
    world.send(1, PEER);
    world.handle(Input::Packet(&ack(1, 1, 0)));
    let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, 2));
    assert_eq!(shown(&outputs), [0_u64; 0]);
    let (outputs, _) = world.handle(Input::Packet(&ack(1, 3, 1)));
    assert_eq!(shown(&outputs), [1, 2]);
}

#[test]
fn recalls_take_their_place() {
    let mut world = World::connected();
    world.receive(MsgType::C2cMsgPush, &push(PEER, 1));
    let recall = C2cWithdrawReq { msg_id: 1_001, from: PEER.0, to: ME.0, seq: 2, target_seq: 1 };
    let (outputs, _) = world.receive(MsgType::C2cWithdraw, &recall);
    assert_eq!(outputs, [Output::Shown(PEER, Row::Recall(recall))]);
    let (outputs, _) = world.receive(MsgType::C2cWithdraw, &recall);
    assert_eq!(outputs, [Output::Repeated(PEER, 2)]);
}

#[test]
fn a_gap_that_stays_is_asked_for_and_closed_by_the_reply() {
    let mut world = World::connected();
    world.receive(MsgType::Ready, &Ready::default());
    world.receive(MsgType::C2cMsgPush, &push(PEER, 4));
    world.now_ms = world.client.due_ms().expect("a gap is due");
    assert_eq!(world.now_ms, 2_000);
    let (_, sent) = world.handle(Input::Tick);
    let [(MsgType::Sync, payload)] = &sent[..] else { panic!("{sent:?}") };
    let request = SyncReq::decode(&payload[..]).expect("a request");
    assert_eq!((request.peer, request.from_seq, request.to_seq), (PEER.0, 1, 3));
    // Not twice while the answer is on its way.
    world.now_ms += 10_000;
    let (_, sent) = world.handle(Input::Tick);
    assert!(sent.iter().all(|(kind, _)| *kind != MsgType::Sync), "{sent:?}");

    let row = SyncRow { row: Some(sync_row::Row::Message(push(PEER, 2))) };
    let range = SyncRange { peer: PEER.0, from_seq: 1, to_seq: 3, head_seq: 4, rows: vec![row] };
    let (outputs, _) = world.receive(MsgType::Sync, &range);
    assert_eq!(arrived(&outputs), [2]);
    let rows: Vec<_> = outputs
        .iter()
        .filter_map(|o| if let Output::Shown(_, row) = o { Some(row.clone()) } else { None })
        .collect();
    let [Row::Absent(1), Row::Message(_), Row::Absent(3), Row::Message(_)] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(world.client.gaps(), 0);
}

#[test]
fn a_message_of_another_user_under_an_own_id_is_shown() {
    let mut world = World::connected();
    world.send(7, PEER);
    world.handle(Input::Packet(&ack(7, 1, 1)));
    world.receive(MsgType::C2cMsgPush, &push(PEER, 3));
    let copied = C2cMsgPush { client_msg_id: Bytes::copy_from_slice(&id(7)), ..push(PEER, 2) };
    let row = SyncRow { row: Some(sync_row::Row::Message(copied)) };
    let range = SyncRange { peer: PEER.0, from_seq: 2, to_seq: 2, head_seq: 3, rows: vec![row] };
    let (outputs, _) = world.receive(MsgType::Sync, &range);
    assert_eq!(arrived(&outputs), [2], "ids are unique for their sender only");
    assert_eq!(shown(&outputs), [2, 3]);
}

#[test]
fn a_range_that_claims_too_much_costs_a_bounded_amount() {
    let mut world = World::connected();
    world.receive(MsgType::C2cMsgPush, &push(PEER, u64::MAX));
    let range = SyncRange { peer: PEER.0, from_seq: 1, to_seq: u64::MAX, head_seq: u64::MAX, rows: vec![] };
    let (outputs, _) = world.receive(MsgType::Sync, &range);
    assert!(shown(&outputs).len() < 5_000);
    assert_eq!(world.client.gaps(), 1);
}

#[test]
fn what_is_held_is_bounded() {
    let mut world = World::connected();
    for seq in 2..=limits::CLIENT_HELD_MAX as u64 + 1 {
        let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, seq));
        assert_eq!(arrived(&outputs), [seq]);
    }
    let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, limits::CLIENT_HELD_MAX as u64 + 2));
    assert!(matches!(outputs.last(), Some(Output::Close(_))), "{outputs:?}");
}

#[test]
fn a_device_that_starts_at_the_head_takes_the_first_seq_as_its_start() {
    let mut world = World::new(Config::default());
    world.handle(Input::Connected);
    let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, 57));
    assert_eq!(shown(&outputs), [57]);
    let (outputs, _) = world.receive(MsgType::C2cMsgPush, &push(PEER, 58));
    assert_eq!(shown(&outputs), [58]);
}

#[test]
fn an_other_devices_message_is_shown_and_acknowledged_to_its_sender() {
    let mut world = World::connected();
    let (outputs, sent) = world.receive(MsgType::C2cMsgPush, &push(ME, 1));
    assert!(matches!(&outputs[1], Output::Shown(PEER, Row::Message(_))), "{outputs:?}");
    let ack = C2cAckReq::decode(&sent[0].1[..]).expect("an ack");
    assert_eq!((ack.from, ack.to), (ME.0, ME.0));
}

#[test]
fn reading_is_told_with_status_4() {
    let mut world = World::connected();
    let (_, sent) = world.handle(Input::Read(PEER, 1_001));
    let ack = C2cAckReq::decode(&sent[0].1[..]).expect("an ack");
    assert_eq!((ack.msg_id, ack.from, ack.to, ack.status), (1_001, ME.0, PEER.0, 4));
}
