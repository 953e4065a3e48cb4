//! What a session decides, one behaviour a test.

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::calls::{Own, Push, StatusUpdate, delivery::What};
use crate::events::{self, Status, Stored, stored, uplink::Body};
use crate::packets::{
    C2cAckReq, C2cMsgPush, C2cSendReq, C2cWithdrawReq, GetBatchMsgIdsReq, ImProtoResponse, SyncReq, request,
    status,
};

const ME: UserId = UserId(7);
const PEER: UserId = UserId(9);

struct World {
    session: Session,
    shared: Shared,
    out: Outputs,
    now: Now,
}

/// What came out, with packets decoded.
#[derive(Debug)]
enum Seen {
    Packet(ImProtoResponse),
    Other(Output),
}

impl World {
    fn new() -> Self {
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_800_000_000_000 };
        let shared = Shared { spare_ids: (1_000..2_000).collect(), ..Shared::default() };
        Self { session: Session::new(now, ME, Device::Web, 3), shared, out: Outputs::default(), now }
    }

    /// Connected, synced, live.
    fn live() -> Self {
        let mut world = Self::new();
        assert!(matches!(&world.give(Input::Start)[..], [Seen::Other(Output::Claim)]));
        let seen = world.give(Input::Claimed(Some(ClaimReply::default())));
        assert!(matches!(&seen[..], [Seen::Other(Output::Sync(_))]), "{seen:?}");
        let seen = world.give(Input::Synced(Some(SyncReply::default())));
        assert_eq!(kinds(&seen), [MsgType::Ready]);
        world
    }

    fn give(&mut self, input: Input<'_>) -> Vec<Seen> {
        self.session.handle(self.now, input, &mut self.shared, &mut self.out);
        let actions = self.out.take();
        let seen = actions
            .into_iter()
            .map(|action| match action {
                Output::Send(sent) => {
                    Seen::Packet(ImProtoResponse::decode(self.out.bytes(&sent)).expect("valid"))
                }
                Output::SendShared(bytes) => Seen::Packet(ImProtoResponse::decode(bytes).expect("valid")),
                other => Seen::Other(other),
            })
            .collect();
        self.out.clear(Vec::new());
        seen
    }

    fn packet(&mut self, kind: MsgType, payload: &impl Message) -> Vec<Seen> {
        self.give(Input::Packet(&request(kind, payload)))
    }

    fn send(&mut self, n: u8) -> Vec<Seen> {
        self.packet(MsgType::C2cSend, &message(n))
    }

    fn nack_of(&mut self, kind: MsgType, payload: &impl Message) -> i32 {
        code(&self.packet(kind, payload))
    }

    fn push(&mut self, seq: u64) -> Vec<Seen> {
        self.give(Input::Delivery(What::Push(Push {
            conversation: Some(ConversationId::of_users(ME, PEER).into()),
            seq,
            msg_id: 100 + seq,
            client_msg_id: Bytes::from(vec![seq as u8; 16]),
            from: PEER.0,
            packet: crate::packets::response(MsgType::C2cMsgPush, &C2cMsgPush { seq, ..Default::default() }),
            is_recall: false,
        })))
    }

    fn ack(&mut self, seq: u64, status: i32) -> Vec<Seen> {
        let ack = C2cAckReq { msg_id: 100 + seq, from: ME.0, to: PEER.0, status, ..Default::default() };
        self.packet(MsgType::C2cAck, &ack)
    }

    fn flush(&mut self) -> Vec<Receipt> {
        let seen = self.give(Input::FlushReceipts);
        seen.into_iter()
            .filter_map(|s| match s {
                Seen::Other(Output::Receipt(_, receipt)) => Some(receipt),
                _ => None,
            })
            .collect()
    }
}

fn message(n: u8) -> C2cSendReq {
    C2cSendReq {
        client_msg_id: Bytes::from(vec![n; 16]),
        from: ME.0,
        to: PEER.0,
        format: 1,
        content: format!("message {n}"),
        attempt: Some(0),
        ..Default::default()
    }
}

fn kinds(seen: &[Seen]) -> Vec<MsgType> {
    seen.iter()
        .filter_map(|s| match s {
            Seen::Packet(p) => Some(p.r#type()),
            Seen::Other(_) => None,
        })
        .collect()
}

fn code(seen: &[Seen]) -> i32 {
    match seen {
        [Seen::Packet(p), ..] if p.r#type() == MsgType::Nack => {
            assert!(!p.msg.is_empty(), "a nack says what to do");
            p.code
        }
        other => panic!("not a nack: {other:?}"),
    }
}

fn statuses(seen: &[Seen]) -> Vec<i32> {
    seen.iter()
        .filter_map(|s| match s {
            Seen::Packet(p) if p.r#type() == MsgType::C2cAck => {
                Some(C2cAckReq::decode(p.payload.clone()).expect("valid").status)
            }
            _ => None,
        })
        .collect()
}

fn published(seen: &[Seen]) -> (&Uplink, u32) {
    match seen {
        [Seen::Other(Output::Publish(_, event, ticket))] => (event, *ticket),
        other => panic!("not a publication: {other:?}"),
    }
}

fn own(world: &mut World, seq: u64, msg_id: u64, is_offline: bool) -> Vec<Seen> {
    world.give(Input::Delivery(What::Own(Own {
        conversation: Some(ConversationId::of_users(ME, PEER).into()),
        seq,
        msg_id,
        client_msg_id: message(1).client_msg_id,
        is_offline,
        ..Default::default()
    })))
}

fn status_of(world: &mut World, msg_id: u64, status: i32) -> Vec<Seen> {
    let told = Status { msg_id, client_msg_id: message(1).client_msg_id, status, seq: 1 };
    world.give(Input::Delivery(What::Status(StatusUpdate { conversation: None, status: Some(told) })))
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
fn a_send_is_published_with_what_the_server_knows_and_acked_once_it_is_durable() {
    let mut world = World::live();
    let seen = world.send(1);
    let (event, ticket) = published(&seen);
    assert_eq!((event.user, event.device, event.edge_time_ms), (7, 4, world.now.wall_ms));
    let Some(Body::Send(send)) = &event.body else { panic!("{event:?}") };
    assert!(send.msg_id != 0 && !send.look_up);
    let seen = world.give(Input::Published(ticket, Outcome::Accepted));
    assert_eq!(statuses(&seen), [status::ACCEPTED]);
    assert!(world.give(Input::Published(ticket, Outcome::Accepted)).is_empty(), "settled once");
}

#[test]
fn a_client_that_cannot_say_whether_it_resends_is_looked_up() {
    let mut world = World::live();
    for attempt in [None, Some(1)] {
        let seen = world.packet(MsgType::C2cSend, &C2cSendReq { attempt, ..message(1) });
        let Some(Body::Send(send)) = &published(&seen).0.body else { panic!("{seen:?}") };
        assert!(send.look_up);
    }
}

#[test]
fn faults_of_a_send_are_refused_with_a_code() {
    let mut world = World::live();
    let bad = [
        (Code::NotYourUser, C2cSendReq { from: 8, ..message(1) }),
        (Code::BadRecipient, C2cSendReq { to: 0, ..message(1) }),
        (Code::BadRecipient, C2cSendReq { to: ME.0, ..message(1) }),
        (Code::BadPacket, C2cSendReq { client_msg_id: Bytes::from_static(b"short"), ..message(1) }),
        (Code::MissingId, C2cSendReq { client_msg_id: Bytes::new(), ..message(1) }),
        (Code::TooLarge, C2cSendReq { content: "x".repeat(limits::CONTENT_BYTES_MAX + 1), ..message(1) }),
    ];
    for (expected, send) in bad {
        let seen = world.packet(MsgType::C2cSend, &send);
        assert_eq!(code(&seen), expected as i32, "{send:?}");
        let [Seen::Packet(nack)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(nack.payload, send.client_msg_id, "a nack echoes the id");
    }
}

#[test]
fn what_is_no_packet_is_refused_and_too_much_of_it_ends_the_session() {
    let mut world = World::live();
    assert_eq!(code(&world.give(Input::Packet(&[0xff; 9]))), Code::BadPacket as i32);
    let bad_utf8 = {
        // Field 6 of C2CSendReq is a string.
        let payload = [&[0x32, 2][..], &[0xc3, 0x28]].concat();
        let envelope =
            crate::packets::ImProtoRequest { r#type: MsgType::C2cSend.into(), payload: payload.into() };
        envelope.encode_to_vec()
    };
    assert_eq!(code(&world.give(Input::Packet(&bad_utf8))), Code::BadPacket as i32);
    assert_eq!(world.nack_of(MsgType::Ready, &SyncReq::default()), Code::UnknownType as i32);
    assert_eq!(world.nack_of(MsgType::GroupSend, &SyncReq::default()), Code::UnknownType as i32);
    let closed = (0..limits::SESSION_FAULTS_MAX).any(|_| {
        let seen = world.give(Input::Packet(&[0xff; 9]));
        seen.iter().any(|s| matches!(s, Seen::Other(Output::Close(close::TOO_MANY_FAULTS, _))))
    });
    assert!(closed);
    assert!(world.send(1).is_empty(), "nothing is taken after that");
}

#[test]
fn beyond_the_credit_sends_are_refused_with_a_time_to_retry_and_credit_comes_back() {
    let mut world = World::live();
    world.shared.config.shard_unstored_max = 2;
    let first = published(&world.send(1)).1;
    world.send(2);
    let seen = world.send(3);
    assert_eq!(code(&seen), Code::Overloaded as i32);
    let [Seen::Packet(nack)] = &seen[..] else { panic!("{seen:?}") };
    assert!(nack.retry_after_ms > 0);
    world.give(Input::Published(first, Outcome::Accepted));
    assert_eq!(code(&world.send(3)), Code::Overloaded as i32, "accepted is not yet stored");
    own(&mut world, 1, 1_999, false);
    published(&world.send(3));
    world.session.end(&mut world.shared, &mut world.out);
    assert_eq!(world.shared.unstored, 0, "the end gives all credit back");
}

#[test]
fn credit_whose_event_never_comes_back_is_freed_in_the_end() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.give(Input::Published(ticket, Outcome::Accepted));
    world.now.mono_ms += CREDIT_MS_MAX + 1_000;
    world.session.heard(world.now);
    world.give(Input::Sweep);
    assert_eq!(world.shared.unstored, 0);
}

#[test]
fn a_session_has_a_bound_of_its_own() {
    let mut world = World::live();
    for _ in 0..limits::SESSION_IN_FLIGHT_MAX {
        world.send(1);
    }
    assert_eq!(code(&world.send(1)), Code::Overloaded as i32);
}

#[test]
fn after_an_unknown_outcome_nothing_passes_that_message_until_it_is_resent_or_given_up() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    assert_eq!(code(&world.give(Input::Published(ticket, Outcome::Unknown))), Code::OutcomeUnknown as i32);
    assert_eq!(code(&world.send(2)), Code::HeldBack as i32);
    let elsewhere = C2cSendReq { to: 11, ..message(3) };
    published(&world.packet(MsgType::C2cSend, &elsewhere));
    published(&world.send(1));
    published(&world.send(2));

    let ticket = published(&world.send(4)).1;
    world.give(Input::Published(ticket, Outcome::Unknown));
    world.now.mono_ms += limits::REPUBLISH_MS_MAX + 1;
    world.session.heard(world.now);
    world.give(Input::Sweep);
    published(&world.send(5));
}

#[test]
fn a_certain_failure_is_told_and_frees_the_credit() {
    let mut world = World::live();
    for (outcome, expected) in [(Outcome::Full, Code::Overloaded), (Outcome::Unavailable, Code::Unavailable)]
    {
        let ticket = published(&world.send(1)).1;
        assert_eq!(code(&world.give(Input::Published(ticket, outcome))), expected as i32);
        assert_eq!(world.shared.unstored, 0);
    }
}

#[test]
fn statuses_only_rise_even_when_delivery_is_faster_than_the_receipt() {
    let mut world = World::live();
    let seen = world.send(1);
    let (event, ticket) = published(&seen);
    let Some(Body::Send(send)) = &event.body else { panic!("{event:?}") };
    let msg_id = send.msg_id;
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

fn range(seqs: std::ops::RangeInclusive<u64>) -> Range {
    let row = |seq| Stored {
        seq,
        user: PEER.0,
        device: 1,
        body: Some(stored::Body::Message(events::Message { msg_id: 100 + seq, ..Default::default() })),
        ..Default::default()
    };
    Range {
        conversation: Some(ConversationId::of_users(ME, PEER).into()),
        from_seq: *seqs.start(),
        to_seq: *seqs.end(),
        head_seq: *seqs.end(),
        rows: seqs.map(row).collect(),
    }
}

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

#[test]
fn a_silent_client_is_pinged_then_closed() {
    let mut world = World::live();
    world.now.mono_ms += limits::PING_AFTER_MS;
    assert!(world.session.is_due(world.now, &world.shared.config));
    assert!(matches!(&world.give(Input::Sweep)[..], [Seen::Other(Output::Ping(_))]));
    assert!(world.give(Input::Sweep).is_empty(), "pinged once");
    world.session.heard(world.now);
    world.now.mono_ms += limits::EVICT_AFTER_MS;
    let seen = world.give(Input::Sweep);
    assert!(matches!(&seen[..], [Seen::Other(Output::Close(close::SILENT, _))]), "{seen:?}");
}

#[test]
fn a_session_that_lacked_nothing_holds_no_memory_once_it_is_ready() {
    assert!(World::live().session.work.is_none());
    // What was sent before READY is remembered.
    let mut world = World::new();
    world.give(Input::Start);
    world.give(Input::Claimed(Some(ClaimReply::default())));
    assert_eq!(kinds(&world.send(1)), []);
    assert_eq!(kinds(&world.give(Input::Synced(Some(SyncReply::default())))), [MsgType::Ready]);
    assert!(world.session.work.is_some());
}

#[test]
fn an_idle_session_holds_no_memory_of_what_is_done() {
    let mut world = World::live();
    world.push(1);
    world.ack(1, status::DELIVERED);
    world.flush();
    world.now.mono_ms += 10_000;
    world.give(Input::Sweep);
    assert!(world.session.work.is_none());
    assert!(!world.session.is_due(world.now, &world.shared.config));
}

#[test]
fn a_recall_is_published_and_its_place_told_to_the_one_who_asked() {
    let mut world = World::live();
    let recall = C2cWithdrawReq { msg_id: 5, from: ME.0, to: PEER.0, ..Default::default() };
    let seen = world.packet(MsgType::C2cWithdraw, &recall);
    let (event, ticket) = published(&seen);
    assert!(matches!(&event.body, Some(Body::Recall(r)) if r.msg_id == 5));
    assert!(world.give(Input::Published(ticket, Outcome::Accepted)).is_empty(), "decided by the log alone");
    let seen = world.give(Input::Delivery(What::Own(Own {
        conversation: Some(ConversationId::of_users(ME, PEER).into()),
        seq: 8,
        msg_id: 5,
        is_recall: true,
        target_seq: 3,
        ..Default::default()
    })));
    assert_eq!(kinds(&seen), [MsgType::C2cWithdraw]);
    world.packet(MsgType::C2cWithdraw, &recall);
    let late = events::Refused {
        code: Code::RecallTooLate as i32,
        request_type: MsgType::C2cWithdraw as u32,
        msg_id: 5,
        ..Default::default()
    };
    assert_eq!(code(&world.give(Input::Delivery(What::Refused(late)))), Code::RecallTooLate as i32);
    assert_eq!(world.shared.unstored, 0);
    let other = C2cWithdrawReq { from: 8, ..recall };
    assert_eq!(world.nack_of(MsgType::C2cWithdraw, &other), Code::NotYourUser as i32);
}

#[test]
fn a_recall_that_was_shown_is_known_to_have_come_by_a_later_ack_or_a_pong() {
    let mut world = World::live();
    let recall = |seq| {
        Input::Delivery(What::Push(Push {
            conversation: Some(ConversationId::of_users(ME, PEER).into()),
            seq,
            msg_id: 101,
            from: PEER.0,
            is_recall: true,
            ..Default::default()
        }))
    };
    world.push(1);
    world.give(recall(2));
    world.push(3);
    world.ack(1, status::DELIVERED);
    assert_eq!(world.flush()[0].delivered_seq, 1);
    world.ack(3, status::DELIVERED);
    assert_eq!(world.flush()[0].delivered_seq, 3);

    world.give(recall(4));
    let seen = world.give(Input::Sweep);
    let [Seen::Other(Output::Ping(payload))] = &seen[..] else { panic!("{seen:?}") };
    assert!(world.give(Input::Pong(b"else")).is_empty());
    assert!(matches!(&world.give(Input::Pong(payload))[..], [Seen::Other(Output::FlushReceiptsLater)]));
    assert_eq!(world.flush()[0].delivered_seq, 4);
}

#[test]
fn message_ids_and_ranges_are_given_to_their_user_alone() {
    let mut world = World::live();
    let seen = world.packet(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: ME.0 });
    assert!(matches!(&seen[..], [Seen::Other(Output::IdBatch)]));
    let other = GetBatchMsgIdsReq { user_id: PEER.0 };
    assert_eq!(world.nack_of(MsgType::GetBatchMsgIds, &other), Code::NotYourUser as i32);

    let ask = SyncReq { peer: PEER.0, from_seq: 0, to_seq: 0 };
    let seen = world.packet(MsgType::Sync, &ask);
    assert!(matches!(&seen[..], [Seen::Other(Output::History(h))] if h.user == ME.0 && h.from_seq == 1));
    assert_eq!(world.nack_of(MsgType::Sync, &ask), Code::Overloaded as i32, "one at a time");
    let seen = world.give(Input::History(Some(range(1..=2))));
    assert_eq!(kinds(&seen), [MsgType::Sync]);
    let own = SyncReq { peer: ME.0, ..ask };
    assert_eq!(world.nack_of(MsgType::Sync, &own), Code::BadRecipient as i32);
}

#[test]
fn a_kick_is_shown_and_ends_the_session() {
    let mut world = World::live();
    let kick = crate::calls::Kick { code: Code::LoggedInElsewhere as i32, text: "elsewhere".to_owned() };
    let seen = world.give(Input::Delivery(What::Kick(kick)));
    assert_eq!(kinds(&seen), [MsgType::Kick]);
    assert!(matches!(seen[1], Seen::Other(Output::Close(close::LOGGED_IN_ELSEWHERE, _))));
}

#[test]
fn a_token_that_was_revoked_before_this_connect_ends_the_session() {
    for (version, is_revoked) in [(3, false), (4, true)] {
        let mut world = World::new();
        world.give(Input::Start);
        world.give(Input::Claimed(Some(ClaimReply::default())));
        let reply = SyncReply { token_version: version, ..Default::default() };
        let seen = world.give(Input::Synced(Some(reply)));
        let is_closed = seen.iter().any(|s| matches!(s, Seen::Other(Output::Close(close::BAD_TOKEN, _))));
        assert_eq!(is_closed, is_revoked);
    }
}

#[test]
fn a_draining_edge_takes_no_sends_but_settles_what_it_took() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.shared.is_draining = true;
    assert_eq!(kinds(&world.give(Input::Drain)), [MsgType::Drain]);
    assert_eq!(code(&world.send(2)), Code::Draining as i32);
    assert!(world.session.is_busy());
    assert_eq!(statuses(&world.give(Input::Published(ticket, Outcome::Accepted))), [status::ACCEPTED]);
    assert!(!world.session.is_busy());
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 40, "{}", size_of::<Session>());
}

#[test]
fn sends_of_unknown_outcome_are_taken_again_in_their_order() {
    let mut world = World::live();
    let tickets: Vec<_> = (1..=3).map(|n| published(&world.send(n)).1).collect();
    for ticket in tickets {
        world.give(Input::Published(ticket, Outcome::Unknown));
    }
    for n in 1..=3 {
        published(&world.send(n));
    }
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

#[test]
fn a_recall_of_ones_own_moves_the_cursor_only_when_it_has_come() {
    let mut world = World::live();
    world.push(1);
    let own = Own {
        conversation: Some(ConversationId::of_users(ME, PEER).into()),
        seq: 2,
        msg_id: 1_999,
        is_recall: true,
        target_seq: 1,
        ..Default::default()
    };
    assert_eq!(kinds(&world.give(Input::Delivery(What::Own(own)))), [MsgType::C2cWithdraw]);
    world.ack(1, status::DELIVERED);
    assert_eq!(world.flush()[0].delivered_seq, 1, "the recall may be lost with the connection");
    let seen = world.give(Input::Sweep);
    let Some(Seen::Other(Output::Ping(probe))) = seen.first() else { panic!("{seen:?}") };
    world.give(Input::Pong(probe));
    assert_eq!(world.flush()[0].delivered_seq, 2);
}

#[test]
fn an_outcome_that_becomes_known_holds_nothing_back() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.give(Input::Published(ticket, Outcome::Unknown));
    assert_eq!(code(&world.send(2)), Code::HeldBack as i32);
    own(&mut world, 1, 1_999, false);
    assert_eq!(code(&world.send(3)), Code::HeldBack as i32, "2 was first");
    published(&world.send(2));
    published(&world.send(3));
}
