//! The fan-out under random faults: edges that fail, die, come back, answer late and in any order; logs that repeat
//! themselves; look-ups that overtake each other. Whatever happens, the log keeps its order and nothing leaves it before
//! somebody answered for it.

use bytes::Bytes;
use petrel_protocol::calls::{DeliverBatch, DeliverReply, Delivery, delivery::What};
use petrel_protocol::events::{Message, Stored, StoredPack, stored::Body};
use petrel_protocol::fanout::{Fanout, Incarnation, Input, Output, Record, Route};
use petrel_protocol::ids::{Address, ConversationId, Device, Position, UserId};
use petrel_protocol::map::{Map, Set};
use petrel_protocol::time::Now;
use petrel_protocol::topics::Topic;
use prost::Message as _;

const EDGES: u64 = 3;
const USERS: u64 = 8;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }
}

/// One message for one user's session: the user, the conversation, the seq.
type Shown = (u64, ConversationId, u64);

fn shown(delivery: &Delivery) -> Shown {
    let Some(What::Push(push)) = &delivery.what else { panic!("pushes alone: {delivery:?}") };
    let conversation = ConversationId::try_from(push.conversation.as_ref().unwrap()).unwrap();
    (delivery.user, conversation, push.seq)
}

struct Swarm {
    random: Random,
    fanout: Fanout,
    now: Now,
    epochs: [u64; EDGES as usize],
    /// Highest seq of each conversation that the log has.
    heads: Map<ConversationId, u64>,
    /// Records so far.
    log: usize,
    /// The last record that has each message.
    last: Map<(ConversationId, u64), usize>,
    /// What edges were given, and have not answered for.
    owed: Set<(Shown, Incarnation)>,
    held_look_ups: Vec<(u64, Vec<UserId>)>,
    /// Asked for, and not done yet.
    revoking: Vec<Incarnation>,
    calls: Vec<(u64, DeliverBatch)>,
    over: Set<Incarnation>,
    /// What each incarnation was given first for each user and conversation, in order.
    first_given: Map<(Incarnation, u64, ConversationId), Vec<u64>>,
    acked: usize,
}

impl Swarm {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            fanout: Fanout::new(),
            now: Now { mono_ms: 1, wall_ms: 1 },
            epochs: [1; EDGES as usize],
            heads: Map::default(),
            log: 0,
            last: Map::default(),
            owed: Set::default(),
            held_look_ups: Vec::new(),
            revoking: Vec::new(),
            calls: Vec::new(),
            over: Set::default(),
            first_given: Map::default(),
            acked: 0,
        }
    }

    fn incarnation(&self, edge: u64) -> Incarnation {
        Incarnation { edge: edge as u16, epoch: self.epochs[edge as usize] }
    }

    /// A user lives on the edge of the same remainder; user 1 never connects.
    fn home(&self, user: u64) -> Option<Incarnation> {
        (user != 1).then(|| self.incarnation(user % EDGES))
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.fanout.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::LookUp { round, users } => self.held_look_ups.push((round, users)),
                Output::Deliver { ticket, batch } => self.given(ticket, batch),
                Output::Ack { position, .. } => self.check_ack(position.entry as usize),
                Output::Revoke(incarnation) => self.revoking.push(incarnation),
                Output::DeadLetter { fault, .. } => panic!("nothing here is {fault:?}"),
                Output::Offline(_) | Output::Forwarded { .. } => {}
            }
        }
    }

    fn given(&mut self, ticket: u64, batch: DeliverBatch) {
        let incarnation = Incarnation { edge: batch.edge as u16, epoch: batch.epoch };
        for delivery in &batch.deliveries {
            let (user, conversation, seq) = shown(delivery);
            let seqs = self.first_given.entry((incarnation, user, conversation)).or_default();
            if !seqs.contains(&seq) {
                seqs.push(seq);
            }
            self.owed.insert((shown(delivery), incarnation));
        }
        self.calls.push((ticket, batch));
    }

    /// Nothing is acknowledged out of order, or before its edges answered or ended.
    fn check_ack(&mut self, entry: usize) {
        assert!(entry >= self.acked, "acknowledged backwards");
        for ((user, conversation, seq), incarnation) in &self.owed {
            let is_acked = self.last[&(*conversation, *seq)] <= entry;
            let is_owed = is_acked && !self.over.contains(incarnation);
            assert!(!is_owed, "{seq} of {conversation} for {user} left the log unanswered");
        }
        self.acked = entry + 1;
    }

    fn write(&mut self) {
        let mut records = Vec::new();
        for _ in 0..=self.random.next(3) {
            let mut events = Vec::new();
            for _ in 0..=self.random.next(4) {
                let from = 1 + self.random.next(USERS);
                let to = 1 + (from + self.random.next(USERS - 1)) % USERS;
                let conversation = ConversationId::of_users(UserId(from), UserId(to));
                let head = self.heads.entry(conversation).or_default();
                // Now and then persist repeats what it wrote.
                let is_again = *head > 0 && self.random.next(5) == 0;
                let seq = if is_again { *head } else { *head + 1 };
                *head = seq;
                events.push(message(from, to, seq, is_again));
                self.last.insert((conversation, seq), self.log);
            }
            let entry = self.log as u64;
            self.log += 1;
            let position = Position { entry, ..Position::default() };
            let pack = StoredPack { events }.encode_to_vec().into();
            records.push(Record { topic: Topic::Stored, partition: 0, position, pack });
        }
        self.input(Input::Records(records));
    }

    fn look_up(&mut self) {
        let index = self.random.next(self.held_look_ups.len() as u64) as usize;
        let (round, users) = self.held_look_ups.swap_remove(index);
        let mut routes = Vec::new();
        for (index, user) in users.iter().enumerate() {
            if let Some(home) = self.home(user.0) {
                let address = Address {
                    edge: home.edge,
                    shard: 0,
                    slot: user.0 as u32,
                    generation: 1,
                    epoch: home.epoch,
                };
                routes.push(Route { user: index as u32, device: Device::Web, address });
            }
        }
        self.input(Input::Routes { round, routes });
    }

    fn answer(&mut self) {
        let index = self.random.next(self.calls.len() as u64) as usize;
        let (ticket, batch) = self.calls.remove(index);
        let incarnation = Incarnation { edge: batch.edge as u16, epoch: batch.epoch };
        let is_taken = self.random.next(4) != 0 && !self.over.contains(&incarnation);
        if is_taken {
            for delivery in &batch.deliveries {
                self.owed.remove(&(shown(delivery), incarnation));
            }
        }
        self.input(Input::Answered { ticket, answer: is_taken.then(DeliverReply::default) });
    }

    fn end(&mut self, incarnation: Incarnation) {
        self.over.insert(incarnation);
        let epoch = &mut self.epochs[usize::from(incarnation.edge)];
        *epoch = (*epoch).max(incarnation.epoch + 1);
    }

    fn step(&mut self) {
        match self.random.next(16) {
            0..4 if self.fanout.has_room() => self.write(),
            4..8 if !self.held_look_ups.is_empty() => self.look_up(),
            8..14 if !self.calls.is_empty() => self.answer(),
            14 => {
                self.now.mono_ms += self.random.next(200);
                self.input(Input::Tick);
            }
            15 if !self.revoking.is_empty() => {
                let incarnation = self.revoking.remove(0);
                self.end(incarnation);
                self.input(Input::LeaseEnded(incarnation));
            }
            15 if self.random.next(10) == 0 => {
                let edge = self.random.next(EDGES);
                let incarnation = self.incarnation(edge);
                self.end(incarnation);
                self.input(Input::LeaseEnded(incarnation));
            }
            _ => {}
        }
    }

    /// Everything that is under way comes to its end, and the whole log is acknowledged.
    fn finish(&mut self) {
        let mut steps = 0;
        while !self.fanout.is_idle() {
            steps += 1;
            assert!(steps < 100_000, "it must come to its end");
            if !self.held_look_ups.is_empty() {
                self.look_up();
            } else if !self.calls.is_empty() {
                self.answer();
            } else {
                self.now.mono_ms += 100;
                self.input(Input::Tick);
            }
        }
        assert_eq!(self.acked, self.log);
        assert_eq!(self.fanout.tick_at_ms(), None);
        assert_eq!(self.fanout.waiting_for().count(), 0);
        for ((_, user, conversation), seqs) in &self.first_given {
            assert!(seqs.is_sorted(), "{user} was first given {seqs:?} of {conversation}");
        }
    }
}

fn message(from: u64, to: u64, seq: u64, again: bool) -> Stored {
    let body = Message { client_msg_id: Bytes::new(), msg_id: seq, format: 1, ..Default::default() };
    Stored {
        conversation: Some(ConversationId::of_users(UserId(from), UserId(to)).into()),
        seq,
        edge_time_ms: 1,
        user: from,
        device: Device::Bot as u32,
        origin: None,
        again,
        body: Some(Body::Message(body)),
    }
}

#[test]
fn order_and_acknowledgement_hold_under_any_faults() {
    for seed in 0..100 {
        let mut swarm = Swarm::new(seed);
        for _ in 0..1_500 {
            swarm.step();
        }
        swarm.finish();
        assert!(swarm.log > 50, "seed {seed} did next to nothing");
    }
}
