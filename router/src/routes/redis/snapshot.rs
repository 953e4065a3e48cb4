//! The leases and services as they were last read.

use std::time::{Duration, Instant};

use petrel_protocol::calls::ServiceAt;
use petrel_protocol::fanout::Incarnation;

use super::values::{read_lease, read_service};
use crate::routes::Held;

/// What lived at a moment, by the server's own time. While Redis is out of reach the last one stands: that a lease is
/// over is only believed where it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// When it was asked for; none where nothing was read yet.
    asked: Option<Instant>,
    leases: Vec<Held>,
    services: Vec<ServiceAt>,
}

impl Snapshot {
    pub(super) fn read(asked: Instant, now_ms: u64, fields: &[(String, String)]) -> Self {
        let mut leases: Vec<_> =
            fields.iter().filter_map(|(field, value)| read_lease(field, value, now_ms)).collect();
        let mut services: Vec<_> =
            fields.iter().filter_map(|(field, value)| read_service(field, value, now_ms)).collect();
        leases.sort_by_key(|held| held.incarnation);
        services.sort_by_key(|at| (at.kind, at.id));
        Self { asked: Some(asked), leases, services }
    }

    /// Takes what was asked for later; answers may overtake each other.
    pub(super) fn renew(&mut self, other: &Self) {
        if other.asked >= self.asked {
            self.clone_from(other);
        }
    }

    pub(super) fn age(&self) -> Option<Duration> {
        self.asked.map(|asked| asked.elapsed())
    }

    pub(super) fn is_live(&self, incarnation: Incarnation) -> bool {
        self.leases.binary_search_by_key(&incarnation, |held| held.incarnation).is_ok()
    }

    /// The leases, as old as they are by now.
    pub(super) fn leases(&self) -> Vec<Held> {
        let since_ms = self.age().unwrap_or_default().as_millis() as u64;
        let older = |held: &Held| Held { age_ms: held.age_ms + since_ms, ..held.clone() };
        self.leases.iter().map(older).collect()
    }

    pub(super) fn services(&self) -> Vec<ServiceAt> {
        self.services.clone()
    }
}
