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
/// A send that is refused again and again waits twice as long each time, this often at most.
const RETRY_DOUBLINGS_MAX: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    sends: VecDeque<Send>,
    in_flight: usize,
    /// How many may be under way: halved when the edge is overloaded, one more with each that is accepted.
    allowance: u16,
    /// The edge has too much to do: nothing goes out before this time.
    gate_ms: u64,
    /// No send waits for an earlier time than this. May be too early, never too late.
    due_ms: u64,
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

impl Default for Outbox {
    fn default() -> Self {
        Self {
            sends: VecDeque::new(),
            in_flight: 0,
            allowance: u16::MAX,
            gate_ms: 0,
            due_ms: u64::MAX,
            scratch: Map::default(),
        }
    }
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.sends.len() > self.in_flight
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
        if is_first && self.gate_ms <= now.mono_ms {
            self.transmit(0, now, user, config, out);
        } else {
            self.pump(now, user, config, out);
        }
    }

    /// Sends what its order allows.
    pub(super) fn pump(&mut self, now: Now, user: UserId, config: &Config, out: &mut Outputs) {
        if now.mono_ms < self.gate_ms {
            return;
        }
        self.gate_ms = 0;
        let room = usize::from(config.in_flight_max.min(self.allowance));
        let mut scratch = std::mem::take(&mut self.scratch);
        for i in 0..self.sends.len() {
            if self.in_flight >= room {
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
            self.transmit(i, now, user, config, out);
        }
        scratch.clear();
        self.scratch = scratch;
    }

    fn transmit(&mut self, i: usize, now: Now, user: UserId, config: &Config, out: &mut Outputs) {
        let send = &mut self.sends[i];
        self.in_flight += 1;
        send.state = State::InFlight(now.mono_ms);
        self.due_ms = self.due_ms.min(now.mono_ms + config.answer_ms);
        // The content is lent to the packet: encoding must not copy it twice.
        let packet = C2cSendReq {
            client_msg_id: bytes::Bytes::copy_from_slice(&send.id),
            msg_id: send.msg_id,
            from: user.0,
            to: send.to.0,
            format: send.format,
            content: std::mem::take(&mut send.content).into_string(),
            time: send.time_ms,
            // A try that was refused for certain left nothing that would have to be looked for, and an edge that has too much
            // to do is spared the look-up.
            attempt: Some(if send.may_exist { send.attempt } else { 0 }),
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

    /// The send is durable. Returns its receiver, where that is news.
    pub(super) fn accepted(&mut self, id: ClientMsgId, config: &Config) -> Option<UserId> {
        self.allowance = self.allowance.saturating_add(1).min(config.in_flight_max);
        self.remove(id)
    }

    /// Ends a send. Returns its receiver, where it was there.
    pub(super) fn remove(&mut self, id: ClientMsgId) -> Option<UserId> {
        let send = self.sends.remove(self.find(id)?)?;
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
        let refusals = send.refusals;
        let wait = u64::from(retry_after_ms).max(RETRY_MS_MIN) << (refusals - 1).min(RETRY_DOUBLINGS_MAX);
        // Those refused together must not come back together: up to half as much again, by the id.
        let spread = (u64::from(crate::map::fingerprint(0, &[&id]) as u32) * (wait / 2)) >> 32;
        let until = now.mono_ms + wait + spread;
        if config.backs_off && is_overload(code) {
            // The refusals of what was under way together are one sign.
            if self.gate_ms <= now.mono_ms {
                self.allowance = (self.allowance.min(config.in_flight_max) / 2).max(1);
            }
            self.gate_ms =
                self.gate_ms.max(now.mono_ms + u64::from(retry_after_ms).max(RETRY_MS_MIN) + spread);
        }
        let is_given_up = config.refusals_max != 0 && send.refusals >= config.refusals_max;
        if !is_temporary(code) || is_given_up {
            let may_exist = send.may_exist;
            self.remove(id);
            return out.push(Output::Refused { id, refusal: Refusal::Code(code, nack.msg), may_exist });
        }
        if let State::InFlight(_) = send.state {
            self.in_flight -= 1;
        }
        send.state = State::Postponed(until);
        send.attempt += 1;
        self.due_ms = self.due_ms.min(until);
        out.push(Output::Postponed { id, code, retry_after_ms });
    }

    /// Whatever was under way may or may not have been accepted.
    pub(super) fn connection_lost(&mut self) {
        for send in &mut self.sends {
            if let State::InFlight(_) = send.state {
                send.may_exist = true;
                send.attempt += 1;
                send.state = State::Waiting;
            }
        }
        self.in_flight = 0;
        // The next edge may have nothing to do.
        self.gate_ms = 0;
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
                self.in_flight -= 1;
                out.push(Output::Unanswered(send.id));
            }
        }
    }

    /// Looks again for what is due next, after whatever was due has been done.
    pub(super) fn set_due(&mut self, now: Now, config: &Config) {
        let due = self.sends.iter().filter_map(|send| match send.state {
            State::Waiting => None,
            State::InFlight(since) => Some(since + config.answer_ms),
            // One that its order holds back is looked at when that changes.
            State::Postponed(until) => (until > now.mono_ms).then_some(until),
        });
        self.due_ms = due.min().unwrap_or(u64::MAX);
    }

    /// When a send waits for time; none while nothing does.
    pub(super) fn due_ms(&self, is_connected: bool) -> Option<u64> {
        if !is_connected || self.sends.is_empty() {
            return None;
        }
        let has_gated = self.gate_ms != 0 && self.in_flight < self.sends.len();
        let due = if has_gated { self.due_ms.min(self.gate_ms) } else { self.due_ms };
        (due != u64::MAX).then_some(due)
    }
}

/// Whether the refusal concerns everything that this client could send now.
fn is_overload(code: i32) -> bool {
    const OVERLOAD: [Code; 4] = [Code::Overloaded, Code::RateLimited, Code::Draining, Code::Unavailable];
    OVERLOAD.iter().any(|overload| *overload as i32 == code)
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
