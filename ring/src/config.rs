//! What a shard decides about its ring before it starts.

/// The sizes of one ring. Every one is a bound; the comment says what happens beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Slots of the direct-descriptor table, sockets of both directions together. May not exceed
    /// `RLIMIT_NOFILE`. Beyond: accepting stops until a socket closes (connections wait in the backlog), and
    /// [`connect`](crate::Ring::connect) is refused. 8 bytes of kernel memory each, plus the entry here.
    pub sockets: u32,
    /// Submission queue entries, rounded up to a power of two. Beyond: one more system call in that turn.
    pub entries: u32,
    /// Provided receive buffers, a power of two of at most 32,768. Beyond: sockets that are readable wait until
    /// a buffer is given back.
    pub buffers: u16,
    /// Bytes of each receive buffer: the most that one [`received`](crate::Handler::received) brings. A buffer takes
    /// memory by the page, as far as it was ever filled, and few of them circulate until more are needed; the bound is
    /// `buffers` times this. A 16 KiB message costs a sixth less with 32 KiB than with 8 KiB.
    pub buffer_bytes: u32,
    /// Bytes queued towards one socket. Beyond: a send is refused with [`SendError::Full`](crate::SendError).
    pub egress_bytes_max: usize,
    /// While busy, a turn waits at most this many microseconds for a batch of completions. 0 turns it off.
    pub wait_us_max: u32,
    /// Connections accepted in one turn, at most. The others wait for the next turn. A login takes some 20 µs, so this
    /// bounds what a storm of connects adds to the delay of the sockets that are there.
    pub accept_per_turn: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sockets: 12_000,
            entries: 1_024,
            buffers: 512,
            buffer_bytes: 32 << 10,
            egress_bytes_max: 1 << 20,
            wait_us_max: 50,
            accept_per_turn: 32,
        }
    }
}
