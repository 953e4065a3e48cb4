//! Routes in memory, in tables that are split by the users' hashes: claims from many threads meet seldom, and a sweep
//! locks one small table at a time.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use petrel_protocol::calls::{Announce, Lease, ServiceAt};
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::time::Now;

use super::leases::{Held, Leases, Renewal};
use super::services::Services;
use super::table::{Entry, Table, hash};
use super::{Asserted, Claimant, Claimed, Refusal, precedence};

/// Tables; a power of two.
const PARTS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    /// Locked before a part where both are: a route is never entered under a lease that is being swept.
    leases: RwLock<Leases>,
    parts: Box<[Mutex<Table>]>,
    /// One sweep at a time.
    sweeping: Mutex<()>,
    services: Mutex<Services>,
}

impl Default for Memory {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { leases: RwLock::default(), parts, sweeping: Mutex::default(), services: Mutex::default() }
    }
}

impl Memory {
    /// See [`super::Routes::lease`].
    pub fn lease(&self, now: Now, lease: &Lease) -> Renewal {
        self.leases.write().unwrap_or_else(PoisonError::into_inner).renew(now, lease)
    }

    /// See [`super::Routes::revoke`].
    pub fn revoke(&self, incarnation: Incarnation) {
        self.leases.write().unwrap_or_else(PoisonError::into_inner).end(incarnation);
    }

    /// See [`super::Routes::is_live`].
    pub fn is_live(&self, now: Now, incarnation: Incarnation) -> bool {
        self.read_leases().live_number(now, incarnation).is_some()
    }

    /// See [`super::Routes::leases`].
    pub fn leases(&self, now: Now) -> Vec<Held> {
        self.read_leases().held(now)
    }

    /// See [`super::Routes::claim`].
    pub fn claim(&self, now: Now, claimant: &Claimant) -> Result<Claimed, Refusal> {
        let leases = self.read_leases();
        let Claimant { user, device, address, .. } = *claimant;
        let lease =
            leases.live_number(now, address.incarnation()).ok_or(Refusal::NoLease { edge: address.edge })?;
        let mut entry = Entry::new(claimant, lease, connected_ms(now, claimant));
        let mut part = self.part(user);
        let Some(held) = part.find_mut(user, device) else {
            part.insert(entry);
            return Ok(Claimed::Taken { replaced: None });
        };
        if !leases.is_live(now, held.lease) {
            *held = entry;
            return Ok(Claimed::Taken { replaced: None });
        }
        let holder = held.address(leases.incarnation(held.lease));
        if holder == address {
            return Ok(Claimed::Held);
        }
        if precedence(held.connected_ms(), holder) > precedence(entry.connected_ms(), address) {
            return Ok(Claimed::Superseded);
        }
        std::mem::swap(held, &mut entry);
        Ok(Claimed::Taken { replaced: Some(holder) })
    }

    /// See [`super::Routes::assert`].
    pub fn assert(&self, now: Now, claimant: &Claimant) -> Result<Asserted, Refusal> {
        let leases = self.read_leases();
        let Claimant { user, device, address, .. } = *claimant;
        leases.live_number(now, address.incarnation()).ok_or(Refusal::NoLease { edge: address.edge })?;
        let mut part = self.part(user);
        let Some(held) = part.find_mut(user, device).filter(|held| leases.is_live(now, held.lease)) else {
            return Ok(Asserted::Lost);
        };
        let holder = held.address(leases.incarnation(held.lease));
        Ok(if holder == address {
            Asserted::Held
        } else if precedence(held.connected_ms(), holder) > precedence(connected_ms(now, claimant), address) {
            Asserted::Superseded
        } else {
            Asserted::Lost
        })
    }

    /// See [`super::Routes::release`].
    pub fn release(&self, user: UserId, device: Device, address: Address) -> bool {
        let leases = self.read_leases();
        let Some(lease) = leases.number(address.incarnation()) else { return false };
        self.part(user).remove(user, |e| e.is_of(user, device) && e.is_at(address, lease))
    }

    /// See [`super::Routes::look_up`].
    pub fn look_up(&self, now: Now, users: &[UserId]) -> Vec<Route> {
        let leases = self.read_leases();
        let mut routes = Vec::with_capacity(users.len());
        // Nearly always the same lease as before.
        let mut latest: Option<(u16, Option<Incarnation>)> = None;
        for (index, user) in users.iter().enumerate() {
            for entry in self.part(*user).of(*user) {
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

    /// See [`super::Routes::sweep`].
    pub fn sweep(&self, now: Now, mut pause: impl FnMut()) -> usize {
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
            removed += part.retain(|e| !is_over.get(usize::from(e.lease)).is_some_and(|is_over| *is_over));
            drop(part);
            pause();
        }
        self.leases.write().unwrap_or_else(PoisonError::into_inner).free(&over);
        removed
    }

    /// See [`super::Routes::len`].
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// See [`super::Routes::announce`].
    pub fn announce(&self, now: Now, announce: &Announce) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).announce(now, announce);
    }

    /// See [`super::Routes::services`].
    pub fn services(&self, now: Now) -> Vec<ServiceAt> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).live(now)
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read_leases(&self) -> std::sync::RwLockReadGuard<'_, Leases> {
        self.leases.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, user: UserId) -> MutexGuard<'_, Table> {
        // A table's index uses the lowest bits and the seven highest.
        let index = (hash(user) >> 40) as usize % PARTS;
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connected_ms(now: Now, claimant: &Claimant) -> u64 {
    now.mono_ms.saturating_sub(claimant.age_ms)
}
