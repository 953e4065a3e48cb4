//! When a run is over, and what must hold at every moment.

use petrel_protocol::limits;

use super::clients::Link;
use super::run::Failure;
use super::shard::ShardId;
use super::{About, Event, World};
use crate::history::What;

/// Looks, about a second apart, before a world that does not rest has failed.
pub(crate) const LOOKS_MAX: u32 = 120;
/// How often in a row nothing may have happened before the world rests.
const QUIET_LOOKS: u32 = 3;
/// The same where sessions ask for their routes: one that is lost is found by then.
const QUIET_LOOKS_ASSERTING: u32 = QUIET_LOOKS + 5 + (super::edge::ASSERT_MS / 1_000) as u32;

impl World {
    /// Whether everything rests: if so, the run ends.
    pub(crate) fn look(&mut self) {
        let restless = self.restless();
        let (activity, quiet) = self.last_look;
        let quiet = if restless.is_none() && activity == self.activity { quiet + 1 } else { 0 };
        self.last_look = (self.activity, quiet);
        let is_asserting = self.size.assert_ms == super::edge::ASSERT_MS;
        if quiet >= if is_asserting { QUIET_LOOKS_ASSERTING } else { QUIET_LOOKS } {
            for device in 0..self.devices.len() {
                self.record(device, What::Rested);
            }
            self.queue.clear();
            return;
        }
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            let text = restless.unwrap_or_else(|| "packets do not stop".into());
            self.fail(
                "progress",
                About::default(),
                format!("not at rest {LOOKS_MAX} s after the last fault: {text}"),
            );
            return;
        }
        // Not in step with what happens once a second.
        let delay = self.random.between(900_000, 1_100_000);
        self.after(delay, Event::Look);
    }

    /// Who is not at rest, if anybody is.
    fn restless(&self) -> Option<String> {
        for it in &self.devices {
            let name = format!("u{}/{}", it.user, it.kind as u8);
            if !matches!(it.link, Link::Up(_)) || !it.machine.is_ready() {
                return Some(format!("{name} is not ready"));
            }
            if it.machine.pending() > 0 {
                return Some(format!("{name} has {} sends without an outcome", it.machine.pending()));
            }
            if self.clients_repair && it.machine.gaps() > 0 {
                return Some(format!("{name} has a gap"));
            }
        }
        for (index, edge) in self.edges.iter().enumerate() {
            if !edge.is_up {
                return Some(format!("edge {index} is down"));
            }
            if edge.is_draining {
                return Some(format!("edge {index} drains"));
            }
            if let Some(shard) = edge.shards.iter().position(|s| !s.is_idle()) {
                return Some(format!("shard {shard} of edge {index} has something under way"));
            }
        }
        if !self.persist.is_idle(&self.log) {
            return Some("persist has something under way".into());
        }
        let is_routed = self.routers.last().is_some_and(|router| router.is_idle(&self.log));
        (!is_routed).then(|| "router has something under way".into())
    }

    /// Nothing may grow beyond its bound.
    pub(crate) fn check_bounds(&mut self, id: ShardId) {
        let inbox_max = self.faults.inbox_max.max(limits::DELIVER_BATCH_MAX);
        let Some(shard) = self.shard(id) else { return };
        let session_max = shard.shared.config.shard_unstored_max;
        let bounds = [
            ("deliveries in a shard's inbox", shard.deliveries.len(), inbox_max),
            ("sends that are not stored", shard.shared.unstored, session_max),
            ("events that are not receipted", shard.packs.len(), limits::SHARD_IN_FLIGHT_MAX),
        ];
        let failure = bounds.iter().find(|(_, len, max)| len > max);
        if let Some((what, len, max)) = failure {
            let text = format!("{len} {what}, and {max} is the bound");
            self.fail("bounded", About::default(), text);
        }
    }

    pub(crate) fn failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }
}
