//! Edges as processes: their lives, leases, deliveries and clocks, and how their packs reach the bus.

use super::coverage::Met;
use super::shard::{SessionId, Shard, ShardId, State, Told};
use super::versions::encode;
use super::{About, Event, Mutation, World};
use bytes::Bytes;
use petrel_protocol::calls::{DeliverBatch, DeliverReply, Delivery, delivery::What};
use petrel_protocol::limits;
use petrel_protocol::session::{Config, Input, Outcome};
use petrel_protocol::snowflake::Snowflake;
use petrel_protocol::time::Now;
use petrel_protocol::topics::Topic;
use petrel_router::routes::Renewal;

#[expect(clippy::struct_excessive_bools, reason = "each says another thing about a process")]
pub(crate) struct Edge {
    pub(crate) id: u16,
    /// Which of its lives: a restarted edge is another process.
    pub(crate) life: u32,
    pub(crate) is_up: bool,
    pub(crate) is_draining: bool,
    /// It is of the next version.
    pub(crate) is_next: bool,
    pub(crate) epoch: u64,
    /// Whether a lease was asked for under this epoch.
    pub(crate) is_lease_asked: bool,
    /// What its wall clock is wrong by.
    pub(crate) clock_ms: i64,
    /// Neither reaches router nor is reached by it until then.
    pub(crate) isolated_until_us: u64,
    pub(crate) shards: Vec<Shard>,
    /// Its mark is durable, so it outlives the process.
    pub(crate) ids: Snowflake,
    /// Calls to router keep their order.
    pub(crate) calls_us: u64,
}

/// How often a session asks for its route, where it does.
pub(super) const ASSERT_MS: u64 = 4_000;
/// The whole table is swept in this many steps.
const SWEEP_PARTS: usize = 5;
/// A drain that is not done by then is cut.
const DRAIN_US: u64 = 5_000_000;
/// A pack that comes again after this is late.
const LATE_US: u64 = 10_000_000;
/// One way between an edge and the bus.
const BUS_US: u64 = 700;

impl Edge {
    pub(crate) fn new(id: u16) -> Self {
        Self {
            id,
            life: 0,
            is_up: false,
            is_draining: false,
            is_next: false,
            epoch: 0,
            is_lease_asked: false,
            clock_ms: 0,
            isolated_until_us: 0,
            shards: Vec::new(),
            ids: Snowflake::new(id, 0),
            calls_us: 0,
        }
    }
}

impl World {
    pub(crate) fn edge_now(&self, edge: usize) -> Now {
        self.now_with(self.edges[edge].clock_ms)
    }

    pub(crate) fn edge_begins(&mut self, edge: usize) {
        if self.edges[edge].is_up {
            return;
        }
        let forgets_mark = self.is_mutated(Mutation::ForgetIdMark);
        if forgets_mark {
            // A clock that always begins at the same time is where the mark matters.
            self.edges[edge].clock_ms = -((self.now_us / 1_000) as i64);
        }
        let wall_ms = self.edge_now(edge).wall_ms;
        // Heartbeats and assertions are quicker than the real ones, so that a run meets many of them.
        let config = Config {
            ping_after_ms: 4_000,
            evict_after_ms: 7_000,
            shard_unstored_max: 48,
            assert_ms: self.size.assert_ms,
        };
        let partitions = self.size.partitions;
        let shards = (0..self.size.shards).map(|_| Shard::new(partitions, config.clone())).collect();
        let is_next = self.strikes(self.faults.versions);
        let it = &mut self.edges[edge];
        it.life += 1;
        it.is_up = true;
        it.is_draining = false;
        it.is_next = is_next;
        if forgets_mark {
            it.ids = Snowflake::new(it.id, 0);
        }
        it.is_lease_asked = false;
        it.epoch = wall_ms.max(it.epoch + 1);
        it.shards = shards;
        let life = it.life;
        self.note(About::all(), || format!("edge {edge}.{life} begins"));
        self.call_lease(edge);
        self.after(limits::LEASE_RENEW_MS * 1_000, Event::Renew(edge, life));
        for shard in 0..self.size.shards {
            let id = ShardId { edge, life, shard };
            self.refill_ids(id);
            let delay = self.random.below(1_000_000);
            self.after(delay, Event::Sweep(id));
        }
    }

    /// The process is gone, with all that it had not handed over.
    pub(crate) fn edge_ends(&mut self, edge: usize) {
        let it = &mut self.edges[edge];
        if !it.is_up {
            return;
        }
        it.is_up = false;
        it.shards.clear();
        let life = it.life;
        self.note(About::all(), || format!("edge {edge}.{life} ends"));
        self.cut_edge(edge, life);
        let delay = self.random.between(50_000, 3_000_000);
        self.after(delay, Event::EdgeBegins(edge));
    }

    pub(crate) fn renew(&mut self, edge: usize, life: u32) {
        if self.edges[edge].is_up && self.edges[edge].life == life {
            self.call_lease(edge);
            self.after(limits::LEASE_RENEW_MS * 1_000, Event::Renew(edge, life));
        }
    }

    /// Router's answer to a lease.
    pub(crate) fn leased(&mut self, edge: usize, epoch: u64, renewal: Renewal) {
        if self.edges[edge].epoch == epoch && renewal == Renewal::Over {
            self.take_new_epoch(edge);
        }
    }

    fn take_new_epoch(&mut self, edge: usize) {
        let wall_ms = self.edge_now(edge).wall_ms;
        let it = &mut self.edges[edge];
        it.epoch = wall_ms.max(it.epoch + 1);
        it.is_lease_asked = false;
        let (epoch, life) = (it.epoch, it.life);
        self.met(Met::NewEpoch);
        self.note(About::all(), || format!("edge {edge}.{life} takes epoch {epoch}"));
        self.call_lease(edge);
        if self.is_mutated(Mutation::KeepOldRoutes) {
            return;
        }
        for shard in 0..self.size.shards {
            self.tell(ShardId { edge, life, shard }, Told::ClaimAgain);
        }
    }

    pub(crate) fn drain(&mut self, edge: usize) {
        let it = &mut self.edges[edge];
        if !it.is_up || it.is_draining {
            return;
        }
        it.is_draining = true;
        let life = it.life;
        self.met(Met::EdgeDrained);
        self.note(About::all(), || format!("edge {edge}.{life} drains"));
        for shard in 0..self.size.shards {
            self.tell(ShardId { edge, life, shard }, Told::Drain);
        }
        self.after(DRAIN_US, Event::DrainEnds(edge, life));
    }

    pub(crate) fn drain_ends(&mut self, edge: usize, life: u32) {
        if self.edges[edge].life == life {
            self.edge_ends(edge);
        }
    }

    /// A batch of router's: answered when each delivery is queued, found gone, or its session marked dirty.
    pub(crate) fn take_batch(&mut self, edge: usize, batch: DeliverBatch) -> DeliverReply {
        let it = &self.edges[edge];
        let life = it.life;
        let mut reply = DeliverReply::default();
        if batch.epoch != it.epoch {
            reply.gone = batch.deliveries.len() as u32;
            return reply;
        }
        let mut by_shard: Vec<Vec<Delivery>> = (0..self.size.shards).map(|_| Vec::new()).collect();
        for delivery in batch.deliveries {
            let Some(list) = by_shard.get_mut(delivery.shard as usize) else {
                reply.gone += 1;
                continue;
            };
            if matches!(delivery.what, Some(What::Kick(_))) {
                let shard = ShardId { edge, life, shard: delivery.shard as usize };
                self.tell(shard, Told::Kick(Box::new(delivery)));
            } else {
                list.push(delivery);
            }
        }
        for (shard, list) in by_shard.into_iter().enumerate() {
            if !list.is_empty() {
                reply.dirty += self.queue_deliveries(ShardId { edge, life, shard }, list);
            }
        }
        reply
    }

    /// One delivery for one session, which must be whom it is for.
    pub(crate) fn delivery(&mut self, shard_id: ShardId, delivery: Delivery) {
        let by_slot = self.is_mutated(Mutation::SlotWithoutGeneration);
        let to_any = self.is_mutated(Mutation::DeliverToAnyUser);
        let Some(shard) = self.shard(shard_id) else { return };
        let Some(place) = shard.slots.get(delivery.slot as usize) else { return };
        let State::Open(session) = &place.state else { return };
        let is_it = place.generation == delivery.generation || by_slot || to_any;
        let is_right = session.user().0 == delivery.user && session.device() as u32 == delivery.device;
        if !is_it || !(is_right || to_any) {
            return;
        }
        let id = SessionId { shard: shard_id, slot: delivery.slot, generation: place.generation };
        let connection = place.connection;
        let Some(what) = delivery.what else { return };
        let falls = self.falling_status(&what);
        self.note_delivery(id, delivery.user, &what);
        if self.is_mutated(Mutation::CursorBeforeAck)
            && let What::Push(push) = &what
        {
            self.store.receipt(&petrel_protocol::events::Receipt {
                conversation: push.conversation,
                user: delivery.user,
                device: delivery.device,
                delivered_seq: push.seq,
                ..Default::default()
            });
        }
        self.input(id, Input::Delivery(what));
        if let Some(packet) = falls {
            self.send_client(connection, super::network::Frame::Packet(packet));
        }
    }

    /// The lower status that follows a higher one where that mutation is on.
    fn falling_status(&self, what: &What) -> Option<Bytes> {
        let What::Status(update) = what else { return None };
        let told = update.status.as_ref().filter(|s| s.status > 1)?;
        self.is_mutated(Mutation::StatusFalls).then(|| {
            let ack = petrel_protocol::packets::C2cAckReq {
                client_msg_id: told.client_msg_id.clone(),
                msg_id: told.msg_id,
                status: told.status - 1,
                ..Default::default()
            };
            petrel_protocol::packets::response(petrel_protocol::packets::MsgType::C2cAck, &ack)
        })
    }

    pub(crate) fn sweep(&mut self, id: ShardId) {
        let now = self.edge_now(id.edge);
        let Some(shard) = self.shard(id) else { return };
        let part = shard.slots.len().div_ceil(SWEEP_PARTS);
        let slots = (shard.sweep_part * part)..((shard.sweep_part + 1) * part).min(shard.slots.len());
        shard.sweep_part = (shard.sweep_part + 1) % SWEEP_PARTS;
        for slot in slots {
            let Some(shard) = self.shard(id) else { return };
            let place = &shard.slots[slot];
            let State::Open(session) = &place.state else { continue };
            if session.is_due(now, &shard.shared.config) {
                let session = SessionId { shard: id, slot: slot as u32, generation: place.generation };
                self.input(session, Input::Sweep);
            }
        }
        self.drain_step(id);
        self.turn_ended(id);
        self.after(1_000_000, Event::Sweep(id));
    }

    /// While the edge drains, sessions that owe nothing are closed.
    fn drain_step(&mut self, id: ShardId) {
        let Some(shard) = self.shard(id).filter(|s| s.shared.is_draining && s.packs.len() == 0) else {
            return;
        };
        let mut idle = Vec::new();
        for (slot, place) in (0..).zip(&shard.slots) {
            if let State::Open(session) = &place.state
                && !session.is_busy()
            {
                idle.push(SessionId { shard: id, slot, generation: place.generation });
            }
        }
        for session in idle {
            self.close(session);
        }
    }

    /// The end of a shard's turn: what may be published now is.
    pub(crate) fn turn_ended(&mut self, id: ShardId) {
        for partition in 0..self.size.partitions {
            self.publish(id, partition);
            let Some(receipts) = self.shard(id).and_then(|s| s.packs.take_receipts(partition)) else {
                continue;
            };
            if self.strikes(self.faults.receipts_lost) {
                self.met(Met::ReceiptsLost);
            } else {
                let receipts = encode(&receipts, self.edges[id.edge].is_next);
                let delay = self.delay(BUS_US);
                self.after(delay, Event::AppendQuietly(Topic::Receipts, partition, 0, receipts));
            }
        }
        self.check_bounds(id);
    }

    fn publish(&mut self, id: ShardId, partition: u16) {
        let overtakes = self.is_mutated(Mutation::PacksOvertake);
        let out_max = overtakes.then_some(u8::MAX);
        loop {
            let Some(shard) = self.shard(id) else { return };
            let Some((owners, pack)) = shard.packs.take(partition, out_max) else { return };
            if self.strikes(self.faults.publish_refused) {
                self.met(Met::PublishFull);
                let outcome = if self.random.coin() { Outcome::Full } else { Outcome::Unavailable };
                if let Some(shard) = self.shard(id) {
                    shard.packs.refused(&owners);
                }
                self.publications(&owners, outcome);
                continue;
            }
            if self.is_mutated(Mutation::AcceptBeforeReceipt) {
                self.publications(&owners, Outcome::Accepted);
            }
            let delay = self.delay(BUS_US);
            let at_us = self.now_us + delay;
            let Some(shard) = self.shard(id) else { return };
            let tag = shard.packs.sent(partition, owners);
            let lane = shard.packs.lane(partition);
            lane.last_append_us = lane.last_append_us.max(at_us);
            let at_us = if overtakes { at_us } else { lane.last_append_us };
            let is_next = self.edges[id.edge].is_next;
            if is_next {
                self.met(Met::NewerEvent);
            }
            let (pack, generation) = (encode(&pack, is_next), self.log.generation());
            self.schedule(at_us, Event::Append { shard: id, partition, tag, generation, pack });
        }
    }

    /// A pack reaches the log.
    pub(crate) fn append(&mut self, id: ShardId, partition: u16, tag: u64, generation: u32, pack: Bytes) {
        let is_open = self.log.open_generation() == Some(generation);
        let is_broken = self.strikes(self.faults.publish_unknown);
        let is_applied = !is_broken || self.random.coin();
        let is_again = self.strikes(self.faults.publish_again);
        let delay = self.delay(BUS_US);
        let at_us = self.now_us + delay;
        let Some(shard) = self.shard(id) else {
            // Its edge is gone; it was on its way.
            return self.append_quietly(Topic::Uplink, partition, generation, pack);
        };
        let lane = shard.packs.lane(partition);
        let is_void = tag < lane.void_before || lane.broken_by.is_some();
        if is_broken && !is_void {
            lane.broken_by = Some(tag);
        }
        lane.last_receipt_us = lane.last_receipt_us.max(at_us);
        let at_us = lane.last_receipt_us;
        let outcome = match (is_void || is_broken, is_open) {
            (true, _) => Outcome::Unknown,
            (false, true) => Outcome::Accepted,
            (false, false) => Outcome::Unavailable,
        };
        self.schedule(at_us, Event::Tell(id, Told::Published(tag, outcome)));
        if outcome == Outcome::Unavailable {
            self.met(Met::Sealed);
        }
        if outcome == Outcome::Unknown {
            let is_there = !is_void && is_applied && is_open;
            self.met(if is_there { Met::PublishUnknownApplied } else { Met::PublishUnknownLost });
        }
        if is_void || !is_applied || !is_open {
            return;
        }
        if is_again {
            // The bus's client sends it again after a reconnect, well within its bound.
            let delay = if self.random.one_in(8) {
                self.random.below(limits::REPUBLISH_MS_MAX * 900)
            } else {
                self.random.below(500_000)
            };
            self.met(if delay > LATE_US { Met::PublishedAgainLate } else { Met::PublishedAgain });
            let again = Event::AppendQuietly(Topic::Uplink, partition, generation, pack.clone());
            self.after(delay, again);
        }
        self.append_record(Topic::Uplink, partition, pack);
    }

    /// A pack that nobody waits for. A generation that was sealed takes it no more.
    pub(crate) fn append_quietly(&mut self, topic: Topic, partition: u16, generation: u32, pack: Bytes) {
        if topic != Topic::Uplink || self.log.open_generation() == Some(generation) {
            self.append_record(topic, partition, pack);
        }
    }
}
