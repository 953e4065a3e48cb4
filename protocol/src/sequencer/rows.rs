//! What the sequencer reads and writes. `applied` of each row is its write timestamp: a store that can be written by two
//! readers at once keeps the highest, so that a late write of the older one undoes nothing.

use bytes::Bytes;

use crate::events::{self, Stored};
use crate::ids::{ConversationId, Position, UserId};
use crate::limits;

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// The last event that was applied. What comes at or before it has been applied, and is only published again.
    pub position: Position,
    /// The last seq that was given.
    pub seq: u64,
    /// The events applied, those without a seq included.
    pub applied: u64,
    /// The messages among them that were given a seq.
    pub visible: u64,
    /// The highest edge time of the events applied.
    pub edge_time_ms: u64,
}

/// A key under which a send is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId {
    /// The conversation; keys of different ones have nothing to do with each other.
    pub conversation: ConversationId,
    /// The key.
    pub key: Key,
}

/// The kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// What the client chose. Each sender has its own.
    Client {
        /// Who chose it.
        sender: UserId,
        /// The `client_msg_id`.
        id: [u8; limits::CLIENT_MSG_ID_BYTES],
    },
    /// The `msg_id`. It belongs to its first writer, whose name is in the row.
    Message(u64),
}

/// What became of the event that had this key first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The write timestamp.
    pub applied: u64,
    /// The event that wrote it.
    pub position: Position,
    /// That event's edge time.
    pub edge_time_ms: u64,
    /// That event's user.
    pub sender: UserId,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message of this seq.
    Seq(u64),
    /// The message of this seq, which was stored under another `msg_id`: this one came with a resend.
    Alias(u64),
    /// Refused with this code.
    Refused(i32),
}

impl Outcome {
    /// The seq, unless it was refused.
    pub fn seq(self) -> Option<u64> {
        match self {
            Self::Seq(seq) | Self::Alias(seq) => Some(seq),
            Self::Refused(_) => None,
        }
    }
}

/// A row of a conversation: whatever has a seq.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: u64,
    /// The write timestamp.
    pub applied: u64,
    /// Who caused it.
    pub sender: UserId,
    /// On which device type.
    pub device: u32,
    /// When, by the edge's stamp.
    pub edge_time_ms: u64,
    /// The messages up to and including this row; recalls do not count.
    pub visible: u64,
    /// What it is.
    pub body: RowBody,
}

/// What a row is.
#[derive(Clone, Debug, PartialEq)]
pub enum RowBody {
    /// A message, as it was sent.
    Message(events::Message),
    /// The recall of an earlier row.
    Recall(events::Recalled),
}

/// The mark on a message that it was recalled. It stands apart from the message, whose insert must never undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message.
    pub target_seq: u64,
    /// The write timestamp.
    pub applied: u64,
    /// The event that recalled it.
    pub position: Position,
    /// The seq of the recall itself.
    pub seq: u64,
}

/// A user has this conversation in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// The conversation.
    pub conversation: ConversationId,
}

/// What is known of a message that an event refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who sent it.
    pub sender: UserId,
    /// When, by the edge's stamp.
    pub edge_time_ms: u64,
    /// The id under which it was stored.
    pub msg_id: u64,
    /// The client's id under which it was stored, or empty.
    pub client_msg_id: Bytes,
    /// The seq and position of its recall, where it was recalled.
    pub recalled: Option<(u64, Position)>,
}

/// One batch: what to write, what to publish, what to acknowledge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Rows of conversations.
    pub messages: Vec<MessageRow>,
    /// Marks on rows.
    pub recalls: Vec<Recall>,
    /// Keys.
    pub keys: Vec<(KeyId, KeyRow)>,
    /// Entries in users' lists of conversations.
    pub members: Vec<Member>,
    /// What could not be read as an event.
    pub dead_letters: Vec<DeadLetter>,
    /// Heads: only when all of the above is confirmed. Those of replays are among them: who keeps a copy of heads elsewhere
    /// may have written one and not the other.
    pub heads: Vec<(ConversationId, Head)>,
    /// Events for `stored`: only when the heads are confirmed.
    pub stored: Vec<Stored>,
    /// The last record of the batch, to be acknowledged when `stored` is receipted.
    pub ack: Position,
    /// For the metrics.
    pub counts: Counts,
}

/// What the events of a batch were, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub events: usize,
    /// Those that were applied before.
    pub replays: usize,
    /// Those among the replays whose outcome could not be found again; they are not published again.
    pub lost_replays: usize,
    /// Heads that were in memory.
    pub heads_kept: usize,
    /// Heads that were loaded.
    pub heads_loaded: usize,
    /// Keys that were loaded.
    pub keys_loaded: usize,
}

/// An event that cannot be read: it is kept for people to look at, and never stops the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The partition that it was read from.
    pub partition: u16,
    /// Its place there.
    pub position: Position,
    /// What is wrong with it.
    pub fault: Fault,
    /// Its bytes, as far as they can be told apart.
    pub bytes: Bytes,
}

/// What is wrong with an event. The edge lets none of these through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not protobuf, or not this message.
    #[error("it cannot be decoded")]
    Undecodable,
    /// No conversation, or an impossible one.
    #[error("its conversation is missing or impossible")]
    Conversation,
    /// The conversation belongs to another partition.
    #[error("its conversation belongs to another partition")]
    Partition,
    /// The user is not in the conversation.
    #[error("its user is not in its conversation")]
    User,
    /// No body that this version knows.
    #[error("its kind is unknown: a newer edge publishes what this version does not read")]
    Body,
    /// An id of the wrong size, or 0.
    #[error("its ids have a wrong size or are 0")]
    Ids,
}
