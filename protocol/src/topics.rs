//! Every topic and subscription, named once.

use crate::ids::ConversationId;

/// A topic of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// What clients want: edge → persist. Durable before it is receipted. The sequencer of the system.
    Uplink,
    /// What persist decided: persist → router, in seq order within a conversation.
    Stored,
    /// How far devices have come: edge → persist and router. Unordered, may be lost (a device then sees a duplicate).
    Receipts,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 3] = [Self::Uplink, Self::Stored, Self::Receipts];

    /// Its name on the bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Stored => "stored",
            Self::Receipts => "receipts",
        }
    }

    /// Who reads it. The bus keeps an event until all of these have acknowledged it.
    pub const fn subscriptions(self) -> &'static [Subscription] {
        match self {
            Self::Uplink => &[Subscription::Persist],
            Self::Stored => &[Subscription::Router],
            Self::Receipts => &[Subscription::Persist, Subscription::Router],
        }
    }
}

/// A reader of a topic: one active process for each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subscription {
    /// The persist service.
    Persist,
    /// The router service.
    Router,
}

impl Subscription {
    /// Its name on the bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Persist => "persist",
            Self::Router => "router",
        }
    }
}

/// The partition of a conversation, the same on every topic. `partitions` is fixed for a generation of the topics.
pub fn partition(conversation: ConversationId, partitions: u16) -> u16 {
    // Changing this function needs a new generation: a conversation must not change its partition within one.
    let bytes = conversation.to_bytes();
    // FNV-1a: stable across versions and machines, which a library's hasher does not promise.
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    // The low bits of FNV are its weak ones: fold the high half in.
    ((hash ^ (hash >> 32)) as u32 % u32::from(partitions)) as u16
}
