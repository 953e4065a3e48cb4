//! The keys of the tables. All numbers are big-endian, so that keys sort as what they name.

use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::limits::CLIENT_MSG_ID_BYTES;
use petrel_protocol::sequencer::{Key, KeyId};

use super::CursorId;

const CONVERSATION_BYTES: usize = 17;
const USER_BYTES: usize = 8;

/// A table `messages` key: conversation, seq, and 0 for the row or 1 for the mark that it was recalled.
pub(super) fn message(conversation: ConversationId, seq: u64, part: Part) -> [u8; 26] {
    let mut key = [part as u8; 26];
    key[..17].copy_from_slice(&conversation.to_bytes());
    key[17..25].copy_from_slice(&seq.to_be_bytes());
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
    let (seq, part) = key.get(CONVERSATION_BYTES..)?.split_at_checked(8)?;
    let part = match part {
        [0] => Part::Row,
        [1] => Part::Recall,
        _ => return None,
    };
    Some((u64::from_be_bytes(seq.try_into().ok()?), part))
}

/// A key of `message_keys`, of 26 or 42 bytes.
pub(super) struct MessageKey {
    bytes: [u8; CONVERSATION_BYTES + 1 + USER_BYTES + CLIENT_MSG_ID_BYTES],
    length: usize,
}

impl AsRef<[u8]> for MessageKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

pub(super) fn message_key(id: &KeyId) -> MessageKey {
    let mut bytes = [0; 42];
    bytes[..17].copy_from_slice(&id.conversation.to_bytes());
    let length = match id.key {
        Key::Client { sender, id } => {
            bytes[17] = 1;
            bytes[18..26].copy_from_slice(&sender.0.to_be_bytes());
            bytes[26..].copy_from_slice(&id);
            42
        }
        Key::Message(id) => {
            bytes[17] = 2;
            bytes[18..26].copy_from_slice(&id.to_be_bytes());
            26
        }
    };
    MessageKey { bytes, length }
}

/// A key of `cursors`: user, device type (0: what the user has read), conversation.
pub(super) fn cursor(id: &CursorId) -> [u8; 26] {
    cursor_of(id.user, id.device.map_or(0, |device| device as u8), id.conversation)
}

pub(super) fn cursor_of(user: UserId, device: u8, conversation: ConversationId) -> [u8; 26] {
    let mut key = [device; 26];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key[9..].copy_from_slice(&conversation.to_bytes());
    key
}

/// A key of `user_conversations`.
pub(super) fn member(user: UserId, conversation: ConversationId) -> [u8; 25] {
    let mut key = [0; 25];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key[8..].copy_from_slice(&conversation.to_bytes());
    key
}

/// The conversation at the end of a key of `cursors` or `user_conversations`.
pub(super) fn last_conversation(key: &[u8]) -> Option<ConversationId> {
    ConversationId::from_bytes(key.last_chunk::<CONVERSATION_BYTES>()?)
}

/// A key of `devices`.
pub(super) fn device(user: UserId, device: Device) -> [u8; 9] {
    let mut key = [device as u8; 9];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key
}

/// The device type of a key of `devices`.
pub(super) fn device_of(key: &[u8]) -> Option<Device> {
    Device::from_number(u32::from(*key.get(USER_BYTES)?))
}

/// A key of `dead_letters`: partition, position.
pub(super) fn dead_letter(partition: u16, position: Position) -> [u8; 26] {
    let mut key = [0; 26];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..].copy_from_slice(&position.to_bytes());
    key
}
