//! Newtypes of what is counted and named everywhere: users, devices, conversations, positions, addresses.

use std::fmt;

use crate::events;
use crate::fanout::Incarnation;

/// A user. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub u64);

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The type of a device: one live session for each user and device type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Device {
    /// A phone or tablet with Android.
    Android = 1,
    /// A phone or tablet of Apple.
    Ios = 2,
    /// A program inside of another app.
    MiniProgram = 3,
    /// A browser.
    Web = 4,
    /// A program on a desktop computer.
    Desktop = 5,
    /// A program that talks by itself.
    Bot = 6,
}

impl Device {
    /// All device types.
    pub const ALL: [Self; 6] =
        [Self::Android, Self::Ios, Self::MiniProgram, Self::Web, Self::Desktop, Self::Bot];

    /// The device type of this number, or none.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Android,
            2 => Self::Ios,
            3 => Self::MiniProgram,
            4 => Self::Web,
            5 => Self::Desktop,
            6 => Self::Bot,
            _ => return None,
        })
    }

    /// The device type of this name (`android`, `ios`, `mini-program`, `web`, `desktop`, `bot`), or none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
            Self::MiniProgram => "mini-program",
            Self::Web => "web",
            Self::Desktop => "desktop",
            Self::Bot => "bot",
        }
    }
}

/// Two users, or a group. Derived on the server, never taken from a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConversationId {
    /// Two users, the smaller id first.
    C2C(UserId, UserId),
    /// A group.
    Group(u64),
}

impl ConversationId {
    /// The conversation of two users.
    pub fn of_users(one: UserId, other: UserId) -> Self {
        if one <= other { Self::C2C(one, other) } else { Self::C2C(other, one) }
    }

    /// The other user of a conversation of two, or none where `user` is not in it or it is a group.
    pub fn peer_of(self, user: UserId) -> Option<UserId> {
        match self {
            Self::C2C(a, b) if a == user => Some(b),
            Self::C2C(a, b) if b == user => Some(a),
            _ => None,
        }
    }

    /// 17 bytes that sort by kind, then ids: the key in stores. Group: the second id is 0.
    pub fn to_bytes(self) -> [u8; 17] {
        let (kind, a, b) = match self {
            Self::C2C(a, b) => (1, a.0, b.0),
            Self::Group(g) => (2, g, 0),
        };
        let mut bytes = [kind; 17];
        bytes[1..9].copy_from_slice(&a.to_be_bytes());
        bytes[9..].copy_from_slice(&b.to_be_bytes());
        bytes
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 17]) -> Option<Self> {
        let a = u64::from_be_bytes(bytes[1..9].try_into().expect("8 bytes"));
        let b = u64::from_be_bytes(bytes[9..].try_into().expect("8 bytes"));
        Self::from_parts(u32::from(bytes[0]), a, b)
    }

    fn from_parts(kind: u32, a: u64, b: u64) -> Option<Self> {
        match kind {
            1 if a != 0 && a < b => Some(Self::C2C(UserId(a), UserId(b))),
            2 if a != 0 && b == 0 => Some(Self::Group(a)),
            _ => None,
        }
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::C2C(a, b) => write!(f, "100-1-{a}-{b}"),
            Self::Group(g) => write!(f, "100-2-{g}"),
        }
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ConversationId> for events::Conversation {
    fn from(id: ConversationId) -> Self {
        match id {
            ConversationId::C2C(a, b) => Self { kind: 1, a: a.0, b: b.0 },
            ConversationId::Group(g) => Self { kind: 2, a: g, b: 0 },
        }
    }
}

impl TryFrom<&events::Conversation> for ConversationId {
    type Error = ();

    fn try_from(c: &events::Conversation) -> Result<Self, ()> {
        Self::from_parts(c.kind, c.a, c.b).ok_or(())
    }
}

/// A place in a partition of the log: the record, then the event's index in its pack. Compares within one generation of
/// the topic; a later generation is later than all of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The topic's generation: counts up.
    pub generation: u32,
    /// Pulsar's ledger; 0 on the embedded log.
    pub ledger: u64,
    /// Pulsar's entry, or the embedded log's offset.
    pub entry: u64,
    /// The event's index in its pack.
    pub index: u32,
}

impl Position {
    /// 24 bytes that sort as the positions do.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&self.generation.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.ledger.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.entry.to_be_bytes());
        bytes[20..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 24]) -> Self {
        Self {
            generation: u32::from_be_bytes(bytes[..4].try_into().expect("4 bytes")),
            ledger: u64::from_be_bytes(bytes[4..12].try_into().expect("8 bytes")),
            entry: u64::from_be_bytes(bytes[12..20].try_into().expect("8 bytes")),
            index: u32::from_be_bytes(bytes[20..].try_into().expect("4 bytes")),
        }
    }
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The edge's id.
    pub edge: u16,
    /// The shard of that edge.
    pub shard: u16,
    /// The slot of that shard.
    pub slot: u32,
    /// The slot's generation: a recycled slot is another address.
    pub generation: u32,
    /// The edge's incarnation, so that a restarted edge's addresses are others.
    pub epoch: u64,
}

impl Address {
    /// The edge's life that it belongs to.
    pub const fn incarnation(self) -> Incarnation {
        Incarnation { edge: self.edge, epoch: self.epoch }
    }
}

impl From<Address> for events::Address {
    fn from(a: Address) -> Self {
        Self {
            edge: a.edge.into(),
            epoch: a.epoch,
            shard: a.shard.into(),
            slot: a.slot,
            generation: a.generation,
        }
    }
}

impl From<&events::Address> for Address {
    fn from(a: &events::Address) -> Self {
        Self {
            edge: a.edge as u16,
            epoch: a.epoch,
            shard: a.shard as u16,
            slot: a.slot,
            generation: a.generation,
        }
    }
}
