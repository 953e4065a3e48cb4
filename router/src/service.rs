//! What edges ask of router, answered on the caller's thread, and how router calls them.

use std::sync::{PoisonError, RwLock};

use petrel_bus::calls::{CallError, EdgeCall, Link, Reply, RouterCall, Service};
use petrel_protocol::calls::{
    Claim, ClaimReply, DeliverBatch, Delivery, Kick, Lease, LeaseReply, Release, claim_reply::Outcome,
    delivery::What,
};
use petrel_protocol::codes::Code;
use petrel_protocol::fanout::Route;
use petrel_protocol::ids::{Address, Device, UserId};
use petrel_protocol::map::Map;

use crate::clock::Clock;
use crate::metrics::METRICS;
use crate::routes::{Asserted, Claimant, Claimed, Renewal, Routes};

/// The routes, and the edges that they lead to.
pub(crate) struct Directory {
    pub(crate) routes: Routes,
    pub(crate) clock: Clock,
    edges: RwLock<Map<u16, Link<EdgeCall>>>,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self { routes: Routes::memory(), clock: Clock::start(), edges: RwLock::default() }
    }

    /// Names the handle on which an edge is called.
    pub(crate) fn attach(&self, edge: u16, link: Link<EdgeCall>) {
        self.edges.write().unwrap_or_else(PoisonError::into_inner).insert(edge, link);
    }

    /// The handle of an edge, where it is attached.
    pub(crate) fn edge(&self, edge: u16) -> Option<Link<EdgeCall>> {
        self.edges.read().unwrap_or_else(PoisonError::into_inner).get(&edge).cloned()
    }

    /// Ends every live session of a user; how many were told.
    pub(crate) fn kick_all(&self, user: UserId, code: Code, text: &str) -> usize {
        let routes = self.routes.look_up(self.clock.now(), &[user]);
        for Route { device, address, .. } in &routes {
            self.kick(user, *device, *address, code, text);
        }
        routes.len()
    }

    /// Tells a session to end. Nobody waits for it: what cannot be told is found when its route is claimed again.
    fn kick(&self, user: UserId, device: Device, address: Address, code: Code, text: &str) {
        let reason = if code == Code::LoggedInElsewhere { "logged_in_elsewhere" } else { "token_revoked" };
        METRICS.kicks.with_label_values(&[reason]).inc();
        let Some(edge) = self.edge(address.edge) else { return };
        let kick = Kick { code: code as i32, text: text.to_owned() };
        let delivery = Delivery {
            shard: address.shard.into(),
            slot: address.slot,
            generation: address.generation,
            user: user.0,
            device: device as u32,
            what: Some(What::Kick(kick)),
        };
        let batch =
            DeliverBatch { edge: address.edge.into(), epoch: address.epoch, deliveries: vec![delivery] };
        edge.call(EdgeCall::Deliver(batch, Reply::ignored()));
    }

    fn claim(&self, claim: &Claim) -> Result<ClaimReply, CallError> {
        let Some((user, device, address)) = parts(claim.user, claim.device, claim.address.as_ref()) else {
            METRICS.claims.with_label_values(&["malformed"]).inc();
            tracing::error!(
                "a claim without user, device or address was refused: {claim:?}; is the edge of this version?"
            );
            return Err(CallError::Unavailable);
        };
        let claimant = Claimant { user, device, address, age_ms: claim.age_ms };
        let now = self.clock.now();
        let outcome = if claim.is_assertion {
            self.routes.assert(now, &claimant).map(|asserted| match asserted {
                Asserted::Held => (Outcome::Held, None),
                Asserted::Lost => (Outcome::Lost, None),
                Asserted::Superseded => (Outcome::Superseded, None),
            })
        } else {
            self.routes.claim(now, &claimant).map(|claimed| match claimed {
                Claimed::Taken { replaced } => (Outcome::Taken, replaced),
                Claimed::Held => (Outcome::Held, None),
                Claimed::Superseded => (Outcome::Superseded, None),
            })
        };
        let Ok((outcome, replaced)) = outcome else {
            // The edge learns from its lease's renewal that it needs a new epoch.
            METRICS.claims.with_label_values(&["no_lease"]).inc();
            return Err(CallError::Unavailable);
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
        Ok(ClaimReply { replaced, outcome: outcome.into(), token_version: 0 })
    }

    fn release(&self, release: &Release) {
        if let Some((user, device, address)) = parts(release.user, release.device, release.address.as_ref()) {
            self.routes.release(user, device, address);
        }
    }

    fn lease(&self, lease: &Lease) -> bool {
        match self.routes.lease(self.clock.now(), lease) {
            Renewal::Held => true,
            Renewal::New { replaced } => {
                tracing::info!(
                    "edge {} takes sessions at {} (epoch {}{})",
                    lease.edge,
                    lease.url,
                    lease.epoch,
                    if replaced.is_some() { ", in place of an earlier one" } else { "" }
                );
                true
            }
            Renewal::Over => {
                tracing::warn!(
                    "edge {}: epoch {} is over; it has to take a new one",
                    lease.edge,
                    lease.epoch
                );
                false
            }
        }
    }
}

impl Service<RouterCall> for Directory {
    fn call(&self, call: RouterCall) {
        match call {
            RouterCall::Claim(claim, reply) => {
                let answer = self.claim(&claim);
                reply.send(answer);
            }
            RouterCall::Release(release, reply) => {
                self.release(&release);
                reply.send(Ok(()));
            }
            RouterCall::Lease(lease, reply) => {
                let holds = self.lease(&lease);
                reply.send(Ok(LeaseReply { holds, services: self.routes.services(self.clock.now()) }));
            }
            RouterCall::Announce(announce, reply) => {
                self.routes.announce(self.clock.now(), &announce);
                reply.send(Ok(()));
            }
        }
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
