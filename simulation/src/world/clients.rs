//! The devices: the real client machine, what its user does with it, and what it writes into the history.

use std::sync::Arc;

use petrel_protocol::client::{Client, ClientMsgId, Config, Draft, Input, Output, Outputs, Row};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::UserId;
use petrel_protocol::packets::{C2cMsgPush, status, sync_row};

use super::coverage::Met;
use super::network::Frame;
use super::shard::ShardId;
use super::versions;
use super::{About, Event, World};
use crate::history::{self, Content, Id, What, fingerprint};

pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) kind: petrel_protocol::ids::Device,
    pub(crate) machine: Client,
    pub(crate) link: Link,
    out: Outputs,
    /// When the machine's clock is looked at; what is scheduled for another time is void.
    tick_us: u64,
    /// It is of the next version.
    is_next: bool,
    /// To whom it sent, by the numbers in its ids.
    sends: Vec<UserId>,
    /// Accepted sends: to whom, and the server's id.
    accepted: Vec<(UserId, u64)>,
    /// What arrived and was not read.
    unread: Vec<(UserId, u64)>,
    ids: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    None,
    Connecting(usize),
    Up(usize),
}

/// What is remembered for later operations, at most.
const REMEMBERED_MAX: usize = 32;

impl Device {
    pub(crate) fn new(
        user: UserId,
        kind: petrel_protocol::ids::Device,
        is_next: bool,
        config: Arc<Config>,
    ) -> Self {
        Self {
            user,
            kind,
            machine: Client::new(user, config),
            link: Link::None,
            out: Outputs::default(),
            tick_us: u64::MAX,
            is_next,
            sends: Vec::new(),
            accepted: Vec::new(),
            unread: Vec::new(),
            ids: Vec::new(),
        }
    }
}

fn content_of(push: &C2cMsgPush) -> Content {
    if push.format == 10 && push.content.is_empty() {
        Content::Recalled
    } else {
        Content::Is(fingerprint(push.content.as_bytes()))
    }
}

/// The id of a message in histories, where it is unique: a client's id is so for its sender only.
pub(crate) fn id_of(sender: u64, bytes: &[u8]) -> Id {
    let mut id: [u8; 16] = bytes.try_into().unwrap_or_default();
    id[..4].copy_from_slice(&(sender as u32).to_be_bytes());
    Id(id)
}

/// What a device puts into its ids: its user where that is wanted, its type, its sends so far.
fn client_id(user: u64, kind: u8, number: u64) -> ClientMsgId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&(user as u32).to_be_bytes());
    id[4] = kind;
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

impl World {
    /// A device goes to one of the edges.
    pub(crate) fn connect(&mut self, device: usize) {
        if self.devices[device].link != Link::None {
            return;
        }
        let edge = self.random.index(self.edges.len());
        let it = &self.edges[edge];
        if !it.is_up || it.is_draining {
            let delay = self.random.between(20_000, 300_000);
            return self.after(delay, Event::Connect(device));
        }
        let shard = ShardId { edge, life: it.life, shard: self.random.index(self.size.shards) };
        self.record(device, What::Connecting);
        let delay = self.delay(500);
        self.after(delay, Event::Accept { device, shard, is_guest: false });
    }

    pub(crate) fn upgraded(&mut self, device: usize, connection: usize) {
        self.devices[device].link = Link::Up(connection);
        self.record(device, What::Connected);
        self.client_input(device, Input::Connected);
    }

    pub(crate) fn connection_lost(&mut self, device: usize, connection: usize) {
        let link = std::mem::replace(&mut self.devices[device].link, Link::None);
        assert!(
            link == Link::Up(connection) || link == Link::Connecting(connection),
            "one connection at a time"
        );
        if let Link::Up(_) = link {
            self.record(device, What::Disconnected);
            self.client_input(device, Input::Disconnected);
        }
        let delay = if self.random.one_in(4) { 2_000_000 } else { 20_000 };
        let delay = self.random.below(delay) + 1;
        self.after(delay, Event::Connect(device));
    }

    pub(crate) fn client_frame(&mut self, device: usize, frame: &Frame) {
        match frame {
            Frame::Packet(packet) => self.client_input(device, Input::Packet(packet)),
            Frame::Ping(payload) => self.client_input(device, Input::Ping(payload)),
            Frame::Pong(_) => self.client_input(device, Input::Pong),
            Frame::Upgraded | Frame::Close => unreachable!("handled by the network"),
        }
    }

    pub(crate) fn client_tick(&mut self, device: usize, due_us: u64) {
        let it = &mut self.devices[device];
        if it.tick_us == due_us {
            it.tick_us = u64::MAX;
            self.client_input(device, Input::Tick);
        }
    }

    /// Gives one input to a client and carries out what it wants.
    pub(crate) fn client_input(&mut self, device: usize, input: Input<'_>) {
        let now = self.now();
        let it = &mut self.devices[device];
        it.machine.handle(now, input, &mut it.out);
        let mut actions = it.out.take();
        for action in actions.drain(..) {
            self.client_output(device, action);
        }
        let it = &mut self.devices[device];
        it.out.clear(actions);
        let Some(due_ms) = it.machine.due_ms() else { return };
        let tick_us = (due_ms.saturating_sub(super::MONO_START_MS) * 1_000).max(self.now_us + 1_000);
        if tick_us < it.tick_us {
            it.tick_us = tick_us;
            self.schedule(tick_us, Event::ClientTick(device, tick_us));
        }
    }

    fn client_output(&mut self, device: usize, output: Output) {
        let user = self.devices[device].user.0;
        match output {
            Output::Transmit(packet) => {
                let it = &self.devices[device];
                let packet = versions::packet(it.out.bytes(&packet), it.is_next);
                self.client_sends(device, Frame::Packet(packet));
            }
            Output::Pong(payload) => {
                let payload = bytes::Bytes::copy_from_slice(self.devices[device].out.bytes(&payload));
                self.client_sends(device, Frame::Pong(payload));
            }
            Output::Ping => self.client_sends(device, Frame::Ping(bytes::Bytes::new())),
            Output::Close(_) | Output::Drain(_) => {
                if let Link::Up(connection) = self.devices[device].link {
                    self.after(0, Event::ClientLost(connection));
                    self.send_edge(connection, Frame::Close);
                }
            }
            Output::Kicked(..) => {
                self.met(Met::Kicked);
                self.note(About::all(), || "a client is kicked".into());
            }
            Output::Sent(id, attempt) => {
                if attempt > 0 {
                    self.met(Met::Resent);
                    self.record(device, What::Resent { id: id_of(user, &id) });
                }
                let about = About::message(user, &id);
                let name = self.name(device);
                self.note(about, || format!("{name} sends it, attempt {attempt}"));
            }
            Output::Accepted { id, msg_id } => self.client_accepted(device, id, msg_id),
            Output::Refused { id, may_exist, .. } => {
                self.met(Met::GivenUp);
                self.record(device, What::Refused { id: id_of(user, &id), may_exist });
            }
            Output::Postponed { id, code, .. } => {
                self.met(match code {
                    c if c == Code::OutcomeUnknown as i32 => Met::OutcomeUnknown,
                    c if c == Code::HeldBack as i32 => Met::HeldBack,
                    _ => Met::RefusedForNow,
                });
                let is_certain = code != Code::OutcomeUnknown as i32 && code != Code::HeldBack as i32;
                let name = self.name(device);
                self.note(About::message(user, &id), || format!("{name} is refused for now: {code}"));
                self.record(device, What::Postponed { id: id_of(user, &id), is_certain });
            }
            Output::Status { id, status, .. } => {
                match status {
                    status::OFFLINE => self.met(Met::StatusOffline),
                    status::READ => self.met(Met::StatusRead),
                    _ => {}
                }
                self.record(device, What::Status { id: id_of(user, &id), status });
            }
            Output::RecallRefused(msg_id, code, _) => self.client_recall_refused(device, msg_id, code),
            Output::Unanswered(_)
            | Output::Repeated(..)
            | Output::Ready
            | Output::OtherRefused(..)
            | Output::Fault(_) => {}
            Output::Arrived(push) => self.client_arrived(device, &push),
            Output::Shown(peer, row) => self.client_shown(device, peer, &row),
            Output::Range(range) => self.client_served(device, &range),
            Output::Ids(ids) => self.devices[device].ids.extend(ids),
        }
    }

    pub(crate) fn name(&self, device: usize) -> history::Device {
        let Device { user, kind, .. } = self.devices[device];
        history::Device { user: user.0, kind: kind as u8 }
    }

    fn client_sends(&mut self, device: usize, frame: Frame) {
        if let Link::Up(connection) = self.devices[device].link {
            self.send_edge(connection, frame);
        }
    }

    fn client_accepted(&mut self, device: usize, id: ClientMsgId, msg_id: u64) {
        let user = self.devices[device].user.0;
        self.record(device, What::Accepted { id: id_of(user, &id) });
        let name = self.name(device);
        self.note(About::message(user, &id), || format!("{name} learns that it is accepted as {msg_id}"));
        let number = u64::from_be_bytes(id[8..].try_into().expect("8 bytes"));
        let to = self.devices[device].sends[number as usize];
        let accepted = &mut self.devices[device].accepted;
        accepted.push((to, msg_id));
        if accepted.len() > REMEMBERED_MAX {
            accepted.remove(0);
        }
    }

    /// The edge has told an id of every accepted message: a recall by it finds the message.
    fn client_recall_refused(&mut self, device: usize, msg_id: u64, code: i32) {
        let is_accepted = self.devices[device].accepted.iter().any(|(_, id)| *id == msg_id);
        if is_accepted && code == Code::NotFound as i32 {
            let text =
                format!("{} recalls {msg_id}, which was accepted, and it is not found", self.name(device));
            self.fail("accepted-is-known", About::default(), text);
        }
    }

    fn client_arrived(&mut self, device: usize, push: &C2cMsgPush) {
        let it = &mut self.devices[device];
        let peer = if push.from == it.user.0 { push.to } else { push.from };
        if push.from != it.user.0 && it.unread.len() < REMEMBERED_MAX {
            it.unread.push((UserId(push.from), push.msg_id));
        }
        let name = self.name(device);
        let user = self.devices[device].user;
        let conversation = petrel_protocol::ids::ConversationId::of_users(user, UserId(peer));
        let about = About::message(push.from, &push.client_msg_id).at(conversation, push.seq);
        self.note(about, || format!("{name} has got it as seq {}", push.seq));
        let stored = self.store.highest_seq(conversation);
        if stored < push.seq {
            let text = format!("{name} has got seq {}, and the store has {stored}", push.seq);
            self.fail("delivered-is-stored", about, text);
        }
        let (id, content) = (id_of(push.from, &push.client_msg_id), content_of(push));
        self.record(device, What::Arrived { peer, seq: push.seq, from: push.from, id, content });
    }

    fn client_shown(&mut self, device: usize, peer: UserId, row: &Row) {
        let peer = peer.0;
        let what = match row {
            Row::Message(push) => What::Message {
                peer,
                seq: push.seq,
                from: push.from,
                id: id_of(push.from, &push.client_msg_id),
                content: content_of(push),
            },
            Row::Own(seq) => What::Own { peer, seq: *seq },
            Row::Recall(recall) => {
                What::Recall { peer, seq: recall.seq, from: recall.from, target: recall.target_seq }
            }
            Row::Absent(seq) => What::Absent { peer, seq: *seq },
        };
        self.record(device, what);
    }

    fn client_served(&mut self, device: usize, range: &petrel_protocol::packets::SyncRange) {
        for row in &range.rows {
            if let Some(sync_row::Row::Message(push)) = &row.row {
                let content = content_of(push);
                self.record(device, What::Served { peer: range.peer, seq: push.seq, content });
            }
        }
    }

    /// The user of a device does something.
    pub(crate) fn operate(&mut self, device: usize) {
        if self.operations_left == 0 || self.is_calm {
            return;
        }
        self.operations_left -= 1;
        let pause = self.random.below(self.size.pause_us * 2) + 1;
        self.after(pause, Event::Operate(device));
        match self.random.below(32) {
            0..20 => self.user_sends(device),
            20..23 => self.user_recalls(device),
            23..27 => self.user_reads(device),
            27..29 => {
                let (peer, from) = (self.someone_else(device), 1 + self.random.below(5));
                self.client_input(device, Input::Sync(peer, from, 0));
            }
            29..30 => self.client_input(device, Input::GetIds),
            _ => {
                if let Link::Up(connection) = self.devices[device].link {
                    self.hang_up(connection);
                }
            }
        }
    }

    fn someone_else(&mut self, device: usize) -> UserId {
        let user = self.devices[device].user.0;
        // Most of it happens between few, so that conversations grow.
        let others = if self.random.coin() { 1 } else { self.size.users - 1 };
        UserId((user + self.random.below(others)) % self.size.users + 1)
    }

    fn user_sends(&mut self, device: usize) {
        let to = self.someone_else(device);
        let borrowed = self.strikes(self.faults.borrowed_ids).then(|| self.borrowed_id(device)).flatten();
        let (to, borrowed) = borrowed.map_or((to, None), |(peer, msg_id)| (peer, Some(msg_id)));
        let are_ids_shared = self.size.are_ids_shared;
        let it = &mut self.devices[device];
        let (user, kind, number) = (it.user.0, it.kind as u8, it.sends.len() as u64);
        it.sends.push(to);
        let id = client_id(if are_ids_shared { 0 } else { user }, kind, number);
        let own = if it.ids.is_empty() || borrowed.is_some() { 0 } else { it.ids.remove(0) };
        let msg_id = borrowed.unwrap_or(own);
        let content = format!("{user}/{kind} says {number} to {to}");
        let fingerprint = fingerprint(content.as_bytes());
        self.record(device, What::Send { to: to.0, id: id_of(user, &id), content: fingerprint });
        if borrowed.is_some() {
            self.met(Met::BorrowedId);
            self.record(device, What::Contested { id: id_of(user, &id) });
        }
        let name = self.name(device);
        self.note(About::message(user, &id), || format!("{name} is asked to send it to u{to}"));
        self.client_input(device, Input::Send(Draft { id, msg_id, to, format: 1, content: &content }));
    }

    /// The message id of something that came to a device, with its sender.
    fn borrowed_id(&mut self, device: usize) -> Option<(UserId, u64)> {
        let unread = &self.devices[device].unread;
        (!unread.is_empty()).then(|| unread[self.random.index(unread.len())])
    }

    fn user_recalls(&mut self, device: usize) {
        let accepted = &self.devices[device].accepted;
        if accepted.is_empty() {
            return;
        }
        let (to, msg_id) = accepted[self.random.index(accepted.len())];
        self.client_input(device, Input::Recall(to, msg_id));
    }

    fn user_reads(&mut self, device: usize) {
        let unread = &mut self.devices[device].unread;
        if !unread.is_empty() {
            let (sender, msg_id) = unread.swap_remove(self.random.index(unread.len()));
            self.client_input(device, Input::Read(sender, msg_id));
        }
    }
}
