//! What the batches under way have decided. Until a batch is committed and the loads of the next one have begun, the
//! store does not show it.

use std::collections::VecDeque;

use super::memory::Conversation;
use super::rows::{KeyId, KeyRow, Target};
use crate::ids::ConversationId;
use crate::map::Map;

/// The decisions of one batch.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) is_committed: bool,
    pub(super) heads: Map<ConversationId, Conversation>,
    pub(super) keys: Map<KeyId, KeyRow>,
    pub(super) targets: Map<(ConversationId, u64), Target>,
}

pub(super) fn head(batches: &VecDeque<Pending>, conversation: ConversationId) -> Option<Conversation> {
    batches.iter().rev().find_map(|batch| batch.heads.get(&conversation)).copied()
}

pub(super) fn key(batches: &VecDeque<Pending>, key: &KeyId) -> Option<KeyRow> {
    batches.iter().rev().find_map(|batch| batch.keys.get(key)).copied()
}

pub(super) fn target(batches: &VecDeque<Pending>, id: (ConversationId, u64)) -> Option<&Target> {
    batches.iter().rev().find_map(|batch| batch.targets.get(&id))
}
