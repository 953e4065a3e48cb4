//! Holds the WebSockets: shards over io_uring, one thread each, that share nothing.
//!
//! The decisions stand in `petrel_protocol::session`; here they meet sockets, the bus and the calls to the services.

mod calls;
mod connection;
mod handshake;
mod ids;
mod inbox;
mod metrics;
mod packs;
mod shard;
mod walk;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use petrel_bus::Bus;
use petrel_bus::calls::{EdgeCall, Link, PersistCall, Reply, RouterCall, Service};
use petrel_protocol::calls::{DeliverBatch, DeliverReply, Delivery, Lease, LeaseReply, delivery::What};
use petrel_protocol::session::Outcome;
use petrel_protocol::token::Keys;
use petrel_protocol::topics::Topic;
use petrel_protocol::{limits, session};
use petrel_ring::Ring;

pub use petrel_ring::Config as RingConfig;

use ids::{IdBlocks, IdSource, Rung};
use inbox::{Inbox, Told};
use packs::{Packs, outcome_of};
use shard::{Parts, Shard};

/// What an edge is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The URL that login gives to clients; none: made of the bound address.
    pub url: Option<String>,
    /// Where routers call this edge (host:port); empty where all is one process.
    pub calls: String,
    /// This edge's id: unique among the edges.
    pub edge: u16,
    /// The generator of message ids: unique among edges, 0 to 1023.
    pub worker: u16,
    /// Keeps the id generator's mark.
    pub ids_file: PathBuf,
    /// Threads that hold sockets: one a core; more where a process may not open many descriptors.
    pub shards: u16,
    /// The ring of each shard.
    pub ring: petrel_ring::Config,
    /// Times and bounds of sessions.
    pub session: session::Config,
}

/// Why an edge did not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {0}: {1}; stop what holds it, or choose another address with --listen")]
    Listen(SocketAddr, io::Error),
    /// The kernel refused a ring.
    #[error(
        "cannot set up io_uring: {0}; Petrel needs Linux 6.8 or later with kernel.io_uring_disabled = 0, and RLIMIT_NOFILE of at least the sockets of a shard"
    )]
    Ring(io::Error),
    /// The mark of the id generator cannot be read or written.
    #[error("cannot use the id file: {0}")]
    Ids(io::Error),
    /// The router refused this edge's lease.
    #[error("the router does not take this edge's lease: is another edge running with the same id?")]
    Lease,
    /// It may not run beside another edge.
    #[error("{0}")]
    Conflict(Conflict),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Why an edge may not run beside another one. The text says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A later one has the same id. Taking a new epoch would only replace that one in turn.
    #[error("another edge runs with the id {edge}: give each edge an `id` of its own")]
    Id {
        /// That id.
        edge: u16,
    },
    /// An earlier one generates message ids as the same worker: ids would be given out twice.
    #[error(
        "edge {other} generates message ids as worker {worker} too: give each edge a `worker` of its own"
    )]
    Worker {
        /// That worker.
        worker: u16,
        /// The id of the earlier one.
        other: u32,
    },
}

/// This edge's incarnation: its id and its present epoch.
#[derive(Debug)]
pub(crate) struct Incarnation {
    pub(crate) edge: u16,
    epoch: AtomicU64,
    /// The latest epoch whose lease was asked for, whatever became of it.
    asked_for: AtomicU64,
}

impl Incarnation {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The epoch to ask a lease for, and whether it was asked for before.
    fn ask(&self) -> (u64, bool) {
        let epoch = self.epoch();
        (epoch, self.asked_for.swap(epoch, Ordering::AcqRel) == epoch)
    }
}

/// A running edge.
pub struct Edge {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
    addr: SocketAddr,
}

struct Inner {
    incarnation: Arc<Incarnation>,
    inboxes: Vec<Arc<Inbox>>,
    router: Link<RouterCall>,
    ids: Arc<IdSource>,
    url: String,
    calls: String,
    sessions_max: u32,
    is_draining: AtomicBool,
    worker: u16,
    conflict: OnceLock<Conflict>,
}

impl Edge {
    /// Starts the shards and takes a lease. Clients can connect when this returns; router should have this edge attached
    /// (`attach`, called with the edge's link before the first client can connect).
    pub fn start(
        config: &Config,
        bus: &Bus,
        persist: &Link<PersistCall>,
        router: &Link<RouterCall>,
        keys: &Arc<Keys>,
        attach: impl FnOnce(u16, Link<EdgeCall>),
    ) -> Result<Self, StartError> {
        // Every shard binds with SO_REUSEPORT, which would also let a second Petrel take half of the clients in
        // silence: a plain bind tells whether somebody is there.
        let probe = TcpListener::bind(config.listen).map_err(|e| StartError::Listen(config.listen, e))?;
        let addr = probe.local_addr().map_err(|e| StartError::Listen(config.listen, e))?;
        drop(probe);
        let now_ms = wall_ms();
        let source =
            IdSource::open(config.worker, config.ids_file.clone(), now_ms).map_err(StartError::Ids)?;
        let ids = Arc::new(source);
        let incarnation = Arc::new(Incarnation {
            edge: config.edge,
            epoch: AtomicU64::new(now_ms),
            asked_for: AtomicU64::new(0),
        });
        let inboxes: Vec<_> = (0..config.shards).map(|_| Arc::new(Inbox::new(config.ring.sockets))).collect();
        let inner = Arc::new(Inner {
            incarnation: Arc::clone(&incarnation),
            inboxes: inboxes.clone(),
            router: Arc::clone(router),
            ids: Arc::clone(&ids),
            url: config.url.clone().unwrap_or_else(|| format!("ws://{addr}/websocket")),
            calls: config.calls.clone(),
            sessions_max: config.ring.sockets * u32::from(config.shards),
            is_draining: AtomicBool::new(false),
            worker: config.worker,
            conflict: OnceLock::new(),
        });
        attach(config.edge, Arc::new(EdgeService(Arc::clone(&inner))));
        inner.first_lease()?;
        let mut edge = Self { inner, threads: Vec::new(), addr };
        let (ready, is_ready) = mpsc::channel();
        for (number, inbox) in (0..).zip(inboxes) {
            let parts = Parts {
                number,
                incarnation: Arc::clone(&incarnation),
                packs: packs_of(bus, &inbox),
                inbox: Arc::clone(&inbox),
                persist: Arc::clone(persist),
                router: Arc::clone(router),
                keys: Arc::clone(keys),
                ids: IdBlocks::new(Arc::clone(&ids)),
                session: config.session.clone(),
            };
            let (ring, ready) = (config.ring.clone(), ready.clone());
            edge.spawn(format!("edge-{number}"), move || run_shard(parts, ring, addr, &inbox, &ready))?;
        }
        drop(ready);
        for _ in 0..config.shards {
            is_ready.recv().unwrap_or_else(|_| Err(StartError::Ring(io::Error::other("a shard ended"))))?;
        }
        let inner = Arc::clone(&edge.inner);
        edge.spawn("edge-lease".to_owned(), move || inner.keep_lease())?;
        Ok(edge)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL that clients are given.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Why this edge may not go on, if so. Its sessions get no pushes any more: drain it.
    pub fn conflict(&self) -> Option<Conflict> {
        self.inner.conflict.get().copied()
    }

    /// What is to be called with new token keys: whoever connects from then on is judged by them. Sessions stay.
    pub fn on_new_keys(&self) -> impl Fn(Arc<Keys>) + Send + 'static + use<> {
        let inboxes = self.inner.inboxes.clone();
        move |keys| inboxes.iter().for_each(|inbox| inbox.tell(Told::Keys(Arc::clone(&keys))))
    }

    /// Whether every shard has gone round since this was asked before.
    pub fn is_turning(&self) -> bool {
        self.inner.inboxes.iter().filter(|inbox| !inbox.ask_whether_turning()).count() == 0
    }

    /// Stops accepting, tells the clients, lets what is under way settle, closes with 1001 and ends. Takes a few seconds
    /// at most.
    pub fn drain(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.inner.is_draining.store(true, Ordering::Release);
        self.inner.lease(Reply::ignored());
        for inbox in &self.inner.inboxes {
            inbox.tell(Told::Drain);
        }
        self.inner.ids.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an edge thread panicked");
            }
        }
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let thread = thread::Builder::new().name(name).spawn(run).map_err(StartError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop();
    }
}

fn packs_of(bus: &Bus, inbox: &Arc<Inbox>) -> Packs {
    let told = Arc::clone(inbox);
    let uplink = bus.publisher(
        Topic::Uplink,
        Arc::new(move |receipt| {
            let outcome = receipt.outcome.map_or_else(outcome_of, |_| Outcome::Accepted);
            told.tell(Told::Published(receipt.tag, outcome));
        }),
    );
    // Nobody waits for these: a lost one is a duplicate at the device's next connect.
    let receipts = bus.publisher(Topic::Receipts, Arc::new(|_| {}));
    Packs::new(uplink, receipts, bus.partitions())
}

fn run_shard(
    parts: Parts,
    ring: petrel_ring::Config,
    addr: SocketAddr,
    inbox: &Inbox,
    ready: &mpsc::Sender<Result<(), StartError>>,
) {
    let number = parts.number;
    let ring = Ring::new(ring).map_err(StartError::Ring).and_then(|mut ring| {
        ring.listen(addr).map_err(|e| StartError::Listen(addr, e))?;
        Ok(ring)
    });
    let ring = match ring {
        Ok(ring) => ring,
        Err(e) => return drop(ready.send(Err(e))),
    };
    inbox.set_waker(ring.waker());
    // The starter may have given up: then the drain that follows ends this shard.
    let _ = ready.send(Ok(()));
    if let Err(e) = Shard::new(parts).run(ring) {
        // Its clients' sockets close with the ring; they reconnect and are synced.
        tracing::error!("shard {number} ended: {e}; restart the edge");
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl Inner {
    fn lease(&self, reply: Reply<LeaseReply>) {
        let (epoch, is_renewal) = self.incarnation.ask();
        let lease = Lease {
            edge: self.incarnation.edge.into(),
            epoch,
            is_renewal,
            calls: self.calls.clone(),
            url: self.url.clone(),
            sessions: self.inboxes.iter().map(|i| i.sessions.load(Ordering::Relaxed)).sum(),
            sessions_max: self.sessions_max,
            is_draining: self.is_draining.load(Ordering::Acquire),
            worker: Some(self.worker.into()),
        };
        self.router.call(RouterCall::Lease(lease, reply));
    }

    fn first_lease(&self) -> Result<(), StartError> {
        let (tell, told) = mpsc::channel();
        self.lease(Reply::new(move |answer| {
            // The receiver is this function.
            let _ = tell.send(answer);
        }));
        match told.recv() {
            Ok(Ok(LeaseReply { holds: true, .. })) => Ok(()),
            Ok(Ok(answer)) => Err(self.conflict_of(&answer).map_or(StartError::Lease, StartError::Conflict)),
            _ => Err(StartError::Lease),
        }
    }

    fn conflict_of(&self, answer: &LeaseReply) -> Option<Conflict> {
        let of_worker = answer.worker_of.map(|other| Conflict::Worker { worker: self.worker, other });
        let of_id = answer.is_replaced.then_some(Conflict::Id { edge: self.incarnation.edge });
        of_worker.or(of_id)
    }

    /// Renews the lease, and moves the id generator's mark when that is due, until the edge stops.
    fn keep_lease(self: Arc<Self>) {
        let every = Duration::from_millis(limits::LEASE_RENEW_MS);
        let mut next = Instant::now() + every;
        loop {
            match self.ids.wait(next.saturating_duration_since(Instant::now())) {
                Rung::Stopped => return,
                Rung::MarkDue => self.store_mark(),
                Rung::TimedOut => {
                    next = Instant::now() + every;
                    let inner = Arc::clone(&self);
                    let epoch = self.incarnation.epoch();
                    self.lease(Reply::new(move |answer: Result<LeaseReply, _>| {
                        // An answer that comes late is about an epoch that is over already.
                        let Ok(answer) = answer else { return };
                        if answer.holds || inner.incarnation.epoch() != epoch {
                            return;
                        }
                        match inner.conflict_of(&answer) {
                            Some(conflict) => inner.give_way(conflict),
                            None => Self::take_new_epoch(&inner),
                        }
                    }));
                }
            }
        }
    }

    fn store_mark(&self) {
        if let Err(e) = self.ids.store_mark(wall_ms()) {
            tracing::error!("cannot write the id file: {e}; no message ids are given out: free the disk");
            // A disk that stays full is not asked in a loop.
            thread::sleep(Duration::from_millis(200));
        }
        for inbox in &self.inboxes {
            inbox.tell(Told::IdsReady);
        }
    }

    fn give_way(&self, conflict: Conflict) {
        if self.conflict.set(conflict).is_ok() {
            tracing::error!("this edge ends: {conflict}");
        }
    }

    /// The epoch was revoked: what was pushed meanwhile may be lost, so every session claims again and is synced.
    fn take_new_epoch(inner: &Arc<Self>) {
        let epoch = wall_ms().max(inner.incarnation.epoch() + 1);
        inner.incarnation.epoch.store(epoch, Ordering::Release);
        tracing::warn!("the lease ran out: new epoch {epoch}, all sessions claim their routes again");
        let told = Arc::clone(inner);
        inner.lease(Reply::new(move |answer: Result<LeaseReply, _>| {
            if let Some(conflict) = answer.ok().and_then(|answer| told.conflict_of(&answer)) {
                told.give_way(conflict);
            }
        }));
        for inbox in &inner.inboxes {
            inbox.tell(Told::ClaimAgain);
        }
    }

    fn deliver(&self, batch: DeliverBatch) -> DeliverReply {
        let mut reply = DeliverReply::default();
        if batch.epoch != self.incarnation.epoch() {
            // Routes of an earlier incarnation: their sessions are gone.
            reply.gone = batch.deliveries.len() as u32;
            return reply;
        }
        let mut by_shard: Vec<Vec<Delivery>> = self.inboxes.iter().map(|_| Vec::new()).collect();
        for delivery in batch.deliveries {
            let Some(list) = by_shard.get_mut(delivery.shard as usize) else {
                reply.gone += 1;
                continue;
            };
            if matches!(delivery.what, Some(What::Kick(_))) {
                self.inboxes[delivery.shard as usize].tell(Told::Kick(delivery));
            } else {
                list.push(delivery);
            }
        }
        for (inbox, list) in self.inboxes.iter().zip(by_shard) {
            if !list.is_empty() {
                reply.dirty += inbox.deliver(list);
            }
        }
        reply
    }
}

/// The edge as router sees it.
struct EdgeService(Arc<Inner>);

impl Service<EdgeCall> for EdgeService {
    fn call(&self, call: EdgeCall) {
        match call {
            EdgeCall::Deliver(batch, reply) => reply.send(Ok(self.0.deliver(batch))),
        }
    }
}
