//! The calls from edges to router and to persist: each edge's calls keep their order, and each may be lost, or its answer.

use petrel_protocol::calls::{
    Claim, ClaimReply, DeliverBatch, HistoryRequest, Lease, Release, ResolveRequest, SyncReply, SyncRequest,
    claim_reply::Outcome,
};
use petrel_protocol::codes::Code;
use petrel_protocol::fanout;
use petrel_protocol::ids::{Address, ConversationId, Device, UserId};
use petrel_router::routes::{Asserted, Claimant, Claimed};

use super::coverage::Met;
use super::shard::{SessionId, ShardId, Told};
use super::{About, Event, Mutation, World};

/// A call on its way.
#[derive(Debug)]
pub(crate) enum Call {
    Claim(SessionId, Claim),
    Release(ShardId, Release),
    Lease { edge: usize, life: u32, lease: Lease },
    Kick { edge: usize, batch: DeliverBatch },
    Sync(SessionId, SyncRequest),
    History(SessionId, HistoryRequest),
    Resolve(SessionId, ResolveRequest),
}

/// One way between two services.
const WAY_US: u64 = 200;
/// Whoever calls learns after about this long that there is no answer.
const LOST_US: u64 = 300_000;

impl World {
    pub(crate) fn call_claim(&mut self, id: SessionId, is_assertion: bool) {
        let address = self.address(id);
        let now = self.edge_now(id.shard.edge);
        let Some(shard) = self.shard(id.shard) else { return };
        let super::shard::State::Open(session) = &shard.slots[id.slot as usize].state else { return };
        let claim = session.claim(now, address, is_assertion);
        if self.is_mutated(Mutation::ClaimIsNotAwaited) {
            let (outcome, epoch) = (Outcome::Taken.into(), address.epoch);
            let taken = ClaimReply { outcome, ..ClaimReply::default() };
            self.tell(id.shard, Told::Claimed(id, epoch, Some(taken)));
        }
        self.call_router(id.shard.edge, Call::Claim(id, claim));
    }

    pub(crate) fn call_release(&mut self, id: SessionId, release: Release) {
        self.call_router(id.shard.edge, Call::Release(id.shard, release));
    }

    pub(crate) fn call_lease(&mut self, edge: usize) {
        let it = &mut self.edges[edge];
        let lease = Lease {
            edge: it.id.into(),
            epoch: it.epoch,
            is_draining: it.is_draining,
            is_renewal: std::mem::replace(&mut it.is_lease_asked, true),
            ..Lease::default()
        };
        let life = it.life;
        self.call_router(edge, Call::Lease { edge, life, lease });
    }

    fn call_router(&mut self, edge: usize, call: Call) {
        let delay = self.delay(WAY_US);
        let it = &mut self.edges[edge];
        it.calls_us = it.calls_us.max(self.now_us + delay);
        let at_us = it.calls_us;
        self.schedule(at_us, Event::Call(Box::new(call)));
    }

    pub(crate) fn call_sync(&mut self, id: SessionId, mut request: SyncRequest) {
        // Smaller pages than the real ones, since the conversations of a run are short.
        request.rows_max = request.rows_max.min(self.size.page_rows);
        self.activity += 1;
        self.call_persist(id, Call::Sync(id, request));
    }

    pub(crate) fn call_history(&mut self, id: SessionId, request: HistoryRequest) {
        self.call_persist(id, Call::History(id, request));
    }

    pub(crate) fn call_resolve(&mut self, id: SessionId, request: ResolveRequest) {
        self.call_persist(id, Call::Resolve(id, request));
    }

    fn call_persist(&mut self, id: SessionId, call: Call) {
        let delay = self.delay(WAY_US);
        let now_us = self.now_us;
        let Some(shard) = self.shard(id.shard) else { return };
        shard.calls_us = shard.calls_us.max(now_us + delay);
        let at_us = shard.calls_us;
        self.schedule(at_us, Event::Call(Box::new(call)));
    }

    /// A call arrives.
    pub(crate) fn call(&mut self, call: Call) {
        match call {
            Call::Claim(id, claim) => {
                let is_lost = self.is_router_lost(id.shard.edge);
                let is_applied = !is_lost || (self.has_router() && self.random.coin());
                if is_lost {
                    self.met(if is_applied { Met::AnswerLost } else { Met::CallLost });
                }
                let reply = if is_applied { self.claim(&claim) } else { None };
                let delay = self.delay(if is_lost { LOST_US } else { WAY_US });
                let epoch = claim.address.map_or(0, |a| a.epoch);
                let told = Told::Claimed(id, epoch, reply.filter(|_| !is_lost));
                self.after(delay, Event::Tell(id.shard, told));
            }
            Call::Release(shard, release) => {
                if !self.is_router_lost(shard.edge) {
                    self.release(&release);
                }
            }
            Call::Lease { edge, life, lease } => {
                if self.is_router_lost(edge) || self.edges[edge].life != life {
                    return;
                }
                let renewal = self.routes.lease(self.now(), &lease);
                // The answer may be lost too.
                if !self.is_router_lost(edge) {
                    self.leased(edge, lease.epoch, renewal);
                }
            }
            Call::Kick { edge, batch } => {
                if !self.edges[edge].is_up {
                    return;
                }
                if self.is_isolated(edge) || self.strikes(self.faults.call_lost) {
                    // A replaced session that is not told would live on without a route: it is told again.
                    return self.after(LOST_US, Event::Call(Box::new(Call::Kick { edge, batch })));
                }
                self.take_batch(edge, batch);
            }
            Call::Sync(id, request) => {
                let reply = self.persist_answers().then(|| self.store.sync(&request));
                if let Some(reply) = &reply {
                    self.check_sync(&request, reply);
                }
                self.note(About::all(), || {
                    let rows: Vec<_> =
                        reply.iter().flat_map(|r| &r.ranges).map(|r| (r.from_seq, r.to_seq)).collect();
                    format!("{id} is synced: {rows:?}")
                });
                self.answer(id, Told::Synced(id, reply));
            }
            Call::History(id, request) => {
                let range = self.persist_answers().then(|| self.store.history(&request));
                self.answer(id, Told::History(id, range));
            }
            Call::Resolve(id, request) => {
                let reply = self.persist_answers().then(|| self.store.resolve(&request));
                self.answer(id, Told::Resolved(id, reply));
            }
        }
    }

    /// A page is no larger than was asked for, and gives nothing that was acknowledged.
    fn check_sync(&mut self, request: &SyncRequest, reply: &SyncReply) {
        let rows: usize = reply.ranges.iter().map(|range| range.rows.len()).sum();
        if rows > request.rows_max as usize {
            let text = format!("{rows} rows in a page of {}", request.rows_max);
            self.fail("bounded", About::default(), text);
        }
        if !reply.next_page.is_empty() {
            self.met(Met::ManyPages);
        }
        for range in &reply.ranges {
            let conversation = range.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
            let Some(conversation) = conversation else { continue };
            let id = (conversation, request.user, request.device);
            let acked = self.store.acked.get(&id).copied().unwrap_or(0);
            if range.from_seq <= acked {
                let text = format!("seq {} is given again, and {acked} was acknowledged", range.from_seq);
                self.fail("cursor-rises", About::row(conversation, range.from_seq), text);
            }
        }
    }

    fn persist_answers(&mut self) -> bool {
        self.persist.answers() && !self.strikes(self.faults.call_lost)
    }

    /// Answers to one shard keep the order of its calls, refusals included.
    fn answer(&mut self, id: SessionId, told: Told) {
        let delay = self.delay(WAY_US);
        let now_us = self.now_us;
        let Some(shard) = self.shard(id.shard) else { return };
        shard.answers_us = shard.answers_us.max(now_us + delay);
        let at_us = shard.answers_us;
        self.schedule(at_us, Event::Tell(id.shard, told));
    }

    pub(crate) fn is_isolated(&self, edge: usize) -> bool {
        self.edges[edge].isolated_until_us > self.now_us
    }

    fn is_router_lost(&mut self, edge: usize) -> bool {
        !self.has_router() || self.is_isolated(edge) || self.strikes(self.faults.call_lost)
    }

    fn claim(&mut self, claim: &Claim) -> Option<ClaimReply> {
        let (user, device, address) = parts(claim.user, claim.device, claim.address.as_ref())?;
        let claimant = Claimant { user, device, address, age_ms: claim.age_ms };
        let now = self.now();
        let takes = !claim.is_assertion || self.is_mutated(Mutation::AssertionTakes);
        let (outcome, replaced) = if takes {
            match self.routes.claim(now, &claimant).ok()? {
                Claimed::Taken { .. } if claim.is_assertion => (Outcome::Held, None),
                Claimed::Taken { replaced } => (Outcome::Taken, replaced),
                Claimed::Held => (Outcome::Held, None),
                Claimed::Superseded => (Outcome::Superseded, None),
            }
        } else {
            match self.routes.assert(now, &claimant).ok()? {
                Asserted::Held => (Outcome::Held, None),
                Asserted::Lost => (Outcome::Lost, None),
                Asserted::Superseded => (Outcome::Superseded, None),
            }
        };
        if let Some(replaced) = replaced
            && !self.is_mutated(Mutation::ReplacedIsNotTold)
        {
            self.kick(user, device, replaced);
        }
        let replaced = replaced.map(Into::into);
        Some(ClaimReply { replaced, outcome: outcome.into(), token_version: 0 })
    }

    fn kick(&mut self, user: UserId, device: Device, address: Address) {
        let batch = fanout::kick(user, device, address, Code::LoggedInElsewhere, "");
        let Some(edge) = self.edges.iter().position(|e| e.id == address.edge) else { return };
        self.note(About::all(), || {
            format!("the session of {user}/{} on edge {edge} was replaced", device as u8)
        });
        let delay = self.delay(WAY_US);
        self.after(delay, Event::Call(Box::new(Call::Kick { edge, batch })));
    }

    fn release(&mut self, release: &Release) {
        let Some((user, device, address)) = parts(release.user, release.device, release.address.as_ref())
        else {
            return;
        };
        if self.is_mutated(Mutation::ReleaseWithoutCompare) {
            let routes = self.routes.look_up(self.now(), &[user]);
            for route in routes.iter().filter(|r| r.device == device) {
                self.routes.release(user, device, route.address);
            }
        } else {
            self.routes.release(user, device, address);
        }
    }
}

fn parts(
    user: u64,
    device: u32,
    address: Option<&petrel_protocol::events::Address>,
) -> Option<(UserId, Device, Address)> {
    Some((UserId(user), Device::from_number(device)?, Address::from(address?)))
}
