//! The decisions about a batch, event by event in the log's order. All inputs are at hand; every rule is here.

use std::collections::VecDeque;

use super::assembly::{Assembly, Entry};
use super::memory::Conversation;
use super::pack::Event;
use super::pending::{self, Pending};
use super::rows::{Batch, Head, Key, KeyId, KeyRow, Member, MessageRow, Outcome, Recall, RowBody, Target};
use crate::codes::Code;
use crate::events::{self, Duplicate, Recalled, Refused, Stored, stored, uplink};
use crate::ids::{ConversationId, Position};
use crate::limits;
use crate::map::{Map, Set};
use crate::packets::MsgType;

/// Decides about all events of a batch; answers with what to write, and with what the next batches must know of it.
pub(super) fn decide(assembly: Assembly, before: &VecDeque<Pending>) -> (Batch, Pending) {
    let mut decider = Decider {
        before,
        keys: assembly.keys,
        targets: assembly.targets,
        now: Pending { heads: assembly.conversations, ..Pending::default() },
        batch: Batch { ack: assembly.ack, counts: assembly.counts, ..Batch::default() },
        changed: Set::default(),
        is_replay: false,
    };
    for entry in assembly.entries {
        match entry {
            Ok(entry) => decider.event(entry),
            Err(dead) => decider.batch.dead_letters.push(dead),
        }
    }
    let Decider { mut batch, now, changed, .. } = decider;
    let mut heads: Vec<_> = changed.into_iter().collect();
    // The order of a map says nothing; a sorted one is also written quicker.
    heads.sort_unstable();
    batch.heads =
        heads.into_iter().map(|conversation| (conversation, now.heads[&conversation].head)).collect();
    (batch, now)
}

impl Head {
    /// Whether the event at this position has been applied.
    pub(super) fn is_applied(&self, position: Position) -> bool {
        self.applied > 0 && position <= self.position
    }
}

struct Decider<'a> {
    before: &'a VecDeque<Pending>,
    keys: Map<KeyId, KeyRow>,
    targets: Map<(ConversationId, u64), Target>,
    now: Pending,
    batch: Batch,
    changed: Set<ConversationId>,
    /// The event at hand was applied before.
    is_replay: bool,
}

/// What the keys say about a send.
enum Verdict {
    New,
    Duplicate(u64),
    Refused(i32),
}

/// The rows under which a send may be known.
#[derive(Clone, Copy)]
struct Known {
    client: Option<KeyRow>,
    message: Option<KeyRow>,
}

impl Decider<'_> {
    fn event(&mut self, Entry { mut event, is_looked_up }: Entry) {
        let state = self.now.heads.get_mut(&event.conversation).expect("each event's conversation is here");
        self.is_replay = state.head.is_applied(event.position);
        if self.is_replay {
            self.batch.counts.replays += 1;
            // Its head may be written, and what goes beside it not.
            self.changed.insert(event.conversation);
            match event.uplink.body.take().expect("checked") {
                uplink::Body::Send(send) => self.send_again(&event, send),
                uplink::Body::Recall(recall) => self.recall(&event, recall),
            }
            return;
        }
        state.head.position = event.position;
        state.head.applied += 1;
        state.head.edge_time_ms = state.head.edge_time_ms.max(event.uplink.edge_time_ms);
        self.changed.insert(event.conversation);
        match event.uplink.body.take().expect("checked") {
            uplink::Body::Send(send) => self.send(&event, send, is_looked_up),
            uplink::Body::Recall(recall) => self.recall(&event, recall),
        }
    }

    fn send(&mut self, event: &Event, send: events::Send, is_looked_up: bool) {
        let (client, message) = event.keys(&send);
        let (known, is_id_free) = if is_looked_up {
            let rows = self.known(client.as_ref(), &message);
            (rows.as_of(event, send.look_up), rows.message.is_none_or(|row| row.position >= event.position))
        } else {
            (Known { client: None, message: None }, true)
        };
        match verdict(event, &send, known) {
            Verdict::New => self.new_message(event, send, client, message),
            Verdict::Duplicate(seq) => {
                if is_id_free {
                    self.write_key(event, message, Outcome::Alias(seq));
                }
                self.duplicate(event, &send, seq);
            }
            Verdict::Refused(code) => {
                // Remembered under the sender's own key: the message's may belong to somebody else.
                if let Some(client) = client
                    && known.client.is_none()
                {
                    self.write_key(event, client, Outcome::Refused(code));
                }
                self.refused(event, code, MsgType::C2cSend, Some(send));
            }
        }
    }

    fn new_message(&mut self, event: &Event, send: events::Send, client: Option<KeyId>, message: KeyId) {
        let state = self.state(event.conversation);
        state.head.seq += 1;
        state.head.visible += 1;
        let Head { seq, applied, visible, .. } = state.head;
        let client_msg_id = send.client_msg_id.clone();
        let target = Target {
            sender: event.user,
            edge_time_ms: event.uplink.edge_time_ms,
            msg_id: send.msg_id,
            client_msg_id,
            recalled: None,
        };
        self.now.targets.insert((event.conversation, seq), target);
        for key in client.into_iter().chain([message]) {
            self.write_key(event, key, Outcome::Seq(seq));
        }
        if seq == 1
            && let ConversationId::C2C(one, other) = event.conversation
        {
            let conversation = event.conversation;
            self.batch.members.extend([one, other].map(|user| Member { user, conversation }));
        }
        let body = as_message(send);
        self.batch.messages.push(MessageRow {
            conversation: event.conversation,
            seq,
            applied,
            sender: event.user,
            device: event.uplink.device,
            edge_time_ms: event.uplink.edge_time_ms,
            visible,
            body: RowBody::Message(body.clone()),
        });
        self.publish(event, seq, stored::Body::Message(body));
    }

    /// A send that was applied before: what became of it stands in its keys.
    fn send_again(&mut self, event: &Event, send: events::Send) {
        let (client, message) = event.keys(&send);
        let rows = self.known(client.as_ref(), &message);
        let own = |row: &KeyRow| row.position == event.position;
        let outcome = rows.client.filter(own).or(rows.message.filter(own)).map(|row| row.outcome);
        match outcome {
            Some(Outcome::Seq(seq)) => {
                let mut body = as_message(send);
                if self.target(event.conversation, seq).is_some_and(|target| target.recalled.is_some()) {
                    body.is_recalled = true;
                    body.content.clear();
                }
                self.publish(event, seq, stored::Body::Message(body));
            }
            Some(Outcome::Alias(seq)) => self.duplicate(event, &send, seq),
            Some(Outcome::Refused(code)) => self.refused(event, code, MsgType::C2cSend, Some(send)),
            None => match verdict(event, &send, rows.as_of(event, send.look_up)) {
                Verdict::Duplicate(seq) => self.duplicate(event, &send, seq),
                Verdict::Refused(code) => self.refused(event, code, MsgType::C2cSend, Some(send)),
                // Its keys were taken over by a later use outside the window. It is stored, and syncing shows it.
                Verdict::New => self.batch.counts.lost_replays += 1,
            },
        }
    }

    fn recall(&mut self, event: &Event, recall: events::Recall) {
        let conversation = event.conversation;
        let row = self.key(&KeyId { conversation, key: Key::Message(recall.msg_id) });
        let seq = row.filter(|row| row.position < event.position).and_then(|row| row.outcome.seq());
        let target = seq.and_then(|seq| Some((seq, self.target(conversation, seq)?.clone())));
        let Some((target_seq, target)) = target else {
            return self.refused_recall(event, Code::NotFound, recall);
        };
        if target.sender != event.user {
            return self.refused_recall(event, Code::NotYours, recall);
        }
        let recalled = Recalled { msg_id: target.msg_id, target_seq };
        match target.recalled.filter(|(_, position)| *position <= event.position) {
            Some((seq, position)) if position < event.position => {
                // Recalled already: once is enough.
                let body = Duplicate {
                    client_msg_id: target.client_msg_id,
                    msg_id: target.msg_id,
                    resent_msg_id: recall.msg_id,
                    seq,
                    is_recall: true,
                };
                self.publish(event, 0, stored::Body::Duplicate(body));
            }
            Some((seq, _)) if self.is_replay => self.publish(event, seq, stored::Body::Recalled(recalled)),
            _ if event.uplink.edge_time_ms > target.edge_time_ms.saturating_add(limits::RECALL_WINDOW_MS) => {
                self.refused_recall(event, Code::RecallTooLate, recall);
            }
            _ if self.is_replay => self.batch.counts.lost_replays += 1,
            _ => self.new_recall(event, recalled, target),
        }
    }

    fn new_recall(&mut self, event: &Event, recalled: Recalled, target: Target) {
        let conversation = event.conversation;
        let state = self.state(conversation);
        state.head.seq += 1;
        let Head { seq, applied, visible, .. } = state.head;
        let target_seq = recalled.target_seq;
        let target = Target { recalled: Some((seq, event.position)), ..target };
        self.now.targets.insert((conversation, target_seq), target);
        let position = event.position;
        self.batch.recalls.push(Recall { conversation, target_seq, applied, position, seq });
        self.batch.messages.push(MessageRow {
            conversation,
            seq,
            applied,
            sender: event.user,
            device: event.uplink.device,
            edge_time_ms: event.uplink.edge_time_ms,
            visible,
            body: RowBody::Recall(recalled),
        });
        self.publish(event, seq, stored::Body::Recalled(recalled));
    }

    fn duplicate(&mut self, event: &Event, send: &events::Send, seq: u64) {
        // A key without its message is possible only in a damaged store; the resend's own ids are the best guess then.
        let (client_msg_id, msg_id) = match self.target(event.conversation, seq) {
            Some(target) => (target.client_msg_id.clone(), target.msg_id),
            None => (send.client_msg_id.clone(), send.msg_id),
        };
        let body = Duplicate { client_msg_id, msg_id, resent_msg_id: send.msg_id, seq, is_recall: false };
        self.publish(event, 0, stored::Body::Duplicate(body));
    }

    fn refused_recall(&mut self, event: &Event, code: Code, recall: events::Recall) {
        let body = Refused {
            code: code as i32,
            request_type: MsgType::C2cWithdraw as u32,
            msg_id: recall.msg_id,
            ..Refused::default()
        };
        self.publish(event, 0, stored::Body::Refused(body));
    }

    fn refused(&mut self, event: &Event, code: i32, request: MsgType, send: Option<events::Send>) {
        let (client_msg_id, msg_id) = send.map(|send| (send.client_msg_id, send.msg_id)).unwrap_or_default();
        let body = Refused { code, request_type: request as u32, client_msg_id, msg_id };
        self.publish(event, 0, stored::Body::Refused(body));
    }

    fn publish(&mut self, event: &Event, seq: u64, body: stored::Body) {
        self.batch.stored.push(Stored {
            conversation: event.uplink.conversation,
            seq,
            edge_time_ms: event.uplink.edge_time_ms,
            user: event.user.0,
            device: event.uplink.device,
            origin: event.uplink.origin,
            again: self.is_replay,
            body: Some(body),
        });
    }

    fn write_key(&mut self, event: &Event, key: KeyId, outcome: Outcome) {
        let row = KeyRow {
            applied: self.state(event.conversation).head.applied,
            position: event.position,
            edge_time_ms: event.uplink.edge_time_ms,
            sender: event.user,
            outcome,
        };
        self.now.keys.insert(key, row);
        self.batch.keys.push((key, row));
    }

    fn state(&mut self, conversation: ConversationId) -> &mut Conversation {
        self.now.heads.get_mut(&conversation).expect("each event's conversation is here")
    }

    fn known(&self, client: Option<&KeyId>, message: &KeyId) -> Known {
        Known { client: client.and_then(|key| self.key(key)), message: self.key(message) }
    }

    /// The newest first: this batch, those under way, the store.
    fn key(&self, key: &KeyId) -> Option<KeyRow> {
        let pending = self.now.keys.get(key).copied().or_else(|| pending::key(self.before, key));
        pending.or_else(|| self.keys.get(key).copied())
    }

    fn target(&self, conversation: ConversationId, seq: u64) -> Option<&Target> {
        let id = (conversation, seq);
        let pending = self.now.targets.get(&id).or_else(|| pending::target(self.before, id));
        pending.or_else(|| self.targets.get(&id))
    }
}

impl Known {
    /// What counts for an event: earlier uses, and without a look-up flag only those within the window. Else what is a
    /// duplicate would depend on how long the reader has been running.
    fn as_of(self, event: &Event, look_up: bool) -> Self {
        let counts = |row: &KeyRow| {
            let is_in_window =
                row.edge_time_ms.saturating_add(limits::DEDUP_WINDOW_MS) >= event.uplink.edge_time_ms;
            row.position < event.position && (look_up || is_in_window)
        };
        Self { client: self.client.filter(counts), message: self.message.filter(counts) }
    }
}

fn verdict(event: &Event, send: &events::Send, known: Known) -> Verdict {
    if let ConversationId::Group(_) = event.conversation {
        // There are no groups yet, so nobody is a member of one.
        return Verdict::Refused(Code::BadRecipient as i32);
    }
    let taken = Verdict::Refused(Code::IdTaken as i32);
    let row = match (known.client, known.message) {
        (Some(client), _) => client,
        (None, None) => return Verdict::New,
        (None, Some(message)) if message.sender != event.user => return taken,
        // The same id for another message: accepting it would hide one of the two from acks and recalls.
        (None, Some(_)) if !send.client_msg_id.is_empty() => return taken,
        (None, Some(message)) => message,
    };
    match row.outcome {
        Outcome::Seq(seq) | Outcome::Alias(seq) => Verdict::Duplicate(seq),
        Outcome::Refused(code) => Verdict::Refused(code),
    }
}

fn as_message(send: events::Send) -> events::Message {
    let events::Send { client_msg_id, msg_id, format, content, time, look_up: _ } = send;
    events::Message { client_msg_id, msg_id, format, content, time, is_recalled: false }
}
