//! Where users' devices are connected, and which edges live. A route is valid only while its edge's lease is.

#![cfg_attr(not(feature = "redis"), expect(clippy::unused_async, reason = "only Redis has to be waited for"))]

mod leases;
mod memory;
#[cfg(feature = "redis")]
pub mod redis;
mod services;
mod shared;
mod table;

use std::pin::pin;
use std::task::{Context, Waker};

use petrel_protocol::calls::{Announce, Lease, ServiceAt};
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::time::Now;

pub use leases::{Held, Renewal};
pub use memory::Memory;

/// The routes and the leases that they rest on. Every method may be called from any thread.
#[derive(Debug)]
pub enum Routes {
    /// In this process, for edges of this router alone.
    Memory(Memory),
    /// For the edges of all routers.
    #[cfg(feature = "redis")]
    Redis(redis::Redis),
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

/// An answer about a route, and what is known of its user's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What became of it.
    pub outcome: T,
    /// Tokens of a lower version are revoked; 0 where none is known to be.
    pub token_version: u32,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The claimant's edge has no lease that is alive. The edge renews its lease, learns that its epoch is over, and claims
    /// again under a new one.
    #[error("edge {edge} has no live lease of this epoch: renew it, and claim under the epoch that holds")]
    NoLease {
        /// The edge.
        edge: u16,
    },
    /// Too many calls are under way.
    #[error("too many calls for routes are under way: try again later")]
    Busy,
    /// The routes are out of reach, or cannot be written. It may have been done.
    #[error("the routes are out of reach: try again later")]
    Unavailable,
}

impl Routes {
    /// Routes in memory, none so far.
    pub fn memory() -> Self {
        Self::Memory(Memory::default())
    }

    /// Routes on Redis, which need not be there yet.
    #[cfg(feature = "redis")]
    pub fn redis(config: &redis::Config) -> Result<Self, redis::ConfigError> {
        redis::Redis::start(config).map(Self::Redis)
    }

    /// Does work that asks for routes: at once where they are in memory, else on the thread that talks to Redis. Never
    /// blocks.
    pub fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Memory(_) => now(work),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.run(work),
        }
    }

    /// Whether they can be asked: for readiness.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.is_ready(),
        }
    }

    /// Takes or renews a lease for [`petrel_protocol::limits::LEASE_MS`]. An incarnation that lapsed, was revoked or was
    /// replaced by a later one of the same edge never comes back, and a renewal of one that is not known is refused.
    pub async fn lease(&self, now: Now, lease: &Lease) -> Result<Renewal, Refusal> {
        match self {
            Self::Memory(memory) => Ok(memory.lease(now, lease)),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.lease(lease).await,
        }
    }

    /// Ends a lease: its routes are invalid at once.
    pub async fn revoke(&self, incarnation: Incarnation) -> Result<(), Refusal> {
        match self {
            Self::Memory(memory) => {
                memory.revoke(incarnation);
                Ok(())
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.revoke(incarnation).await,
        }
    }

    /// Whether this incarnation's lease is alive, as far as is known: it is over only where that was read.
    pub fn is_live(&self, now: Now, incarnation: Incarnation) -> bool {
        match self {
            Self::Memory(memory) => memory.is_live(now, incarnation),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.is_live(incarnation),
        }
    }

    /// The leases that are alive, as they were last read.
    pub fn leases(&self, now: Now) -> Vec<Held> {
        match self {
            Self::Memory(memory) => memory.leases(now),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.leases(),
        }
    }

    /// Makes the claimant's address the route of its user's device, unless a session that connected later has it.
    pub async fn claim(&self, now: Now, claimant: &Claimant) -> Result<Answer<Claimed>, Refusal> {
        match self {
            Self::Memory(memory) => {
                memory.claim(now, claimant).map(|outcome| Answer { outcome, token_version: 0 })
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.claim(claimant).await,
        }
    }

    /// Looks whether the route is the claimant's still, and keeps it alive. Takes nothing.
    pub async fn assert(&self, now: Now, claimant: &Claimant) -> Result<Answer<Asserted>, Refusal> {
        match self {
            Self::Memory(memory) => {
                memory.assert(now, claimant).map(|outcome| Answer { outcome, token_version: 0 })
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.assert(claimant).await,
        }
    }

    /// Removes the route of this user's device where it is still `address`; whether it was.
    pub async fn release(&self, user: UserId, device: Device, address: Address) -> Result<bool, Refusal> {
        match self {
            Self::Memory(memory) => Ok(memory.release(user, device, address)),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.release(user, device, address).await,
        }
    }

    /// The valid routes of all these users, sorted by the users' order. An error says nothing about anybody.
    pub async fn look_up(&self, now: Now, users: &[UserId]) -> Result<Vec<Route>, Refusal> {
        match self {
            Self::Memory(memory) => Ok(memory.look_up(now, users)),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.look_up(users).await,
        }
    }

    /// Notes that a router or a persist lives, for [`petrel_protocol::limits::LEASE_MS`].
    pub async fn announce(&self, now: Now, announce: &Announce) -> Result<(), Refusal> {
        match self {
            Self::Memory(memory) => {
                memory.announce(now, announce);
                Ok(())
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.announce(announce).await,
        }
    }

    /// The routers and persists that live, as they were last read.
    pub fn services(&self, now: Now) -> Vec<ServiceAt> {
        match self {
            Self::Memory(memory) => memory.services(now),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.services(),
        }
    }

    /// Removes the routes of dead leases, and gives back memory that is no longer needed; on Redis they expire, and the
    /// leases themselves are forgotten. `pause` runs between the parts, so that the caller can let others have the core.
    /// Answers with how many routes were removed.
    pub async fn sweep(&self, now: Now, pause: impl FnMut()) -> Result<usize, Refusal> {
        match self {
            Self::Memory(memory) => Ok(memory.sweep(now, pause)),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.sweep().await.map(|()| 0),
        }
    }

    /// How many routes are held in this process, those of dead leases included until they are swept.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.len(),
            #[cfg(feature = "redis")]
            Self::Redis(_) => 0,
        }
    }

    /// Whether none is held in this process.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Runs work that waits for nothing.
fn now(work: impl Future<Output = ()>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(work).poll(&mut context).is_ready(), "routes in memory are there at once");
}
