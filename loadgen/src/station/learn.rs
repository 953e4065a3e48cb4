//! What a device's machine wants and learns, carried out and remembered.

use petrel_protocol::client::{ClientMsgId, Input, Output, Refusal, Row};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::UserId;
use petrel_protocol::packets::{C2cMsgPush, status};
use petrel_protocol::websocket::{Opcode, encode_frame};

use super::{Inner, Link, Slot};
use crate::content::{MessageRef, Origin};
use crate::measure::Timed;
use crate::plan::Stage;
use crate::records::{Body, Fault, FaultKind, Marks, Recalled, Received, Sent};
use crate::stamp::Stamp;

/// `format` of a message whose content was recalled.
const FORMAT_RECALLED: i32 = 10;

/// What follows from an output and is an input of its own.
enum Next {
    Recall(UserId, u64),
    Read(UserId, u64),
}

impl Inner {
    /// Gives a device's machine an input and carries out what it wants.
    pub(super) fn handle(&mut self, d: usize, input: Input<'_>) {
        let mut out = std::mem::take(&mut self.out);
        let now = self.plan.clock.now();
        self.devices[d].client.handle(now, input, &mut out);
        let mut next = Vec::new();
        if !out.is_empty() {
            let at = self.plan.clock.stamp();
            let mut actions = out.take();
            let mut arrived_seq = 0;
            for output in actions.drain(..) {
                if let Some(recorder) = &mut self.recorder {
                    recorder.output(at, self.devices[d].name(&self.plan), &output);
                }
                match output {
                    Output::Transmit(packet) => self.frame(d, Opcode::Binary, out.bytes(&packet)),
                    Output::Pong(payload) => self.frame(d, Opcode::Pong, out.bytes(&payload)),
                    Output::Ping => self.frame(d, Opcode::Ping, &[]),
                    Output::Arrived(push) => {
                        arrived_seq = push.seq;
                        self.arrived(d, at, &push);
                    }
                    Output::Shown(peer, row) => self.shown(d, at, peer, &row, &mut arrived_seq, &mut next),
                    learnt => self.learnt(d, at, learnt, &mut next),
                }
            }
            out.clear(actions);
        }
        self.out = out;
        for input in next {
            match input {
                Next::Recall(to, msg_id) => self.handle(d, Input::Recall(to, msg_id)),
                Next::Read(sender, msg_id) => self.handle(d, Input::Read(sender, msg_id)),
            }
        }
    }

    fn frame(&mut self, d: usize, opcode: Opcode, payload: &[u8]) {
        // The mask is for proxies between; it need not be unpredictable to a server that we test.
        let key = (self.random.bits() as u32).to_ne_bytes();
        let device = &mut self.devices[d];
        encode_frame(&mut device.egress, opcode, payload, Some(key));
        device.ring(Slot::Egress);
    }

    fn learnt(&mut self, d: usize, at: Stamp, output: Output, next: &mut Vec<Next>) {
        match output {
            Output::Close(_) => self.devices[d].hang_up(at, false),
            Output::Sent(id, attempt) => self.sent(at, &id, attempt),
            Output::Accepted { id, msg_id } => self.accepted(d, at, &id, msg_id, next),
            Output::Refused { id, refusal, may_exist } => self.refused(d, at, &id, &refusal, may_exist),
            Output::Postponed { id, code, retry_after_ms } => {
                self.refusal(at, code);
                // A drain says it in its own packet.
                if retry_after_ms == 0 && code != Code::Draining as i32 {
                    let detail = format!("refused for now ({code}) without a time after which to try again");
                    self.fault(d, at, FaultKind::Nonsense, Some(&id), detail);
                }
                if code == Code::OutcomeUnknown as i32
                    && let Some(sent) = self.own(&id)
                {
                    sent.marks.set(Marks::MAY_EXIST);
                }
            }
            Output::Unanswered(id) => {
                if let Some(sent) = self.own(&id) {
                    sent.marks.set(Marks::UNANSWERED);
                    sent.marks.set(Marks::MAY_EXIST);
                }
                let detail = "no answer to a send on an open connection".to_owned();
                self.fault(d, at, FaultKind::Unanswered, Some(&id), detail);
            }
            Output::Status { id, seq, status, .. } => self.status(d, at, &id, seq, status),
            Output::RecallRefused(_, code, _) | Output::OtherRefused(_, code, _) => self.refusal(at, code),
            Output::Repeated(peer, seq) => {
                self.measures.counts.duplicates += 1;
                self.last_news = at;
                if self.stage == Stage::Again {
                    let detail =
                        format!("row {seq} of the conversation with {peer} was acknowledged and came again");
                    self.fault(d, at, FaultKind::Forgotten, None, detail);
                }
            }
            Output::Ready => self.ready(d, at),
            Output::Drain(after_ms) => {
                let device = &mut self.devices[d];
                device.hold_until = at.after(std::time::Duration::from_millis(after_ms.into()));
                device.hang_up(at, true);
            }
            Output::Kicked(code, text) => {
                self.devices[d].is_wanted = false;
                self.fault(d, at, FaultKind::Nonsense, None, format!("kicked: {text} ({code})"));
            }
            Output::Fault(text) => self.fault(d, at, FaultKind::Nonsense, None, text),
            Output::Range(_) | Output::Ids(_) => {}
            Output::Transmit(_) | Output::Pong(_) | Output::Ping | Output::Arrived(_) | Output::Shown(..) => {
                unreachable!("carried out by the caller")
            }
        }
    }

    /// The record of an own send of this run and thread.
    fn own(&mut self, id: &ClientMsgId) -> Option<&mut Sent> {
        match self.plan.contents.origin(id) {
            Origin::Own(m) if u32::from(m.station) == self.number => {
                self.records.sent.get_mut(m.index as usize)
            }
            _ => None,
        }
    }

    fn fault(&mut self, d: usize, at: Stamp, kind: FaultKind, id: Option<&ClientMsgId>, detail: String) {
        let message = id.and_then(|id| match self.plan.contents.origin(id) {
            Origin::Own(message) => Some(message),
            Origin::Foreign => None,
        });
        self.records.fault(Fault { kind, message, device: self.devices[d].number, at, detail });
    }

    pub(super) fn nonsense(&mut self, d: usize, detail: String) {
        let at = self.plan.clock.stamp();
        self.fault(d, at, FaultKind::Nonsense, None, detail);
    }

    /// A close of the edge is its right, unless it says that we did wrong.
    pub(super) fn closed_by_edge(&mut self, d: usize, code: Option<u16>, reason: &str) {
        use petrel_protocol::codes::close;
        let is_blame = matches!(
            code,
            Some(
                close::PROTOCOL
                    | close::UNSUPPORTED
                    | close::NOT_UTF8
                    | close::TOO_LARGE
                    | close::TOO_MANY_FAULTS
            )
        );
        if is_blame {
            self.nonsense(d, format!("closed with {}: {reason}", code.unwrap_or_default()));
        }
    }

    fn sent(&mut self, at: Stamp, id: &ClientMsgId, attempt: u32) {
        self.transmissions += 1;
        let transmission = self.transmissions;
        let Some(sent) = self.own(id) else { return };
        if sent.first_sent.is_set() {
            sent.resends = sent.resends.saturating_add(1);
            sent.transmissions.1 = transmission;
        } else {
            sent.first_sent = at;
            sent.transmissions = (transmission, transmission);
        }
        if attempt > 0 {
            self.measures.counts.resent += 1;
        }
    }

    fn accepted(&mut self, d: usize, at: Stamp, id: &ClientMsgId, msg_id: u64, next: &mut Vec<Next>) {
        self.last_news = at;
        let Some(sent) = self.own(id) else { return };
        sent.accepted = at;
        sent.msg_id = msg_id;
        let (intended, to) = (sent.intended, sent.to);
        self.measures.counts.accepted += 1;
        // Who left with a send under way has made it wait.
        if self.devices[d].closing_at < intended {
            let phase = self.plan.phase_at(self.load_start, intended);
            self.measures.time_in_phase(Timed::Accept, phase, at.us_since(intended));
        }
        if let Some(second) = self.measures.second(self.load_start, at) {
            second.accepted += 1;
        }
        let recall_share = self.plan.scenario.recall_share;
        if recall_share > 0.0 && self.random.unit() < recall_share {
            let to = self.plan.accounts.users[to as usize];
            if let Some(sent) = self.own(id) {
                sent.marks.set(Marks::RECALLING);
            }
            if let Origin::Own(message) = self.plan.contents.origin(id) {
                self.devices[d].recalling.push((msg_id, message.index));
            }
            self.measures.counts.recalls.0 += 1;
            next.push(Next::Recall(to, msg_id));
        }
        self.next_turn(d);
    }

    fn refused(&mut self, d: usize, at: Stamp, id: &ClientMsgId, refusal: &Refusal, may_exist: bool) {
        let code = match refusal {
            Refusal::Code(code, _) => *code,
            Refusal::OutboxFull => 0,
        };
        if let Some(sent) = self.own(id) {
            sent.marks.set(Marks::REFUSED);
            if may_exist {
                sent.marks.set(Marks::MAY_EXIST);
            }
            sent.refusal = code as i16;
        }
        self.measures.counts.refused += 1;
        self.refusal(at, code);
        self.next_turn(d);
    }

    fn refusal(&mut self, at: Stamp, code: i32) {
        *self.measures.counts.refusals.entry(code).or_default() += 1;
        if let Some(second) = self.measures.second(self.load_start, at) {
            second.refused += 1;
        }
    }

    /// Closed loop: the device may send its next one.
    fn next_turn(&mut self, d: usize) {
        if self.stage == Stage::Load && self.plan.phases()[0].rate == 0.0 {
            self.turns.push(d);
            if let Some(waker) = self.sender.take() {
                waker.wake();
            }
        }
    }

    fn status(&mut self, d: usize, at: Stamp, id: &ClientMsgId, seq: u64, now: i32) {
        self.last_news = at;
        let (number, upgraded_at) = (self.devices[d].number, self.devices[d].upgraded_at);
        self.devices[d].told += 1;
        let told = self.devices[d].told;
        // Another device of the sender has statuses of its own.
        let Some(sent) = self.own(id).filter(|sent| sent.device == number) else { return };
        if now == status::FAILED {
            sent.marks.set(Marks::FAILED);
            return;
        }
        let delivered_since = sent.take_delivery(now, at);
        let fall = sent.take_status(now, at, told, upgraded_at);
        let other_seq = sent.take_seq(seq);
        if let Some(intended) = delivered_since.filter(|intended| self.devices[d].closing_at < *intended) {
            self.measures.time(Timed::EndToEnd, at.us_since(intended));
        }
        match fall {
            None => {}
            Some(fall) if fall.is_broken_promise => {
                let detail = format!("status {now} after {}", fall.from);
                self.fault(d, at, FaultKind::StatusFell, Some(id), detail);
            }
            Some(_) => self.measures.counts.late_statuses += 1,
        }
        if let Some(other) = other_seq {
            let detail = format!("its seq was {other} and is now {seq}");
            self.fault(d, at, FaultKind::Nonsense, Some(id), detail);
        }
    }

    fn ready(&mut self, d: usize, at: Stamp) {
        self.last_news = at;
        let is_resync = self.stage >= Stage::Resync;
        let device = &mut self.devices[d];
        device.ready_at = at;
        // A READY of before the final sync's own connection does not count.
        device.has_resynced |= is_resync && device.resync_connects > 0;
        let upgraded = device.upgraded_at;
        self.measures.time(Timed::Ready, at.us_since(upgraded));
    }

    fn arrived(&mut self, d: usize, at: Stamp, push: &C2cMsgPush) {
        self.last_news = at;
        let message = match self.plan.contents.origin(&push.client_msg_id) {
            Origin::Own(message) => message,
            Origin::Foreign => return self.stranger(d, at, push),
        };
        let parties = (UserId(push.from), UserId(push.to));
        let intended = self.plan.contents.read(message, parties, &push.content);
        let is_recalled = push.format == FORMAT_RECALLED && push.content.is_empty();
        let body = match intended {
            Some(_) => Body::Intact,
            None if is_recalled => Body::Recalled,
            None => Body::Changed,
        };
        let device = &self.devices[d];
        let received = Received { message, body, device: device.number, at, seq: push.seq };
        let ready_at = if device.client.is_ready() { device.ready_at } else { Stamp::NEVER };
        self.records.received.push(received);
        self.measures.counts.delivered += 1;
        if let Some(second) = self.measures.second(self.load_start, at) {
            second.delivered += 1;
        }
        // Who was away when it was sent gets it late by design.
        if let Some(intended) = intended.filter(|i| ready_at.is_set() && *i >= ready_at) {
            let us = at.us_since(intended);
            let phase = self.plan.phase_at(self.load_start, intended);
            self.measures.time_in_phase(Timed::Delivery, phase, us);
            self.measures.delivery_in_second(self.load_start, intended, us);
        }
    }

    fn stranger(&mut self, d: usize, at: Stamp, push: &C2cMsgPush) {
        if self.plan.starts_at_one {
            let detail = format!("msg_id {} from user {}, seq {}", push.msg_id, push.from, push.seq);
            self.fault(d, at, FaultKind::Stranger, None, detail);
        } else {
            self.measures.counts.foreign += 1;
        }
    }

    fn shown(
        &mut self,
        d: usize,
        at: Stamp,
        peer: UserId,
        row: &Row,
        arrived_seq: &mut u64,
        next: &mut Vec<Next>,
    ) {
        match row {
            Row::Message(push) => {
                if *arrived_seq != 0 && push.seq > *arrived_seq {
                    // The arrival set a later one free: it came behind it.
                    self.measures.counts.out_of_order += 1;
                    *arrived_seq = 0;
                }
                let is_mine = push.from == self.devices[d].client.user().0;
                if !is_mine
                    && self.plan.scenario.read_share > 0.0
                    && self.random.unit() < self.plan.scenario.read_share
                {
                    next.push(Next::Read(UserId(push.from), push.msg_id));
                }
            }
            Row::Recall(recall) => {
                self.last_news = at;
                let Some(peer) = self.plan.places.get(&peer).copied() else { return };
                let device = &mut self.devices[d];
                let (seq, target_seq) = (recall.seq, recall.target_seq);
                self.records.recalled.push(Recalled { device: device.number, peer, seq, target_seq, at });
                if let Some(i) = device.recalling.iter().position(|(msg_id, _)| *msg_id == recall.msg_id) {
                    let (_, index) = device.recalling.swap_remove(i);
                    self.records.sent[index as usize].marks.set(Marks::RECALLED);
                    self.measures.counts.recalls.1 += 1;
                }
            }
            Row::Absent(seq) => {
                let detail = format!("seq {seq} with user {peer} does not exist, says the edge");
                self.fault(d, at, FaultKind::Absent, None, detail);
            }
            Row::Own(_) => {}
        }
    }

    /// Sends a message that is due. Returns whether there was anybody to send it.
    pub(super) fn send(&mut self, d: usize, intended: Stamp) {
        let user = self.devices[d].user;
        let random = &mut self.random;
        let to = self.plan.partner(user, |bound| random.below(bound));
        let size = self.plan.scenario.payload(&mut self.random);
        let message = MessageRef { station: self.number as u16, index: self.records.sent.len() as u32 };
        let users = &self.plan.accounts.users;
        let parties = (users[user as usize], users[to as usize]);
        let mut content = std::mem::take(&mut self.content);
        self.plan.contents.write(message, parties, intended, size, &mut content);
        self.records.sent.push(Sent {
            intended,
            first_sent: Stamp::NEVER,
            accepted: Stamp::NEVER,
            delivered: Stamp::NEVER,
            device: self.devices[d].number,
            to,
            msg_id: 0,
            seq: 0,
            transmissions: (0, 0),
            resends: 0,
            status: 0,
            told: (Stamp::NEVER, 0),
            marks: Marks::default(),
            refusal: 0,
        });
        self.measures.counts.offered += 1;
        let now = self.plan.clock.stamp();
        self.measures.time(Timed::Lag, now.us_since(intended));
        if let Some(second) = self.measures.second(self.load_start, intended) {
            second.offered += 1;
        }
        let draft = petrel_protocol::client::Draft {
            id: self.plan.contents.id(message),
            msg_id: 0,
            to: parties.1,
            format: 1,
            content: &content,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.send(now, self.devices[d].name(&self.plan), parties.1, draft.id, &content);
        }
        self.handle(d, Input::Send(draft));
        self.content = content;
    }

    /// Whether this device can send now.
    pub(super) fn can_send(&self, d: usize) -> bool {
        let device = &self.devices[d];
        device.is_wanted && device.link == Link::Up && device.client.is_ready()
    }
}
