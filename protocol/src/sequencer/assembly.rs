//! A batch on its way to its decisions: finds out what has to be loaded, in three steps. Heads first, since they say
//! which keys are worth a look; then keys; then the messages that the keys lead to.

use std::collections::VecDeque;

use super::memory::{Conversation, Heads, Keys};
use super::pack::Event;
use super::pending::{self, Pending};
use super::rows::{Counts, DeadLetter, Key, KeyId, KeyRow, Target};
use super::{Loaded, Loads};
use crate::events::uplink::Body;
use crate::ids::{ConversationId, Position};
use crate::map::{Map, Set};

/// What an assembly does next.
#[derive(Debug)]
pub(super) enum Step {
    /// It waits for these.
    Load(Loads),
    /// It has everything.
    Decide,
}

#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) ack: Position,
    pub(super) entries: Vec<Result<Entry, DeadLetter>>,
    /// The conversations of its events, as the batches before leave them.
    pub(super) conversations: Map<ConversationId, Conversation>,
    pub(super) keys: Map<KeyId, KeyRow>,
    pub(super) targets: Map<(ConversationId, u64), Target>,
    pub(super) counts: Counts,
    asked: Loads,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    /// Its keys may be known; else they are certainly new.
    pub(super) is_looked_up: bool,
}

impl Assembly {
    pub(super) fn start(
        ack: Position,
        events: Vec<Result<Event, DeadLetter>>,
        heads: &mut Heads,
        keys: &mut Keys,
        pending: &VecDeque<Pending>,
    ) -> (Self, Step) {
        let mut assembly = Self {
            ack,
            counts: Counts { events: events.len(), ..Counts::default() },
            entries: Vec::with_capacity(events.len()),
            conversations: Map::default(),
            keys: Map::default(),
            targets: Map::default(),
            asked: Loads::default(),
        };
        for event in events {
            if let Ok(Event { conversation, .. }) = event
                && !assembly.conversations.contains_key(&conversation)
            {
                let known = pending::head(pending, conversation).or_else(|| heads.get(conversation));
                assembly.conversations.insert(conversation, known.unwrap_or_default());
                if known.is_none() {
                    assembly.asked.heads.push(conversation);
                }
            }
            assembly.entries.push(event.map(|event| Entry { event, is_looked_up: false }));
        }
        assembly.counts.heads_loaded = assembly.asked.heads.len();
        assembly.counts.heads_kept = assembly.conversations.len() - assembly.asked.heads.len();
        let step = assembly.next(keys, pending);
        (assembly, step)
    }

    /// Takes the answer to the last [`Step::Load`].
    pub(super) fn loaded(
        &mut self,
        loaded: Loaded,
        heads: &mut Heads,
        keys: &mut Keys,
        pending: &VecDeque<Pending>,
    ) -> Step {
        let asked = std::mem::take(&mut self.asked);
        let lengths = (asked.heads.len(), asked.keys.len(), asked.targets.len());
        assert_eq!(
            (loaded.heads.len(), loaded.keys.len(), loaded.targets.len()),
            lengths,
            "one answer for each load"
        );
        if !asked.targets.is_empty() {
            let found = asked.targets.into_iter().zip(loaded.targets);
            self.targets.extend(found.filter_map(|(id, target)| Some((id, target?))));
            return Step::Decide;
        }
        if !asked.keys.is_empty() {
            let found = asked.keys.into_iter().zip(loaded.keys);
            self.keys.extend(found.filter_map(|(id, row)| Some((id, row?))));
            return self.after_keys(pending);
        }
        for (conversation, head) in asked.heads.into_iter().zip(loaded.heads) {
            let head = head.unwrap_or_default();
            let foreign_ms = keys.foreign_ms(&head);
            let state = Conversation { head, foreign_ms, scanned_ms: head.edge_time_ms };
            heads.insert(conversation, state);
            self.conversations.insert(conversation, state);
        }
        self.next(keys, pending)
    }

    /// What comes first of what is still missing.
    fn next(&mut self, keys: &mut Keys, pending: &VecDeque<Pending>) -> Step {
        if !self.asked.heads.is_empty() {
            return Step::Load(self.asked.clone());
        }
        self.find_keys(keys, pending);
        if self.asked.keys.is_empty() {
            return self.after_keys(pending);
        }
        self.counts.keys_loaded = self.asked.keys.len();
        Step::Load(self.asked.clone())
    }

    fn find_keys(&mut self, keys: &mut Keys, pending: &VecDeque<Pending>) {
        // Which keys are asked for, whether or not the store has them.
        let mut asked: Set<KeyId> = Set::default();
        for entry in self.entries.iter_mut().flatten() {
            let event = &entry.event;
            let edge_time_ms = event.uplink.edge_time_ms;
            keys.passes(edge_time_ms);
            let state =
                self.conversations.get_mut(&event.conversation).expect("each event's conversation is here");
            let (client, message) = match event.uplink.body.as_ref().expect("checked") {
                Body::Send(send) => {
                    let (client, message) = event.keys(send);
                    let is_covered = keys.covers(state, edge_time_ms);
                    let is_client_known = client.is_some_and(|key| keys.remember(&key, edge_time_ms));
                    let is_message_known = keys.remember(&message, edge_time_ms);
                    entry.is_looked_up = send.look_up
                        || !is_covered
                        || is_client_known
                        || is_message_known
                        || state.head.is_applied(event.position);
                    (client, message)
                }
                Body::Recall(recall) => {
                    entry.is_looked_up = true;
                    let key = Key::Message(recall.msg_id);
                    (None, KeyId { conversation: event.conversation, key })
                }
            };
            state.scanned_ms = state.scanned_ms.max(edge_time_ms);
            if entry.is_looked_up {
                for key in client.into_iter().chain([message]) {
                    if pending::key(pending, &key).is_none() && asked.insert(key) {
                        self.asked.keys.push(key);
                    }
                }
            }
        }
    }

    fn after_keys(&mut self, pending: &VecDeque<Pending>) -> Step {
        let mut asked: Set<(ConversationId, u64)> = Set::default();
        for entry in self.entries.iter().flatten().filter(|entry| entry.is_looked_up) {
            let event = &entry.event;
            let (client, message) = match event.uplink.body.as_ref().expect("checked") {
                Body::Send(send) => event.keys(send),
                Body::Recall(recall) => {
                    (None, KeyId { conversation: event.conversation, key: Key::Message(recall.msg_id) })
                }
            };
            for key in client.into_iter().chain([message]) {
                let row = pending::key(pending, &key).or_else(|| self.keys.get(&key).copied());
                if let Some(seq) = row.and_then(|row| row.outcome.seq()) {
                    let id = (event.conversation, seq);
                    if pending::target(pending, id).is_none() && asked.insert(id) {
                        self.asked.targets.push(id);
                    }
                }
            }
        }
        if self.asked.targets.is_empty() { Step::Decide } else { Step::Load(self.asked.clone()) }
    }
}
