//! Where users' devices are connected, and which edges live. A route is valid only while its edge's lease is.

mod leases;
mod memory;
mod services;
mod table;

use petrel_protocol::calls::{Announce, Lease, ServiceAt};
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

/// A session that wants its user's route for its device type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Whose session it is.
    pub user: UserId,
    /// Its device type.
    pub device: Device,
    /// Where it is.
    pub address: Address,
    /// Since it connected.
    pub age_ms: u64,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The route is the claimant's from now on.
    Taken {
        /// The other valid route that it replaced, if there was one.
        replaced: Option<Address>,
    },
    /// It was already.
    Held,
    /// A session that connected later has it.
    Superseded,
}

/// What became of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asserted {
    /// The route is the claimant's.
    Held,
    /// It is not, and no session that connected later has it.
    Lost,
    /// A session that connected later has it.
    Superseded,
}

/// The order of two sessions of one user and device type: the greater one has the route. By the time of connecting, and
/// where that is the same by the address; a session that claims again under its edge's new epoch follows itself.
fn precedence(connected_ms: u64, address: Address) -> impl Ord {
    let Address { edge, shard, slot, generation, epoch } = address;
    (connected_ms, edge, shard, slot, generation, epoch)
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
    /// replaced by a later one of the same edge never comes back, and a renewal of one that is not known is refused.
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

    /// Makes the claimant's address the route of its user's device, unless a session that connected later has it.
    pub fn claim(&self, now: Now, claimant: &Claimant) -> Result<Claimed, NoLease> {
        match self {
            Self::Memory(memory) => memory.claim(now, claimant),
        }
    }

    /// Looks whether the route is the claimant's still, and keeps it alive. Takes nothing.
    pub fn assert(&self, now: Now, claimant: &Claimant) -> Result<Asserted, NoLease> {
        match self {
            Self::Memory(memory) => memory.assert(now, claimant),
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

    /// Notes that a router or a persist lives, for [`petrel_protocol::limits::LEASE_MS`].
    pub fn announce(&self, now: Now, announce: &Announce) {
        match self {
            Self::Memory(memory) => memory.announce(now, announce),
        }
    }

    /// The routers and persists that live.
    pub fn services(&self, now: Now) -> Vec<ServiceAt> {
        match self {
            Self::Memory(memory) => memory.services(now),
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
