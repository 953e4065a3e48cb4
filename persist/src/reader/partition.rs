//! One partition of `uplink`: its consumer, its sequencer, and what is on its way to `stored`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use petrel_bus::{Consumer, Receipt};
use petrel_protocol::ids::Position;
use petrel_protocol::limits;
use petrel_protocol::sequencer::{self, Batch, Config, Input, Loads, Output, Sequencer};
use petrel_protocol::time::Now;
use tokio::time::Instant;

use super::outgoing::Outgoing;
use crate::metrics::METRICS;

pub(super) struct Partition {
    pub(super) consumer: Consumer,
    pub(super) machine: Sequencer,
    pub(super) outgoing: Outgoing,
    /// What the machine wants written.
    pub(super) commit: Option<Arc<Batch>>,
    /// What is done, and not acknowledged before it is synced.
    pub(super) ack: Option<Position>,
    /// The newest record that was there at the start, until it is done.
    behind: Option<Position>,
    outputs: Vec<Output>,
    publishing_events: usize,
    done_events: usize,
    unacknowledged_events: usize,
}

impl Partition {
    pub(super) fn new(
        number: u16,
        partitions: u16,
        seed: u64,
        consumer: Consumer,
        outgoing: Outgoing,
    ) -> Self {
        Self {
            behind: consumer.newest_waiting(),
            consumer,
            machine: Sequencer::new(Config::new(number, partitions, seed)),
            outgoing,
            commit: None,
            ack: None,
            outputs: Vec::new(),
            publishing_events: 0,
            done_events: 0,
            unacknowledged_events: 0,
        }
    }

    /// Adds what else is there already.
    pub(super) fn read_more(&mut self, records: &mut Vec<petrel_bus::Record>) {
        while self.machine.has_room() && records.len() < limits::PERSIST_READ_RECORDS {
            let Some(record) = self.consumer.try_next() else { return };
            records.push(record);
        }
    }

    pub(super) fn records(&mut self, records: Vec<petrel_bus::Record>) {
        if !records.is_empty() {
            let record = |r: petrel_bus::Record| {
                let petrel_bus::Record { position, pack, is_resumed, .. } = r;
                sequencer::Record { position, pack, is_resumed }
            };
            self.handle(Input::Records(records.into_iter().map(record).collect()));
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.machine.handle(now(), input, &mut self.outputs);
    }

    /// Begins what the machine wants; answers with what has to be loaded before it can go on.
    pub(super) fn effects(&mut self, now: Instant) -> Option<Loads> {
        let mut loads = None;
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Load(wanted) => loads = Some(wanted),
                Output::Commit(batch) => {
                    METRICS.lag_events.add(batch.counts.events as i64);
                    self.commit = Some(batch);
                }
                Output::Publish(batch) => {
                    self.publishing_events = batch.counts.events;
                    self.outgoing.publish(&batch.stored, now);
                    if self.outgoing.is_empty() {
                        // A batch of dead letters alone.
                        self.machine.handle(self::now(), Input::Published, &mut self.outputs);
                    }
                }
                Output::Ack(position) => {
                    self.ack = self.ack.max(Some(position));
                    // What is done is a whole record: the index of its last event says nothing here.
                    self.behind
                        .take_if(|last| (last.ledger, last.entry) <= (position.ledger, position.entry));
                    self.done_events += self.publishing_events;
                }
            }
        }
        match loads {
            None if !self.outputs.is_empty() => self.effects(now),
            loads => loads,
        }
    }

    /// The bus has answered.
    pub(super) fn receipt(&mut self, receipt: &Receipt, now: Instant) {
        if self.outgoing.receipt(receipt, now) {
            self.handle(Input::Published);
        }
    }

    /// Whether the store lacks something that was in the log at the start.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// The events that became done since the last call.
    pub(super) fn take_done(&mut self) -> usize {
        let done = std::mem::take(&mut self.done_events);
        self.unacknowledged_events += done;
        done
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some(position) = self.ack.take() {
            self.consumer.ack(position);
            METRICS.lag_events.sub(std::mem::take(&mut self.unacknowledged_events) as i64);
        }
    }
}

/// The machines use no timers, and decide by the edges' stamps alone.
fn now() -> Now {
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Now { mono_ms: wall_ms, wall_ms }
}
