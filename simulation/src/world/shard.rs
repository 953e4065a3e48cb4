//! One shard of an edge: its slots, its inbox, and how what sessions want is carried out. It follows the edge's own loop:
//! dirty marks, then what it is told, then deliveries, then its packs.

use std::collections::VecDeque;

use bytes::Bytes;
use petrel_protocol::calls::{ClaimReply, Delivery, Range, ResolveReply, SyncReply};
use petrel_protocol::ids::Address;
use petrel_protocol::limits;
use petrel_protocol::packets::{BatchMsgIdsPush, MsgType, response};
use petrel_protocol::session::{Input, Outcome, Output, Outputs, Session, Shared};

use super::coverage::Met;
use super::network::Frame;
use super::packs::Packs;
use super::{About, Event, Mutation, World};

/// A shard of one life of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardId {
    pub(crate) edge: usize,
    pub(crate) life: u32,
    pub(crate) shard: usize,
}

/// A session, as its shard names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionId {
    pub(crate) shard: ShardId,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Who waits for an event's outcome: the session and its ticket.
pub(crate) type Owner = (SessionId, u32);

/// What a shard is told, apart from deliveries.
#[derive(Debug)]
pub(crate) enum Told {
    Published(u64, Outcome),
    /// With the epoch under which it was claimed.
    Claimed(SessionId, u64, Option<ClaimReply>),
    Synced(SessionId, Option<SyncReply>),
    History(SessionId, Option<Range>),
    Resolved(SessionId, Option<ResolveReply>),
    Kick(Box<Delivery>),
    ClaimAgain,
    Drain,
}

pub(crate) struct Shard {
    pub(crate) slots: Vec<Slot>,
    pub(crate) free: Vec<u32>,
    pub(crate) shared: Shared,
    pub(crate) out: Outputs,
    pub(crate) packs: Packs,
    pub(crate) told: VecDeque<Told>,
    pub(crate) deliveries: VecDeque<Delivery>,
    dirty: Vec<u32>,
    flush_later: Vec<SessionId>,
    is_turn_due: bool,
    pub(crate) sweep_part: usize,
    /// Calls to persist keep their order, and so do the answers.
    pub(crate) calls_us: u64,
    pub(crate) answers_us: u64,
}

pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) connection: usize,
    pub(crate) state: State,
}

pub(crate) enum State {
    Free,
    Open(Box<Session>),
    Closing,
}

impl Shard {
    pub(crate) fn new(partitions: u16, config: petrel_protocol::session::Config) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            shared: Shared { config, ..Shared::default() },
            out: Outputs::default(),
            packs: Packs::new(partitions),
            told: VecDeque::new(),
            deliveries: VecDeque::new(),
            dirty: Vec::new(),
            flush_later: Vec::new(),
            is_turn_due: false,
            sweep_part: 0,
            calls_us: 0,
            answers_us: 0,
        }
    }

    /// Gives a session a slot, the one that was freed last first.
    pub(crate) fn open(&mut self, shard: ShardId, connection: usize, session: Session) -> SessionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: 0, state: State::Free });
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        place.generation += 1;
        place.connection = connection;
        place.state = State::Open(Box::new(session));
        SessionId { shard, slot, generation: place.generation }
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(|slot| if let State::Open(s) = &slot.state { Some(&**s) } else { None })
    }

    /// Whether it owes nobody anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.packs.len() == 0
            && self.told.is_empty()
            && self.deliveries.is_empty()
            && self.flush_later.is_empty()
            && self.sessions().all(|s| s.is_live() && !s.is_busy())
    }
}

impl World {
    /// A shard, where that life of its edge still runs.
    pub(crate) fn shard(&mut self, id: ShardId) -> Option<&mut Shard> {
        let edge = &mut self.edges[id.edge];
        (edge.is_up && edge.life == id.life).then(|| &mut edge.shards[id.shard])
    }

    pub(crate) fn address(&self, id: SessionId) -> Address {
        let edge = &self.edges[id.shard.edge];
        Address {
            edge: edge.id,
            shard: id.shard.shard as u16,
            slot: id.slot,
            generation: id.generation,
            epoch: edge.epoch,
        }
    }

    /// Gives one input to a session and carries out what it wants.
    pub(crate) fn input(&mut self, id: SessionId, input: Input<'_>) {
        let now = self.edge_now(id.shard.edge);
        let by_slot = self.is_mutated(Mutation::SlotWithoutGeneration);
        let Some(shard) = self.shard(id.shard) else { return };
        let place =
            shard.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation || by_slot);
        let Some(place) = place else { return };
        let id = SessionId { generation: place.generation, ..id };
        let State::Open(session) = &mut place.state else { return };
        session.handle(now, input, &mut shard.shared, &mut shard.out);
        self.carry_out(id);
    }

    fn carry_out(&mut self, id: SessionId) {
        let Some(shard) = self.shard(id.shard) else { return };
        if shard.out.is_empty() {
            return;
        }
        let connection = shard.slots[id.slot as usize].connection;
        let mut actions = shard.out.take();
        for action in actions.drain(..) {
            let Some(shard) = self.shard(id.shard) else { return };
            match action {
                Output::Send(sent) => {
                    let packet = Bytes::copy_from_slice(shard.out.bytes(&sent));
                    self.send_client(connection, Frame::Packet(packet));
                }
                Output::SendShared(packet) => self.send_client(connection, Frame::Packet(packet)),
                Output::Ping(payload) => {
                    self.send_client(connection, Frame::Ping(Bytes::copy_from_slice(&payload)));
                }
                Output::Publish(conversation, mut event, ticket) => {
                    event.origin = Some(self.address(id).into());
                    self.note_uplink(&event, id);
                    if let Some(shard) = self.shard(id.shard) {
                        shard.packs.add(conversation, *event, (id, ticket));
                    }
                }
                Output::Receipt(conversation, receipt) => {
                    shard.packs.add_receipt(conversation, receipt);
                }
                Output::FlushReceiptsLater => {
                    let is_first = shard.flush_later.is_empty();
                    shard.flush_later.push(id);
                    if is_first {
                        self.after(limits::RECEIPT_COALESCE_MS * 1_000, Event::FlushReceipts(id.shard));
                    }
                }
                Output::IdBatch => self.id_batch(id, connection),
                Output::Close(_, reason) => {
                    self.note(About::all(), || format!("{id} is closed: {reason}"));
                    self.close(id);
                }
                Output::Claim => self.call_claim(id, false),
                Output::Assert => self.call_claim(id, true),
                Output::Sync(request) => self.call_sync(id, request),
                Output::History(request) => self.call_history(id, request),
                Output::Resolve(request) => self.call_resolve(id, request),
            }
        }
        if let Some(shard) = self.shard(id.shard) {
            shard.out.take_refusals().for_each(drop);
            shard.out.clear(actions);
        }
    }

    fn note_uplink(&mut self, event: &petrel_protocol::events::Uplink, id: SessionId) {
        use petrel_protocol::events::uplink::Body;
        match &event.body {
            Some(Body::Send(send)) => {
                let msg_id = send.msg_id;
                self.note(About::message(event.user, &send.client_msg_id), || {
                    let again = if send.look_up { ", look up" } else { "" };
                    format!("{id} publishes it as {msg_id}{again}")
                });
            }
            Some(Body::Recall(recall)) => {
                self.note(About::all(), || format!("{id} publishes a recall of {}", recall.msg_id));
            }
            None => {}
        }
    }

    fn id_batch(&mut self, id: SessionId, connection: usize) {
        let wall_ms = self.edge_now(id.shard.edge).wall_ms;
        let mut msg_ids = Vec::new();
        let ids = &mut self.edges[id.shard.edge].ids;
        // Smaller batches than the edge's: clients of a simulation do not live long.
        if ids.batch(wall_ms, 20, &mut |id| msg_ids.push(id)).is_err() {
            self.met(Met::IdsRefused);
        } else {
            let packet = response(MsgType::PushBatchMsgIds, &BatchMsgIdsPush { msg_ids });
            self.send_client(connection, Frame::Packet(packet));
        }
    }

    /// Sends a close frame and closes after it.
    pub(crate) fn close(&mut self, id: SessionId) {
        let Some(shard) = self.shard(id.shard) else { return };
        let connection = shard.slots[id.slot as usize].connection;
        self.send_client(connection, Frame::Close);
        self.end_session(id);
        self.after(2_000, Event::EdgeLost(connection));
    }

    /// The session is over: its acks are published and its route is removed. The slot waits for the connection's end.
    pub(crate) fn end_session(&mut self, id: SessionId) {
        let leaks = self.is_mutated(Mutation::LeakCredit);
        let address = self.address(id);
        let Some(shard) = self.shard(id.shard) else { return };
        let place = &mut shard.slots[id.slot as usize];
        if place.generation != id.generation || !matches!(place.state, State::Open(_)) {
            return;
        }
        let State::Open(mut session) = std::mem::replace(&mut place.state, State::Closing) else { return };
        let mut out = Outputs::default();
        let unstored = shard.shared.unstored;
        session.end(&mut shard.shared, &mut out);
        if leaks {
            shard.shared.unstored = unstored;
        }
        for output in out.take() {
            if let Output::Receipt(conversation, receipt) = output {
                shard.packs.add_receipt(conversation, receipt);
            }
        }
        self.call_release(id, session.release(address));
    }

    /// A frame of a client.
    pub(crate) fn edge_frame(&mut self, id: SessionId, frame: &Frame) {
        let now = self.edge_now(id.shard.edge);
        let Some(shard) = self.shard(id.shard) else { return };
        let place = &mut shard.slots[id.slot as usize];
        let State::Open(session) = &mut place.state else { return };
        session.heard(now);
        let connection = place.connection;
        match frame {
            Frame::Packet(packet) => self.input(id, Input::Packet(packet)),
            Frame::Pong(payload) => self.input(id, Input::Pong(payload)),
            Frame::Ping(payload) => self.send_client(connection, Frame::Pong(payload.clone())),
            Frame::Upgraded | Frame::Close => unreachable!("handled by the network"),
        }
        self.refill_ids(id.shard);
        self.turn_ended(id.shard);
    }

    /// Fresh message ids for those who send without one.
    pub(crate) fn refill_ids(&mut self, id: ShardId) {
        let wall_ms = self.edge_now(id.edge).wall_ms;
        let edge = &mut self.edges[id.edge];
        let spare = &mut edge.shards[id.shard].shared.spare_ids;
        if spare.len() < 8 {
            // Where the generator is ahead of the clock, sends are refused for a while.
            let _ = edge.ids.batch(wall_ms, 16, &mut |id| spare.push(id));
        }
    }

    /// Something was left in the shard's inbox.
    pub(crate) fn wake(&mut self, id: ShardId) {
        let Some(shard) = self.shard(id) else { return };
        if !std::mem::replace(&mut shard.is_turn_due, true) {
            let delay = self.delay(50);
            self.after(delay, Event::Turn(id));
        }
    }

    pub(crate) fn tell(&mut self, id: ShardId, told: Told) {
        if let Some(shard) = self.shard(id) {
            shard.told.push_back(told);
            self.wake(id);
        }
    }

    /// Queues deliveries; answers with how many sessions were marked dirty instead.
    pub(crate) fn queue_deliveries(&mut self, id: ShardId, deliveries: Vec<Delivery>) -> u32 {
        let inbox_max = self.faults.inbox_max;
        let drops = self.is_mutated(Mutation::DropDirtyMark);
        let Some(shard) = self.shard(id) else { return 0 };
        let count = deliveries.len();
        let is_full = shard.deliveries.len() + count > inbox_max;
        if is_full {
            if !drops {
                shard.dirty.extend(deliveries.iter().map(|d| d.slot));
            }
        } else {
            shard.deliveries.extend(deliveries);
        }
        self.wake(id);
        if is_full {
            self.met(Met::InboxFull);
        }
        if is_full { count as u32 } else { 0 }
    }

    /// A shard was woken: what lies in its inbox.
    pub(crate) fn turn(&mut self, id: ShardId) {
        let Some(shard) = self.shard(id) else { return };
        shard.is_turn_due = false;
        for slot in std::mem::take(&mut shard.dirty) {
            let Some(shard) = self.shard(id) else { return };
            let Some(generation) = shard.slots.get(slot as usize).map(|s| s.generation) else { continue };
            let session = SessionId { shard: id, slot, generation };
            self.met(Met::Dirty);
            self.note(About::all(), || format!("{session} is dirty"));
            self.input(session, Input::Dirty);
        }
        while let Some(told) = self.shard(id).and_then(|shard| shard.told.pop_front()) {
            self.told(id, told);
        }
        while let Some(delivery) = self.shard(id).and_then(|shard| shard.deliveries.pop_front()) {
            self.delivery(id, delivery);
        }
        self.turn_ended(id);
    }

    fn told(&mut self, id: ShardId, told: Told) {
        match told {
            Told::Published(tag, outcome) => {
                let owners = self
                    .shard(id)
                    .map(|shard| shard.packs.settle(tag, outcome == Outcome::Unknown))
                    .unwrap_or_default();
                let told = self.told_outcome(outcome);
                if !(outcome == Outcome::Accepted && self.is_mutated(Mutation::AcceptBeforeReceipt)) {
                    self.publications(&owners, told);
                }
            }
            Told::Claimed(session, epoch, reply) => {
                if epoch == self.edges[id.edge].epoch {
                    self.input(session, Input::Claimed(reply));
                }
            }
            Told::Synced(session, reply) => self.input(session, Input::Synced(reply)),
            Told::History(session, range) => self.input(session, Input::History(range)),
            Told::Resolved(session, reply) => self.input(session, Input::Resolved(reply)),
            Told::Kick(delivery) => self.delivery(id, *delivery),
            Told::ClaimAgain => self.for_each_session(id, || Input::ClaimAgain),
            Told::Drain => {
                if let Some(shard) = self.shard(id) {
                    shard.shared.is_draining = true;
                }
                self.for_each_session(id, || Input::Drain);
            }
        }
    }

    fn told_outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Unknown if self.is_mutated(Mutation::UnknownAsRefused) => Outcome::Full,
            outcome => outcome,
        }
    }

    /// Tells sessions what became of their publications.
    pub(crate) fn publications(&mut self, owners: &[Owner], outcome: Outcome) {
        for (session, ticket) in owners {
            self.input(*session, Input::Published(*ticket, outcome));
        }
    }

    fn for_each_session<'a>(&mut self, id: ShardId, input: impl Fn() -> Input<'a>) {
        let slots = self.shard(id).map_or(0, |shard| shard.slots.len() as u32);
        for slot in 0..slots {
            let Some(shard) = self.shard(id) else { return };
            let generation = shard.slots[slot as usize].generation;
            self.input(SessionId { shard: id, slot, generation }, input());
        }
    }

    pub(crate) fn flush_receipts(&mut self, id: ShardId) {
        let Some(shard) = self.shard(id) else { return };
        for session in std::mem::take(&mut shard.flush_later) {
            self.input(session, Input::FlushReceipts);
        }
        self.turn_ended(id);
    }
}
