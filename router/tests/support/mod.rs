//! A router on a real embedded log, with a persist and edges that do what the test says.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use petrel_bus::Bus;
use petrel_bus::calls::{CallError, EdgeCall, Link, PersistCall, Reply, RouterCall, Service};
use petrel_protocol::calls::{
    Account, Claim, ClaimReply, DeliverBatch, DeliverReply, Delivery, Lease, LeaseReply,
};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::token::Keys;
use petrel_router::{Config, PasswordCost, Router};

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) router: Option<Router>,
    pub(crate) persist: Arc<FakePersist>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) bus: Bus,
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bus = Bus::embedded(&dir.path().join("bus"), 4).unwrap();
        let mut world = Self {
            router: None,
            persist: Arc::default(),
            keys: Arc::new(Keys::with_new_key("k1", [7; 32])),
            bus,
            dir,
        };
        world.start(change);
        world
    }

    pub(crate) fn start(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.password_cost = PasswordCost { memory_kib: 8, passes: 1 };
        change(&mut config);
        let persist: Link<PersistCall> = self.persist.clone();
        let router = Router::start(config, self.bus.clone(), persist, self.keys.clone()).unwrap();
        self.router = Some(router);
    }

    pub(crate) fn router(&self) -> &Router {
        self.router.as_ref().unwrap()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.router().http_addr()
    }

    /// An edge with a lease and `sessions` of 100 places taken.
    pub(crate) fn edge(&self, edge: u16, epoch: u64, sessions: u32) -> Arc<FakeEdge> {
        let fake = Arc::new(FakeEdge::default());
        self.router().attach_edge(edge, fake.clone());
        assert_eq!(self.lease(lease(edge, epoch, sessions)), Ok(true));
        fake
    }

    pub(crate) fn lease(&self, lease: Lease) -> Result<bool, CallError> {
        self.lease_reply(lease).map(|reply| reply.holds)
    }

    pub(crate) fn lease_reply(&self, lease: Lease) -> Result<LeaseReply, CallError> {
        self.call(|reply| RouterCall::Lease(lease, reply))
    }

    pub(crate) fn claim(
        &self,
        user: UserId,
        device: Device,
        address: Address,
    ) -> Result<ClaimReply, CallError> {
        let address = Some(address.into());
        let claim = Claim { user: user.0, device: device as u32, address, ..Claim::default() };
        self.call(|reply| RouterCall::Claim(claim, reply))
    }

    fn call<T: Send + 'static>(&self, call: impl FnOnce(Reply<T>) -> RouterCall) -> Result<T, CallError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.router().link().call(call(Reply::new(move |answer| drop(tell.send(answer)))));
        told.recv_timeout(SOON).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(router) = self.router.take() {
            router.stop();
        }
        self.bus.close();
    }
}

pub(crate) fn lease(edge: u16, epoch: u64, sessions: u32) -> Lease {
    let url = format!("ws://127.0.0.1:1/{edge}");
    Lease { edge: edge.into(), epoch, url, sessions, sessions_max: 100, ..Lease::default() }
}

pub(crate) fn address(edge: u16, epoch: u64, slot: u32) -> Address {
    Address { edge, shard: 0, slot, generation: 1, epoch }
}

/// Waits until `condition` gives something.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(it) = condition() {
            return it;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Accounts in memory.
#[derive(Default)]
pub(crate) struct FakePersist {
    pub(crate) accounts: Mutex<HashMap<String, Account>>,
    /// Every call fails with this.
    pub(crate) failure: Mutex<Option<CallError>>,
}

impl FakePersist {
    pub(crate) fn fail(&self, failure: Option<CallError>) {
        *self.failure.lock().unwrap() = failure;
    }
}

impl Service<PersistCall> for FakePersist {
    fn call(&self, call: PersistCall) {
        let failure = *self.failure.lock().unwrap();
        let mut accounts = self.accounts.lock().unwrap();
        match call {
            PersistCall::CreateAccount(new, reply) => {
                let answer = match (failure, accounts.contains_key(&new.username)) {
                    (Some(failure), _) => Err(failure),
                    (None, true) => Err(CallError::Taken),
                    (None, false) => {
                        let account = Account {
                            user: 5_000_000_000 + accounts.len() as u64,
                            username: new.username.clone(),
                            password_hash: new.password_hash,
                            token_version: 1,
                        };
                        accounts.insert(new.username, account.clone());
                        Ok(account)
                    }
                };
                reply.send(answer);
            }
            PersistCall::FindAccount(username, reply) => {
                reply.send(failure.map_or(Ok(accounts.get(&username).cloned()), Err));
            }
            PersistCall::RevokeTokens(user, reply) => {
                let account = accounts.values_mut().find(|a| a.user == user);
                reply.send(match (failure, account) {
                    (None, Some(account)) => {
                        account.token_version += 1;
                        Ok(account.token_version)
                    }
                    (failure, _) => Err(failure.unwrap_or(CallError::Unavailable)),
                });
            }
            other => panic!("router has no business with {other:?}"),
        }
    }
}

/// What an edge does with a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Everything is queued, at once.
    #[default]
    Takes,
    /// No batch is taken.
    Refuses,
    /// Nothing is answered until [`FakeEdge::answer`].
    Holds,
}

/// Notes what it is called with.
#[derive(Default)]
pub(crate) struct FakeEdge {
    pub(crate) manner: Mutex<Manner>,
    pub(crate) got: Mutex<Vec<DeliverBatch>>,
    held: Mutex<Vec<Reply<DeliverReply>>>,
}

impl FakeEdge {
    pub(crate) fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Everything so far, in order.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.got.lock().unwrap().iter().flat_map(|b| b.deliveries.clone()).collect()
    }

    /// Answers what was held.
    pub(crate) fn answer(&self) {
        for reply in self.held.lock().unwrap().drain(..) {
            reply.send(Ok(DeliverReply::default()));
        }
    }
}

impl Service<EdgeCall> for FakeEdge {
    fn call(&self, call: EdgeCall) {
        let EdgeCall::Deliver(batch, reply) = call;
        match *self.manner.lock().unwrap() {
            Manner::Takes => {
                self.got.lock().unwrap().push(batch);
                reply.send(Ok(DeliverReply::default()));
            }
            Manner::Refuses => reply.send(Err(CallError::Full)),
            Manner::Holds => {
                self.got.lock().unwrap().push(batch);
                self.held.lock().unwrap().push(reply);
            }
        }
    }
}
