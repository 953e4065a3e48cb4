//! What a history shows that may not be.

use std::fmt;

use crate::history::{Device, Id};

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// What was accepted is seen by every device of both users.
    AcceptedIsSeen,
    /// A message is seen once.
    SeenOnce,
    /// A device sees a conversation in the order of its seqs, without a gap.
    InOrder,
    /// The seqs of a conversation are dense: 1, 2, 3, …
    Dense,
    /// A seq means the same on every device.
    SameForAll,
    /// What a sender sends into a conversation keeps its order.
    SenderOrder,
    /// What was refused and cannot exist is never seen.
    RefusedIsUnseen,
    /// A message comes as it was sent, from who sent it, to who it was sent to.
    Unchanged,
    /// On one connection, a status is not soon followed by a lower one.
    StatusRises,
    /// Recalled content is not given to who connects after the recall.
    RecalledIsGone,
    /// At the end every device rests.
    Rests,
    /// The history itself contradicts how histories are written.
    WellFormed,
}

impl Rule {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptedIsSeen => "accepted-is-seen",
            Self::SeenOnce => "seen-once",
            Self::InOrder => "in-order",
            Self::Dense => "dense",
            Self::SameForAll => "same-for-all",
            Self::SenderOrder => "sender-order",
            Self::RefusedIsUnseen => "refused-is-unseen",
            Self::Unchanged => "unchanged",
            Self::StatusRises => "status-rises",
            Self::RecalledIsGone => "recalled-is-gone",
            Self::Rests => "rests",
            Self::WellFormed => "well-formed",
        }
    }
}

/// A broken promise, where it was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When it was noticed, in microseconds since the start of the run.
    pub at_us: u64,
    /// On which device.
    pub device: Device,
    /// The other user of the conversation; 0 where it is about none.
    pub peer: u64,
    /// The place in the conversation; 0 where it is about none.
    pub seq: u64,
    /// The message, where it is known.
    pub id: Option<Id>,
    /// What exactly.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_ms = self.at_us / 1_000;
        write!(f, "{}: {} on {} at {at_ms} ms", self.rule.name(), self.text, self.device)?;
        if self.peer != 0 {
            write!(f, ", with u{}", self.peer)?;
        }
        if self.seq != 0 {
            write!(f, ", seq {}", self.seq)?;
        }
        self.id.map_or(Ok(()), |id| write!(f, ", message {id}"))
    }
}

impl std::error::Error for Violation {}
