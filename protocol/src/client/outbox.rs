//! Sends whose outcome is not known yet, in the order in which the caller gave them.
//!
//! Within a conversation that order is kept: while an earlier send waits, is sent again, or may or may not have been
//! accepted, nothing later goes out.

use std::collections::VecDeque;

use super::{ClientMsgId, Config, Draft, Output, Outputs, Refusal};
use crate::codes::Code;
use crate::ids::UserId;
use crate::map::Map;
use crate::packets::{C2cSendReq, ImProtoResponse, MsgType};
use crate::time::Now;

/// A retry that the edge invites without a time, or whose time is 0, waits this long: a refusal must not spin.
const RETRY_MS_MIN: u64 = 50;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sends: VecDeque<Send>,
    /// Sends that are neither under way nor waiting for a time.
    waiting: usize,
    in_flight: usize,
    /// Conversations that an earlier send of the same pass closes, or its sends under way. Kept for its memory.
    scratch: Map<UserId, Lane>,
}

#[derive(Debug)]
struct Send {
    id: ClientMsgId,
    msg_id: u64,
    to: UserId,
    attempt: u32,
    refusals: u32,
    format: i32,
    state: State,
    may_exist: bool,
    time_ms: u64,
    content: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent as soon as its order allows.
    Waiting,
    /// Sent at this time on this connection, and not answered.
    InFlight(u64),
    /// Refused for now: not before this time.
    Postponed(u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    in_flight: u16,
    is_closed: bool,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    pub(super) fn add(
        &mut self,
        now: Now,
        user: UserId,
        draft: Draft<'_>,
        may_send: bool,
        config: &Config,
        out: &mut Outputs,
    ) {
        if self.sends.len() >= config.outbox_max {
            return out.push(Output::Refused {
                id: draft.id,
                refusal: Refusal::OutboxFull,
                may_exist: false,
            });
        }
        let is_first = self.sends.is_empty();
        self.waiting += 1;
        self.sends.push_back(Send {
            id: draft.id,
            msg_id: draft.msg_id,
            to: draft.to,
            attempt: 0,
            refusals: 0,
            format: draft.format,
            state: State::Waiting,
            may_exist: false,
            time_ms: now.wall_ms,
            content: draft.content.into(),
        });
        if !may_send {
            return;
        }
        if is_first {
            self.transmit(0, now, user, out);
        } else {
            self.pump(now, user, config, out);
        }
    }

    /// Sends what its order allows.
    pub(super) fn pump(&mut self, now: Now, user: UserId, config: &Config, out: &mut Outputs) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for i in 0..self.sends.len() {
            if self.in_flight >= usize::from(config.in_flight_max) {
                break;
            }
            let send = &self.sends[i];
            let lane = scratch.entry(send.to).or_default();
            let is_again = send.attempt > 0;
            let is_due = match send.state {
                State::InFlight(_) => {
                    lane.in_flight += 1;
                    lane.is_closed |= is_again;
                    continue;
                }
                State::Waiting => true,
                State::Postponed(until) => until <= now.mono_ms,
            };
            let room = if is_again { 1 } else { config.pipeline };
            if !is_due || lane.is_closed || lane.in_flight >= room {
                lane.is_closed = true;
                continue;
            }
            lane.in_flight += 1;
            lane.is_closed |= is_again;
            self.transmit(i, now, user, out);
        }
        scratch.clear();
        self.scratch = scratch;
    }

    fn transmit(&mut self, i: usize, now: Now, user: UserId, out: &mut Outputs) {
        let send = &mut self.sends[i];
        self.waiting -= usize::from(send.state == State::Waiting);
        self.in_flight += 1;
        send.state = State::InFlight(now.mono_ms);
        // The content is lent to the packet: encoding must not copy it twice.
        let packet = C2cSendReq {
            client_msg_id: bytes::Bytes::copy_from_slice(&send.id),
            msg_id: send.msg_id,
            from: user.0,
            to: send.to.0,
            format: send.format,
            content: std::mem::take(&mut send.content).into_string(),
            time: send.time_ms,
            attempt: Some(send.attempt),
        };
        out.packet(MsgType::C2cSend, &packet);
        send.content = packet.content.into_boxed_str();
        out.push(Output::Sent(send.id, send.attempt));
    }

    fn find(&self, id: ClientMsgId) -> Option<usize> {
        self.sends.iter().position(|send| send.id == id)
    }

    pub(super) fn is_known(&self, id: ClientMsgId) -> bool {
        self.find(id).is_some()
    }

    /// Ends a send. Returns its receiver, where it was there.
    pub(super) fn remove(&mut self, id: ClientMsgId) -> Option<UserId> {
        let send = self.sends.remove(self.find(id)?)?;
        self.waiting -= usize::from(send.state == State::Waiting);
        self.in_flight -= usize::from(matches!(send.state, State::InFlight(_)));
        Some(send.to)
    }

    /// The edge refused a send: for now, or for good.
    pub(super) fn refused(
        &mut self,
        now: Now,
        id: ClientMsgId,
        nack: ImProtoResponse,
        config: &Config,
        out: &mut Outputs,
    ) {
        let Some(i) = self.find(id) else { return };
        let send = &mut self.sends[i];
        let (code, retry_after_ms) = (nack.code, nack.retry_after_ms);
        send.may_exist |= code == Code::OutcomeUnknown as i32;
        send.refusals += 1;
        let is_given_up = config.refusals_max != 0 && send.refusals >= config.refusals_max;
        if !is_temporary(code) || is_given_up {
            let may_exist = send.may_exist;
            self.remove(id);
            return out.push(Output::Refused { id, refusal: Refusal::Code(code, nack.msg), may_exist });
        }
        if let State::InFlight(_) = send.state {
            self.in_flight -= 1;
        }
        self.waiting -= usize::from(send.state == State::Waiting);
        let wait = u64::from(retry_after_ms).max(RETRY_MS_MIN);
        // Those refused together must not come back together: up to half as much again, by the id.
        let spread = (u64::from(crate::map::fingerprint(0, &[&id]) as u32) * (wait / 2)) >> 32;
        send.state = State::Postponed(now.mono_ms + wait + spread);
        send.attempt += 1;
        out.push(Output::Postponed { id, code, retry_after_ms });
    }

    /// Whatever was under way may or may not have been accepted.
    pub(super) fn connection_lost(&mut self) {
        for send in &mut self.sends {
            if let State::InFlight(_) = send.state {
                send.may_exist = true;
                send.attempt += 1;
                send.state = State::Waiting;
                self.waiting += 1;
            }
        }
        self.in_flight = 0;
    }

    /// Reports sends without an answer, and lets them be sent again.
    pub(super) fn overdue(&mut self, now: Now, config: &Config, out: &mut Outputs) {
        for send in &mut self.sends {
            if let State::InFlight(since) = send.state
                && now.mono_ms >= since + config.answer_ms
            {
                send.may_exist = true;
                send.attempt += 1;
                send.state = State::Waiting;
                self.waiting += 1;
                self.in_flight -= 1;
                out.push(Output::Unanswered(send.id));
            }
        }
    }

    pub(super) fn due_ms(&self, is_connected: bool, config: &Config) -> Option<u64> {
        if !is_connected {
            return None;
        }
        let due = self.sends.iter().filter_map(|send| match send.state {
            State::Waiting => None,
            State::InFlight(since) => Some(since + config.answer_ms),
            State::Postponed(until) => Some(until),
        });
        due.min()
    }
}

/// Whether the edge says that the same send may succeed later.
fn is_temporary(code: i32) -> bool {
    const TEMPORARY: [Code; 6] = [
        Code::Overloaded,
        Code::RateLimited,
        Code::OutcomeUnknown,
        Code::HeldBack,
        Code::Draining,
        Code::Unavailable,
    ];
    TEMPORARY.iter().any(|temporary| *temporary as i32 == code)
}
