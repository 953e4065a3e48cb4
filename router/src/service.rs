//! What edges ask of router, and how router calls them.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use petrel_bus::calls::{CallError, EdgeCall, Link, Reply, RouterCall, Service};
use petrel_protocol::calls::{
    Claim, ClaimReply, Lease, LeaseReply, Release, ServiceAt, claim_reply::Outcome,
};
use petrel_protocol::codes::Code;
use petrel_protocol::fanout::{self, Incarnation, Route};
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::map::Map;
use petrel_protocol::time::Now;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::metrics::METRICS;
use crate::routes::{Asserted, Claimant, Claimed, Held, Refusal, Renewal, Routes};

/// The routes, and the edges that they lead to.
pub(crate) struct Directory {
    pub(crate) routes: Routes,
    pub(crate) clock: Clock,
    revocations: Arc<Semaphore>,
    edges: RwLock<Map<u16, Attached>>,
    /// Other processes.
    others: OnceLock<Others>,
}

/// How a router deals with other processes.
pub(crate) struct Others {
    /// How edges are called.
    pub(crate) connect: Connect,
    /// Who is told, again and again, which routers and persists live.
    pub(crate) learn: Learn,
}

/// Is told which routers and persists live.
pub(crate) type Learn = Box<dyn Fn(&[ServiceAt]) + Send + Sync>;

/// Makes a link to the edge at this address (host:port). None: it cannot be one.
pub(crate) type Connect = Box<dyn Fn(&str) -> Option<Link<EdgeCall>> + Send + Sync>;

/// An edge that can be called.
struct Attached {
    /// Where, as its lease says; empty for one in this process.
    calls: String,
    link: Link<EdgeCall>,
}

impl Directory {
    pub(crate) fn new(routes: Routes) -> Self {
        let revocations = Arc::new(Semaphore::new(limits::REVOCATIONS_WAITING_MAX));
        let (edges, others) = (RwLock::default(), OnceLock::new());
        Self { routes, clock: Clock::start(), revocations, edges, others }
    }

    /// From now on edges in other processes are attached and detached as their leases come and go.
    pub(crate) fn set_others(&self, others: Others) {
        assert!(self.others.set(others).is_ok(), "set once");
    }

    /// Looks which other processes have come and gone.
    pub(crate) fn follow(&self) {
        METRICS.lease_age_ms.reset();
        for lease in self.routes.leases(self.clock.now()) {
            let edge = lease.incarnation.edge.to_string();
            METRICS.lease_age_ms.with_label_values(&[&edge]).set(lease.age_ms as i64);
        }
        self.follow_leases();
        if let Some(others) = self.others.get() {
            (others.learn)(&self.routes.services(self.clock.now()));
        }
    }

    /// Attaches the edges whose leases live, where they say that they are called there, and detaches the others. What is
    /// under way to those is answered by their links, or not at all: then they are tried until their lease is over.
    fn follow_leases(&self) {
        let Some(Others { connect, .. }) = self.others.get() else { return };
        let live = self.routes.leases(self.clock.now());
        let mut edges = self.edges.write().unwrap_or_else(PoisonError::into_inner);
        edges.retain(|edge, attached| {
            attached.calls.is_empty() || live.iter().any(|held| held.incarnation.edge == *edge)
        });
        for held in live.iter().filter(|held| !held.calls.is_empty()) {
            let edge = held.incarnation.edge;
            if edges.get(&edge).is_some_and(|attached| attached.calls == held.calls) {
                continue;
            }
            let Some(link) = connect(&held.calls) else {
                tracing::error!(
                    "edge {edge} cannot be called at `{}`: correct `calls_at` in its configuration",
                    held.calls
                );
                continue;
            };
            edges.insert(edge, Attached { calls: held.calls.clone(), link });
        }
    }

    /// Names the handle on which an edge is called.
    pub(crate) fn attach(&self, edge: u16, link: Link<EdgeCall>) {
        self.edges
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(edge, Attached { calls: String::new(), link });
    }

    /// The handle of an edge, where it is attached.
    pub(crate) fn edge(&self, edge: u16) -> Option<Link<EdgeCall>> {
        let edges = self.edges.read().unwrap_or_else(PoisonError::into_inner);
        edges.get(&edge).map(|attached| Arc::clone(&attached.link))
    }

    /// Ends every live session of a user; how many were told.
    pub(crate) async fn kick_all(&self, user: UserId, code: Code, text: &str) -> Result<usize, Refusal> {
        let routes = self.routes.look_up(self.clock.now(), &[user]).await?;
        for Route { device, address, .. } in &routes {
            self.kick(user, *device, *address, code, text);
        }
        Ok(routes.len())
    }

    /// Ends the live sessions whose tokens were revoked, once the routes can be asked. A session that cannot be told finds
    /// the version when it asserts its route. False where too many revocations wait already.
    pub(crate) fn revoked(self: &Arc<Self>, user: UserId, version: u32, token_ttl: Duration) -> bool {
        let Ok(place) = Arc::clone(&self.revocations).try_acquire_owned() else { return false };
        let directory = Arc::clone(self);
        self.routes.run(async move {
            while directory.routes.set_token_version(user, version, token_ttl).await.is_err() {
                again("set_token_version").await;
            }
            let text = "this account was logged out: log in again";
            while directory.kick_all(user, Code::BadToken, text).await.is_err() {
                again("kick").await;
            }
            drop(place);
        });
        true
    }

    /// Tells a session to end. Nobody waits for it: what cannot be told is found when its route is claimed again.
    fn kick(&self, user: UserId, device: Device, address: Address, code: Code, text: &str) {
        let reason = if code == Code::LoggedInElsewhere { "logged_in_elsewhere" } else { "token_revoked" };
        METRICS.kicks.with_label_values(&[reason]).inc();
        let Some(edge) = self.edge(address.edge) else { return };
        edge.call(EdgeCall::Deliver(fanout::kick(user, device, address, code, text), Reply::ignored()));
    }

    async fn claim(&self, claim: &Claim) -> Result<ClaimReply, CallError> {
        let Some((user, device, address)) = parts(claim.user, claim.device, claim.address.as_ref()) else {
            METRICS.claims.with_label_values(&["malformed"]).inc();
            tracing::error!(
                "a claim without user, device or address was refused: {claim:?}; is the edge of this version?"
            );
            return Err(CallError::Unavailable);
        };
        let claimant = Claimant { user, device, address, age_ms: claim.age_ms };
        let now = self.clock.now();
        let answer = if claim.is_assertion {
            self.routes.assert(now, &claimant).await.map(|answer| {
                let outcome = match answer.outcome {
                    Asserted::Held => Outcome::Held,
                    Asserted::Lost => Outcome::Lost,
                    Asserted::Superseded => Outcome::Superseded,
                };
                (outcome, None, answer.token_version)
            })
        } else {
            self.routes.claim(now, &claimant).await.map(|answer| {
                let (outcome, replaced) = match answer.outcome {
                    Claimed::Taken { replaced } => (Outcome::Taken, replaced),
                    Claimed::Held => (Outcome::Held, None),
                    Claimed::Superseded => (Outcome::Superseded, None),
                };
                (outcome, replaced, answer.token_version)
            })
        };
        let (outcome, replaced, token_version) = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                // Without a lease: the edge learns from its renewal that it needs a new epoch.
                let (counted, error) = match refusal {
                    Refusal::NoLease { .. } => ("no_lease", CallError::Unavailable),
                    Refusal::Busy => ("busy", CallError::Full),
                    Refusal::Unavailable => ("unavailable", CallError::Unavailable),
                };
                METRICS.claims.with_label_values(&[counted]).inc();
                return Err(error);
            }
        };
        let counted = match (outcome, replaced) {
            (Outcome::Taken, None) => "taken",
            (Outcome::Taken, Some(_)) => "replaced",
            (Outcome::Held, _) => "held",
            (Outcome::Lost, _) => "lost",
            (Outcome::Superseded, _) => "superseded",
        };
        METRICS.claims.with_label_values(&[counted]).inc();
        if let Some(replaced) = replaced {
            let text = "this account was logged in on another device of this type";
            self.kick(user, device, replaced, Code::LoggedInElsewhere, text);
        }
        let replaced = replaced.map(Into::into);
        Ok(ClaimReply { replaced, outcome: outcome.into(), token_version })
    }

    async fn release(&self, release: &Release) {
        if let Some((user, device, address)) = parts(release.user, release.device, release.address.as_ref()) {
            // One that fails stays as a hint to a socket that is gone.
            let _ = self.routes.release(user, device, address).await;
        }
    }

    async fn lease(&self, lease: &Lease) -> Result<LeaseReply, CallError> {
        let now = self.clock.now();
        let renewal = self.routes.lease(now, lease).await.map_err(|_| CallError::Unavailable)?;
        let is_later = |held: &Held| {
            u32::from(held.incarnation.edge) == lease.edge && held.incarnation.epoch > lease.epoch
        };
        let is_replaced = renewal == Renewal::Over && self.routes.leases(now).iter().any(is_later);
        // First, so that nobody connects to one that may not serve.
        let worker_of = if renewal == Renewal::Over { None } else { self.give_way(now, lease).await? };
        let holds = worker_of.is_none() && self.holds(lease, renewal, is_replaced);
        Ok(LeaseReply { holds, is_replaced, worker_of, services: self.routes.services(now) })
    }

    /// Ends this lease where an earlier one is of an edge that generates message ids as the same worker; the id of that
    /// edge. Looked at once both have theirs, so that of two that come at once one gives way. It asks again and again, and
    /// says in its own log what to do.
    async fn give_way(&self, now: Now, lease: &Lease) -> Result<Option<u32>, CallError> {
        let Ok(edge) = u16::try_from(lease.edge) else { return Ok(None) };
        let incarnation = Incarnation { edge, epoch: lease.epoch };
        let order = |of: Incarnation| (of.epoch, of.edge);
        let is_rival = |held: &Held| {
            held.incarnation.edge != edge
                && lease.worker.is_some()
                && held.worker == lease.worker
                && order(held.incarnation) < order(incarnation)
        };
        let Some(rival) = self.routes.leases(now).into_iter().find(is_rival) else { return Ok(None) };
        self.routes.revoke(incarnation).await.map_err(|_| CallError::Unavailable)?;
        METRICS.leases_refused.with_label_values(&["worker"]).inc();
        Ok(Some(rival.incarnation.edge.into()))
    }

    fn holds(&self, lease: &Lease, renewal: Renewal, is_replaced: bool) -> bool {
        match renewal {
            Renewal::Held => true,
            Renewal::New { replaced } => {
                tracing::info!(
                    "edge {} takes sessions at {} (epoch {}{})",
                    lease.edge,
                    lease.url,
                    lease.epoch,
                    if replaced.is_some() { ", in place of an earlier one" } else { "" }
                );
                self.follow_leases();
                true
            }
            Renewal::Over if is_replaced => {
                METRICS.leases_refused.with_label_values(&["replaced"]).inc();
                tracing::error!(
                    "two edges run with the id {}: the earlier one, at {}, is told to end; give each an id of its own",
                    lease.edge,
                    lease.url
                );
                false
            }
            Renewal::Over => {
                METRICS.leases_refused.with_label_values(&["over"]).inc();
                tracing::warn!(
                    "edge {}: epoch {} is over; it has to take a new one",
                    lease.edge,
                    lease.epoch
                );
                false
            }
        }
    }

    async fn answer(&self, call: RouterCall) {
        match call {
            RouterCall::Claim(claim, reply) => reply.send(self.claim(&claim).await),
            RouterCall::Release(release, reply) => {
                self.release(&release).await;
                reply.send(Ok(()));
            }
            RouterCall::Lease(lease, reply) => reply.send(self.lease(&lease).await),
            RouterCall::Announce(announce, reply) => {
                let noted = self.routes.announce(self.clock.now(), &announce).await;
                reply.send(noted.map_err(|_| CallError::Unavailable));
            }
        }
    }
}

/// Counts a call to the routes that failed, and waits until it is to be made again.
pub(crate) async fn again(call: &str) {
    METRICS.retries.with_label_values(&[call]).inc();
    tokio::time::sleep(Duration::from_millis(limits::ROUTES_RETRY_MS)).await;
}

/// What edges call. Routes in memory answer on the caller's thread.
pub(crate) struct Calls(pub(crate) Arc<Directory>);

impl Service<RouterCall> for Calls {
    fn call(&self, call: RouterCall) {
        let directory = Arc::clone(&self.0);
        self.0.routes.run(async move { directory.answer(call).await });
    }
}

fn parts(
    user: u64,
    device: u32,
    address: Option<&petrel_protocol::events::Address>,
) -> Option<(UserId, Device, Address)> {
    let address = address.filter(|a| a.edge <= u16::MAX.into() && a.shard <= u16::MAX.into())?;
    Some((UserId(user), Device::from_number(device)?, Address::from(address))).filter(|_| user != 0)
}
