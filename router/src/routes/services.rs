//! Which routers and persists live, by what they say of themselves.

use petrel_protocol::calls::{Announce, ServiceAt};
use petrel_protocol::limits;
use petrel_protocol::time::Now;

/// At most [`limits::SERVICES_MAX`]; those that lapsed make room.
#[derive(Debug, Default)]
pub(super) struct Services(Vec<(ServiceAt, u64)>);

impl Services {
    pub(super) fn announce(&mut self, now: Now, announce: &Announce) {
        let Announce { kind, id, ref calls } = *announce;
        let at = ServiceAt { kind, id, calls: calls.clone() };
        self.0.retain(|(held, until_ms)| now.mono_ms < *until_ms && (held.kind, held.id) != (kind, id));
        if self.0.len() < limits::SERVICES_MAX {
            self.0.push((at, now.mono_ms + limits::LEASE_MS));
        } else {
            tracing::warn!(
                "{} services are known: the one at {calls} is not noted; stop those that are not needed",
                limits::SERVICES_MAX
            );
        }
    }

    /// Those that live, in the order of kind and id.
    pub(super) fn live(&self, now: Now) -> Vec<ServiceAt> {
        let mut live: Vec<_> =
            self.0.iter().filter(|(_, until_ms)| now.mono_ms < *until_ms).map(|(at, _)| at.clone()).collect();
        live.sort_by_key(|at| (at.kind, at.id));
        live
    }
}
