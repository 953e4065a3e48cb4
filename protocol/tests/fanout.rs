//! What the fan-out machine owes to persist's log, to the edges and to the people at both ends.

use bytes::Bytes;
use petrel_protocol::calls::{DeliverBatch, DeliverReply, Delivery, Push, delivery::What};
use petrel_protocol::events::{
    Duplicate, Message, Recalled, Receipt, ReceiptPack, Refused, Status, Stored, StoredPack, stored::Body,
};
use petrel_protocol::fanout::{Fanout, Fault, Incarnation, Input, Offline, Output, Record, Route};
use petrel_protocol::ids::{Address, ConversationId, Device, Position, UserId};
use petrel_protocol::limits;
use petrel_protocol::map::Map;
use petrel_protocol::packets::{C2cMsgPush, C2cWithdrawReq, ImProtoResponse, MsgType, SUCCESS};
use petrel_protocol::time::Now;
use petrel_protocol::topics::Topic;
use prost::Message as _;

const ANNA: UserId = UserId(1);
const BERT: UserId = UserId(2);
const CLEO: UserId = UserId(3);
const EDGE_1: Incarnation = Incarnation { edge: 1, epoch: 10 };
const EDGE_2: Incarnation = Incarnation { edge: 2, epoch: 20 };

/// The machine with a directory of routes. Look-ups are answered at once, edges when the test says so.
struct World {
    fanout: Fanout,
    now: Now,
    routes: Map<UserId, Vec<(Device, Address)>>,
    next_entry: u64,
    /// Under way: (ticket, batch).
    calls: Vec<(u64, DeliverBatch)>,
    /// What was acknowledged: (topic, partition, entry).
    acks: Vec<(Topic, u16, u64)>,
    offline: Vec<Offline>,
    revoked: Vec<Incarnation>,
    dead: Vec<(u64, u32, Fault)>,
    look_ups: Vec<Vec<UserId>>,
    /// Look-ups are kept here instead, where this is some.
    held: Option<Vec<(u64, Vec<UserId>)>>,
}

impl World {
    fn new() -> Self {
        Self {
            fanout: Fanout::new(),
            now: Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 },
            routes: Map::default(),
            next_entry: 0,
            calls: Vec::new(),
            acks: Vec::new(),
            offline: Vec::new(),
            revoked: Vec::new(),
            dead: Vec::new(),
            look_ups: Vec::new(),
            held: None,
        }
    }

    fn connect(&mut self, user: UserId, device: Device, edge: Incarnation, slot: u32) -> Address {
        let address = Address { edge: edge.edge, shard: 0, slot, generation: 1, epoch: edge.epoch };
        self.routes.entry(user).or_default().push((device, address));
        address
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.fanout.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::LookUp { round, users } => {
                    self.look_ups.push(users.clone());
                    match &mut self.held {
                        Some(held) => held.push((round, users)),
                        None => self.answer_look_up(round, &users),
                    }
                }
                Output::Deliver { ticket, batch } => self.calls.push((ticket, batch)),
                Output::Ack { topic, partition, position } => {
                    self.acks.push((topic, partition, position.entry));
                }
                Output::Revoke(incarnation) => self.revoked.push(incarnation),
                Output::Offline(offline) => self.offline.push(offline),
                Output::DeadLetter { position, fault, .. } => {
                    self.dead.push((position.entry, position.index, fault));
                }
                Output::Forwarded { .. } => {}
            }
        }
    }

    fn answer_look_up(&mut self, round: u64, users: &[UserId]) {
        let mut routes = Vec::new();
        for (index, user) in users.iter().enumerate() {
            for (device, address) in self.routes.get(user).into_iter().flatten() {
                routes.push(Route { user: index as u32, device: *device, address: *address });
            }
        }
        self.input(Input::Routes { round, routes });
    }

    fn record(&mut self, topic: Topic, partition: u16, pack: Vec<u8>) -> Record {
        self.next_entry += 1;
        let position = Position { generation: 1, ledger: 0, entry: self.next_entry, index: 0 };
        Record { topic, partition, position, pack: pack.into() }
    }

    /// One record of `stored`; its entry.
    fn stored(&mut self, events: Vec<Stored>) -> u64 {
        let record = self.record(Topic::Stored, 0, StoredPack { events }.encode_to_vec());
        self.input(Input::Records(vec![record]));
        self.next_entry
    }

    fn receipts(&mut self, events: Vec<Receipt>) -> u64 {
        let record = self.record(Topic::Receipts, 0, ReceiptPack { events }.encode_to_vec());
        self.input(Input::Records(vec![record]));
        self.next_entry
    }

    /// The edge takes everything that it was called with so far; what it got.
    fn answer(&mut self, edge: Incarnation) -> Vec<Delivery> {
        let is_its = |b: &DeliverBatch| (b.edge, b.epoch) == (u32::from(edge.edge), edge.epoch);
        let (its, others) = std::mem::take(&mut self.calls).into_iter().partition(|(_, b)| is_its(b));
        self.calls = others;
        let mut got = Vec::new();
        for (ticket, batch) in its {
            got.extend(batch.deliveries);
            self.input(Input::Answered { ticket, answer: Some(DeliverReply::default()) });
        }
        got
    }

    /// The edge takes none of it.
    fn refuse(&mut self, edge: Incarnation) {
        let is_its = |b: &DeliverBatch| (b.edge, b.epoch) == (u32::from(edge.edge), edge.epoch);
        let (its, others) = std::mem::take(&mut self.calls).into_iter().partition(|(_, b)| is_its(b));
        self.calls = others;
        let its: Vec<(u64, DeliverBatch)> = its;
        for (ticket, _) in its {
            self.input(Input::Answered { ticket, answer: None });
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        self.input(Input::Tick);
    }

    fn acked(&self) -> Vec<u64> {
        self.acks.iter().map(|(_, _, entry)| *entry).collect()
    }
}

fn stored(from: UserId, to: UserId, seq: u64, origin: Option<Address>, body: Body) -> Stored {
    Stored {
        conversation: Some(ConversationId::of_users(from, to).into()),
        seq,
        edge_time_ms: 5,
        user: from.0,
        device: Device::Web as u32,
        origin: origin.map(Into::into),
        again: false,
        body: Some(body),
    }
}

fn message(from: UserId, to: UserId, seq: u64, origin: Option<Address>) -> Stored {
    let body = Message {
        client_msg_id: Bytes::from(vec![seq as u8; 16]),
        msg_id: 1_000 + seq,
        format: 1,
        content: format!("message {seq}"),
        time: 77,
        is_recalled: false,
    };
    stored(from, to, seq, origin, Body::Message(body))
}

fn again(mut event: Stored) -> Stored {
    event.again = true;
    event
}

fn push(delivery: &Delivery) -> &Push {
    match delivery.what.as_ref() {
        Some(What::Push(push)) => push,
        other => panic!("a push was expected, not {other:?}"),
    }
}

fn seqs(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| push(d).seq).collect()
}

#[test]
fn receivers_and_the_senders_other_devices_get_the_push_and_the_origin_its_own() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(ANNA, Device::Ios, EDGE_1, 2);
    world.connect(BERT, Device::Android, EDGE_1, 3);
    world.connect(BERT, Device::Desktop, EDGE_2, 4);
    world.connect(CLEO, Device::Web, EDGE_2, 5);
    world.stored(vec![message(ANNA, BERT, 1, Some(origin))]);

    let first = world.answer(EDGE_1);
    let slots: Vec<_> = first.iter().map(|d| (d.slot, d.user, d.device)).collect();
    assert_eq!(slots, [(1, 1, 4), (3, 2, 1), (2, 1, 2)], "who, on which device, in which slot");
    let Some(What::Own(own)) = &first[0].what else { panic!("{first:?}") };
    assert_eq!((own.seq, own.msg_id, own.is_offline, own.is_recall), (1, 1_001, false, false));
    assert_eq!(own.client_msg_id, vec![1; 16]);

    let second = world.answer(EDGE_2);
    assert_eq!(second.iter().map(|d| d.slot).collect::<Vec<_>>(), [4], "nobody else is told");
    let (one, other) = (push(&first[1]), push(&second[0]));
    assert_eq!(one.packet.as_ptr(), other.packet.as_ptr(), "encoded once and shared");
    let envelope = ImProtoResponse::decode(one.packet.clone()).unwrap();
    assert_eq!((envelope.r#type(), envelope.code), (MsgType::C2cMsgPush, SUCCESS));
    let shown = C2cMsgPush::decode(envelope.payload).unwrap();
    let expected = C2cMsgPush {
        client_msg_id: vec![1; 16].into(),
        msg_id: 1_001,
        from: 1,
        to: 2,
        format: 1,
        content: "message 1".into(),
        time: 77,
        seq: 1,
    };
    assert_eq!(shown, expected);
    assert!(world.offline.is_empty());
}

#[test]
fn a_session_that_replaced_the_origin_gets_the_push() {
    let mut world = World::new();
    let mut origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    origin.generation = 0;
    world.stored(vec![message(ANNA, BERT, 1, Some(origin))]);
    let got = world.answer(EDGE_1);
    assert_eq!(seqs(&got), [1]);
}

#[test]
fn the_origin_is_the_same_session_under_a_new_epoch() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, Incarnation { epoch: 11, ..EDGE_1 }, 1);
    let logged = Address { epoch: 10, ..origin };
    world.stored(vec![message(ANNA, BERT, 1, Some(logged))]);
    // Another device type in that very slot is another session.
    let mut other = message(ANNA, BERT, 2, Some(logged));
    other.device = Device::Ios as u32;
    world.stored(vec![other]);
    let got = world.answer(Incarnation { epoch: 11, ..EDGE_1 });
    assert!(matches!(&got[0].what, Some(What::Own(own)) if own.seq == 1));
    assert_eq!(push(&got[1]).seq, 2);
}

#[test]
fn a_recall_names_its_target_to_everybody() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(BERT, Device::Web, EDGE_2, 2);
    let body = Body::Recalled(Recalled { msg_id: 1_001, target_seq: 1 });
    world.stored(vec![stored(ANNA, BERT, 2, Some(origin), body)]);

    let own = world.answer(EDGE_1);
    let Some(What::Own(own)) = &own[0].what else { panic!("{own:?}") };
    assert_eq!((own.seq, own.msg_id, own.is_recall, own.target_seq), (2, 1_001, true, 1));
    let pushed = world.answer(EDGE_2);
    let pushed = push(&pushed[0]);
    assert!(pushed.is_recall && pushed.seq == 2);
    let envelope = ImProtoResponse::decode(pushed.packet.clone()).unwrap();
    assert_eq!(envelope.r#type(), MsgType::C2cWithdraw);
    let recall = C2cWithdrawReq::decode(envelope.payload).unwrap();
    assert_eq!(recall, C2cWithdrawReq { msg_id: 1_001, from: 1, to: 2, seq: 2, target_seq: 1 });
}

#[test]
fn a_replay_of_what_was_recalled_is_shown_as_recalled() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_2, 2);
    let mut event = again(message(ANNA, BERT, 1, None));
    let Some(Body::Message(m)) = &mut event.body else { panic!("a message") };
    (m.is_recalled, m.content) = (true, String::new());
    world.stored(vec![event]);
    let pushed = world.answer(EDGE_2);
    let envelope = ImProtoResponse::decode(push(&pushed[0]).packet.clone()).unwrap();
    let shown = C2cMsgPush::decode(envelope.payload).unwrap();
    assert_eq!((shown.format, shown.content.as_str()), (10, ""));
}

#[test]
fn refusals_and_duplicates_go_to_the_origin_alone() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(ANNA, Device::Ios, EDGE_1, 2);
    world.connect(BERT, Device::Web, EDGE_1, 3);
    let refused = Body::Refused(Refused { code: -112, msg_id: 9, ..Default::default() });
    let duplicate = Body::Duplicate(Duplicate { msg_id: 8, resent_msg_id: 9, seq: 4, ..Default::default() });
    world.stored(vec![
        stored(ANNA, BERT, 0, Some(origin), refused.clone()),
        stored(ANNA, BERT, 0, Some(origin), duplicate),
    ]);
    let got = world.answer(EDGE_1);
    assert_eq!(got.iter().map(|d| d.slot).collect::<Vec<_>>(), [1, 1]);
    assert!(matches!(&got[0].what, Some(What::Refused(r)) if r.code == -112));
    assert!(matches!(&got[1].what, Some(What::Duplicate(d)) if d.seq == 4));

    // Its slot was recycled: nobody is told, and the log goes on.
    let gone = Address { generation: 7, ..origin };
    let entry = world.stored(vec![stored(ANNA, BERT, 0, Some(gone), refused)]);
    assert!(world.calls.is_empty());
    assert_eq!(world.acked().last(), Some(&entry));
}

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
fn the_end_of_a_lease_releases_what_its_edge_owes() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.connect(BERT, Device::Ios, EDGE_2, 2);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    assert_eq!(world.fanout.waiting_for().count(), 2);
    world.answer(EDGE_2);
    world.input(Input::LeaseEnded(EDGE_1));
    assert_eq!(world.acked(), [first]);

    // The dead edge's late answer means nothing.
    world.answer(EDGE_1);
    world.routes.remove(&BERT);
    let second = world.stored(vec![message(ANNA, BERT, 2, None)]);
    assert_eq!(world.acked(), [first, second]);
}

#[test]
fn nothing_goes_to_an_incarnation_after_its_end() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    world.input(Input::LeaseEnded(EDGE_1));
    world.calls.clear();
    // Looked up before the end: pushed now, it would follow a gap, and its ack would move the cursor over it.
    let second = world.stored(vec![message(ANNA, BERT, 2, None)]);
    assert!(world.calls.is_empty());
    assert_eq!(world.acked(), [first, second]);
}

#[test]
fn an_edge_that_does_not_answer_in_time_has_its_epoch_revoked() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.connect(CLEO, Device::Web, EDGE_2, 2);
    let first = world.stored(vec![message(ANNA, BERT, 1, None)]);
    world.pass(limits::DELIVER_ANSWER_MS_MAX - 1);
    let second = world.stored(vec![message(ANNA, CLEO, 1, None)]);
    assert!(world.revoked.is_empty());
    world.pass(1);
    assert_eq!(world.revoked, [EDGE_1], "edge 2 still has time");
    assert!(world.acked().is_empty(), "until its epoch is over, nobody syncs its sessions");
    world.pass(limits::DELIVER_ANSWER_MS_MAX / 2);
    assert_eq!(world.revoked, [EDGE_1], "asked for once");
    world.input(Input::LeaseEnded(EDGE_1));
    assert_eq!(world.acked(), [first]);
    world.answer(EDGE_2);
    assert_eq!(world.acked(), [first, second]);
    assert_eq!(world.fanout.tick_at_ms(), None);
}

#[test]
fn refusing_over_and_over_ends_in_revocation() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    let entry = world.stored(vec![message(ANNA, BERT, 1, None)]);
    let mut tries = 0;
    while world.revoked.is_empty() {
        tries += world.calls.len();
        world.refuse(EDGE_1);
        world.pass(limits::DELIVER_RETRY_MS);
        assert!(tries < 1_000, "it must end");
    }
    assert!(tries > 2);
    world.input(Input::LeaseEnded(EDGE_1));
    assert_eq!(world.acked(), [entry]);
}

#[test]
fn an_answered_seq_is_not_pushed_again_and_an_unanswered_one_is() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.stored(vec![message(ANNA, BERT, 1, None)]);
    // Not answered yet: a replay is pushed as well.
    world.stored(vec![again(message(ANNA, BERT, 1, None))]);
    assert_eq!(seqs(&world.answer(EDGE_1)), [1, 1]);
    let entry = world.stored(vec![again(message(ANNA, BERT, 1, None)), message(ANNA, BERT, 2, None)]);
    assert_eq!(seqs(&world.answer(EDGE_1)), [2], "1 was answered");
    assert_eq!(world.acked().last(), Some(&entry));

    // The edge dies with 3 unanswered; 4 reaches its successor. A replay of 3 must come through.
    world.stored(vec![message(ANNA, BERT, 3, None)]);
    world.input(Input::LeaseEnded(EDGE_1));
    world.routes.clear();
    world.calls.clear();
    world.connect(BERT, Device::Web, EDGE_2, 1);
    world.stored(vec![message(ANNA, BERT, 4, None)]);
    world.answer(EDGE_2);
    world.stored(vec![again(message(ANNA, BERT, 3, None)), again(message(ANNA, BERT, 4, None))]);
    assert_eq!(seqs(&world.answer(EDGE_2)), [3]);
}

#[test]
fn offline_is_told_once_and_only_at_the_first_publication() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    let is_offline = |got: &[Delivery]| match &got[0].what {
        Some(What::Own(own)) => own.is_offline,
        other => panic!("{other:?}"),
    };
    world.stored(vec![message(ANNA, BERT, 1, Some(origin))]);
    assert!(is_offline(&world.answer(EDGE_1)));
    let conversation = ConversationId::of_users(ANNA, BERT);
    let told = Offline { user: BERT, from: ANNA, conversation, seq: 1, msg_id: 1_001 };
    assert_eq!(world.offline, [told]);

    // A replay that a new router has not seen before.
    world.fanout = Fanout::new();
    world.stored(vec![again(message(ANNA, BERT, 1, Some(origin)))]);
    assert!(!is_offline(&world.answer(EDGE_1)));
    assert_eq!(world.offline, [told]);

    // One device is enough; and a recall tells nobody anything.
    world.stored(vec![stored(ANNA, BERT, 2, Some(origin), Body::Recalled(Recalled::default()))]);
    assert!(!is_offline(&world.answer(EDGE_1)));
    world.connect(BERT, Device::Bot, EDGE_2, 9);
    world.stored(vec![message(ANNA, BERT, 3, Some(origin))]);
    assert!(!is_offline(&world.answer(EDGE_1)));
    assert_eq!(world.offline, [told]);
}

#[test]
fn receipts_become_statuses_on_every_device_of_the_sender() {
    let mut world = World::new();
    world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(ANNA, Device::Ios, EDGE_2, 2);
    world.connect(BERT, Device::Web, EDGE_1, 3);
    let status = |seq| Status { msg_id: 1_000 + seq, seq, status: 3, client_msg_id: vec![1; 16].into() };
    let receipt = |user: UserId, statuses| Receipt {
        conversation: Some(ConversationId::of_users(ANNA, BERT).into()),
        user: user.0,
        device: 4,
        delivered_seq: 2,
        read_seq: 0,
        statuses,
    };
    let entry = world.receipts(vec![receipt(BERT, vec![status(1), status(2)])]);
    assert_eq!(world.look_ups, [[ANNA]], "Bert's routes are of no interest");
    for (edge, slot) in [(EDGE_1, 1), (EDGE_2, 2)] {
        let got = world.answer(edge);
        let told: Vec<_> = got
            .iter()
            .map(|d| match &d.what {
                Some(What::Status(update)) => (d.slot, update.status.clone().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(slot, status(1)), (slot, status(2))]);
    }
    assert_eq!(world.acks, [(Topic::Receipts, 0, entry)]);

    // Cursors alone are nobody's business here.
    let entry = world.receipts(vec![receipt(BERT, Vec::new())]);
    assert_eq!(world.look_ups.len(), 1);
    assert_eq!(world.acked().last(), Some(&entry));
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
