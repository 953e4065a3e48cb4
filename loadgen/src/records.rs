//! What a thread remembers of each message, for the judgement at the end. Compact: a run may have millions.

use petrel_protocol::packets::status;
use petrel_simulation::check::{STATUS_TOLD_MAX, STATUS_TOLD_US};

use crate::content::MessageRef;
use crate::stamp::Stamp;

/// One message as its sender knows it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was to be sent.
    pub intended: Stamp,
    /// When it was first sent; [`Stamp::NEVER`]: it never left.
    pub first_sent: Stamp,
    /// When it was accepted.
    pub accepted: Stamp,
    /// When it was first known to be delivered to a device (status 3 or above).
    pub delivered: Stamp,
    /// The sending device: user × devices + device.
    pub device: u32,
    /// The receiving user's place among the users.
    pub to: u32,
    /// The server's id, 0 while unknown.
    pub msg_id: u64,
    /// Its place in the conversation, 0 while unknown.
    pub seq: u64,
    /// The first and the last of its transmissions, among all of the thread.
    pub transmissions: (u32, u32),
    /// Times that it was sent again.
    pub resends: u16,
    /// The highest status known.
    pub status: i8,
    /// When that was told, and how many statuses its sender had been told by then.
    pub told: (Stamp, u32),
    /// What else is known.
    pub marks: Marks,
    /// The code of the refusal that ended it, or 0.
    pub refusal: i16,
}

/// A status that is lower than one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fall {
    /// The highest before.
    pub from: i32,
    /// The edge had promised that it does not happen.
    pub is_broken_promise: bool,
}

impl Sent {
    /// Takes a status for the first word of a delivery, where it is. From when to count, unless the receiver was told to
    /// be away before.
    pub fn take_delivery(&mut self, now: i32, at: Stamp) -> Option<Stamp> {
        if now < status::DELIVERED || self.delivered.is_set() {
            return None;
        }
        self.delivered = at;
        (i32::from(self.status) != status::OFFLINE).then_some(self.intended)
    }

    /// Takes a status, the `told`-th that its sender is told, on a connection that began at `upgraded_at`.
    pub fn take_status(&mut self, now: i32, at: Stamp, told: u32, upgraded_at: Stamp) -> Option<Fall> {
        let from = i32::from(self.status);
        if now >= from {
            self.status = now as i8;
            self.told = (at, told);
            return None;
        }
        // Each attempt may get its own ack 1, and the first attempt's statuses may be ahead of it.
        let is_late_receipt = now == status::ACCEPTED && self.resends > 0;
        // The edge's promise that statuses rise holds on one connection, for those that it told lately.
        let (told_at, told_before) = self.told;
        let is_promised = told_at >= upgraded_at
            && at.us_since(told_at) < STATUS_TOLD_US
            && ((told - told_before) as usize) < STATUS_TOLD_MAX;
        Some(Fall { from, is_broken_promise: is_promised && !is_late_receipt })
    }

    /// Takes the seq that is named, 0 where none is. The one that was named before, where it is another.
    pub fn take_seq(&mut self, seq: u64) -> Option<u64> {
        if self.seq == 0 {
            self.seq = seq;
        }
        (seq != 0 && self.seq != seq).then_some(self.seq)
    }
}

/// Facts about a sent message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// It ended without having been accepted.
    pub const REFUSED: Self = Self(1);
    /// An attempt had an unknown outcome.
    pub const MAY_EXIST: Self = Self(2);
    /// It stayed without any answer for too long.
    pub const UNANSWERED: Self = Self(4);
    /// Its recall was asked for.
    pub const RECALLING: Self = Self(8);
    /// Its recall was confirmed to the sender.
    pub const RECALLED: Self = Self(16);
    /// Accepted, then refused by what the log says (status −1).
    pub const FAILED: Self = Self(32);

    /// Adds a fact.
    pub fn set(&mut self, mark: Self) {
        self.0 |= mark.0;
    }

    /// Whether it is known.
    pub fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }
}

/// One message's first arrival on one device.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Which message.
    pub message: MessageRef,
    /// Whether its content came unchanged, or was recalled.
    pub body: Body,
    /// The receiving device: user × devices + device.
    pub device: u32,
    /// When.
    pub at: Stamp,
    /// The place in the conversation that the push named.
    pub seq: u64,
}

/// What a content turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// As it was sent.
    Intact,
    /// Something else.
    Changed,
    /// Empty, and marked as recalled.
    Recalled,
}

/// A recall as a device was shown it, the recalling one included.
#[derive(Clone, Copy, Debug)]
pub struct Recalled {
    /// The device that was shown it.
    pub device: u32,
    /// The other user's place among the users.
    pub peer: u32,
    /// The recall's own place in the conversation.
    pub seq: u64,
    /// The place of the message that it recalls.
    pub target_seq: u64,
    /// When.
    pub at: Stamp,
}

/// A fault that one device saw by itself.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// The message, where there is one of this run.
    pub message: Option<MessageRef>,
    /// The device that saw it.
    pub device: u32,
    /// When.
    pub at: Stamp,
    /// What exactly.
    pub detail: String,
}

/// The kinds of faults that one device sees by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// A status was followed by a lower one.
    StatusFell,
    /// A send got no answer on an open connection.
    Unanswered,
    /// A packet that makes no sense.
    Nonsense,
    /// A message that nobody of this run sent to this user.
    Stranger,
    /// The edge says that a place in a conversation does not exist.
    Absent,
    /// What a device had acknowledged was pushed to it again, long after.
    Forgotten,
}

/// All that one thread remembers.
#[derive(Debug, Default)]
pub struct Records {
    /// By [`MessageRef::index`].
    pub sent: Vec<Sent>,
    /// In order of arrival.
    pub received: Vec<Received>,
    /// In order of arrival.
    pub recalled: Vec<Recalled>,
    /// The first ones; [`Records::faults_more`] counts the rest.
    pub faults: Vec<Fault>,
    /// Faults that were only counted.
    pub faults_more: u64,
}

/// Faults that a thread keeps with their detail.
const FAULTS_MAX: usize = 1_000;

impl Records {
    /// Remembers a fault, or counts it where there are too many.
    pub fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_more += 1;
        }
    }
}
