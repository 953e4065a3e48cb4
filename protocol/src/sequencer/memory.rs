//! What a sequencer remembers between batches: heads, and which keys it has seen. Both are bounded, and only spare
//! look-ups: whatever is forgotten is read from the store.

use super::rows::{Head, Key, KeyId};
use crate::ids::ConversationId;
use crate::limits;
use crate::map::{self, Map, Set};

/// A conversation's head, with what this reader knows about its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Conversation {
    pub(super) head: Head,
    /// No event that this reader has not read itself has a higher edge time.
    pub(super) foreign_ms: u64,
    /// The highest edge time, that of events which wait for their decision included.
    pub(super) scanned_ms: u64,
}

/// The conversations used last, in two generations: what is used moves to the younger one, and when that is full, the
/// older one is dropped.
#[derive(Debug)]
pub(super) struct Heads {
    young: Map<ConversationId, Conversation>,
    old: Map<ConversationId, Conversation>,
    young_max: usize,
}

impl Heads {
    pub(super) fn new(young_max: usize) -> Self {
        Self { young: Map::default(), old: Map::default(), young_max }
    }

    pub(super) fn get(&self, conversation: ConversationId) -> Option<Conversation> {
        self.young.get(&conversation).or_else(|| self.old.get(&conversation)).copied()
    }

    pub(super) fn insert(&mut self, conversation: ConversationId, state: Conversation) {
        if self.young.len() >= self.young_max && !self.young.contains_key(&conversation) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(conversation, state);
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Half of a fingerprint: a collision costs a look-up, and among a million keys there is one in four thousand look-ups.
type Remembered = u32;

/// Two generations of keys, each of some edge time.
#[derive(Debug)]
pub(super) struct Keys {
    seed: u64,
    young: Generation,
    old: Generation,
    /// No key that was forgotten has a higher edge time.
    forgotten_ms: u64,
    /// No event before this reader's first has a higher edge time, as far as edges' clocks agree within
    /// [`limits::DEDUP_WINDOW_MS`].
    start_ms: Option<u64>,
    generation_max: usize,
}

#[derive(Debug, Default)]
struct Generation {
    keys: Set<Remembered>,
    first_ms: u64,
    highest_ms: u64,
}

/// A quarter more than the window, so that keys stay known while edges' clocks differ.
const GENERATION_MS: u64 = limits::DEDUP_WINDOW_MS / 4 * 5;

impl Keys {
    pub(super) fn new(seed: u64, generation_max: usize) -> Self {
        let (young, old) = (Generation::default(), Generation::default());
        Self { seed, young, old, forgotten_ms: 0, start_ms: None, generation_max }
    }

    /// Called for each event, before its keys are remembered.
    pub(super) fn passes(&mut self, edge_time_ms: u64) {
        self.start_ms.get_or_insert(edge_time_ms.saturating_add(limits::DEDUP_WINDOW_MS));
        let young = &self.young;
        let is_over = edge_time_ms >= young.first_ms.saturating_add(GENERATION_MS);
        if !young.keys.is_empty() && (is_over || young.keys.len() >= self.generation_max) {
            let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.forgotten_ms = self.forgotten_ms.max(old.highest_ms);
        }
    }

    /// Remembers a key; answers whether it was known, or may have been.
    pub(super) fn remember(&mut self, key: &KeyId, edge_time_ms: u64) -> bool {
        let remembered = self.fingerprint(key);
        if self.young.keys.is_empty() {
            self.young.first_ms = edge_time_ms;
        }
        self.young.highest_ms = self.young.highest_ms.max(edge_time_ms);
        let is_new = self.young.keys.insert(remembered);
        !is_new || self.old.keys.contains(&remembered)
    }

    /// What a head that was loaded says about the keys that this reader has not read.
    pub(super) fn foreign_ms(&self, head: &Head) -> u64 {
        head.edge_time_ms.min(self.start_ms.unwrap_or(u64::MAX))
    }

    /// Whether every key that an event of this time could repeat is remembered.
    pub(super) fn covers(&self, conversation: &Conversation, edge_time_ms: u64) -> bool {
        let unknown_ms = conversation.foreign_ms.max(self.forgotten_ms).min(conversation.scanned_ms);
        unknown_ms == 0 || edge_time_ms > unknown_ms.saturating_add(limits::DEDUP_WINDOW_MS)
    }

    pub(super) fn len(&self) -> usize {
        self.young.keys.len() + self.old.keys.len()
    }

    fn fingerprint(&self, key: &KeyId) -> Remembered {
        let conversation = key.conversation.to_bytes();
        let fingerprint = match key.key {
            Key::Client { sender, id } => {
                map::fingerprint(self.seed, &[&conversation, &sender.0.to_be_bytes(), &id])
            }
            Key::Message(id) => map::fingerprint(self.seed, &[&conversation, &id.to_be_bytes()]),
        };
        fingerprint as Remembered
    }
}
