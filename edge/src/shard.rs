//! One shard: a thread with its own ring, its own table of sessions and nothing that it shares with other shards.
//!
//! The loop is completions → sessions → deliveries → timers → one submit. It never blocks but in the ring.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use petrel_bus::calls::{Link, PersistCall, Reply, RouterCall};
use petrel_protocol::calls::Delivery;
use petrel_protocol::codes::{Code, close};
use petrel_protocol::ids::Address;
use petrel_protocol::limits;
use petrel_protocol::packets::{BatchMsgIdsPush, MsgType, nack, response};
use petrel_protocol::session::{Input, Outcome, Output, Outputs, Session, Shared};
use petrel_protocol::time::Now;
use petrel_protocol::token::Keys;
use petrel_protocol::websocket::{self, Opcode};
use petrel_ring::{Closed, Handler, Ring, SendError, SocketId};

use crate::Incarnation;
use crate::calls::Syncs;
use crate::connection::{Connection, State};
use crate::ids::IdBlocks;
use crate::inbox::{Inbox, Told};
use crate::metrics::Metrics;
use crate::packs::{Owner, Packs};
use crate::walk::Walk;

/// How often receipts are flushed while some wait.
const FLUSH_EVERY: Duration = Duration::from_millis(limits::RECEIPT_COALESCE_MS);
/// A drain that is not done by then is cut.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Requests for ids that wait for the generator. Beyond: refused as overloaded.
const WAITING_FOR_IDS_MAX: usize = 1_024;
/// Fresh ids that are kept at hand.
const SPARE_IDS: usize = 256;

/// What a shard is made of; the loop is [`Shard::run`].
pub(crate) struct Shard {
    number: u16,
    incarnation: Arc<Incarnation>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) persist: Link<PersistCall>,
    pub(crate) router: Link<RouterCall>,
    pub(crate) syncs: Syncs,
    keys: Arc<Keys>,
    ids: IdBlocks,
    /// By slot; as large as the ring's table from the start, since a vector that grew would leave its former selves
    /// behind. Slots that were never used take no memory.
    connections: Vec<Connection>,
    shared: Shared,
    out: Outputs,
    packs: Packs,
    refused: Vec<(Owner, Outcome)>,
    handshakes: VecDeque<(SocketId, u64)>,
    flush_later: Vec<SocketId>,
    waiting_for_ids: Vec<SocketId>,
    sessions: u32,
    pub(crate) metrics: Metrics,
    websocket: websocket::Config,
    started: Instant,
    /// When this turn had its first completion or wake-up; within it time stands still.
    instant: Instant,
    now: Now,
    /// Whether the clock was read in this turn: two system clocks for each message would be a tenth of what a shard does.
    is_clock_read: bool,
    next_flush: Option<Instant>,
    walk: Walk,
    drain_until: Option<Instant>,
}

/// What [`Shard::new`] needs.
pub(crate) struct Parts {
    pub(crate) number: u16,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) persist: Link<PersistCall>,
    pub(crate) router: Link<RouterCall>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) ids: IdBlocks,
    pub(crate) session: petrel_protocol::session::Config,
    pub(crate) packs: Packs,
}

impl Shard {
    pub(crate) fn new(parts: Parts) -> Self {
        let started = Instant::now();
        Self {
            metrics: Metrics::of_shard(parts.number),
            number: parts.number,
            incarnation: parts.incarnation,
            inbox: parts.inbox,
            persist: parts.persist,
            router: parts.router,
            syncs: Syncs::default(),
            keys: parts.keys,
            ids: parts.ids,
            connections: Vec::new(),
            shared: Shared { config: parts.session, ..Shared::default() },
            out: Outputs::default(),
            packs: parts.packs,
            refused: Vec::new(),
            handshakes: VecDeque::new(),
            flush_later: Vec::new(),
            waiting_for_ids: Vec::new(),
            sessions: 0,
            websocket: websocket::Config {
                role: websocket::Role::Server,
                message_bytes_max: limits::MESSAGE_BYTES_MAX,
                take_text: false,
            },
            started,
            instant: started,
            now: Now::default(),
            is_clock_read: false,
            next_flush: None,
            walk: Walk::new(started, parts.number.into()),
            drain_until: None,
        }
    }

    /// Runs until it was drained.
    pub(crate) fn run(mut self, mut ring: Ring) -> std::io::Result<()> {
        self.read_clock();
        self.refill_ids();
        self.connections.reserve_exact(ring.capacity() as usize);
        while !self.is_done(&ring) {
            let wait = self.next_timer().saturating_duration_since(Instant::now());
            self.is_clock_read = false;
            ring.turn(Some(wait), &mut self)?;
        }
        Ok(())
    }

    fn next_timer(&self) -> Instant {
        let walk = self.walk.due();
        let flush = self.next_flush.unwrap_or(walk);
        let drain = self.drain_until.map_or(walk, |_| Instant::now() + Duration::from_millis(10));
        walk.min(flush).min(drain)
    }

    fn is_done(&self, ring: &Ring) -> bool {
        self.drain_until.is_some_and(|until| ring.is_empty() || Instant::now() >= until)
    }

    /// Reads the clock, unless it was read in this turn already.
    fn read_clock(&mut self) {
        if std::mem::replace(&mut self.is_clock_read, true) {
            return;
        }
        self.instant = Instant::now();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mono = self.instant.duration_since(self.started);
        self.now = Now { mono_ms: mono.as_millis() as u64, wall_ms: wall.as_millis() as u64 };
    }

    pub(crate) fn address(&self, id: SocketId) -> Address {
        Address {
            edge: self.incarnation.edge,
            shard: self.number,
            slot: id.slot,
            generation: id.generation,
            epoch: self.incarnation.epoch(),
        }
    }

    pub(crate) fn connection(&mut self, id: SocketId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot as usize).filter(|c| c.generation == id.generation)
    }

    /// Gives one input to a session and carries out what it wants.
    fn input(&mut self, ring: &mut Ring, id: SocketId, input: Input<'_>) {
        let Some(connection) =
            self.connections.get_mut(id.slot as usize).filter(|c| c.generation == id.generation)
        else {
            return;
        };
        let Some(session) = connection.session() else { return };
        session.handle(self.now, input, &mut self.shared, &mut self.out);
        self.carry_out(ring, id);
    }

    /// Carries out what sessions want.
    fn carry_out(&mut self, ring: &mut Ring, id: SocketId) {
        if self.out.is_empty() {
            return;
        }
        let mut actions = self.out.take();
        for action in actions.drain(..) {
            match action {
                Output::Send(sent) => self.send(ring, id, self.out.bytes(&sent)),
                Output::SendShared(packet) => {
                    self.metrics.pushes.inc();
                    let mut head = [0; 14];
                    let len = websocket::encode_header(&mut head, None, Opcode::Binary, true, packet.len());
                    let sent = ring.send_parts(id, &head[..len], &packet);
                    self.sent(ring, id, sent);
                }
                Output::Ping(payload) => self.send_frame(ring, id, Opcode::Ping, &payload),
                Output::Publish(conversation, mut event, ticket) => {
                    self.metrics.sends.inc();
                    event.origin = Some(self.address(id).into());
                    self.packs.add(conversation, *event, (id, ticket));
                }
                Output::Receipt(conversation, receipt) => {
                    if !self.packs.add_receipt(conversation, receipt) {
                        self.metrics.receipts_dropped.inc();
                    }
                }
                Output::FlushReceiptsLater => {
                    self.flush_later.push(id);
                    self.next_flush.get_or_insert(self.instant + FLUSH_EVERY);
                }
                Output::IdBatch => self.id_batch(ring, id),
                Output::Close(code, reason) => self.close(ring, id, code, reason),
                call @ (Output::Claim
                | Output::Assert
                | Output::Sync(_)
                | Output::History(_)
                | Output::Resolve(_)) => {
                    self.call(id, call);
                }
            }
        }
        self.out.clear(actions);
    }

    fn send(&self, ring: &mut Ring, id: SocketId, packet: &[u8]) {
        self.send_frame(ring, id, Opcode::Binary, packet);
    }

    fn send_frame(&self, ring: &mut Ring, id: SocketId, opcode: Opcode, payload: &[u8]) {
        self.metrics.packets_out.inc();
        let mut head = [0; 14];
        let len = websocket::encode_header(&mut head, None, opcode, true, payload.len());
        let sent = ring.send(id, &head[..len]).and_then(|()| ring.send(id, payload));
        self.sent(ring, id, sent);
    }

    fn sent(&self, ring: &mut Ring, id: SocketId, sent: Result<(), SendError>) {
        match sent {
            Ok(()) | Err(SendError::Gone) => {}
            Err(SendError::Full) => {
                // The client does not read. What it misses is stored; it is synced when it is back.
                self.metrics.slow_readers.inc();
                Metrics::close(close::SLOW_READER);
                ring.abort(id);
            }
        }
    }

    /// Answers with a batch of ids; where there are not as many just now, once there are.
    fn id_batch(&mut self, ring: &mut Ring, id: SocketId) {
        let mut msg_ids = Vec::with_capacity(limits::ID_BATCH);
        if self.ids.take(self.now.wall_ms, limits::ID_BATCH, &mut msg_ids) {
            let batch = response(MsgType::PushBatchMsgIds, &BatchMsgIdsPush { msg_ids });
            return self.send(ring, id, &batch);
        }
        if self.waiting_for_ids.len() < WAITING_FOR_IDS_MAX {
            return self.waiting_for_ids.push(id);
        }
        let text = "no message ids can be given out just now: ask again later";
        let kind = MsgType::GetBatchMsgIds;
        self.send(ring, id, &nack(Code::Overloaded, text, 1_000, kind, bytes::Bytes::new(), 0));
    }

    /// Sends a close frame and closes after it.
    fn close(&mut self, ring: &mut Ring, id: SocketId, code: u16, reason: &str) {
        Metrics::close(code);
        self.send_frame(ring, id, Opcode::Close, &websocket::close_payload(code, reason));
        self.end_session(id);
        ring.close(id);
    }

    /// The session is over: its acks are published and its route removed. The slot waits for the ring's `closed`.
    fn end_session(&mut self, id: SocketId) {
        let address = self.address(id);
        let Some(connection) =
            self.connections.get_mut(id.slot as usize).filter(|c| c.generation == id.generation)
        else {
            return;
        };
        connection.decoder = websocket::Decoder::new();
        let State::Open(mut session) = std::mem::replace(&mut connection.state, State::Closing) else {
            return;
        };
        // Its outputs are receipts only; they are not mixed with those that are being carried out.
        let mut out = Outputs::default();
        session.end(&mut self.shared, &mut out);
        for output in out.take() {
            if let Output::Receipt(conversation, receipt) = output
                && !self.packs.add_receipt(conversation, receipt)
            {
                self.metrics.receipts_dropped.inc();
            }
        }
        self.router.call(RouterCall::Release(session.release(address), Reply::ignored()));
        self.count_sessions(-1);
    }

    fn count_sessions(&mut self, change: i32) {
        self.sessions = self.sessions.wrapping_add_signed(change);
        self.inbox.sessions.store(self.sessions, Ordering::Relaxed);
        self.metrics.sessions.set(self.sessions.into());
    }

    fn told(&mut self, ring: &mut Ring, told: Told) {
        match told {
            Told::Published(tag, outcome) => {
                let mut refused = std::mem::take(&mut self.refused);
                self.packs.settle(tag, |owner| refused.push((owner, outcome)));
                self.publications(ring, refused);
            }
            // Of an earlier epoch it says nothing: the sessions claim again, or are about to.
            Told::Claimed(id, epoch, reply) if epoch == self.incarnation.epoch() => {
                self.input(ring, id, Input::Claimed(reply));
            }
            Told::Claimed(..) => {}
            Told::Synced(id, reply) => {
                self.sync_answered();
                self.input(ring, id, Input::Synced(reply));
            }
            Told::History(id, range) => self.input(ring, id, Input::History(range)),
            Told::Resolved(id, reply) => self.input(ring, id, Input::Resolved(reply)),
            Told::IdsReady => {
                self.refill_ids();
                for id in std::mem::take(&mut self.waiting_for_ids) {
                    if self.connection(id).is_some() {
                        self.id_batch(ring, id);
                    }
                }
            }
            Told::Kick(delivery) => self.delivery(ring, delivery),
            Told::Keys(keys) => self.keys = keys,
            Told::ClaimAgain => self.for_each_session(ring, || Input::ClaimAgain),
            Told::Drain => {
                ring.stop_listening();
                self.shared.is_draining = true;
                self.drain_until = Some(Instant::now() + DRAIN_MAX);
                self.for_each_session(ring, || Input::Drain);
            }
        }
    }

    /// Tells sessions what became of their publications.
    fn publications(&mut self, ring: &mut Ring, mut list: Vec<(Owner, Outcome)>) {
        for ((id, ticket), outcome) in list.drain(..) {
            if outcome == Outcome::Accepted {
                self.metrics.accepted.inc();
            } else {
                self.metrics.not_accepted.inc();
            }
            self.input(ring, id, Input::Published(ticket, outcome));
        }
        self.refused = list;
    }

    fn delivery(&mut self, ring: &mut Ring, delivery: Delivery) {
        let id = SocketId { slot: delivery.slot, generation: delivery.generation };
        let session = self.connection(id).and_then(Connection::session);
        // Never the wrong user's socket, whatever the route said.
        let is_right =
            session.is_some_and(|s| s.user().0 == delivery.user && s.device() as u32 == delivery.device);
        match delivery.what {
            Some(what) if is_right => self.input(ring, id, Input::Delivery(what)),
            _ => self.metrics.deliveries_gone.inc(),
        }
    }

    fn for_each_session<'a>(&mut self, ring: &mut Ring, input: impl Fn() -> Input<'a>) {
        for slot in 0..self.connections.len() as u32 {
            let generation = self.connections[slot as usize].generation;
            self.input(ring, SocketId { slot, generation }, input());
        }
    }

    /// Timers: handshakes that take too long, a part of the table, receipts.
    fn timers(&mut self, ring: &mut Ring) {
        let instant = self.instant;
        if self.next_flush.is_some_and(|at| at <= instant) {
            self.next_flush = None;
            for id in std::mem::take(&mut self.flush_later) {
                self.input(ring, id, Input::FlushReceipts);
            }
        }
        if let Some(blocks) = self.walk.step(instant, self.connections.len()) {
            self.sweep(ring, blocks);
        }
        if self.drain_until.is_some() && self.packs.len() == 0 {
            for slot in 0..self.connections.len() as u32 {
                let generation = self.connections[slot as usize].generation;
                let id = SocketId { slot, generation };
                if self.connections[slot as usize].session().is_some_and(|s| !s.is_busy()) {
                    self.close(ring, id, close::GOING_AWAY, "this edge stops: reconnect");
                } else if matches!(self.connections[slot as usize].state, State::Handshake(_)) {
                    ring.abort(id);
                }
            }
        }
    }

    fn sweep(&mut self, ring: &mut Ring, blocks: impl Iterator<Item = Range<usize>>) {
        while let Some((id, started_ms)) = self.handshakes.front().copied() {
            let is_slow = matches!(self.connection(id), Some(Connection { state: State::Handshake(_), .. }));
            if is_slow && self.now.mono_ms < started_ms + limits::HANDSHAKE_MS_MAX {
                break;
            }
            self.handshakes.pop_front();
            if is_slow {
                self.refuse_slow(ring, id);
            }
        }
        for slot in blocks.flatten() {
            let connection = &mut self.connections[slot];
            let generation = connection.generation;
            let Some(session) = connection.session() else { continue };
            if session.is_due(self.now, &self.shared.config) {
                self.input(ring, SocketId { slot: slot as u32, generation }, Input::Sweep);
            }
        }
        for (code, count) in self.out.take_refusals() {
            Metrics::nacks(code as i32, count);
        }
        self.metrics.unstored.set(self.shared.unstored as i64);
    }

    pub(crate) fn connections(&mut self) -> &mut Vec<Connection> {
        &mut self.connections
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.is_draining
    }

    /// A client proved who it is.
    pub(crate) fn open(&mut self, ring: &mut Ring, id: SocketId, session: Session) {
        let Some(connection) = self.connection(id) else { return };
        connection.state = State::Open(session);
        self.count_sessions(1);
        self.input(ring, id, Input::Start);
    }

    /// Takes the bytes of an open connection.
    pub(crate) fn frames(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        use std::ops::ControlFlow::{Break, Continue};
        let Self { connections, websocket, shared, out, metrics, now, .. } = self;
        let Some(connection) =
            connections.get_mut(id.slot as usize).filter(|c| c.generation == id.generation)
        else {
            return;
        };
        let Connection { state: State::Open(session), decoder, .. } = connection else { return };
        session.heard(*now);
        let mut closing = None;
        let mut pongs: Vec<Vec<u8>> = Vec::new();
        let fed = decoder.feed(websocket, bytes, &mut |event| {
            match event {
                websocket::Event::Binary(packet) => {
                    metrics.messages_in.inc();
                    session.handle(*now, Input::Packet(packet), shared, out);
                }
                websocket::Event::Ping(payload) => pongs.push(payload.to_vec()),
                websocket::Event::Pong(payload) => session.handle(*now, Input::Pong(payload), shared, out),
                websocket::Event::Close(code, _) => {
                    closing = Some(code.unwrap_or(close::NORMAL));
                    return Break(());
                }
                websocket::Event::Text(_) => unreachable!("take_text is off"),
            }
            Continue(())
        });
        self.refill_ids();
        self.carry_out(ring, id);
        for pong in pongs {
            self.send_frame(ring, id, Opcode::Pong, &pong);
        }
        if let Some(code) = closing {
            self.close(ring, id, code, "");
        } else if let Err(fault) = fed {
            self.close(ring, id, fault.close_code(), fault.text());
        }
    }

    fn refill_ids(&mut self) {
        let missing = SPARE_IDS.saturating_sub(self.shared.spare_ids.len());
        if missing > SPARE_IDS / 2 {
            self.ids.take(self.now.wall_ms, missing, &mut self.shared.spare_ids);
        }
    }
}

impl Handler for Shard {
    /// Nothing waits for an egress to empty; so sending and waiting are one system call.
    const WANTS_DRAINED: bool = false;

    fn accepted(&mut self, _ring: &mut Ring, id: SocketId) {
        self.read_clock();
        let slot = id.slot as usize;
        if slot >= self.connections.len() {
            self.connections.resize_with(slot + 1, Connection::default);
        }
        let connection = &mut self.connections[slot];
        connection.generation = id.generation;
        connection.state = State::Handshake(Vec::new());
        connection.decoder = websocket::Decoder::new();
        self.handshakes.push_back((id, self.now.mono_ms));
    }

    fn connected(&mut self, _ring: &mut Ring, _id: SocketId) {
        unreachable!("an edge only accepts");
    }

    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        self.read_clock();
        match self.connection(id).map(|c| &c.state) {
            Some(State::Open(_)) => self.frames(ring, id, bytes),
            Some(State::Handshake(_)) => self.handshake(ring, id, bytes),
            Some(State::Closing | State::Free) | None => {}
        }
    }

    fn drained(&mut self, _ring: &mut Ring, _id: SocketId) {}

    fn closed(&mut self, _ring: &mut Ring, id: SocketId, _reason: Closed) {
        self.end_session(id);
        if let Some(connection) = self.connection(id) {
            connection.state = State::Free;
            connection.decoder = websocket::Decoder::new();
        }
    }

    fn woken(&mut self, ring: &mut Ring) {
        self.read_clock();
        self.inbox.turns();
        // Dirty marks first: a delivery behind a lost one must find its session syncing.
        let mut dirty = Vec::new();
        self.inbox.take_dirty(&mut dirty);
        for slot in dirty {
            let Some(connection) = self.connections.get(slot as usize) else { continue };
            self.metrics.dirty.inc();
            let id = SocketId { slot, generation: connection.generation };
            self.input(ring, id, Input::Dirty);
        }
        while let Some(told) = self.inbox.next_told() {
            self.told(ring, told);
        }
        while let Some(deliveries) = self.inbox.next_deliveries() {
            for delivery in deliveries {
                self.delivery(ring, delivery);
            }
        }
    }

    fn turn_ended(&mut self, ring: &mut Ring) {
        self.read_clock();
        self.timers(ring);
        let mut refused = std::mem::take(&mut self.refused);
        self.packs.flush(&mut refused);
        self.publications(ring, refused);
    }
}
