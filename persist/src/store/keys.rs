//! The keys of the tables. All numbers are big-endian, so that keys sort as what they name.

use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::limits::CLIENT_MSG_ID_BYTES;
use petrel_protocol::sequencer::{Key, KeyId};

use super::CursorId;

const CONVERSATION_BYTES: usize = 17;
const USER_BYTES: usize = 8;

/// Four bytes that differ between any two keys, nearly always. The embedded store keeps the first four bytes of a key
/// where it compares them without a further access to memory, and ids begin with bytes that are all alike.
fn spread(bytes: &[u8]) -> [u8; 4] {
    // Changing it needs a new format.
    let hash = super::hash(bytes);
    ((hash ^ (hash >> 32)) as u32).to_be_bytes()
}

/// A conversation as the start of a key, or as a whole one: short enough to be kept in place. Without its kind, since
/// only a group has no second id.
pub(super) fn conversation(conversation: ConversationId) -> [u8; 20] {
    let id = conversation.to_bytes();
    let mut key = [0; 20];
    key[..4].copy_from_slice(&spread(&id));
    key[4..].copy_from_slice(&id[1..]);
    key
}

/// The conversation of such a key.
pub(super) fn conversation_of(key: &[u8]) -> Option<ConversationId> {
    let ids = key.get(4..).filter(|ids| ids.len() == CONVERSATION_BYTES - 1)?;
    let mut bytes = [if ids[8..] == [0; 8] { 2 } else { 1 }; CONVERSATION_BYTES];
    bytes[1..].copy_from_slice(ids);
    ConversationId::from_bytes(&bytes)
}

/// A table `messages` key: conversation, seq, and 0 for the row or 1 for the mark that it was recalled.
pub(super) fn message(id: ConversationId, seq: u64, part: Part) -> [u8; 29] {
    let mut key = [part as u8; 29];
    key[..20].copy_from_slice(&conversation(id));
    key[20..28].copy_from_slice(&seq.to_be_bytes());
    key
}

/// What a key of `messages` holds of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Row = 0,
    Recall = 1,
}

/// The seq and part of a `messages` key, which starts with its conversation.
pub(super) fn message_seq(key: &[u8]) -> Option<(u64, Part)> {
    let (seq, part) = key.get(20..)?.split_at_checked(8)?;
    let part = match part {
        [0] => Part::Row,
        [1] => Part::Recall,
        _ => return None,
    };
    Some((u64::from_be_bytes(seq.try_into().ok()?), part))
}

/// A key of `message_keys` (46 bytes) or `message_ids` (30 bytes).
pub(super) struct MessageKey {
    bytes: [u8; 4 + CONVERSATION_BYTES + 1 + USER_BYTES + CLIENT_MSG_ID_BYTES],
    length: usize,
}

impl AsRef<[u8]> for MessageKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(feature = "cassandra")]
impl MessageKey {
    /// The conversation.
    pub(super) fn conversation(&self) -> &[u8] {
        &self.bytes[4..4 + CONVERSATION_BYTES]
    }

    /// What follows: kind, then sender and id, or the message's id.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[4 + CONVERSATION_BYTES..self.length]
    }
}

pub(super) fn message_key(id: &KeyId) -> MessageKey {
    let mut bytes = [0; 46];
    bytes[4..21].copy_from_slice(&id.conversation.to_bytes());
    let length = match id.key {
        Key::Client { sender, id } => {
            bytes[21] = 1;
            bytes[22..30].copy_from_slice(&sender.0.to_be_bytes());
            bytes[30..].copy_from_slice(&id);
            46
        }
        Key::Message(id) => {
            bytes[21] = 2;
            bytes[22..30].copy_from_slice(&id.to_be_bytes());
            30
        }
    };
    let first = match id.key {
        Key::Client { .. } => spread(&bytes[4..length]),
        // Ids rise with time. Keys that do so too are all inserted at the same end of the table, and its parts need no
        // merging. These are the low bits of the id's milliseconds.
        Key::Message(id) => ((id >> 22) as u32).to_be_bytes(),
    };
    bytes[..4].copy_from_slice(&first);
    MessageKey { bytes, length }
}

/// A key of `cursors`: user, device type (0: what the user has read), conversation.
pub(super) fn cursor(id: &CursorId) -> [u8; 30] {
    cursor_of(id.user, id.device.map_or(0, |device| device as u8), id.conversation)
}

pub(super) fn cursor_of(id: UserId, device: u8, conversation: ConversationId) -> [u8; 30] {
    let mut key = [device; 30];
    key[..12].copy_from_slice(&user(id));
    key[13..].copy_from_slice(&conversation.to_bytes());
    key
}

/// A user as the start of a key, or as a whole one.
pub(super) fn user(id: UserId) -> [u8; 12] {
    let id = id.0.to_be_bytes();
    let mut key = [0; 12];
    key[..4].copy_from_slice(&spread(&id));
    key[4..].copy_from_slice(&id);
    key
}

/// A key of `user_conversations`.
pub(super) fn member(id: UserId, conversation: ConversationId) -> [u8; 29] {
    let mut key = [0; 29];
    key[..12].copy_from_slice(&user(id));
    key[12..].copy_from_slice(&conversation.to_bytes());
    key
}

/// The conversation at the end of a key of `cursors` or `user_conversations`.
pub(super) fn last_conversation(key: &[u8]) -> Option<ConversationId> {
    ConversationId::from_bytes(key.last_chunk::<CONVERSATION_BYTES>()?)
}

/// A key of `devices`.
pub(super) fn device(id: UserId, device: Device) -> [u8; 13] {
    let mut key = [device as u8; 13];
    key[..12].copy_from_slice(&user(id));
    key
}

/// The device type of a key of `devices`.
pub(super) fn device_of(key: &[u8]) -> Option<Device> {
    Device::from_number(u32::from(*key.get(12)?))
}

/// A key of `dead_letters`: partition, position.
pub(super) fn dead_letter(partition: u16, position: Position) -> [u8; 26] {
    let mut key = [0; 26];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..].copy_from_slice(&position.to_bytes());
    key
}
