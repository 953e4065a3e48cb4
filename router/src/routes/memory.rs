//! Routes in memory: 24 bytes and a control byte each, in tables that are between half and seven eighths full.
//!
//! One table is a multimap of a user's devices under the user's hash, so that a user with one device costs one entry and
//! a look-up is one probe. The tables are split by the same hash, so that claims of one million users at once grow and
//! lock only small parts.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use hashbrown::HashTable;
use petrel_protocol::calls::Lease;
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::time::Now;

use super::NoLease;
use super::leases::{Held, Leases, Renewal};

/// Tables; a power of two.
const PARTS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    /// Locked before a part where both are: a route is never entered under a lease that is being swept.
    leases: RwLock<Leases>,
    parts: Box<[Mutex<HashTable<Entry>>]>,
    /// One sweep at a time.
    sweeping: Mutex<()>,
}

/// One route. Its edge and epoch are the lease's.
#[derive(Clone, Copy, Debug)]
struct Entry {
    user: u64,
    slot: u32,
    generation: u32,
    shard: u16,
    lease: u16,
    device: Device,
}

const _: () = assert!(size_of::<Entry>() == 24);

impl Entry {
    fn is_of(&self, user: UserId, device: Device) -> bool {
        self.user == user.0 && self.device == device
    }

    fn is_at(&self, address: Address, lease: u16) -> bool {
        (self.slot, self.generation, self.shard, self.lease)
            == (address.slot, address.generation, address.shard, lease)
    }

    fn address(&self, incarnation: Incarnation) -> Address {
        Address {
            edge: incarnation.edge,
            shard: self.shard,
            slot: self.slot,
            generation: self.generation,
            epoch: incarnation.epoch,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { leases: RwLock::default(), parts, sweeping: Mutex::default() }
    }
}

impl Memory {
    pub(super) fn lease(&self, now: Now, lease: &Lease) -> Renewal {
        self.leases.write().unwrap_or_else(PoisonError::into_inner).renew(now, lease)
    }

    pub(super) fn revoke(&self, _now: Now, incarnation: Incarnation) {
        self.leases.write().unwrap_or_else(PoisonError::into_inner).end(incarnation);
    }

    pub(super) fn is_live(&self, now: Now, incarnation: Incarnation) -> bool {
        self.read_leases().live_number(now, incarnation).is_some()
    }

    pub(super) fn leases(&self, now: Now) -> Vec<Held> {
        self.read_leases().held(now)
    }

    pub(super) fn claim(
        &self,
        now: Now,
        user: UserId,
        device: Device,
        address: Address,
    ) -> Result<Option<Address>, NoLease> {
        let leases = self.read_leases();
        let incarnation = Incarnation { edge: address.edge, epoch: address.epoch };
        let lease = leases.live_number(now, incarnation).ok_or(NoLease { edge: address.edge })?;
        let Address { slot, generation, shard, .. } = address;
        let entry = Entry { user: user.0, slot, generation, shard, lease, device };
        let hash = hash(user.0);
        let mut part = self.part(hash);
        let Some(held) = part.find_mut(hash, |e| e.is_of(user, device)) else {
            part.insert_unique(hash, entry, |e| self::hash(e.user));
            return Ok(None);
        };
        let before = std::mem::replace(held, entry);
        let is_other = !before.is_at(address, lease) && leases.is_live(now, before.lease);
        Ok(is_other.then(|| before.address(leases.incarnation(before.lease))))
    }

    pub(super) fn release(&self, user: UserId, device: Device, address: Address) -> bool {
        let leases = self.read_leases();
        let incarnation = Incarnation { edge: address.edge, epoch: address.epoch };
        let Some(lease) = leases.number(incarnation) else { return false };
        let hash = hash(user.0);
        let mut part = self.part(hash);
        let held = part.find_entry(hash, |e| e.is_of(user, device) && e.is_at(address, lease));
        held.is_ok_and(|held| {
            held.remove();
            true
        })
    }

    pub(super) fn look_up(&self, now: Now, users: &[UserId]) -> Vec<Route> {
        let leases = self.read_leases();
        let mut routes = Vec::with_capacity(users.len());
        // Nearly always the same lease as before.
        let mut latest: Option<(u16, Option<Incarnation>)> = None;
        for (index, user) in users.iter().enumerate() {
            let hash = hash(user.0);
            for entry in self.part(hash).iter_hash(hash).filter(|e| e.user == user.0) {
                let incarnation = match latest {
                    Some((lease, incarnation)) if lease == entry.lease => incarnation,
                    _ => {
                        let is_live = leases.is_live(now, entry.lease);
                        let incarnation = is_live.then(|| leases.incarnation(entry.lease));
                        latest = Some((entry.lease, incarnation));
                        incarnation
                    }
                };
                if let Some(incarnation) = incarnation {
                    let address = entry.address(incarnation);
                    routes.push(Route { user: index as u32, device: entry.device, address });
                }
            }
        }
        routes
    }

    pub(super) fn sweep(&self, now: Now, mut pause: impl FnMut()) -> usize {
        let _sweeping = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.leases.write().unwrap_or_else(PoisonError::into_inner).over(now);
        let Some(highest) = over.iter().max() else { return 0 };
        let mut is_over = vec![false; usize::from(*highest) + 1];
        for number in &over {
            is_over[usize::from(*number)] = true;
        }
        let mut removed = 0;
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let before = part.len();
            part.retain(|e| !is_over.get(usize::from(e.lease)).is_some_and(|is_over| *is_over));
            removed += before - part.len();
            if part.len() < part.capacity() / 4 {
                let room = part.len() * 2;
                part.shrink_to(room, |e| hash(e.user));
            }
            drop(part);
            pause();
        }
        self.leases.write().unwrap_or_else(PoisonError::into_inner).free(&over);
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn read_leases(&self) -> std::sync::RwLockReadGuard<'_, Leases> {
        self.leases.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, HashTable<Entry>> {
        // The table itself uses the lowest bits and the seven highest.
        let index = (hash >> 40) as usize % PARTS;
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The finaliser of `SplitMix64`: ids that count up spread over all bits. Users' ids are the server's, so nobody can choose
/// them to collide.
fn hash(user: u64) -> u64 {
    let x = (user ^ (user >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
