//! What befalls whole processes, and the end of it.

use petrel_protocol::ids::UserId;
use petrel_protocol::topics::Topic;
use petrel_router::routes::Routes;

use super::faults::Chaos;
use super::{About, Event, World};

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
            Chaos::EdgeKilled => self.edge_ends(edge),
            Chaos::EdgeDrained => self.drain(edge),
            Chaos::EdgeIsolated => {
                let until = self.now_us + self.random.between(500_000, 9_000_000);
                self.edges[edge].isolated_until_us = until;
            }
            Chaos::ClockStep => self.edges[edge].clock_ms = self.random.below(40_000) as i64 - 20_000,
            Chaos::PersistKilled => self.kill_persist(partition),
            Chaos::PersistReplaced => self.replace_persist(partition),
            Chaos::PersistReturned => self.move_persist_away(partition),
            Chaos::RouterKilled => self.kill_router(),
            Chaos::RouterReplaced => {
                if self.has_router() {
                    self.router_begins();
                }
            }
            Chaos::Redelivered => {
                if self.persist.is_current_up(partition) {
                    self.redeliver_uplink(partition);
                }
                if self.has_router() {
                    self.redeliver_stored();
                }
            }
            Chaos::RoutesLost => self.routes = Routes::memory(),
            Chaos::RoutesDropped => self.drop_routes(),
        }
    }

    fn drop_routes(&mut self) {
        for user in (1..=self.size.users).map(UserId) {
            for route in self.routes.look_up(self.now(), &[user]) {
                if self.random.coin() {
                    self.routes.release(user, route.device, route.address);
                }
            }
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
                self.routes = Routes::memory();
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
        for edge in &mut self.edges {
            edge.isolated_until_us = 0;
        }
        self.after(1_000_000, Event::Look);
    }
}
