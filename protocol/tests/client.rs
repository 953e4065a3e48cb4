//! The client machine against packets that an edge would send, and some that it would not.

use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::client::{Client, ClientMsgId, Config, Draft, Input, Output, Outputs, Refusal, Row};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::UserId;
use petrel_protocol::limits;
use petrel_protocol::packets::{
    self, C2cAckReq, C2cMsgPush, C2cSendReq, C2cWithdrawReq, Drain, ImProtoRequest, ImProtoResponse, MsgType,
    Ready, SyncRange, SyncReq, SyncRow, sync_row,
};
use petrel_protocol::time::Now;
use prost::Message;

const ME: UserId = UserId(1);
const PEER: UserId = UserId(2);
const OTHER: UserId = UserId(3);

/// A client with a clock that the test moves.
struct World {
    client: Client,
    now_ms: u64,
}

impl World {
    fn new(config: Config) -> Self {
        Self { client: Client::new(ME, Arc::new(config)), now_ms: 1_000 }
    }

    fn connected() -> Self {
        let mut world = Self::new(Config { starts_at_one: true, ..Config::default() });
        world.handle(Input::Connected);
        world
    }

    /// What the input led to, and the packets that were sent, decoded.
    fn handle(&mut self, input: Input<'_>) -> (Vec<Output>, Vec<(MsgType, Bytes)>) {
        let mut out = Outputs::default();
        let now = Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms };
        self.client.handle(now, input, &mut out);
        let outputs = out.take();
        let sent = outputs.iter().filter_map(|o| match o {
            Output::Transmit(packet) => {
                let request = ImProtoRequest::decode(out.bytes(packet)).expect("a request");
                Some((MsgType::try_from(request.r#type).expect("a type"), request.payload))
            }
            _ => None,
        });
        let sent = sent.collect();
        (outputs.into_iter().filter(|o| !matches!(o, Output::Transmit(_))).collect(), sent)
    }

    fn sends(&mut self, input: Input<'_>) -> Vec<(u8, u32)> {
        let (_, sent) = self.handle(input);
        let sends = sent.iter().filter(|(kind, _)| *kind == MsgType::C2cSend);
        let decoded = sends.map(|(_, payload)| {
            let packet = C2cSendReq::decode(&payload[..]).expect("a send");
            (packet.client_msg_id[0], packet.attempt.expect("an attempt"))
        });
        decoded.collect()
    }

    fn send(&mut self, n: u8, to: UserId) -> Vec<(u8, u32)> {
        self.sends(Input::Send(draft(n, to)))
    }

    fn receive(&mut self, kind: MsgType, payload: &impl Message) -> (Vec<Output>, Vec<(MsgType, Bytes)>) {
        self.handle(Input::Packet(&packets::response(kind, payload)))
    }

    fn tick_at(&mut self, now_ms: u64, input: Input<'_>) -> Vec<(u8, u32)> {
        self.now_ms = now_ms;
        self.sends(input)
    }
}

fn id(n: u8) -> ClientMsgId {
    [n; 16]
}

fn draft(n: u8, to: UserId) -> Draft<'static> {
    Draft { id: id(n), msg_id: 0, to, format: 1, content: "hello" }
}

fn ack(n: u8, status: i32, seq: u64) -> Bytes {
    let ack = C2cAckReq {
        client_msg_id: Bytes::copy_from_slice(&id(n)),
        msg_id: 100 + u64::from(n),
        from: 0,
        to: ME.0,
        status,
        seq,
    };
    packets::response(MsgType::C2cAck, &ack)
}

fn nack(n: u8, code: Code, retry_after_ms: u32) -> Bytes {
    packets::nack(code, "a text", retry_after_ms, MsgType::C2cSend, Bytes::copy_from_slice(&id(n)), 0)
}

fn push(from: UserId, seq: u64) -> C2cMsgPush {
    C2cMsgPush {
        client_msg_id: Bytes::copy_from_slice(&[seq as u8; 16]),
        msg_id: seq.wrapping_add(1_000),
        from: from.0,
        to: if from == ME { PEER.0 } else { ME.0 },
        format: 1,
        content: format!("message {seq}"),
        time: 5,
        seq,
    }
}

fn shown(outputs: &[Output]) -> Vec<u64> {
    let rows =
        outputs.iter().filter_map(|o| if let Output::Shown(_, row) = o { Some(row.seq()) } else { None });
    rows.collect()
}

fn arrived(outputs: &[Output]) -> Vec<u64> {
    let pushes =
        outputs.iter().filter_map(|o| if let Output::Arrived(push) = o { Some(push.seq) } else { None });
    pushes.collect()
}

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
    assert_eq!(world.tick_at(due, Input::Tick), [(1, 1)]);
    assert_eq!(world.sends(Input::Packet(&ack(1, 1, 0))), [(2, 0)]);
}

#[test]
fn refusals_end_a_send_when_they_are_for_good_or_too_many() {
    let mut world = World::new(Config { refusals_max: 2, ..Config::default() });
    world.handle(Input::Connected);
    world.send(1, PEER);
    world.send(2, PEER);
    world.handle(Input::Packet(&nack(1, Code::Overloaded, 0)));
    assert_eq!(world.tick_at(2_000, Input::Tick), [(1, 1)]);
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
