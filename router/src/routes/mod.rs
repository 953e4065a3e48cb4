//! Where users' devices are connected, and which edges live. A route is valid only while its edge's lease is.

mod leases;
mod memory;
mod table;

use petrel_protocol::calls::Lease;
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::time::Now;

pub use leases::{Held, Renewal};
pub use memory::Memory;

/// The routes and the leases that they rest on. Every method may be called from any thread.
#[derive(Debug)]
pub enum Routes {
    /// In this process, for edges in this process.
    Memory(Memory),
}

/// Why a claim was not taken: its edge has no lease that is alive. The edge renews its lease, learns that its epoch is
/// over, and claims again under a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("edge {edge} has no live lease of this epoch: renew it, and claim under the epoch that holds")]
pub struct NoLease {
    /// The edge.
    pub edge: u16,
}

impl Routes {
    /// Routes in memory, none so far.
    pub fn memory() -> Self {
        Self::Memory(Memory::default())
    }

    /// Takes or renews a lease for [`petrel_protocol::limits::LEASE_MS`]. An incarnation that lapsed, was revoked or was
    /// replaced by a later one of the same edge never comes back.
    pub fn lease(&self, now: Now, lease: &Lease) -> Renewal {
        match self {
            Self::Memory(memory) => memory.lease(now, lease),
        }
    }

    /// Ends a lease: its routes are invalid at once.
    pub fn revoke(&self, now: Now, incarnation: Incarnation) {
        match self {
            Self::Memory(memory) => memory.revoke(now, incarnation),
        }
    }

    /// Whether this incarnation's lease is alive.
    pub fn is_live(&self, now: Now, incarnation: Incarnation) -> bool {
        match self {
            Self::Memory(memory) => memory.is_live(now, incarnation),
        }
    }

    /// The leases that are alive.
    pub fn leases(&self, now: Now) -> Vec<Held> {
        match self {
            Self::Memory(memory) => memory.leases(now),
        }
    }

    /// Makes `address` the route of this user's device. Answers with the other valid route that it replaced, if there
    /// was one; claiming what is held already replaces nothing.
    pub fn claim(
        &self,
        now: Now,
        user: UserId,
        device: Device,
        address: Address,
    ) -> Result<Option<Address>, NoLease> {
        match self {
            Self::Memory(memory) => memory.claim(now, user, device, address),
        }
    }

    /// Removes the route of this user's device where it is still `address`; whether it was.
    pub fn release(&self, user: UserId, device: Device, address: Address) -> bool {
        match self {
            Self::Memory(memory) => memory.release(user, device, address),
        }
    }

    /// The valid routes of all these users, sorted by the users' order.
    pub fn look_up(&self, now: Now, users: &[UserId]) -> Vec<Route> {
        match self {
            Self::Memory(memory) => memory.look_up(now, users),
        }
    }

    /// Removes the routes of dead leases, and gives back memory that is no longer needed. `pause` runs between the
    /// parts, so that the caller can let others have the core. Answers with how many were removed.
    pub fn sweep(&self, now: Now, pause: impl FnMut()) -> usize {
        match self {
            Self::Memory(memory) => memory.sweep(now, pause),
        }
    }

    /// How many routes are held, those of dead leases included until they are swept.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.len(),
        }
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
