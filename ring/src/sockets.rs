//! The table: 24 bytes for each socket, and nothing else while it is idle.

use crate::egress;
use crate::{Closed, SocketId};

/// Where a socket is in its life. The order matters: it only rises until the slot is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// No socket has this slot.
    Free,
    /// A connect is in flight.
    Connecting,
    /// Bytes go both ways.
    Open,
    /// No more is taken from the user; what is queued still goes out.
    Flushing,
    /// Everything went out; a plain descriptor for shutdown(2) is on its way.
    HalfClosing,
    /// Our end is closed; what the peer still sends is thrown away until it closes its own.
    Lingering,
    /// Nothing goes any more; operations in flight are being cancelled.
    Dying,
    /// No operation is in flight but the close of the slot.
    Closing,
}

/// Bits of [`Socket::in_flight`]: an operation with this bit completes exactly once more for the last time.
pub(crate) mod flight {
    pub(crate) const POLL: u8 = 1;
    pub(crate) const RECEIVE: u8 = 1 << 1;
    pub(crate) const STREAM: u8 = 1 << 2;
    pub(crate) const WRITABLE: u8 = 1 << 3;
    pub(crate) const CONNECT: u8 = 1 << 4;
    pub(crate) const INSTALL: u8 = 1 << 5;
    pub(crate) const CLOSE: u8 = 1 << 6;
}

/// Bits of [`Socket::flags`].
pub(crate) mod flag {
    /// The user asked not to receive.
    pub(crate) const PAUSED: u8 = 1;
    /// There is something to read, and nobody was asked to.
    pub(crate) const READABLE: u8 = 1 << 1;
    /// It waits for its turn to receive.
    pub(crate) const QUEUED: u8 = 1 << 2;
    /// It has something to send in the next submission.
    pub(crate) const DIRTY: u8 = 1 << 3;
    /// Its bytes come by a multishot receive.
    pub(crate) const HOT: u8 = 1 << 4;
    /// That receive was cancelled; the poll comes back when it has ended.
    pub(crate) const COOLING: u8 = 1 << 5;
    /// The peer closed its end.
    pub(crate) const EOF: u8 = 1 << 6;
    /// It is on the list of sockets that are or were hot.
    pub(crate) const LISTED: u8 = 1 << 7;
}

/// One slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    pub(crate) generation: u32,
    /// Number in the egress pool, or [`egress::NONE`].
    pub(crate) egress: u32,
    /// What the handler will be told.
    pub(crate) reason: Closed,
    pub(crate) stage: Stage,
    pub(crate) in_flight: u8,
    pub(crate) flags: u8,
    /// Receives in the second `last_second`.
    pub(crate) heat: u8,
    /// The second of the last receive, modulo 256.
    pub(crate) last_second: u8,
}

const FREE: Socket = Socket {
    generation: 0,
    egress: egress::NONE,
    reason: Closed::ByUs,
    stage: Stage::Free,
    in_flight: 0,
    flags: 0,
    heat: 0,
    last_second: 0,
};

impl Socket {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    pub(crate) fn is_in_flight(&self, operations: u8) -> bool {
        self.in_flight & operations != 0
    }

    /// Whether what the peer sends is wanted by anybody: the user, or ourselves to see the end.
    pub(crate) fn reads(&self) -> bool {
        match self.stage {
            Stage::Open => !self.has(flag::PAUSED),
            Stage::Flushing | Stage::HalfClosing | Stage::Lingering => !self.has(flag::EOF),
            _ => false,
        }
    }
}

/// All slots, as far as they were ever used.
pub(crate) struct Sockets {
    all: Vec<Socket>,
    len: u32,
    capacity: u32,
}

impl Sockets {
    pub(crate) fn new(capacity: u32) -> Self {
        // All at once, since growing would move the table in the middle of a turn. Pages of slots that were never used take
        // no memory.
        Self { all: Vec::with_capacity(capacity as usize), len: 0, capacity }
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The socket, unless its slot is free or has another one by now.
    pub(crate) fn get(&self, id: SocketId) -> Option<&Socket> {
        let socket = self.all.get(id.slot as usize)?;
        (socket.generation == id.generation && socket.stage != Stage::Free).then_some(socket)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        let socket = self.all.get_mut(id.slot as usize)?;
        (socket.generation == id.generation && socket.stage != Stage::Free).then_some(socket)
    }

    /// The socket that has the slot.
    pub(crate) fn id_at(&self, slot: u32) -> Option<SocketId> {
        let socket = self.all.get(slot as usize)?;
        (socket.stage != Stage::Free).then_some(SocketId { slot, generation: socket.generation })
    }

    /// The kernel put a new socket into this slot, which is free.
    pub(crate) fn open(&mut self, slot: u32, stage: Stage) -> SocketId {
        assert!(slot < self.capacity, "the kernel used a slot beyond the table");
        if slot as usize >= self.all.len() {
            self.all.resize(slot as usize + 1, FREE);
        }
        let socket = &mut self.all[slot as usize];
        assert_eq!(socket.stage, Stage::Free, "the kernel used a slot twice");
        socket.stage = stage;
        self.len += 1;
        SocketId { slot, generation: socket.generation }
    }

    /// The slot is free; its next socket has another generation.
    pub(crate) fn free(&mut self, id: SocketId) -> Closed {
        let socket = &mut self.all[id.slot as usize];
        debug_assert_eq!(socket.generation, id.generation);
        debug_assert_eq!((socket.in_flight, socket.egress), (0, egress::NONE));
        let reason = socket.reason;
        *socket = Socket { generation: id.generation.wrapping_add(1), ..FREE };
        self.len -= 1;
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_socket_is_24_bytes() {
        assert_eq!(size_of::<Socket>(), 24);
    }

    #[test]
    fn a_slot_that_is_used_again_has_another_generation() {
        let mut sockets = Sockets::new(4);
        let first = sockets.open(2, Stage::Open);
        assert!(sockets.get(first).is_some());
        assert_eq!(sockets.free(first), Closed::ByUs);
        assert!(sockets.get(first).is_none(), "a free slot has no socket");
        let second = sockets.open(2, Stage::Open);
        assert_ne!(first, second);
        assert!(sockets.get(first).is_none(), "an old id does not find the new socket");
        assert_eq!(sockets.id_at(2), Some(second));
        assert_eq!(sockets.len(), 1);
    }
}
