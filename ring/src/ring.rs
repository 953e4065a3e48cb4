//! The ring itself: the shard's one closed loop.

use std::{io, marker::PhantomData, net::SocketAddr, time::Duration};

use bytes::Bytes;

use crate::{Config, ConnectError, Handler, SendError, SocketId, Waker};

/// One shard's sockets. Bound to the thread that created it.
pub struct Ring {
    config: Config,
    single_thread: PhantomData<*mut ()>,
}

impl Ring {
    /// Makes a ring on the calling thread.
    pub fn new(config: Config) -> io::Result<Self> {
        Ok(Self { config, single_thread: PhantomData })
    }

    /// Listens and accepts.
    pub fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        Ok(addr)
    }

    /// Stops accepting; connections wait in the listener's backlog.
    pub fn pause_accept(&mut self) {}

    /// Accepts again.
    pub fn resume_accept(&mut self) {}

    /// Closes the listener.
    pub fn stop_listening(&mut self) {}

    /// Begins a connection.
    pub fn connect(&mut self, _from: Option<SocketAddr>, _to: SocketAddr) -> Result<SocketId, ConnectError> {
        Err(ConnectError::Full)
    }

    /// Queues a copy of the bytes. Everything queued in one turn is one send.
    pub fn send(&mut self, _id: SocketId, _bytes: &[u8]) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    /// Queues a head that is copied and a payload that is shared with other sockets.
    pub fn send_parts(&mut self, _id: SocketId, _head: &[u8], _shared: &Bytes) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn egress_bytes(&self, _id: SocketId) -> usize {
        0
    }

    /// Closes after what is queued was sent, within a bounded time.
    pub fn close(&mut self, _id: SocketId) {}

    /// Closes at once and drops what is queued.
    pub fn abort(&mut self, _id: SocketId) {}

    /// Stops reading from one peer.
    pub fn pause_recv(&mut self, _id: SocketId) {}

    /// Reads from the peer again.
    pub fn resume_recv(&mut self, _id: SocketId) {}

    /// Sockets that are open, connecting ones included.
    pub fn len(&self) -> u32 {
        0
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots of the table; every [`SocketId::slot`] is below it.
    pub fn capacity(&self) -> u32 {
        self.config.sockets
    }

    /// A handle that wakes this ring from any thread.
    pub fn waker(&self) -> Waker {
        Waker
    }

    /// Completions, then the handler, then one submit. Waits at most `wait` while nothing is there (`None`: until
    /// something happens).
    pub fn turn(&mut self, _wait: Option<Duration>, handler: &mut impl Handler) -> io::Result<()> {
        let _ = self.single_thread;
        handler.turn_ended(self);
        Ok(())
    }
}
