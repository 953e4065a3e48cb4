//! What befalls whole processes, and the end of it.

use petrel_protocol::ids::UserId;
use petrel_protocol::topics::{Subscription, Topic};
use petrel_router::routes::Memory;

use super::coverage::Met;
use super::faults::Fault;
use super::shard::ShardId;
use super::{About, Event, World};

/// How often it is looked whether a sealed generation is drained.
const GENERATION_US: u64 = 20_000;

impl World {
    pub(crate) fn chaos(&mut self) {
        if self.is_calm || self.faults.chaos.is_empty() {
            return;
        }
        let next_ms = self.random.between(self.faults.chaos_ms / 2, self.faults.chaos_ms * 2);
        self.after(next_ms * 1_000, Event::Chaos);
        let edge = self.random.index(self.edges.len());
        let partition = self.random.index(usize::from(self.size.partitions)) as u16;
        let chaos = self.faults.chaos[self.random.index(self.faults.chaos.len())];
        self.note(About::all(), || format!("chaos: {chaos:?}"));
        match chaos {
            Fault::EdgeKilled => {
                if self.edges[edge].is_up {
                    self.met(Met::EdgeKilled);
                    self.edge_ends(edge);
                }
            }
            Fault::EdgeDrained => self.drain(edge),
            Fault::EdgeIsolated => {
                self.met(Met::EdgeIsolated);
                let until = self.now_us + self.random.between(500_000, 9_000_000);
                self.edges[edge].isolated_until_us = until;
            }
            Fault::ClockStep => {
                let clock_ms = self.random.below(40_000) as i64 - 20_000;
                let before_ms = std::mem::replace(&mut self.edges[edge].clock_ms, clock_ms);
                self.met(if clock_ms < before_ms { Met::ClockBack } else { Met::ClockForward });
            }
            Fault::PersistKilled => {
                if self.persist.is_current_up(partition) {
                    self.met(Met::PersistKilled);
                    self.kill_persist(partition);
                }
            }
            Fault::PersistReplaced => self.replace_persist(partition),
            Fault::PersistReturned => self.move_persist_away(partition),
            Fault::RouterKilled => {
                if self.has_router() {
                    self.met(Met::RouterKilled);
                    self.kill_router();
                }
            }
            Fault::RouterReplaced => {
                if self.has_router() {
                    self.met(Met::RouterReplaced);
                    self.router_begins();
                }
            }
            Fault::Redelivered => {
                let partition = self.persist.busy_partition().unwrap_or(partition);
                if self.persist.is_current_up(partition) {
                    self.redeliver_uplink(partition);
                    self.redeliver_receipts(partition);
                }
                if self.has_router() {
                    self.redeliver_stored();
                }
            }
            Fault::RoutesLost => {
                self.met(Met::RoutesLost);
                self.routes = Memory::default();
            }
            Fault::RoutesDropped => self.drop_routes(),
            Fault::LoggedInElsewhere => self.log_in_elsewhere(),
            Fault::Generation => {
                self.log.seal();
                for partition in 0..self.size.partitions {
                    let (topic, reader) = (Topic::Uplink, Subscription::Persist);
                    let (len, done) =
                        (self.log.len(topic, partition), self.log.unacked(topic, reader, partition));
                    self.note(About::all(), || {
                        format!("partition {partition} is sealed at {len}, of which {done} are done")
                    });
                }
                self.after(GENERATION_US, Event::LookAtGeneration);
            }
            Fault::PowerCut => self.cut_power(),
            other => unreachable!("{other:?} befalls no process"),
        }
    }

    fn drop_routes(&mut self) {
        for user in (1..=self.size.users).map(UserId) {
            for route in self.routes.look_up(self.now(), &[user]) {
                if self.random.coin() {
                    self.met(Met::RouteDropped);
                    self.routes.release(user, route.device, route.address);
                }
            }
        }
    }

    /// A guest takes a device's place for a while, on any edge.
    fn log_in_elsewhere(&mut self) {
        let device = self.random.index(self.devices.len());
        let edge = self.random.index(self.edges.len());
        let it = &self.edges[edge];
        if it.is_up && !it.is_draining {
            let shard = ShardId { edge, life: it.life, shard: self.random.index(self.size.shards) };
            self.met(Met::LoggedInElsewhere);
            self.after(0, Event::Accept { device, shard, is_guest: true });
        }
    }

    /// A sealed generation ends when everything in it had its effect.
    pub(crate) fn look_at_generation(&mut self) {
        let is_sealed = self.log.open_generation().is_none();
        if is_sealed && self.log.begin_generation() {
            self.met(Met::NewGeneration);
            self.note(About::all(), || "uplink begins a new generation".into());
        } else if is_sealed {
            self.after(GENERATION_US, Event::LookAtGeneration);
        }
    }

    pub(crate) fn kill_persist(&mut self, partition: u16) {
        if self.persist.is_current_up(partition) {
            self.persist_ends(self.persist.current[usize::from(partition)]);
            let delay = self.random.between(10_000, 2_000_000);
            self.after(delay, Event::PersistBegins(partition));
        }
    }

    fn replace_persist(&mut self, partition: u16) {
        if self.persist.is_current_up(partition) {
            self.met(Met::PersistReplaced);
            let old = self.persist.current[usize::from(partition)];
            let delay = self.random.between(1_000, 3_000_000);
            self.after(delay, Event::PersistEnds(old));
            self.persist_begins(partition);
        }
    }

    /// Another reader takes over for a while.
    fn move_persist_away(&mut self, partition: u16) {
        if self.persist.is_current_up(partition) {
            let old = self.persist.current[usize::from(partition)];
            self.persist.readers[old].given_to = self.log.len(Topic::Uplink, partition);
            self.persist_begins(partition);
            let newer = self.persist.current[usize::from(partition)];
            let delay = self.random.between(1_000, 3_000_000);
            self.after(delay, Event::PersistReturns(old, newer));
        }
    }

    pub(crate) fn kill_router(&mut self) {
        if self.has_router() {
            self.router_ends(self.routers.len() - 1);
            if !self.size.are_routes_apart {
                self.routes = Memory::default();
            }
            let delay = self.random.between(10_000, 3_000_000);
            self.after(delay, Event::RouterBegins);
        }
    }

    /// Faults stop. What is down comes back by what is scheduled already.
    pub(crate) fn calm(&mut self) {
        self.note(About::all(), || "from here on, nothing goes wrong".into());
        self.is_calm = true;
        self.faults.stop();
        self.keep_power();
        for edge in &mut self.edges {
            edge.isolated_until_us = 0;
        }
        self.after(1_000_000, Event::Look);
    }
}
