//! One shard's sockets on one `io_uring`: the only crate with `unsafe` code.
//!
//! A [`Ring`] lives on the thread that created it. [`Ring::turn`] is the shard's whole loop body: it takes the
//! completions that are there, calls the [`Handler`] for each, and submits everything that the handler asked for in
//! one system call. Bytes are received into buffers shared by all sockets and are parsed in place.
//!
//! What a socket costs while it is idle: 24 bytes here (its entry in the table), and in the kernel one poll request of
//! 256 bytes and 8 bytes of descriptor table beside the socket itself. A socket that receives often holds a multishot
//! receive instead, about 870 bytes. Buffers are held only while there is something in them: received bytes until the
//! handler returns, queued bytes until the kernel takes them.
//!
//! What a message costs: a batch of messages is one system call, which sends the answers of the last batch and waits for
//! the next. A send that goes through posts no completion. Nothing is allocated on that path.
//!
//! The crate knows TCP and nothing above it. It decides nothing about peers: back-pressure, slow readers and admission
//! are the caller's, who has [`Ring::pause_recv`], [`Ring::egress_bytes`] and [`Ring::pause_accept`] for them.

#![cfg(target_os = "linux")]

mod accept;
mod buffers;
mod close;
mod config;
mod egress;
mod pace;
mod receive;
mod ring;
mod send;
mod sockets;
mod submit;
mod sys;
mod tag;
mod turn;
mod waker;

pub use close::CLOSE_MS_MAX;
pub use config::Config;
pub use ring::Ring;
pub use waker::Waker;

/// A socket of one ring. The slot is dense and is used again after the socket closed; the generation then differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// Index in the ring's table, below [`Ring::capacity`].
    pub slot: u32,
    /// Which use of the slot this is.
    pub generation: u32,
}

/// Why a socket closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer ended the stream (FIN), and everything it sent before was delivered.
    ByPeer,
    /// [`Ring::close`] or [`Ring::abort`] was called.
    ByUs,
    /// The socket failed with this errno, such as `ECONNRESET`, `ECONNREFUSED` or `ETIMEDOUT`.
    Error(i32),
}

/// Why bytes were not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The socket is closed or closing.
    Gone,
    /// The socket's egress would exceed [`Config::egress_bytes_max`]; nothing of this send was queued.
    Full,
}

/// Why a connection was not begun.
#[derive(Debug)]
pub enum ConnectError {
    /// Every slot of the table is taken; close a socket first or raise [`Config::sockets`].
    Full,
    /// The socket could not be made or bound.
    Io(std::io::Error),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the socket is closed or closing; drop what was meant for it",
            Self::Full => "the socket's egress is full; its peer reads too slowly",
        })
    }
}

impl std::error::Error for SendError {}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => {
                f.write_str("the ring's socket table is full; close a socket or raise Config::sockets")
            }
            Self::Io(error) => write!(f, "the socket could not be made: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full => None,
            Self::Io(error) => Some(error),
        }
    }
}

/// What a turn tells its shard. Each call may use the whole ring, except [`Ring::turn`].
pub trait Handler {
    /// Whether [`drained`](Self::drained) matters. While it does, a turn that sends returns at once, and the next one
    /// waits: a second system call for each batch. Otherwise sending and waiting are one call, and `drained` may come as
    /// late as the next thing that happens.
    const WANTS_DRAINED: bool = true;

    /// A connection was accepted.
    fn accepted(&mut self, ring: &mut Ring, id: SocketId);
    /// A connection begun with [`Ring::connect`] stands.
    fn connected(&mut self, ring: &mut Ring, id: SocketId);
    /// Bytes came. The buffer is given back after the call; what is kept must be copied.
    fn received(&mut self, ring: &mut Ring, id: SocketId, bytes: &mut [u8]);
    /// The socket's egress went from non-empty to empty.
    fn drained(&mut self, ring: &mut Ring, id: SocketId);
    /// The socket is over: called exactly once for each socket that was accepted or that began to connect. The slot may
    /// be used again afterwards, with another generation.
    fn closed(&mut self, ring: &mut Ring, id: SocketId, reason: Closed);
    /// A [`Waker`] fired since the last turn.
    fn woken(&mut self, ring: &mut Ring);
    /// All completions of the turn are done, and the submit comes next: the place to flush batches.
    fn turn_ended(&mut self, ring: &mut Ring);
}
