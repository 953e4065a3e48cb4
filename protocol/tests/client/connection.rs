//! The connection itself.

use super::*;

#[test]
fn heartbeats_are_answered_sent_and_missed() {
    let mut world = World::connected();
    let mut out = Outputs::default();
    let now = Now { mono_ms: 1_000, wall_ms: 0 };
    world.client.handle(now, Input::Ping(b"abcd"), &mut out);
    let outputs = out.take();
    let [Output::Pong(packet)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(out.bytes(packet), b"abcd");

    assert_eq!(world.client.due_ms(), Some(21_000));
    world.now_ms = 21_000;
    assert_eq!(world.handle(Input::Tick).0, [Output::Ping]);
    assert_eq!(world.handle(Input::Tick).0, []);
    world.handle(Input::Pong);
    world.now_ms = 61_000;
    assert!(matches!(world.handle(Input::Tick).0[..], [Output::Close(_)]));
}

#[test]
fn ready_drain_and_kick_are_told_and_draining_holds_sends_back() {
    let mut world = World::connected();
    assert_eq!(world.receive(MsgType::Ready, &Ready { user_id: 1, server_time: 2 }).0, [Output::Ready]);
    assert!(world.client.is_ready());
    assert_eq!(world.receive(MsgType::Drain, &Drain { reconnect_after_ms: 9 }).0, [Output::Drain(9)]);
    assert_eq!(world.send(1, PEER), []);
    let kick = ImProtoResponse {
        r#type: MsgType::Kick.into(),
        code: Code::LoggedInElsewhere as i32,
        msg: "elsewhere".into(),
        ..ImProtoResponse::default()
    };
    let (outputs, _) = world.handle(Input::Packet(&kick.encode_to_vec()));
    assert_eq!(outputs, [Output::Kicked(-130, "elsewhere".into())]);
    world.handle(Input::Disconnected);
    assert!(!world.client.is_ready());
    assert_eq!(world.sends(Input::Connected), [(1, 0)]);
}

#[test]
fn nonsense_is_told_and_changes_nothing() {
    let mut world = World::connected();
    world.send(1, PEER);
    let bad_payload =
        ImProtoResponse { r#type: 5, payload: Bytes::from_static(&[0xff; 3]), ..ImProtoResponse::default() };
    let no_seq = packets::response(MsgType::C2cMsgPush, &push(PEER, 0));
    let no_id = packets::response(MsgType::C2cAck, &C2cAckReq { status: 1, ..C2cAckReq::default() });
    let upward = packets::response(MsgType::C2cSend, &C2cSendReq::default());
    let status_0 = ack(1, 0, 0);
    for packet in [&b"\xff\xff"[..], &bad_payload.encode_to_vec(), &no_seq, &no_id, &upward, &status_0] {
        let (outputs, _) = world.handle(Input::Packet(packet));
        assert!(matches!(outputs[..], [Output::Fault(_)]), "{packet:?}: {outputs:?}");
    }
    assert_eq!(world.client.pending(), 1);
    assert_eq!(world.client.gaps(), 0);
}
