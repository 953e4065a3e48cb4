//! What a reader asked of the store and the bus, and what becomes of it: done, lost, or done late, whoever still waits.

use std::sync::Arc;

use petrel_protocol::events::{Stored, StoredPack, stored};
use petrel_protocol::ids::ConversationId;
use petrel_protocol::sequencer::{Batch, Input};
use petrel_protocol::topics::Topic;

use super::{Reader, StoreStep};
use crate::world::coverage::Met;
use crate::world::store::{Write, heads_of, rows_of};
use crate::world::versions::encode;
use crate::world::{About, Event, Mutation, World};

/// One operation of the store.
const STORE_US: u64 = 400;

impl World {
    pub(super) fn commit(&mut self, reader: usize, batch: Arc<Batch>) {
        if !batch.dead_letters.is_empty() {
            let text = format!("persist cannot read an event: {:?}", batch.dead_letters[0].fault);
            self.fail("no-dead-letters", About::default(), text);
        }
        self.note_batch(reader, &batch);
        if self.is_mutated(Mutation::DeliverBeforeStored) {
            self.publish_stored(reader, &batch);
        }
        if self.size.is_atomic {
            return self.store_later(reader, StoreStep::All(batch));
        }
        if self.is_mutated(Mutation::HeadBeforeRows) {
            self.write_all(heads_of(&batch));
        }
        if self.is_mutated(Mutation::ListBeforeRows) {
            self.write_all(heads_of(&batch).into_iter().filter(|write| write.listed().is_some()).collect());
        }
        // Writes go out side by side: some are in the store before others, and may be all that ever is.
        let writes = rows_of(&batch).into_iter().filter(|_| self.random.coin()).collect();
        self.write_all(writes);
        self.store_later(reader, StoreStep::Rows(batch));
    }

    /// What is written when the rows are confirmed.
    fn heads_and_lists(&self, batch: &Batch) -> Vec<Write> {
        let mut writes = heads_of(batch);
        if self.is_mutated(Mutation::ReplayLeavesLists) {
            let is_new = |id: &ConversationId| {
                batch.stored.iter().any(|event| !event.again && event.conversation == Some((*id).into()))
            };
            writes.retain(|write| write.listed().is_none_or(|conversation| is_new(&conversation)));
        }
        writes
    }

    pub(super) fn store_later(&mut self, reader: usize, step: StoreStep) {
        let delay = self.delay(STORE_US);
        self.after(delay, Event::StoreDone(reader, Box::new(step)));
    }

    pub(crate) fn store_done(&mut self, reader: usize, step: StoreStep) {
        let Reader { partition, is_up, is_powerless, .. } = self.persist.readers[reader];
        if is_powerless {
            return;
        }
        if is_up && self.persist.current[usize::from(partition)] == reader && self.strikes(self.faults.crash)
        {
            self.met(Met::PersistCrashed);
            self.kill_persist(partition);
        }
        let is_up = self.persist.readers[reader].is_up;
        let timed_out = is_up && self.strikes(self.faults.store_timeout);
        match step {
            StoreStep::Load(..) | StoreStep::Published if !is_up => {}
            StoreStep::Load(loads, _) if timed_out => self.store_later(reader, StoreStep::Load(loads, None)),
            StoreStep::Load(loads, loaded) => {
                let loaded = loaded.unwrap_or_else(|| self.load(&loads));
                self.sequencer(reader, Input::Loaded(loaded));
            }
            StoreStep::Rows(batch) => {
                if self.writes_done(is_up, timed_out, rows_of(&batch)) {
                    // The heads go out only now; some may be there before others.
                    let heads = self.heads_and_lists(&batch);
                    let heads = heads.into_iter().filter(|_| self.random.coin()).collect();
                    self.write_all(heads);
                    self.store_later(reader, StoreStep::Heads(batch));
                } else if is_up {
                    self.store_later(reader, StoreStep::Rows(batch));
                }
            }
            StoreStep::Heads(batch) => {
                let heads = self.heads_and_lists(&batch);
                if self.writes_done(is_up, timed_out, heads) {
                    self.sequencer(reader, Input::Committed);
                } else if is_up {
                    self.store_later(reader, StoreStep::Heads(batch));
                }
            }
            StoreStep::All(batch) => {
                let writes = rows_of(&batch).into_iter().chain(self.heads_and_lists(&batch)).collect();
                if self.writes_done(is_up, timed_out, writes) {
                    self.sequencer(reader, Input::Committed);
                } else if is_up {
                    self.store_later(reader, StoreStep::All(batch));
                }
            }
            StoreStep::Publish(batch) => {
                if is_up || self.random.coin() {
                    self.publish_stored(reader, &batch);
                }
                if is_up && timed_out {
                    // The outcome is unknown: the same events again.
                    self.store_later(reader, StoreStep::Publish(batch));
                } else {
                    self.store_later(reader, StoreStep::Published);
                }
            }
            StoreStep::Published => self.sequencer(reader, Input::Published),
        }
    }

    /// Whether writes are confirmed. Where they are not, they may all have been applied, now or much later.
    fn writes_done(&mut self, is_up: bool, timed_out: bool, writes: Vec<Write>) -> bool {
        if is_up && !timed_out {
            self.write_all(writes);
            return true;
        }
        if !is_up && !writes.is_empty() {
            self.met(Met::PartialBatch);
        }
        match self.random.below(3) {
            0 => {
                self.met(Met::StoreTimeoutApplied);
                self.write_all(writes);
            }
            1 => {
                self.met(Met::StoreTimeoutLate);
                let delay = self.random.below(2_000_000);
                self.after(delay, Event::StoreWritesLate(self.power.life(), writes));
            }
            _ => self.met(Met::StoreTimeoutLost),
        }
        // Whoever takes a time-out for a success goes on without what was not written.
        self.is_mutated(Mutation::SkipFailedWrite) && is_up
    }

    /// What a store that timed out does later, unless its power was cut meanwhile.
    pub(crate) fn write_late(&mut self, life: u32, writes: Vec<Write>) {
        if life == self.power.life() {
            self.write_all(writes);
        }
    }

    pub(crate) fn write_all(&mut self, writes: Vec<Write>) {
        for write in writes {
            self.store.write(write);
        }
        if let Some(text) = self.store.contradiction.take() {
            self.fail("one-history", About::default(), text);
        }
    }

    fn publish_stored(&mut self, reader: usize, batch: &Batch) {
        if batch.stored.is_empty() {
            return;
        }
        for event in &batch.stored {
            self.note_stored(reader, event);
        }
        let mut pack = StoredPack { events: batch.stored.clone() };
        if self.is_mutated(Mutation::DropRefusals) {
            pack.events.retain(|event| !matches!(event.body, Some(stored::Body::Refused(_))));
        }
        let Reader { partition, is_next, .. } = self.persist.readers[reader];
        self.append_record(Topic::Stored, partition, encode(&pack, is_next));
    }

    fn note_stored(&mut self, reader: usize, event: &Stored) {
        if self.trace.is_none() {
            return;
        }
        let conversation = event.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
        let Some(conversation) = conversation else { return };
        let (about, what) = match event.body.as_ref() {
            Some(stored::Body::Message(m)) => (
                About::message(event.user, &m.client_msg_id).at(conversation, event.seq),
                format!("is seq {}", event.seq),
            ),
            Some(stored::Body::Duplicate(d)) => (
                About::message(event.user, &d.client_msg_id).at(conversation, d.seq),
                format!("is a duplicate of seq {}", d.seq),
            ),
            Some(stored::Body::Refused(r)) => {
                (About::message(event.user, &r.client_msg_id), format!("is refused: {}", r.code))
            }
            Some(stored::Body::Recalled(r)) => {
                (About::row(conversation, r.target_seq), format!("is recalled by seq {}", event.seq))
            }
            None => return,
        };
        let again = if event.again { ", again" } else { "" };
        self.note(about, || format!("persist {reader}: it {what}{again}"));
    }
}
