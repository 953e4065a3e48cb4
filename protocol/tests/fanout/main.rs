//! What the fan-out machine owes to persist's log, to the edges and to the people at both ends.

mod edges;
mod pushes;
mod rounds;

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
