//! A log, a store whose cells keep the highest write timestamp, and readers that can stop between any two effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::events::{self, Stored, Uplink, UplinkPack, stored, uplink};
use petrel_protocol::ids::{ConversationId, Position, UserId};
use petrel_protocol::sequencer::{
    Batch, Config, DeadLetter, Head, Input, KeyId, KeyRow, Loaded, Loads, Member, MessageRow, Output, Recall,
    Record, RowBody, Sequencer, Target,
};
use petrel_protocol::time::Now;
use prost::Message as _;

pub(crate) const T0: u64 = 1_700_000_000_000;

/// A small seeded generator (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(crate) fn pair(one: u64, other: u64) -> ConversationId {
    ConversationId::of_users(UserId(one), UserId(other))
}

/// A send of `user` to `to`; `client` 0: without a client_msg_id.
pub(crate) fn send(user: u64, to: u64, client: u8, msg_id: u64, at_ms: u64) -> Uplink {
    let client_msg_id = if client == 0 { Bytes::new() } else { Bytes::from(vec![client; 16]) };
    let content = format!("{user} to {to}: {client}/{msg_id}");
    let body = events::Send { client_msg_id, msg_id, format: 1, content, time: at_ms, look_up: false };
    event(user, to, at_ms, uplink::Body::Send(body))
}

pub(crate) fn recall(user: u64, to: u64, msg_id: u64, at_ms: u64) -> Uplink {
    event(user, to, at_ms, uplink::Body::Recall(events::Recall { msg_id }))
}

fn event(user: u64, to: u64, at_ms: u64, body: uplink::Body) -> Uplink {
    Uplink {
        conversation: Some(pair(user, to).into()),
        edge_time_ms: T0 + at_ms,
        user,
        device: 1,
        origin: None,
        body: Some(body),
    }
}

/// The same event as a client sends it again.
pub(crate) fn resent(mut event: Uplink, msg_id: u64, at_ms: u64) -> Uplink {
    event.edge_time_ms = T0 + at_ms;
    let Some(uplink::Body::Send(send)) = &mut event.body else { panic!("only sends are sent again") };
    send.look_up = true;
    send.msg_id = msg_id;
    event
}

/// The log of one partition.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Record>,
}

impl Log {
    /// One pack. Each event's origin names its place in the log.
    pub(crate) fn append(&mut self, mut events: Vec<Uplink>) {
        let entry = self.records.len() as u64;
        for (index, event) in events.iter_mut().enumerate() {
            let slot = (entry * 1_000) as u32 + index as u32;
            event.origin = Some(events::Address { slot, ..Default::default() });
        }
        self.append_raw(UplinkPack { events }.encode_to_vec().into());
    }

    pub(crate) fn append_raw(&mut self, pack: Bytes) {
        let entry = self.records.len() as u64;
        let position = Position { generation: 1, ledger: 0, entry, index: 0 };
        self.records.push(Record { position, pack, is_resumed: false });
    }

    pub(crate) fn one_each(events: impl IntoIterator<Item = Uplink>) -> Self {
        let mut log = Self::default();
        for event in events {
            log.append(vec![event]);
        }
        log
    }
}

/// Cells with write timestamps: the highest one stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) messages: BTreeMap<(ConversationId, u64), MessageRow>,
    pub(crate) recalls: BTreeMap<(ConversationId, u64), Recall>,
    pub(crate) keys: BTreeMap<KeyId, KeyRow>,
    pub(crate) members: BTreeSet<Member>,
    pub(crate) heads: BTreeMap<ConversationId, Head>,
    pub(crate) dead_letters: BTreeMap<Position, DeadLetter>,
}

/// One write to one cell.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Message(MessageRow),
    Recall(Recall),
    Key(KeyId, KeyRow),
    Member(Member),
    DeadLetter(DeadLetter),
    Head(ConversationId, Head),
}

fn put<K: Ord, V: PartialEq + std::fmt::Debug>(
    cells: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    applied: fn(&V) -> u64,
) {
    match cells.entry(key) {
        std::collections::btree_map::Entry::Vacant(vacant) => {
            vacant.insert(value);
        }
        std::collections::btree_map::Entry::Occupied(mut occupied) => {
            let (old, new) = (applied(occupied.get()), applied(&value));
            if old == new {
                assert_eq!(*occupied.get(), value, "two readers disagree about one event");
            }
            if new > old {
                occupied.insert(value);
            }
        }
    }
}

impl Store {
    pub(crate) fn write(&mut self, write: Write) {
        match write {
            Write::Message(row) => {
                put(&mut self.messages, (row.conversation, row.seq), row, |row| row.applied);
            }
            Write::Recall(row) => {
                put(&mut self.recalls, (row.conversation, row.target_seq), row, |row| row.applied);
            }
            Write::Key(id, row) => put(&mut self.keys, id, row, |row| row.applied),
            Write::Member(member) => {
                self.members.insert(member);
            }
            Write::DeadLetter(dead) => drop(self.dead_letters.insert(dead.position, dead)),
            Write::Head(conversation, head) => put(&mut self.heads, conversation, head, |head| head.applied),
        }
    }

    pub(crate) fn load(&self, loads: &Loads) -> Loaded {
        Loaded {
            heads: loads.heads.iter().map(|c| self.heads.get(c).copied()).collect(),
            keys: loads.keys.iter().map(|key| self.keys.get(key).copied()).collect(),
            targets: loads.targets.iter().map(|id| self.target(*id)).collect(),
        }
    }

    fn target(&self, id: (ConversationId, u64)) -> Option<Target> {
        let row = self.messages.get(&id)?;
        let RowBody::Message(message) = &row.body else { panic!("a key leads to a recall: {row:?}") };
        Some(Target {
            sender: row.sender,
            edge_time_ms: row.edge_time_ms,
            msg_id: message.msg_id,
            client_msg_id: message.client_msg_id.clone(),
            recalled: self.recalls.get(&id).map(|recall| (recall.seq, recall.position)),
        })
    }
}

/// The writes of a batch in the order that the machine asks for.
pub(crate) fn writes(batch: &Batch) -> Vec<Write> {
    let messages = batch.messages.iter().cloned().map(Write::Message);
    let recalls = batch.recalls.iter().copied().map(Write::Recall);
    let keys = batch.keys.iter().map(|(id, row)| Write::Key(*id, *row));
    let members = batch.members.iter().copied().map(Write::Member);
    let dead = batch.dead_letters.iter().cloned().map(Write::DeadLetter);
    let heads = batch.heads.iter().map(|(id, head)| Write::Head(*id, *head));
    messages.chain(recalls).chain(keys).chain(members).chain(dead).chain(heads).collect()
}

/// An effect that a reader has begun and not finished.
pub(crate) enum Effect {
    Load(Loads),
    Loaded(Loaded),
    Writes(VecDeque<Write>),
    Publish(Arc<Batch>),
    Receipt,
    Ack(Position),
}

/// A process that reads the log.
pub(crate) struct Reader {
    pub(crate) machine: Sequencer,
    pub(crate) effects: VecDeque<Effect>,
    /// The next record to read.
    pub(crate) next: usize,
    /// That record does not follow on the one before it.
    is_resumed: bool,
}

pub(crate) fn config() -> Config {
    Config::new(0, 1, 7)
}

impl Reader {
    pub(crate) fn new(config: Config, next: usize) -> Self {
        Self { machine: Sequencer::new(config), effects: VecDeque::new(), next, is_resumed: true }
    }

    /// The partition was with another reader, and comes back at this record.
    pub(crate) fn resume(&mut self, next: usize) {
        self.next = next;
        self.is_resumed = true;
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(Now::default(), input, &mut out);
        for output in out {
            self.effects.push_back(match output {
                Output::Load(loads) => Effect::Load(loads),
                Output::Commit(batch) => Effect::Writes(writes(&batch).into()),
                Output::Publish(batch) => Effect::Publish(batch),
                Output::Ack(position) => Effect::Ack(position),
            });
        }
    }

    /// Reads up to `count` records as one input.
    pub(crate) fn read(&mut self, log: &Log, count: usize) {
        let end = (self.next + count).min(log.records.len());
        let mut records = log.records[self.next..end].to_vec();
        self.next = end;
        if let Some(first) = records.first_mut() {
            first.is_resumed = std::mem::take(&mut self.is_resumed);
        }
        self.handle(Input::Records(records));
    }

    pub(crate) fn is_done(&self, log: &Log) -> bool {
        self.next == log.records.len() && self.effects.is_empty() && self.machine.is_idle()
    }
}

/// The store, what was published, and what was acknowledged.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) stored: Vec<Stored>,
    pub(crate) acked: Option<Position>,
}

impl World {
    /// Carries out one effect of `reader`, the `index`th of those under way.
    pub(crate) fn step(&mut self, reader: &mut Reader, index: usize) {
        match reader.effects.remove(index).expect("an effect is under way") {
            Effect::Load(loads) => {
                // What was read may be old when it arrives.
                reader.effects.push_back(Effect::Loaded(self.store.load(&loads)));
            }
            Effect::Loaded(loaded) => reader.handle(Input::Loaded(loaded)),
            Effect::Writes(mut writes) => match writes.pop_front() {
                Some(write) => {
                    self.store.write(write);
                    reader.effects.push_front(Effect::Writes(writes));
                }
                None => reader.handle(Input::Committed),
            },
            Effect::Publish(batch) => {
                self.stored.extend(batch.stored.iter().cloned());
                reader.effects.push_back(Effect::Receipt);
            }
            Effect::Receipt => reader.handle(Input::Published),
            Effect::Ack(position) => self.acked = self.acked.max(Some(position)),
        }
    }

    /// Reads to the end of the log, `count` records at a time.
    pub(crate) fn run(&mut self, reader: &mut Reader, log: &Log, count: usize) {
        while !reader.is_done(log) {
            if reader.effects.is_empty() {
                reader.read(log, count);
            } else {
                self.step(reader, 0);
            }
        }
    }

    /// A fresh reader from the first record that is not acknowledged.
    pub(crate) fn restart(&self, config: Config) -> Reader {
        Reader::new(config, self.unacked())
    }

    /// The first record that is not acknowledged.
    pub(crate) fn unacked(&self) -> usize {
        self.acked.map_or(0, |position| position.entry as usize + 1)
    }

    pub(crate) fn of(log: &Log) -> Self {
        let mut world = Self::default();
        world.run(&mut Reader::new(config(), 0), log, 1);
        world
    }

    /// What was published for the event at this place, in order.
    pub(crate) fn answers(&self, entry: u32, index: u32) -> Vec<&Stored> {
        let slot = entry * 1_000 + index;
        self.stored.iter().filter(|stored| stored.origin.as_ref().is_some_and(|o| o.slot == slot)).collect()
    }

    /// The only answer to the only event of a record.
    pub(crate) fn answer(&self, entry: u32) -> &Stored {
        let answers = self.answers(entry, 0);
        assert_eq!(answers.len(), 1, "one answer: {answers:?}");
        answers[0]
    }
}

pub(crate) fn code_of(stored: &Stored) -> i32 {
    match stored.body.as_ref() {
        Some(stored::Body::Refused(refused)) => refused.code,
        body => panic!("a refusal was expected: {body:?}"),
    }
}

pub(crate) fn duplicate_of(stored: &Stored) -> (u64, u64, u64) {
    match stored.body.as_ref() {
        Some(stored::Body::Duplicate(d)) => (d.msg_id, d.resent_msg_id, d.seq),
        body => panic!("a duplicate was expected: {body:?}"),
    }
}
