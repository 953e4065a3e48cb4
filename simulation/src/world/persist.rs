//! persist: readers of `uplink`, each a real sequencer over a simulated store, and the reader of receipts.
//!
//! A reader that was replaced may run on for a while, and what a dead one had asked of the store may still come to pass.

mod effects;

use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::events::{ReceiptPack, UplinkPack, stored};
use petrel_protocol::sequencer::{Batch, Config, Input, Loaded, Loads, Output, Record, Sequencer};
use petrel_protocol::topics::{Subscription, Topic};
use prost::Message as _;

use super::coverage::Met;
use super::{About, Event, Mutation, World};

pub(crate) struct Persist {
    /// All readers that ever were; the current one of each partition and those that it replaced may run.
    pub(crate) readers: Vec<Reader>,
    pub(crate) current: Vec<usize>,
    /// After a loss of power, up to where each partition is read again before calls are answered: the store may be
    /// behind what `stored` has kept.
    answers_from: Vec<u64>,
    receipts_next: Vec<u64>,
    is_receipts_due: Vec<bool>,
}

#[expect(clippy::struct_excessive_bools, reason = "each says another thing about a process")]
pub(crate) struct Reader {
    pub(crate) partition: u16,
    pub(crate) is_up: bool,
    /// It ended with the power: what it had asked for never comes to pass.
    is_powerless: bool,
    /// It is of the next version.
    is_next: bool,
    machine: Sequencer,
    pub(crate) next: u64,
    /// That record does not follow on the one that was read before it.
    is_resumed: bool,
    /// It is given no record from here on, since another reader has the partition.
    pub(crate) given_to: u64,
    is_due: bool,
}

/// What a reader asked of the store or the bus.
#[derive(Debug)]
pub(crate) enum StoreStep {
    /// Read, either when it was asked for or when the answer leaves.
    Load(Loads, Option<Loaded>),
    Rows(Arc<Batch>),
    Heads(Arc<Batch>),
    /// Rows and heads at once.
    All(Arc<Batch>),
    Publish(Arc<Batch>),
    Published,
}

impl Persist {
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            readers: Vec::new(),
            current: vec![usize::MAX; usize::from(partitions)],
            answers_from: vec![0; usize::from(partitions)],
            receipts_next: vec![0; usize::from(partitions)],
            is_receipts_due: vec![false; usize::from(partitions)],
        }
    }

    /// Whether somebody is there to answer calls.
    pub(crate) fn answers(&self) -> bool {
        let is_caught_up = |(reader, from): (&usize, &u64)| {
            let Some(reader) = self.readers.get(*reader) else { return false };
            *from == 0 || (reader.is_up && reader.next >= *from && reader.machine.is_idle())
        };
        self.readers.iter().any(|reader| reader.is_up)
            && self.current.iter().zip(&self.answers_from).all(is_caught_up)
    }

    /// A partition whose reader has something under way, where there is one.
    pub(crate) fn busy_partition(&self) -> Option<u16> {
        let is_busy = |reader: &usize| {
            self.readers.get(*reader).is_some_and(|reader| reader.is_up && !reader.machine.is_idle())
        };
        self.current.iter().position(is_busy).map(|partition| partition as u16)
    }

    pub(crate) fn is_current_up(&self, partition: u16) -> bool {
        self.readers.get(self.current[usize::from(partition)]).is_some_and(|reader| reader.is_up)
    }

    /// Whether everything in the log was read and had its effect.
    pub(crate) fn is_idle(&self, log: &super::Log) -> bool {
        self.current.iter().all(|reader| {
            let Some(reader) = self.readers.get(*reader) else { return false };
            reader.is_up
                && reader.machine.is_idle()
                && reader.next == log.len(Topic::Uplink, reader.partition)
        })
    }
}

impl World {
    /// A record arrives in the log, and whoever reads it is woken.
    pub(crate) fn append_record(&mut self, topic: Topic, partition: u16, pack: Bytes) {
        self.activity += 1;
        self.log.append(topic, partition, pack);
        match topic {
            Topic::Uplink => {
                for reader in 0..self.persist.readers.len() {
                    let it = &self.persist.readers[reader];
                    if it.is_up && it.partition == partition {
                        self.wake_persist(reader);
                    }
                }
            }
            Topic::Stored => self.wake_routers(),
            Topic::Receipts => {
                self.wake_routers();
                let is_due = &mut self.persist.is_receipts_due[usize::from(partition)];
                if !std::mem::replace(is_due, true) {
                    let delay = self.delay(1_000);
                    self.after(delay, Event::ReceiptsRead(partition));
                }
            }
        }
    }

    fn wake_persist(&mut self, reader: usize) {
        if !std::mem::replace(&mut self.persist.readers[reader].is_due, true) {
            let delay = self.delay(100);
            self.after(delay, Event::PersistReads(reader));
        }
    }

    /// A new reader of a partition, from the first record that is not acknowledged.
    pub(crate) fn persist_begins(&mut self, partition: u16) {
        let random = &mut self.random;
        let config = Config {
            batch_events_max: 1 + random.index(20),
            heads_max: 1 + random.index(6),
            keys_max: 4 + random.index(100),
            ..Config::new(partition, self.size.partitions, random.next())
        };
        let is_first = self.persist.current[usize::from(partition)] == usize::MAX;
        let next = if self.is_mutated(Mutation::SubscribeAtEnd) && !is_first {
            self.log.len(Topic::Uplink, partition)
        } else {
            self.log.unacked(Topic::Uplink, Subscription::Persist, partition)
        };
        let is_next = self.strikes(self.faults.versions);
        let reader = self.persist.readers.len();
        self.persist.readers.push(Reader {
            partition,
            is_up: true,
            is_powerless: false,
            is_next,
            machine: Sequencer::new(config),
            next,
            is_resumed: true,
            given_to: u64::MAX,
            is_due: false,
        });
        self.persist.current[usize::from(partition)] = reader;
        self.note(About::all(), || format!("persist {reader} reads partition {partition} from {next}"));
        self.wake_persist(reader);
    }

    /// A reader is gone. The store may already have taken some of what it was writing.
    pub(crate) fn persist_ends(&mut self, reader: usize) {
        if std::mem::replace(&mut self.persist.readers[reader].is_up, false) {
            self.note(About::all(), || format!("persist {reader} ends"));
        }
    }

    /// The partition comes back to a reader that it was taken from, which was told of neither.
    pub(crate) fn persist_returns(&mut self, reader: usize, from: usize) {
        let partition = self.persist.readers[reader].partition;
        let is_there = self.persist.readers[reader].is_up && self.persist.is_current_up(partition);
        if !is_there || self.persist.current[usize::from(partition)] != from {
            return self.persist_ends(reader);
        }
        let next = self.log.unacked(Topic::Uplink, Subscription::Persist, partition);
        let it = &mut self.persist.readers[reader];
        (it.next, it.is_resumed, it.given_to) = (next, true, u64::MAX);
        self.met(Met::PersistReturned);
        self.persist.current[usize::from(partition)] = reader;
        self.note(About::all(), || format!("persist {reader} reads partition {partition} again from {next}"));
        let delay = self.random.between(1_000, 3_000_000);
        self.after(delay, Event::PersistEnds(from));
        self.wake_persist(reader);
    }

    pub(crate) fn persist_reads(&mut self, reader: usize) {
        let most = 1 + self.random.index(5);
        let is_ignored = self.is_mutated(Mutation::KeepStaleHeads);
        let it = &mut self.persist.readers[reader];
        it.is_due = false;
        if !it.is_up || !it.machine.has_room() {
            return;
        }
        let mut records = Vec::new();
        let end = self.log.len(Topic::Uplink, it.partition).min(it.given_to);
        while records.len() < most && it.next < end {
            let (position, pack) = self.log.record(Topic::Uplink, it.partition, it.next);
            let is_resumed = std::mem::take(&mut it.is_resumed) && !is_ignored;
            records.push(Record { position, pack, is_resumed });
            it.next += 1;
        }
        let Some(last) = records.last().map(|r| r.position) else { return };
        let partition = it.partition;
        let (next, first) = (it.next, records[0].position.entry);
        self.note(About::default(), || {
            format!("persist {reader} is given entries {first} to {} (then {next})", last.entry)
        });
        if self.is_mutated(Mutation::AckUplinkBeforeEffect) {
            self.log.ack(Topic::Uplink, Subscription::Persist, partition, last);
        }
        if self.is_mutated(Mutation::PersistClock) {
            self.stamp_again(&mut records);
        }
        self.sequencer(reader, Input::Records(records));
        if self.has_more(reader) {
            self.wake_persist(reader);
        }
    }

    fn has_more(&self, reader: usize) -> bool {
        let it = &self.persist.readers[reader];
        it.next < self.log.len(Topic::Uplink, it.partition).min(it.given_to)
    }

    /// Gives the machine an input and begins what it wants.
    fn sequencer(&mut self, reader: usize, input: Input) {
        let now = self.now();
        let mut outputs = Vec::new();
        self.persist.readers[reader].machine.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Load(loads) => {
                    // What was read may be old when it arrives.
                    let loaded = self.random.coin().then(|| self.load(&loads));
                    self.store_later(reader, StoreStep::Load(loads, loaded));
                }
                Output::Commit(batch) => self.commit(reader, batch),
                Output::Publish(batch) => {
                    if self.is_mutated(Mutation::DeliverBeforeStored) {
                        self.store_later(reader, StoreStep::Published);
                    } else {
                        self.store_later(reader, StoreStep::Publish(batch));
                    }
                }
                Output::Ack(position) => {
                    let partition = self.persist.readers[reader].partition;
                    // The acknowledgements of a reader that was replaced count no more.
                    if self.persist.current[usize::from(partition)] == reader {
                        self.ack_uplink(partition, position);
                    }
                }
            }
        }
        if self.persist.readers[reader].machine.has_room() && self.has_more(reader) {
            self.wake_persist(reader);
        }
    }

    fn load(&self, loads: &Loads) -> Loaded {
        let mut loaded = self.store.load(loads);
        if self.is_mutated(Mutation::ForgetKeys) {
            loaded.keys.iter_mut().for_each(|key| *key = None);
        }
        if self.is_mutated(Mutation::KeyIsMessage) {
            let before = petrel_protocol::ids::Position::default();
            loaded.keys.iter_mut().flatten().for_each(|key| key.position = before);
        }
        loaded
    }

    /// The reader of receipts moves cursors.
    pub(crate) fn receipts_read(&mut self, partition: u16) {
        let p = usize::from(partition);
        self.persist.is_receipts_due[p] = false;
        while self.persist.receipts_next[p] < self.log.len(Topic::Receipts, partition) {
            let (position, pack) = self.log.record(Topic::Receipts, partition, self.persist.receipts_next[p]);
            self.persist.receipts_next[p] += 1;
            for receipt in ReceiptPack::decode(pack).expect("written by an edge").events {
                self.store.receipt(&receipt);
            }
            self.log.ack(Topic::Receipts, Subscription::Persist, partition, position);
        }
    }

    /// Records that are not acknowledged come again, to the reader that has read them.
    pub(crate) fn redeliver_uplink(&mut self, partition: u16) {
        let reader = self.persist.current[usize::from(partition)];
        let unacked = self.log.unacked(Topic::Uplink, Subscription::Persist, partition);
        let it = &mut self.persist.readers[reader];
        if it.next > unacked {
            let is_under_way = !it.machine.is_idle();
            let last = it.next - 1;
            it.next = unacked;
            self.met(if is_under_way { Met::UplinkAgainUnderWay } else { Met::UplinkAgain });
            if self.is_mutated(Mutation::AckRedelivered) {
                let (position, _) = self.log.record(Topic::Uplink, partition, last);
                self.log.ack(Topic::Uplink, Subscription::Persist, partition, position);
            }
        }
        self.wake_persist(reader);
    }

    /// Receipts of a while ago are read again.
    pub(crate) fn redeliver_receipts(&mut self, partition: u16) {
        let back = self.random.below(20);
        let next = &mut self.persist.receipts_next[usize::from(partition)];
        if *next == 0 {
            return;
        }
        *next = next.saturating_sub(back);
        self.met(Met::ReceiptsAgain);
        self.after(0, Event::ReceiptsRead(partition));
    }

    /// All readers end at once, and nothing of theirs is still to come.
    pub(crate) fn persist_loses_power(&mut self) {
        for partition in 0..self.size.partitions {
            self.kill_persist(partition);
            let hasty = self.is_mutated(Mutation::AnswerBeforeRecovery);
            let end = self.log.len(Topic::Uplink, partition);
            self.persist.answers_from[usize::from(partition)] = if hasty { 0 } else { end };
            let next = self.log.unacked(Topic::Receipts, Subscription::Persist, partition);
            self.persist.receipts_next[usize::from(partition)] = next;
        }
        for reader in 0..self.persist.readers.len() {
            self.persist_ends(reader);
            self.persist.readers[reader].is_powerless = true;
        }
    }

    /// The stamps of the edge are replaced by this reader's own clock.
    fn stamp_again(&self, records: &mut [Record]) {
        for record in records {
            let mut pack = UplinkPack::decode(record.pack.clone()).expect("written by an edge");
            let now_ms = self.now().wall_ms;
            pack.events.iter_mut().for_each(|event| event.edge_time_ms = now_ms);
            record.pack = pack.encode_to_vec().into();
        }
    }

    fn note_batch(&mut self, reader: usize, batch: &Batch) {
        let is_current = self.persist.current[usize::from(self.persist.readers[reader].partition)] == reader;
        if !is_current {
            self.met(Met::ZombieWrote);
        }
        if batch.counts.replays > 0 {
            self.met(Met::Replay);
        }
        for event in &batch.stored {
            match &event.body {
                Some(stored::Body::Duplicate(d)) if d.msg_id != d.resent_msg_id => self.met(Met::Alias),
                Some(stored::Body::Duplicate(_)) => self.met(Met::Duplicate),
                Some(stored::Body::Refused(r)) if r.client_msg_id.is_empty() => self.met(Met::RecallRefused),
                Some(stored::Body::Refused(_)) => self.met(Met::RefusedByLog),
                Some(stored::Body::Recalled(_)) => self.met(Met::Recalled),
                Some(stored::Body::Message(_)) | None => {}
            }
        }
    }
}
