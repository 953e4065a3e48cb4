//! The ring as its user sees it: what it is made of, and what can be asked of it between and within turns.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::accept::Accepting;
use crate::buffers::Buffers;
use crate::egress::{self, Pool};
use crate::pace::Pace;
use crate::receive::Heat;
use crate::send::Sends;
use crate::sockets::{Sockets, Stage, flag, flight};
use crate::submit::Queues;
use crate::tag::{Kind, SLOTS_MAX, Tag};
use crate::{Config, SendError, SocketId, Waker, sys};

/// One shard's sockets. It stays on the thread that created it.
///
/// What is asked for between two turns or within a handler reaches the kernel with the next [`turn`](Self::turn), in its
/// one system call; so a turn should follow soon.
pub struct Ring {
    // The kernel writes to the buffers for as long as the queues exist, so the queues are dropped first.
    pub(crate) queues: Queues,
    pub(crate) buffers: Buffers,
    pub(crate) config: Config,
    pub(crate) sockets: Sockets,
    pub(crate) egresses: Pool,
    pub(crate) sends: Sends,
    pub(crate) accepting: Accepting,
    /// Sockets that have something to read, in the order in which they will be asked.
    pub(crate) readable: VecDeque<SocketId>,
    pub(crate) heat: Heat,
    /// When sockets that are closing are cut, in order.
    pub(crate) deadlines: VecDeque<(u64, SocketId)>,
    pub(crate) pace: Pace,
    pub(crate) waker: Waker,
    pub(crate) now_ms: u64,
}

impl Ring {
    /// Makes a ring on the calling thread.
    ///
    /// # Errors
    /// `InvalidInput` names the setting that is out of its range; `Unsupported` names the kernel that is needed; anything
    /// else is the kernel's, with the limit or sysctl to change where there is one.
    pub fn new(config: Config) -> io::Result<Self> {
        check(&config)?;
        let mut queues = Queues::new(&config)?;
        let buffers = Buffers::new(&config, &queues)?;
        let waker = Waker::new()?;
        queues.poll_event(waker.event_fd(), Tag::of_kind(Kind::Wake));
        Ok(Self {
            buffers,
            sockets: Sockets::new(config.sockets),
            egresses: Pool::default(),
            sends: Sends::default(),
            accepting: Accepting::new(config.accept_per_turn),
            readable: VecDeque::new(),
            heat: Heat::default(),
            deadlines: VecDeque::new(),
            pace: Pace::new(if queues.has_batch_wait() { config.wait_us_max } else { 0 }),
            waker,
            now_ms: sys::clock_ms(),
            queues,
            config,
        })
    }

    /// Queues a copy of the bytes. Everything queued for a socket in one turn is one send. Bytes for a socket that is
    /// still connecting go out when it stands.
    pub fn send(&mut self, id: SocketId, bytes: &[u8]) -> Result<(), SendError> {
        let egress = self.egress_with_room(id, bytes.len())?;
        self.egresses.get_mut(egress).push(bytes);
        Ok(())
    }

    /// Queues a head, which is copied, and a payload, which is shared with whoever else holds it: for a payload that
    /// goes to many sockets. A small payload is copied, since that is cheaper.
    pub fn send_parts(&mut self, id: SocketId, head: &[u8], shared: &Bytes) -> Result<(), SendError> {
        let egress = self.egress_with_room(id, head.len() + shared.len())?;
        self.egresses.get_mut(egress).push_parts(head, shared);
        Ok(())
    }

    /// Bytes queued that the kernel has not taken.
    pub fn egress_bytes(&self, id: SocketId) -> usize {
        match self.sockets.get(id) {
            Some(socket) if socket.egress != egress::NONE => self.egresses.get(socket.egress).len(),
            _ => 0,
        }
    }

    /// Sends what is queued, then closes: our end first, and the whole socket when the peer has closed its own, so that
    /// the peer reads everything. After [`CLOSE_MS_MAX`](crate::CLOSE_MS_MAX) the socket is cut, whatever is left.
    /// Nothing that the peer sends meanwhile is delivered. [`Handler::closed`](crate::Handler::closed) follows.
    pub fn close(&mut self, id: SocketId) {
        self.begin_close(id);
    }

    /// Closes at once and drops what is queued. [`Handler::closed`](crate::Handler::closed) follows in a later turn.
    pub fn abort(&mut self, id: SocketId) {
        self.tear_down(id, crate::Closed::ByUs);
    }

    /// Stops reading from the peer, whose own sends stall when the kernel's buffers are full. Bytes that were received
    /// already in this turn are still delivered. Nothing that the peer does is noticed meanwhile, its end included.
    pub fn pause_recv(&mut self, id: SocketId) {
        self.pause(id);
    }

    /// Reads from the peer again.
    pub fn resume_recv(&mut self, id: SocketId) {
        self.resume(id);
    }

    /// Slots in use: sockets that connect, are open, or have not closed completely.
    pub fn len(&self) -> u32 {
        self.sockets.len()
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots of the table; every [`SocketId::slot`] is below it.
    pub fn capacity(&self) -> u32 {
        self.sockets.capacity()
    }

    /// A handle that wakes this ring from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The socket's egress, with room for so many bytes more, and the socket on the list of those that send.
    fn egress_with_room(&mut self, id: SocketId, bytes: usize) -> Result<u32, SendError> {
        let socket = self.sockets.get_mut(id).ok_or(SendError::Gone)?;
        if !matches!(socket.stage, Stage::Open | Stage::Connecting) {
            return Err(SendError::Gone);
        }
        let queued = if socket.egress == egress::NONE { 0 } else { self.egresses.get(socket.egress).len() };
        if queued + bytes > self.config.egress_bytes_max {
            return Err(SendError::Full);
        }
        if socket.egress == egress::NONE {
            socket.egress = self.egresses.take();
        }
        let egress = socket.egress;
        if !socket.has(flag::DIRTY) && !socket.is_in_flight(flight::WRITABLE | flight::CONNECT) {
            socket.set(flag::DIRTY);
            self.sends.add_dirty(id);
        }
        Ok(egress)
    }
}

fn check(config: &Config) -> io::Result<()> {
    let wrong = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if config.sockets == 0 || config.sockets > SLOTS_MAX {
        return wrong("Config::sockets must be from 1 to 16,777,216");
    }
    if !(8..=32_768).contains(&config.entries) {
        return wrong("Config::entries must be from 8 to 32,768");
    }
    if !config.buffers.is_power_of_two() || config.buffers > 32_768 {
        return wrong("Config::buffers must be a power of two of at most 32,768");
    }
    if config.buffer_bytes == 0 || config.buffer_bytes > 1 << 24 {
        return wrong("Config::buffer_bytes must be from 1 to 16 MiB");
    }
    if config.egress_bytes_max == 0 || config.egress_bytes_max > i32::MAX as usize {
        return wrong("Config::egress_bytes_max must be from 1 byte to 2 GiB");
    }
    if config.accept_per_turn == 0 {
        return wrong("Config::accept_per_turn must be at least 1");
    }
    Ok(())
}
