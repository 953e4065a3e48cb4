//! What an operation carries through the kernel: which socket, which use of its slot, and what was asked.

use crate::SocketId;

/// Slots that a tag can name. `Config::sockets` may not exceed it.
pub(crate) const SLOTS_MAX: u32 = 1 << 24;

/// An operation's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// One connection from the listener. The slot is not used; the generation is the listener's.
    Accept,
    /// The eventfd of the waker.
    Wake,
    /// The multishot poll of a socket that is mostly idle.
    Poll,
    /// One receive, complete when its submission returns.
    Receive,
    /// The multishot receive of a hot socket.
    Stream,
    /// A one-shot poll for room to send.
    Writable,
    /// A send. The slot is the index of the turn's send, not of the socket.
    Send,
    /// A connection being made.
    Connect,
    /// A direct descriptor made a plain one for a moment, for shutdown(2).
    Install,
    /// The end of a slot's use.
    Close,
    /// A plain descriptor put into the table.
    Update,
    /// A cancellation; what it cancelled completes by itself.
    Cancel,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Accept,
        Self::Wake,
        Self::Poll,
        Self::Receive,
        Self::Stream,
        Self::Writable,
        Self::Send,
        Self::Connect,
        Self::Install,
        Self::Close,
        Self::Update,
        Self::Cancel,
    ];
}

/// `user_data`: generation (32 bits), slot (24), kind (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u64);

impl Tag {
    pub(crate) fn new(kind: Kind, id: SocketId) -> Self {
        debug_assert!(id.slot < SLOTS_MAX);
        Self(u64::from(id.generation) << 32 | u64::from(id.slot) << 8 | kind as u64)
    }

    /// A tag of an operation that belongs to no socket.
    pub(crate) fn of_kind(kind: Kind) -> Self {
        Self::new(kind, SocketId { slot: 0, generation: 0 })
    }

    pub(crate) fn kind(self) -> Kind {
        Kind::ALL[(self.0 & 0xff) as usize]
    }

    pub(crate) fn id(self) -> SocketId {
        SocketId { slot: (self.0 >> 8) as u32 & (SLOTS_MAX - 1), generation: (self.0 >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_what_it_was_made_of() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            for id in [
                SocketId { slot: 0, generation: 0 },
                SocketId { slot: SLOTS_MAX - 1, generation: u32::MAX },
                SocketId { slot: 12_345, generation: 1 << 31 },
            ] {
                let tag = Tag::new(kind, id);
                assert_eq!((tag.kind(), tag.id()), (kind, id));
            }
        }
    }
}
