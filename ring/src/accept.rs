//! Both ways to get a socket: accepting and connecting.
//!
//! Accepts are single shots in bounded number, not one multishot: a multishot accept takes the whole backlog in one
//! system call, which bounds neither the turn (thousands of accepts stall every live socket) nor the table (what does not
//! fit is lost). Each armed accept has a free slot set aside, so the table never overflows. One is armed while it is
//! quiet; the number doubles while all of them fire, up to the configured one a turn. Arming is a tenth of a microsecond
//! beside the several that an accept takes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::opcode;
use io_uring::types::Fixed;

use crate::egress;
use crate::sockets::{Stage, flight};
use crate::submit::Completion;
use crate::sys::{self, RawAddr};
use crate::tag::{Kind, Tag};
use crate::{Closed, ConnectError, Handler, Ring, SocketId};

/// Connections that wait in the kernel to be accepted. The sysctl `net.core.somaxconn` caps it.
const BACKLOG: i32 = 16_384;
/// After an error that is not one connection's (no descriptors, no memory) accepting rests for this long.
const REST_MS: u64 = 100;
/// A connecting socket may be given slots whose old socket is not reported closed yet; it passes over this many.
const PASSED_OVER_MAX: usize = 64;
/// `IORING_FILE_INDEX_ALLOC`: the kernel picks the slot.
const ANY_SLOT: i32 = -1;

/// The listener and the accepts that are armed on it.
pub(crate) struct Accepting {
    listener: Option<TcpListener>,
    /// Which listener of this ring it is.
    number: u32,
    is_paused: bool,
    /// Accepts in flight, each with a free slot set aside.
    armed: u32,
    wanted: u32,
    wanted_max: u32,
    fired: u32,
    rests_until_ms: Option<u64>,
}

impl Accepting {
    pub(crate) fn new(per_turn: u32) -> Self {
        Self {
            listener: None,
            number: 0,
            is_paused: false,
            armed: 0,
            wanted: 1,
            wanted_max: per_turn,
            fired: 0,
            rests_until_ms: None,
        }
    }

    fn tag(&self) -> Tag {
        Tag::new(Kind::Accept, SocketId { slot: 0, generation: self.number })
    }

    /// When accepting goes on after a rest.
    pub(crate) fn rests_until_ms(&self) -> Option<u64> {
        self.rests_until_ms
    }
}

impl Ring {
    /// Listens and accepts. Every ring listens for itself: `SO_REUSEPORT` lets the kernel spread the connections.
    /// Returns the address that was bound, which has the port where 0 was asked for.
    ///
    /// # Errors
    /// The kernel's, such as `AddrInUse`; `AlreadyExists` when this ring listens already.
    pub fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        if self.accepting.listener.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "this ring listens already; stop that first",
            ));
        }
        let (listener, bound) = sys::listening(addr, BACKLOG)?;
        self.accepting.listener = Some(listener);
        self.accepting.number = self.accepting.number.wrapping_add(1);
        Ok(bound)
    }

    /// Stops accepting; connections wait in the kernel's backlog. Those that were accepted already in this turn are still
    /// handed over.
    pub fn pause_accept(&mut self) {
        self.accepting.is_paused = true;
        self.cancel_accepts();
    }

    /// Accepts again.
    pub fn resume_accept(&mut self) {
        self.accepting.is_paused = false;
    }

    /// Closes the listener. Connections that were not accepted are reset.
    pub fn stop_listening(&mut self) {
        self.cancel_accepts();
        // No accept is queued but not submitted: they are queued right before a turn's submission.
        self.accepting.listener = None;
    }

    /// Begins a connection: [`Handler::connected`] or [`Handler::closed`] follows. `from` is the source address; with
    /// port 0 the kernel picks a port for this destination. It costs several system calls at once.
    pub fn connect(&mut self, from: Option<SocketAddr>, to: SocketAddr) -> Result<SocketId, ConnectError> {
        if self.sockets.len() + self.accepting.armed >= self.capacity() {
            return Err(ConnectError::Full);
        }
        let socket = sys::connecting(from, to).map_err(ConnectError::Io)?;
        let slot = self.install(&socket)?;
        let id = self.sockets.open(slot, Stage::Connecting);
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.in_flight |= flight::CONNECT;
        }
        let addr = RawAddr::from(to);
        let connect = opcode::Connect::new(Fixed(slot), addr.as_ptr(), addr.len()).build();
        // SAFETY: the kernel copies the address when it takes the operation, which the submission below does; if that
        // fails, nothing is submitted ever again.
        unsafe { self.queues.push(connect, Tag::new(Kind::Connect, id)) };
        self.queues.submit().map_err(ConnectError::Io)?;
        Ok(id)
    }

    /// Puts a plain descriptor into a free slot of the table.
    fn install(&mut self, socket: &OwnedFd) -> Result<u32, ConnectError> {
        let mut passed_over = Vec::new();
        let slot = loop {
            let slot = self.install_anywhere(socket.as_raw_fd());
            match slot {
                // The kernel has freed this slot, but its old socket is not reported closed yet.
                Ok(slot) if self.sockets.id_at(slot).is_some() && passed_over.len() < PASSED_OVER_MAX => {
                    passed_over.push(slot);
                }
                Ok(slot) if self.sockets.id_at(slot).is_some() => {
                    passed_over.push(slot);
                    break Err(ConnectError::Full);
                }
                slot => break slot,
            }
        };
        for slot in passed_over {
            self.queues.close_unused(slot);
        }
        slot
    }

    fn install_anywhere(&mut self, fd: RawFd) -> Result<u32, ConnectError> {
        let mut place = fd;
        let update = opcode::FilesUpdate::new(&raw mut place, 1).offset(ANY_SLOT).build();
        let tag = Tag::of_kind(Kind::Update);
        // SAFETY: the kernel reads the descriptor from `place` and writes the slot there while the submission below
        // runs; if that fails, nothing is submitted ever again.
        unsafe { self.queues.push(update, tag) };
        self.queues.submit().map_err(ConnectError::Io)?;
        let completions = self.queues.completions_mut();
        let position = completions.iter().position(|completion| completion.tag == tag);
        let position = position.expect("an update completes within its submission");
        match completions.remove(position).result {
            // SAFETY: `place` is a local that the kernel wrote to through a pointer; this read is not before that.
            1 => Ok(unsafe { (&raw const place).read_volatile() } as u32),
            result if result == -libc::ENFILE => Err(ConnectError::Full),
            result => Err(ConnectError::Io(io::Error::from_raw_os_error(-result))),
        }
    }

    /// Before a submission: as many accepts as are wanted and have a free slot.
    pub(crate) fn arm_accepts(&mut self) {
        let accepting = &mut self.accepting;
        accepting.rests_until_ms = accepting.rests_until_ms.filter(|&until_ms| self.now_ms < until_ms);
        let Some(listener) = &accepting.listener else { return };
        if accepting.is_paused || accepting.rests_until_ms.is_some() {
            return;
        }
        if accepting.fired > 0 {
            let is_storm = accepting.armed == 0;
            let wanted = if is_storm { accepting.wanted.saturating_mul(2) } else { accepting.wanted / 2 };
            accepting.wanted = wanted.clamp(1, accepting.wanted_max);
            accepting.fired = 0;
        }
        let free = self.sockets.capacity() - self.sockets.len();
        while accepting.armed < accepting.wanted.min(free) {
            accepting.armed += 1;
            self.queues.accept(listener.as_raw_fd(), accepting.tag());
        }
    }

    fn cancel_accepts(&mut self) {
        if self.accepting.armed > 0 {
            self.queues.cancel(self.accepting.tag());
        }
    }

    pub(crate) fn on_accept(&mut self, completion: &Completion, handler: &mut impl Handler) {
        self.accepting.armed -= 1;
        match completion.result {
            slot @ 0.. => {
                self.accepting.fired += 1;
                let id = self.sockets.open(slot as u32, Stage::Open);
                self.poll(id);
                handler.accepted(self, id);
            }
            // One connection's fault, which died before it was accepted, or nobody's.
            error if is_of_one_connection(-error) => {}
            // The machine's: no descriptors or no memory. At once it would only fail again.
            _ => self.accepting.rests_until_ms = Some(self.now_ms + REST_MS),
        }
    }

    pub(crate) fn on_connect(&mut self, completion: &Completion, handler: &mut impl Handler) {
        let id = completion.tag.id();
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.in_flight &= !flight::CONNECT;
        if socket.stage >= Stage::Dying {
            self.bury(id);
        } else if completion.result < 0 {
            self.tear_down(id, Closed::Error(-completion.result));
        } else {
            socket.stage = Stage::Open;
            if socket.egress != egress::NONE {
                self.make_dirty(id);
            }
            self.poll(id);
            handler.connected(self, id);
        }
    }
}

/// See accept(2): these are the new connection's pending errors, or no errors.
fn is_of_one_connection(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENONET
            | libc::EPERM
            | libc::ETIMEDOUT
            | libc::EINTR
            | libc::EAGAIN
            | libc::ECANCELED
    )
}
