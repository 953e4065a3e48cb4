//! Sending: one send for each socket and submission, complete when the submission returns.
//!
//! A send carries `MSG_DONTWAIT`, so the kernel tries once and never keeps it, and it posts a completion only when it was
//! short or failed. So a send that goes through costs no completion, memory that is sent from is ours again after each
//! system call, and nothing has to be cancelled when a socket closes. A socket without room is polled for it, once.

use std::ptr;

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use crate::egress::{self, Egress, PIECES_MAX};
use crate::sockets::{Stage, flag, flight};
use crate::submit::Completion;
use crate::tag::{Kind, Tag};
use crate::{Closed, Handler, Ring, SocketId};

/// `MSG_WAITALL` makes a short send a failure, which posts a completion.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// The result of a send that posted none.
const ALL: i32 = i32::MIN;

/// What is sent in a turn.
#[derive(Default)]
pub(crate) struct Sends {
    dirty: Vec<SocketId>,
    submitted: Vec<Sent>,
    messages: Messages,
    /// Something must be done as soon as these are submitted.
    is_urgent: bool,
}

impl Sends {
    /// The caller has set the socket's flag, so that a socket is here once.
    pub(crate) fn add_dirty(&mut self, id: SocketId) {
        self.dirty.push(id);
    }

    /// Whether a turn that submits these must not wait. A send that goes through completes in silence, so nothing would
    /// end the wait.
    pub(crate) fn must_settle_soon(&self, is_drained_wanted: bool) -> bool {
        self.is_urgent || (is_drained_wanted && !self.submitted.is_empty())
    }
}

#[derive(Clone, Copy)]
struct Sent {
    id: SocketId,
    bytes: usize,
    result: i32,
}

/// The messages of the sends that gather pieces, kept for the next turn.
#[derive(Default)]
struct Messages {
    #[expect(clippy::vec_box, reason = "the queue holds a message's address while others are added")]
    all: Vec<Box<Message>>,
    used: usize,
}

impl Messages {
    fn next(&mut self) -> &mut Message {
        if self.used == self.all.len() {
            self.all.push(Message::new());
        }
        self.used += 1;
        &mut self.all[self.used - 1]
    }
}

/// What sendmsg(2) reads.
struct Message {
    header: libc::msghdr,
    pieces: [libc::iovec; PIECES_MAX],
}

impl Message {
    fn new() -> Box<Self> {
        // SAFETY: a msghdr is integers and pointers, for which zero is a value.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self { header, pieces: [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PIECES_MAX] })
    }
}

impl Ring {
    /// Turns what is queued into operations. They point into the egresses: [`Ring::turn`] submits them before anybody
    /// can touch those.
    pub(crate) fn push_sends(&mut self) {
        let mut dirty = std::mem::take(&mut self.sends.dirty);
        for id in dirty.drain(..) {
            let Some(socket) = self.sockets.get_mut(id).filter(|socket| socket.has(flag::DIRTY)) else {
                continue;
            };
            socket.clear(flag::DIRTY);
            let sends = matches!(socket.stage, Stage::Open | Stage::Flushing);
            if sends && socket.egress != egress::NONE && !socket.is_in_flight(flight::WRITABLE) {
                let (egress, closes) = (socket.egress, socket.stage == Stage::Flushing);
                self.sends.is_urgent |= closes;
                self.push_send(id, egress);
            }
        }
        self.sends.dirty = dirty;
    }

    fn push_send(&mut self, id: SocketId, egress: u32) {
        let number = self.sends.submitted.len() as u32;
        let (entry, bytes) = send_entry(id, self.egresses.get(egress), &mut self.sends.messages);
        self.sends.is_urgent |= bytes < self.egresses.get(egress).len();
        self.sends.submitted.push(Sent { id, bytes, result: ALL });
        // The slot of the tag is the number of the send: its result comes back before the next one of that number.
        let tag = Tag::new(Kind::Send, SocketId { slot: number, generation: 0 });
        // SAFETY: the entry points into an egress or a boxed message. Neither is touched before the submission that
        // `Ring::turn` makes next, and no handler runs until then. MSG_DONTWAIT: the kernel is done with them when the
        // submission returns. If it fails, nothing is submitted ever again (`Queues::check`).
        unsafe { self.queues.push(entry.flags(squeue::Flags::SKIP_SUCCESS), tag) };
    }

    /// After a submission: what the kernel took is gone from the egresses.
    pub(crate) fn settle_sends(&mut self, handler: &mut impl Handler) {
        let mut submitted = std::mem::take(&mut self.sends.submitted);
        for &(number, result) in self.queues.failed_sends() {
            submitted[number as usize].result = result;
        }
        self.queues.forget_failed_sends();
        self.sends.messages.used = 0;
        self.sends.is_urgent = false;
        for sent in submitted.drain(..) {
            self.settle(sent, handler);
        }
        self.sends.submitted = submitted;
    }

    fn settle(&mut self, sent: Sent, handler: &mut impl Handler) {
        let id = sent.id;
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.egress == egress::NONE {
            // A handler aborted it while the sends before this one were settled.
            return;
        }
        let has_failed = !matches!(sent.result, ALL | 0..) && !would_block(-sent.result);
        if has_failed {
            self.tear_down(id, Closed::Error(-sent.result));
            return;
        }
        let taken = if sent.result == ALL { sent.bytes } else { sent.result.max(0) as usize };
        let egress = self.egresses.get_mut(socket.egress);
        egress.advance(taken);
        if egress.is_empty() {
            self.egresses.give_back(socket.egress);
            socket.egress = egress::NONE;
            if socket.stage == Stage::Open {
                handler.drained(self, id);
            } else {
                self.flushed(id);
            }
        } else if taken < sent.bytes {
            socket.in_flight |= flight::WRITABLE;
            self.queues.poll_writable(id);
        } else {
            self.make_dirty(id);
        }
    }

    /// There is room again, or the poll was cancelled.
    pub(crate) fn on_writable(&mut self, completion: &Completion) {
        let id = completion.tag.id();
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.in_flight &= !flight::WRITABLE;
        if socket.stage >= Stage::Dying {
            self.bury(id);
        } else {
            // An error shows when it is tried.
            self.make_dirty(id);
        }
    }

    pub(crate) fn make_dirty(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !socket.has(flag::DIRTY) {
            socket.set(flag::DIRTY);
            self.sends.add_dirty(id);
        }
    }
}

/// The kernel is out of room or of memory for now.
fn would_block(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)
}

fn send_entry(id: SocketId, egress: &Egress, messages: &mut Messages) -> (squeue::Entry, usize) {
    let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
    let (count, bytes) = egress.pieces(&mut pieces);
    if let [piece] = pieces[..count] {
        let send = opcode::Send::new(Fixed(id.slot), piece.as_ptr(), piece.len() as u32).flags(FLAGS);
        return (send.build(), bytes);
    }
    let message = messages.next();
    for (to, piece) in message.pieces.iter_mut().zip(&pieces[..count]) {
        *to = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
    }
    message.header.msg_iov = message.pieces.as_mut_ptr();
    message.header.msg_iovlen = count as _;
    let send = opcode::SendMsg::new(Fixed(id.slot), &raw const message.header).flags(FLAGS as u32);
    (send.build(), bytes)
}
