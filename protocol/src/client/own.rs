//! The latest own messages: whom they went to, and the highest status that is known of each.

use std::collections::VecDeque;

use super::{ClientMsgId, Config};
use crate::ids::UserId;
use crate::map::Map;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Own {
    messages: Map<ClientMsgId, Known>,
    oldest_first: VecDeque<ClientMsgId>,
}

#[derive(Debug)]
struct Known {
    to: UserId,
    status: i32,
}

impl Own {
    /// Remembers a message that was just accepted.
    pub(super) fn add(&mut self, id: ClientMsgId, to: UserId, config: &Config) {
        while self.oldest_first.len() >= config.own_max {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.messages.remove(&oldest);
        }
        self.oldest_first.push_back(id);
        self.messages.insert(id, Known { to, status: 0 });
    }

    pub(super) fn is_known(&self, id: ClientMsgId) -> bool {
        self.messages.contains_key(&id)
    }

    /// Notes a status. Returns the highest one known before and the receiver, where the message is remembered.
    pub(super) fn rise(&mut self, id: ClientMsgId, status: i32) -> (Option<i32>, Option<UserId>) {
        let Some(known) = self.messages.get_mut(&id) else { return (None, None) };
        let before = known.status;
        known.status = before.max(status);
        (Some(before), Some(known.to))
    }
}
