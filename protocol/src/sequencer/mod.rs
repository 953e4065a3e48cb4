//! One partition of `uplink`, as persist decides about it: which event gets which seq, what is a duplicate, what is
//! refused.
//!
//! The log is the sequencer: what is written is a function of the log's prefix alone, so that a replay, or a second
//! reader that has not noticed yet that it was replaced, writes the same rows. Batches, caches and what is remembered
//! only decide how much has to be looked up.
//!
//! The machine does not write: it says what to load, what to write and in which order, what to publish, and when a
//! record is done. An effect that fails is retried by whoever carries it out; the machine only hears of success.

mod assembly;
mod decide;
mod memory;
mod pack;
mod pending;
mod rows;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

pub use rows::{
    Batch, Counts, DeadLetter, Fault, Head, Key, KeyId, KeyRow, Member, MessageRow, Outcome, Recall, RowBody,
    Target,
};

use crate::ids::{ConversationId, Position};
use crate::limits;
use crate::time::Now;
use assembly::{Assembly, Step};
use memory::{Heads, Keys};
use pack::Event;
use pending::Pending;

/// What can happen to a sequencer.
#[derive(Debug)]
pub enum Input {
    /// Records of the partition, in the log's order. May repeat earlier ones.
    Records(Vec<Record>),
    /// The answer to [`Output::Load`].
    Loaded(Loaded),
    /// The batch of [`Output::Commit`] is written, its heads after everything else.
    Committed,
    /// The events of [`Output::Publish`] are receipted.
    Published,
}

/// What a sequencer wants done. At most one of each kind (acks apart) is under way at a time.
#[derive(Debug)]
pub enum Output {
    /// Read these from the store and answer with [`Input::Loaded`].
    Load(Loads),
    /// Write `messages`, `recalls`, `keys`, `members` and `dead_letters`; when they are confirmed, `heads`; then answer
    /// with [`Input::Committed`]. A store that writes all of it atomically may do so at once.
    Commit(Arc<Batch>),
    /// Publish `stored` in this order, then answer with [`Input::Published`].
    Publish(Arc<Batch>),
    /// The record that starts here and all before it have had their effect.
    Ack(Position),
}

/// One record of the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// The position of its first event.
    pub position: Position,
    /// The encoded [`crate::events::UplinkPack`].
    pub pack: Bytes,
    /// It does not follow directly on the record before it: another reader may have read what is between. What this one
    /// remembers of conversations may then be stale, and is forgotten.
    pub is_resumed: bool,
}

/// What to read. Nothing is asked for twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loads {
    /// Heads of conversations.
    pub heads: Vec<ConversationId>,
    /// Keys of messages.
    pub keys: Vec<KeyId>,
    /// What is known of messages.
    pub targets: Vec<(ConversationId, u64)>,
}

/// What was read: one answer for each of [`Loads`], in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The heads; none for a conversation without events.
    pub heads: Vec<Option<Head>>,
    /// The keys; none where the store has none.
    pub keys: Vec<Option<KeyRow>>,
    /// The messages; none where the store has none.
    pub targets: Vec<Option<Target>>,
}

/// How a sequencer runs. The bounds stand in [`limits`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The partition that it reads.
    pub partition: u16,
    /// The partitions of the topic.
    pub partitions: u16,
    /// The process's secret, under which keys are remembered. Decides nothing.
    pub seed: u64,
    /// A batch takes no further record beyond this many events.
    pub batch_events_max: usize,
    /// Heads in each of two generations of the cache.
    pub heads_max: usize,
    /// Keys in each of two generations of what is remembered.
    pub keys_max: usize,
}

impl Config {
    /// With the bounds of [`limits`].
    pub fn new(partition: u16, partitions: u16, seed: u64) -> Self {
        Self {
            partition,
            partitions,
            seed,
            batch_events_max: limits::SEQUENCER_BATCH_EVENTS,
            heads_max: limits::SEQUENCER_HEADS_MAX,
            keys_max: limits::SEQUENCER_KEYS_MAX,
        }
    }
}

/// The machine over one partition.
#[derive(Debug)]
pub struct Sequencer {
    config: Config,
    heads: Heads,
    keys: Keys,
    waiting: VecDeque<ReadRecord>,
    waiting_events: usize,
    /// The last record that was read, and the last one that is done.
    read_to: Option<Position>,
    done_to: Option<Position>,
    /// What the batches under way have decided and loads may not show yet, oldest first.
    pending: VecDeque<Pending>,
    stages: Stages,
}

/// The batches under way: one in each stage at most, in the log's order.
#[derive(Debug, Default)]
struct Stages {
    loading: Option<Assembly>,
    decided: Option<Arc<Batch>>,
    committing: Option<Arc<Batch>>,
    committed: Option<Arc<Batch>>,
    publishing: Option<Arc<Batch>>,
}

#[derive(Debug)]
struct ReadRecord {
    position: Position,
    is_resumed: bool,
    events: Vec<Result<Event, DeadLetter>>,
}

impl Sequencer {
    /// A reader that starts at the first record that is not acknowledged.
    pub fn new(config: Config) -> Self {
        Self {
            heads: Heads::new(config.heads_max),
            keys: Keys::new(config.seed, config.keys_max),
            config,
            waiting: VecDeque::new(),
            waiting_events: 0,
            read_to: None,
            done_to: None,
            pending: VecDeque::new(),
            stages: Stages::default(),
        }
    }

    /// Takes one input. Outputs are appended, in the order in which they must begin.
    ///
    /// # Panics
    ///
    /// Where an input answers what was not asked for, which is the driver's fault.
    pub fn handle(&mut self, _now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Records(records) => {
                for record in records {
                    self.record(record);
                }
            }
            Input::Loaded(loaded) => {
                let mut assembly = self.stages.loading.take().expect("loaded only what was asked for");
                let step = assembly.loaded(loaded, &mut self.heads, &mut self.keys, &self.pending);
                self.step(assembly, step, out);
            }
            Input::Committed => {
                let batch = self.stages.committing.take().expect("committed only what was given");
                let pending = self.pending.iter_mut().find(|p| !p.is_committed);
                pending.expect("a batch is pending until it is committed").is_committed = true;
                self.stages.committed = Some(batch);
            }
            Input::Published => {
                let batch = self.stages.publishing.take().expect("published only what was given");
                self.done_to = self.done_to.max(Some(batch.ack));
                out.push(Output::Ack(batch.ack));
            }
        }
        self.advance(out);
    }

    /// Whether it takes more records. Beyond, they wait in the log.
    pub fn has_room(&self) -> bool {
        self.waiting_events < limits::SEQUENCER_WAITING_EVENTS_MAX
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        let Stages { loading, decided, committing, committed, publishing } = &self.stages;
        self.waiting.is_empty()
            && loading.is_none()
            && [decided, committing, committed, publishing].iter().all(|stage| stage.is_none())
    }

    /// The last seq that this reader gave in a conversation or found there, where it is in memory.
    pub fn head_seq(&self, conversation: ConversationId) -> Option<u64> {
        let state = pending::head(&self.pending, conversation).or_else(|| self.heads.get(conversation));
        state.map(|state| state.head.seq)
    }

    /// Entries that are kept between batches: heads and remembered keys.
    pub fn kept(&self) -> (usize, usize) {
        (self.heads.len(), self.keys.len())
    }

    fn record(&mut self, record: Record) {
        let position = record.position;
        let is_read = self.read_to.is_some_and(|read| position <= read);
        if is_read && self.done_to.is_none_or(|done| position > done) {
            // Delivered again while the first delivery is under way: its ack stands for both.
            return;
        }
        // What was read before is decided from this reader's own past, whatever another one has read since.
        let is_resumed = record.is_resumed && self.read_to.is_none_or(|read| position > read);
        self.read_to = self.read_to.max(Some(position));
        let events = pack::events(position, record.pack, &self.config);
        self.waiting_events += events.len();
        self.waiting.push_back(ReadRecord { position, is_resumed, events });
    }

    /// Moves every batch as far as it can go.
    fn advance(&mut self, out: &mut Vec<Output>) {
        loop {
            let stages = &mut self.stages;
            if stages.publishing.is_none()
                && let Some(batch) = stages.committed.take()
            {
                stages.publishing = Some(batch.clone());
                out.push(Output::Publish(batch));
            }
            if stages.committing.is_none()
                && stages.committed.is_none()
                && let Some(batch) = stages.decided.take()
            {
                stages.committing = Some(batch.clone());
                out.push(Output::Commit(batch));
            }
            if stages.loading.is_some() || stages.decided.is_some() || self.waiting.is_empty() {
                return;
            }
            if self.waiting.front().is_some_and(|record| record.is_resumed) {
                if stages.committing.is_some() {
                    // What this reader has decided is loaded again, so it has to be in the store.
                    return;
                }
                self.heads = Heads::new(self.config.heads_max);
                self.keys = Keys::new(self.config.seed, self.config.keys_max);
            }
            self.assemble(out);
        }
    }

    fn assemble(&mut self, out: &mut Vec<Output>) {
        // From here on, loads show what these batches have written.
        while self.pending.front().is_some_and(|pending| pending.is_committed) {
            self.pending.pop_front();
        }
        let mut events = Vec::new();
        let mut ack = None;
        while let Some(record) = self.waiting.front_mut()
            && (ack.is_none()
                || (!record.is_resumed && events.len() + record.events.len() <= self.config.batch_events_max))
        {
            // Behind the newest record there may be older ones, which were done and delivered again.
            ack = ack.max(Some(record.position));
            self.waiting_events -= record.events.len();
            events.append(&mut record.events);
            self.waiting.pop_front();
        }
        let ack = ack.expect("at least one record waits");
        let (assembly, step) = Assembly::start(ack, events, &mut self.heads, &mut self.keys, &self.pending);
        self.step(assembly, step, out);
    }

    fn step(&mut self, assembly: Assembly, step: Step, out: &mut Vec<Output>) {
        match step {
            Step::Load(loads) => {
                self.stages.loading = Some(assembly);
                out.push(Output::Load(loads));
            }
            Step::Decide => {
                let (batch, pending) = decide::decide(assembly, &self.pending);
                for (conversation, head) in &pending.heads {
                    self.heads.insert(*conversation, *head);
                }
                self.pending.push_back(pending);
                self.stages.decided = Some(Arc::new(batch));
            }
        }
    }
}
