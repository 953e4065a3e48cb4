//! A section of a crowd: a thread, its ring and the clients of one source address.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use petrel_protocol::ids::UserId;
use petrel_protocol::limits::HANDSHAKE_BYTES_MAX;
use petrel_protocol::websocket::Decoder;
use petrel_protocol::websocket::upgrade::{client_request, parse_response};
use petrel_ring::{Closed, Handler, Ring, SocketId};

use super::member::{Member, News, Stage, encode_send};
use super::{Shared, source_of};
use crate::stamp::Stamp;
use crate::url::Target;

/// What a section is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// The clients below this number are to be connected, and no others.
    Want(u32),
    /// This client is to send to a user.
    Send { number: u32, to: u64, at_us: u64 },
    /// It is over.
    End,
}

/// Slots beyond the clients: for sockets that close while their successors connect.
const SPARE_SLOTS: u32 = 512;
/// Connections begun between two looks at the ring.
const BURST: usize = 32;
/// A client that could not connect waits this long.
const RETRY: Duration = Duration::from_secs(1);
/// Clients that go at once; the others follow in the next turns.
const LEAVE_BURST: usize = 256;

/// See the module.
pub(super) struct Section {
    number: u32,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    /// By slot.
    members: Vec<Member>,
    /// By the clients' numbers.
    sockets: Vec<Option<SocketId>>,
    /// Clients below this number are to be connected.
    wanted: u32,
    /// Clients below this number were begun.
    begun: u32,
    opening: u32,
    again: VecDeque<(Stamp, u32)>,
    /// Answers to upgrades that came in parts, by slot.
    partial: HashMap<u32, Vec<u8>>,
    out: Vec<u8>,
    sent: u64,
    is_over: bool,
}

impl Section {
    pub(super) fn new(
        number: u32,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
    ) -> std::io::Result<(Self, Ring)> {
        let clients = shared.share(number, shared.config.clients);
        let ring = Ring::new(petrel_ring::Config {
            sockets: clients + SPARE_SLOTS,
            entries: 512,
            buffers: 128,
            buffer_bytes: 4 << 10,
            ..Default::default()
        })?;
        let section = Self {
            number,
            shared,
            commands,
            members: Vec::with_capacity(ring.capacity() as usize),
            sockets: vec![None; clients as usize],
            wanted: 0,
            begun: 0,
            opening: 0,
            again: VecDeque::new(),
            partial: HashMap::new(),
            out: Vec::new(),
            sent: 0,
            is_over: false,
        };
        Ok((section, ring))
    }

    pub(super) fn run(mut self, mut ring: Ring) -> std::io::Result<()> {
        while !self.is_over {
            let has_more = self.open_some(&mut ring) | self.leave_some(&mut ring);
            let wait = if has_more { Duration::ZERO } else { RETRY / 4 };
            ring.turn(Some(wait), &mut self)?;
        }
        Ok(())
    }

    fn user(&self, number: u32) -> u64 {
        self.shared.config.first_user
            + u64::from(number) * u64::from(self.shared.sections)
            + u64::from(self.number)
    }

    /// Begins some connections; whether there are more to begin at once.
    fn open_some(&mut self, ring: &mut Ring) -> bool {
        let now = self.shared.clock.stamp();
        for _ in 0..BURST {
            if self.opening >= self.shared.config.opening_max {
                return false;
            }
            let number = if self.begun < self.wanted {
                self.begun += 1;
                self.begun - 1
            } else if let Some((_, number)) = self.again.pop_front_if(|(at, _)| *at <= now) {
                number
            } else {
                return false;
            };
            if number < self.wanted {
                self.open(ring, number, now);
            }
        }
        true
    }

    fn open(&mut self, ring: &mut Ring, number: u32, now: Stamp) {
        let config = &self.shared.config;
        let from = source_of(config, self.number).map(|source| SocketAddr::from((source, 0)));
        match ring.connect(from, config.target.address) {
            Ok(id) => {
                let slot = id.slot as usize;
                if slot >= self.members.len() {
                    self.members.resize_with(slot + 1, Member::default);
                }
                self.members[slot] =
                    Member { number, stage: Stage::Connecting, began: now, decoder: Decoder::new() };
                self.sockets[number as usize] = Some(id);
                self.opening += 1;
                self.shared.counts.sockets.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => {
                self.shared.counts.failed.fetch_add(1, Ordering::AcqRel);
                self.shared.fault(error.to_string());
                self.again.push_back((now.after(RETRY), number));
            }
        }
    }

    /// Closes some of those who are to go; whether there are more.
    fn leave_some(&mut self, ring: &mut Ring) -> bool {
        for _ in 0..LEAVE_BURST {
            if self.begun <= self.wanted {
                return false;
            }
            self.begun -= 1;
            if let Some(id) = self.sockets[self.begun as usize].take() {
                let member = &mut self.members[id.slot as usize];
                let stage = std::mem::replace(&mut member.stage, Stage::Leaving);
                self.left(stage);
                // Everything that came was read, so the peer sees an end and no reset.
                ring.abort(id);
            }
        }
        true
    }

    fn left(&mut self, stage: Stage) {
        match stage {
            Stage::Connecting | Stage::Upgrading | Stage::LoggingIn => self.opening -= 1,
            Stage::Ready => {
                self.shared.counts.ready.fetch_sub(1, Ordering::AcqRel);
            }
            Stage::Free | Stage::Leaving => {}
        }
    }

    fn command(&mut self, ring: &mut Ring, command: Command) {
        match command {
            Command::Want(wanted) => self.wanted = wanted,
            Command::End => self.is_over = true,
            Command::Send { number, to, at_us } => {
                let Some(id) = self.sockets[number as usize] else { return };
                self.sent += 1;
                let nonce = u64::from(self.number) << 40 | self.sent;
                let user = self.user(number);
                self.out.clear();
                encode_send(&mut self.out, user, to, at_us, nonce);
                // A socket that is gone is counted as dropped where it closes.
                let _ = ring.send(id, &self.out);
            }
        }
    }

    /// The answer to the upgrade, or a part of it. Returns where the frames behind it begin.
    fn upgrade(&mut self, id: SocketId, user: u64, bytes: &[u8]) -> Result<Option<usize>, String> {
        let before = self.partial.remove(&id.slot).unwrap_or_default();
        let whole = [&before[..], bytes].concat();
        match parse_response(&whole, nonce_of(user)) {
            Ok(Some(len)) => Ok(Some(len - before.len())),
            Ok(None) if whole.len() < HANDSHAKE_BYTES_MAX => {
                self.partial.insert(id.slot, whole);
                Ok(None)
            }
            Ok(None) => Err("the answer to the upgrade has no end".to_owned()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn ready(&mut self, slot: u32) {
        let member = &mut self.members[slot as usize];
        if member.stage != Stage::LoggingIn {
            return;
        }
        member.stage = Stage::Ready;
        let us = self.shared.clock.stamp().us_since(member.began);
        self.opening -= 1;
        self.shared.counts.ready.fetch_add(1, Ordering::AcqRel);
        self.shared.times(|times| times.login.record(us));
    }

    fn took(&mut self, slot: u32, news: News) {
        let counts = &self.shared.counts;
        counts.pings.fetch_add(news.pings, Ordering::Relaxed);
        counts.refused.fetch_add(news.refused, Ordering::AcqRel);
        if !news.arrived.is_empty() || !news.accepted.is_empty() {
            let now_us = self.shared.clock.elapsed().as_micros() as u64;
            self.shared.times(|times| {
                news.arrived.iter().for_each(|at| times.delivery.record(now_us.saturating_sub(*at)));
                news.accepted.iter().for_each(|at| times.accept.record(now_us.saturating_sub(*at)));
            });
            counts.arrived.fetch_add(news.arrived.len() as u64, Ordering::AcqRel);
            counts.accepted.fetch_add(news.accepted.len() as u64, Ordering::AcqRel);
        }
        if let Some(fault) = news.fault {
            self.shared.fault(fault);
        }
        if news.is_ready {
            self.ready(slot);
        }
    }
}

/// The key of a client's upgrade. Nothing depends on its being random.
fn nonce_of(user: u64) -> [u8; 16] {
    (u128::from(user) << 64 | 0x5065_7472_656c).to_be_bytes()
}

impl Handler for Section {
    const WANTS_DRAINED: bool = false;

    fn accepted(&mut self, _ring: &mut Ring, _id: SocketId) {
        unreachable!("a crowd only connects");
    }

    fn connected(&mut self, ring: &mut Ring, id: SocketId) {
        let member = &mut self.members[id.slot as usize];
        if member.stage != Stage::Connecting {
            return;
        }
        member.stage = Stage::Upgrading;
        let user = self.user(self.members[id.slot as usize].number);
        let config = &self.shared.config;
        let token = config.minter.as_ref().map(|minter| minter.token(UserId(user), config.device));
        self.out.clear();
        let Target { host, path, .. } = &config.target;
        client_request(&mut self.out, host, path, nonce_of(user), token.as_deref());
        // A socket that is gone closes.
        let _ = ring.send(id, &self.out);
    }

    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]) {
        let slot = id.slot;
        let user = self.user(self.members[slot as usize].number);
        let mut frames = bytes;
        if self.members[slot as usize].stage == Stage::Upgrading {
            match self.upgrade(id, user, frames) {
                Ok(None) => return,
                Ok(Some(len)) => {
                    frames = &mut frames[len..];
                    self.members[slot as usize].stage = Stage::LoggingIn;
                    if self.shared.config.minter.is_none() {
                        self.ready(slot);
                    }
                }
                Err(fault) => {
                    self.shared.fault(fault);
                    return ring.abort(id);
                }
            }
        }
        if frames.is_empty() {
            return;
        }
        self.out.clear();
        let news = self.members[slot as usize].read(user, frames, &mut self.out);
        if !self.out.is_empty() {
            // A socket that is gone closes.
            let _ = ring.send(id, &self.out);
        }
        self.took(slot, news);
    }

    fn drained(&mut self, _ring: &mut Ring, _id: SocketId) {}

    fn closed(&mut self, _ring: &mut Ring, id: SocketId, reason: Closed) {
        let member = std::mem::take(&mut self.members[id.slot as usize]);
        self.partial.remove(&id.slot);
        self.shared.counts.sockets.fetch_sub(1, Ordering::AcqRel);
        if matches!(member.stage, Stage::Free | Stage::Leaving) {
            return;
        }
        self.sockets[member.number as usize] = None;
        self.left(member.stage);
        let counts = &self.shared.counts;
        if member.stage == Stage::Ready {
            counts.dropped.fetch_add(1, Ordering::AcqRel);
            self.shared.fault(format!("a ready client's connection ended: {reason:?}"));
        } else {
            counts.failed.fetch_add(1, Ordering::AcqRel);
            if reason != Closed::ByUs {
                self.shared.fault(format!("a connection ended before it was ready: {reason:?}"));
            }
            self.again.push_back((self.shared.clock.stamp().after(RETRY), member.number));
        }
    }

    fn woken(&mut self, ring: &mut Ring) {
        while let Ok(command) = self.commands.try_recv() {
            self.command(ring, command);
        }
    }

    fn turn_ended(&mut self, _ring: &mut Ring) {}
}
