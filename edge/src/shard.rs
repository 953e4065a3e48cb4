//! One shard: a thread with its own ring, its own table of sessions and nothing that it shares with other shards.
//!
//! The loop is completions → sessions → deliveries → timers → one submit. It never blocks but in the ring.

mod outputs;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use petrel_bus::calls::{Link, PersistCall, RouterCall};
use petrel_protocol::calls::Delivery;
use petrel_protocol::codes::close;
use petrel_protocol::ids::Address;
use petrel_protocol::limits;
use petrel_protocol::session::{Input, Outcome, Outputs, Session, Shared};
use petrel_protocol::time::Now;
use petrel_protocol::token::Keys;
use petrel_protocol::websocket::{self, Opcode};
use petrel_ring::{Closed, Handler, Ring, SocketId};

use crate::Incarnation;
use crate::calls::Syncs;
use crate::connection::{Connection, State};
use crate::ids::IdBlocks;
use crate::inbox::{Inbox, Told};
use crate::metrics::Metrics;
use crate::packs::{Owner, Packs};
use crate::walk::Walk;

/// A drain that is not done by then is cut.
const DRAIN_MAX: Duration = Duration::from_secs(5);

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
