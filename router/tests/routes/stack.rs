//! Routes of either kind behind calls that wait, and their clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use petrel_protocol::calls::{Announce, Lease, ServiceKind};
use petrel_protocol::fanout::{Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::time::Now;
use petrel_router::routes::{Asserted, Claimant, Claimed, Refusal, Renewal, Routes};

pub(crate) const ANNA: UserId = UserId(1);
pub(crate) const BERT: UserId = UserId(2);

pub(crate) struct Stack {
    pub(crate) routes: Routes,
    runtime: tokio::runtime::Runtime,
    /// Where time passes only when the test says so.
    now_ms: Option<AtomicU64>,
}

impl Stack {
    /// Time is real where `is_real`.
    pub(crate) fn new(routes: Routes, is_real: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { routes, runtime, now_ms: (!is_real).then(|| AtomicU64::new(1_000_000)) }
    }

    /// With edges 1 (epoch 10) and 2 (epoch 20) alive.
    pub(crate) fn with_edges(self) -> Self {
        assert_eq!(self.lease(&lease(1, 10)), Renewal::New { replaced: None });
        assert_eq!(self.lease(&lease(2, 20)), Renewal::New { replaced: None });
        self
    }

    pub(crate) fn now(&self) -> Now {
        let mono_ms = self.now_ms.as_ref().map_or(0, |now_ms| now_ms.load(Ordering::Relaxed));
        Now { mono_ms, wall_ms: 0 }
    }

    pub(crate) fn pass(&self, ms: u64) {
        match &self.now_ms {
            Some(now_ms) => drop(now_ms.fetch_add(ms, Ordering::Relaxed)),
            None => std::thread::sleep(Duration::from_millis(ms)),
        }
    }

    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn lease(&self, lease: &Lease) -> Renewal {
        self.wait(self.routes.lease(self.now(), lease)).unwrap()
    }

    pub(crate) fn revoke(&self, edge: u16, epoch: u64) {
        self.wait(self.routes.revoke(Incarnation { edge, epoch })).unwrap();
    }

    pub(crate) fn is_live(&self, edge: u16, epoch: u64) -> bool {
        self.routes.is_live(self.now(), Incarnation { edge, epoch })
    }

    pub(crate) fn claim_aged(
        &self,
        user: UserId,
        device: Device,
        address: Address,
        age_ms: u64,
    ) -> Result<Claimed, Refusal> {
        let claimant = Claimant { user, device, address, age_ms };
        self.wait(self.routes.claim(self.now(), &claimant)).map(|answer| answer.outcome)
    }

    /// A claim of a session that has just connected: what it replaced.
    pub(crate) fn claim(
        &self,
        user: UserId,
        device: Device,
        address: Address,
    ) -> Result<Option<Address>, Refusal> {
        self.claim_aged(user, device, address, 0).map(|claimed| match claimed {
            Claimed::Taken { replaced } => replaced,
            Claimed::Held => None,
            Claimed::Superseded => panic!("the latest session has the route"),
        })
    }

    pub(crate) fn assert(
        &self,
        user: UserId,
        device: Device,
        address: Address,
        age_ms: u64,
    ) -> Result<Asserted, Refusal> {
        let claimant = Claimant { user, device, address, age_ms };
        self.wait(self.routes.assert(self.now(), &claimant)).map(|answer| answer.outcome)
    }

    pub(crate) fn release(&self, user: UserId, device: Device, address: Address) -> bool {
        self.wait(self.routes.release(user, device, address)).unwrap()
    }

    pub(crate) fn look_up(&self, users: &[UserId]) -> Vec<Route> {
        self.wait(self.routes.look_up(self.now(), users)).unwrap()
    }

    pub(crate) fn found(&self, user: UserId) -> Vec<(Device, Address)> {
        let mut found: Vec<_> = self.look_up(&[user]).into_iter().map(|r| (r.device, r.address)).collect();
        found.sort_by_key(|(device, _)| *device);
        found
    }

    pub(crate) fn announce(&self, kind: ServiceKind, id: u32, calls: &str) {
        let announce = Announce { kind: kind.into(), id, calls: calls.to_owned() };
        self.wait(self.routes.announce(self.now(), &announce)).unwrap();
    }

    /// The services known by kind, id and where, as of a look-up, which reads them too.
    pub(crate) fn services(&self) -> Vec<(i32, u32, String)> {
        self.look_up(&[ANNA]);
        self.routes.services(self.now()).into_iter().map(|at| (at.kind, at.id, at.calls)).collect()
    }
}

impl AsRef<Self> for Stack {
    fn as_ref(&self) -> &Self {
        self
    }
}

pub(crate) fn lease(edge: u32, epoch: u64) -> Lease {
    Lease { edge, epoch, url: format!("ws://edge-{edge}"), sessions_max: 100, ..Default::default() }
}

pub(crate) fn renewal(edge: u32, epoch: u64) -> Lease {
    Lease { is_renewal: true, ..lease(edge, epoch) }
}

pub(crate) fn address(edge: u16, epoch: u64, slot: u32) -> Address {
    Address { edge, shard: 3, slot, generation: 9, epoch }
}
