//! The power of a Petrel that is one process on embedded defaults: what is not synced to disk when it is cut is lost,
//! and `uplink` is acknowledged, and so forgotten, only for what was.

use petrel_protocol::ids::Position;
use petrel_protocol::topics::{Subscription, Topic};
use petrel_router::routes::Memory;

use super::coverage::Met;
use super::{About, Event, Mutation, World};

pub(crate) struct Power {
    /// It may be cut in this run.
    is_at_stake: bool,
    /// How often it has been cut.
    life: u32,
    /// Acknowledgements that wait for the next sync.
    acks: Vec<(u16, Position)>,
}

impl Power {
    pub(crate) fn new(is_at_stake: bool) -> Self {
        Self { is_at_stake, life: 0, acks: Vec::new() }
    }

    pub(crate) fn life(&self) -> u32 {
        self.life
    }
}

impl World {
    /// What a reader has done survives everything, or will from the next sync on.
    pub(crate) fn ack_uplink(&mut self, partition: u16, position: Position) {
        self.note(About::default(), || format!("partition {partition} is done up to {position:?}"));
        if self.power.is_at_stake && !self.is_mutated(Mutation::AckBeforeSync) {
            self.power.acks.push((partition, position));
        } else {
            self.log.ack(Topic::Uplink, Subscription::Persist, partition, position);
        }
    }

    /// Everything that was written is on disk.
    pub(crate) fn sync_all(&mut self) {
        if !self.power.is_at_stake {
            return;
        }
        self.store.keep_written();
        self.log.sync();
        for (partition, position) in std::mem::take(&mut self.power.acks) {
            self.log.ack(Topic::Uplink, Subscription::Persist, partition, position);
        }
        let delay = self.random.between(5_000, 100_000);
        self.after(delay, Event::Sync);
    }

    /// From here on, the power stays.
    pub(crate) fn keep_power(&mut self) {
        self.sync_all();
        self.power.is_at_stake = false;
        self.store.is_safe();
    }

    pub(crate) fn cut_power(&mut self) {
        if !self.power.is_at_stake {
            return;
        }
        self.power.life += 1;
        self.power.acks.clear();
        let survivors = |random: &mut crate::random::Random, len: u64| random.below(len + 1);
        let random = &mut self.random;
        let lost = self.store.lose_unsynced(|len| survivors(random, len));
        self.log.lose_unsynced(|len| survivors(random, len));
        if lost > 0 {
            self.met(Met::PowerCut);
        }
        self.note(About::all(), || format!("{lost} writes of the store are lost"));
        self.persist_loses_power();
        for router in 0..self.routers.len().saturating_sub(1) {
            self.router_ends(router);
        }
        self.kill_router();
        self.routes = Memory::default();
        for edge in 0..self.edges.len() {
            self.edge_ends(edge);
        }
    }
}
