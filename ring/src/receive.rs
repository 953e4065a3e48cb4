//! Receiving. A socket that is mostly idle holds a multishot poll (about 260 bytes of kernel memory); when it is
//! readable, one receive takes what is there into a shared buffer. A socket that receives often holds a multishot receive
//! (about 870 bytes), which saves it that round. When it goes quiet the poll comes back.

use crate::buffers::Filled;
use crate::sockets::{Stage, flag, flight};
use crate::submit::Completion;
use crate::tag::{Kind, Tag};
use crate::{Closed, Handler, Ring, SocketId};

/// Receives within a second that make a socket hot.
const HOT_AFTER: u8 = 4;
/// Seconds without a receive that make it cool.
const COOL_AFTER_S: u8 = 2;

/// Which sockets are hot, and the second that it is.
#[derive(Default)]
pub(crate) struct Heat {
    hot: Vec<SocketId>,
    second: u8,
}

impl Ring {
    /// Watches a socket for bytes.
    pub(crate) fn poll(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !socket.is_in_flight(flight::POLL) {
            socket.in_flight |= flight::POLL;
            self.queues.poll_readable(id);
        }
    }

    pub(crate) fn pause(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.set(flag::PAUSED);
        self.cool(id);
    }

    pub(crate) fn resume(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.clear(flag::PAUSED);
        self.make_readable_again(id);
    }

    /// Whoever did not want to read does now.
    pub(crate) fn make_readable_again(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.has(flag::READABLE) {
            self.make_readable(id);
        }
    }

    /// There may be something to read: the socket gets its turn, once.
    fn make_readable(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !socket.reads() || socket.is_in_flight(flight::RECEIVE | flight::STREAM) {
            socket.set(flag::READABLE);
        } else if !socket.has(flag::QUEUED) {
            socket.clear(flag::READABLE);
            socket.set(flag::QUEUED);
            self.readable.push_back(id);
        }
    }

    /// Before a submission: receives for those whose turn it is, at most as many as there are buffers. Returns how many.
    pub(crate) fn push_receives(&mut self) -> u32 {
        let mut pushed = 0;
        while pushed < u32::from(self.buffers.circulating()) {
            let Some(id) = self.readable.pop_front() else { break };
            let Some(socket) = self.sockets.get_mut(id) else { continue };
            socket.clear(flag::QUEUED);
            if !socket.reads() {
                socket.set(flag::READABLE);
            } else if socket.heat >= HOT_AFTER && socket.stage == Stage::Open {
                self.heat_up(id);
                pushed += 1;
            } else {
                socket.in_flight |= flight::RECEIVE;
                self.queues.receive(id);
                pushed += 1;
            }
        }
        pushed
    }

    pub(crate) fn on_poll(&mut self, completion: &Completion) {
        let id = completion.tag.id();
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !completion.stays() {
            socket.in_flight &= !flight::POLL;
        }
        if socket.stage >= Stage::Dying {
            self.bury(id);
            return;
        }
        if socket.has(flag::HOT) {
            // Cancelled when it became hot; the multishot receive sees everything.
            return;
        }
        if completion.result < 0 && completion.result != -libc::ECANCELED {
            self.tear_down(id, Closed::Error(-completion.result));
            return;
        }
        self.poll(id);
        self.make_readable(id);
    }

    /// One receive has completed.
    pub(crate) fn on_receive(&mut self, completion: &Completion, handler: &mut impl Handler) {
        let id = completion.tag.id();
        let socket = self.sockets.get_mut(id).expect("a socket stays while a receive of it is in flight");
        socket.in_flight &= !flight::RECEIVE;
        if socket.stage >= Stage::Dying {
            self.give_back(completion);
            self.bury(id);
            return;
        }
        if socket.last_second == self.heat.second {
            socket.heat = socket.heat.saturating_add(1);
        } else {
            socket.last_second = self.heat.second;
            socket.heat = 1;
        }
        self.deliver(id, completion, handler);
        let is_full = completion.result >= 0 && completion.result as usize == self.buffers.buffer_bytes();
        let again = is_full || completion.more_to_read() || completion.result == -libc::ENOBUFS;
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if again || socket.has(flag::READABLE) {
            self.make_readable(id);
        }
    }

    /// The multishot receive of a hot socket brought something, or ended.
    pub(crate) fn on_stream(&mut self, completion: &Completion, handler: &mut impl Handler) {
        let id = completion.tag.id();
        let second = self.heat.second;
        let socket = self.sockets.get_mut(id).expect("a socket stays while a receive of it is in flight");
        if !completion.stays() {
            socket.in_flight &= !flight::STREAM;
        }
        if socket.stage >= Stage::Dying {
            self.give_back(completion);
            self.bury(id);
            return;
        }
        socket.last_second = second;
        self.deliver(id, completion, handler);
        if !completion.stays() {
            // It was cancelled, or there was no buffer or no room for a completion: back to the poll, which reports what
            // is there to read.
            let Some(socket) = self.sockets.get_mut(id) else { return };
            socket.clear(flag::HOT | flag::COOLING);
            socket.heat = 0;
            if socket.stage < Stage::Dying && !socket.has(flag::EOF) {
                self.poll(id);
            }
        }
    }

    /// Hands over what a receive brought, or what it says about the connection.
    fn deliver(&mut self, id: SocketId, completion: &Completion, handler: &mut impl Handler) {
        match completion.result {
            0 => {
                self.give_back(completion);
                self.on_end(id);
            }
            1.. => {
                let mut filled = self.filled(completion).expect("bytes come in a buffer");
                let is_wanted = self.sockets.get(id).is_some_and(|socket| socket.stage == Stage::Open);
                if is_wanted {
                    // SAFETY: `Ring::turn` keeps the memory of the buffers alive until its end, even if the handler
                    // replaces the ring.
                    let bytes = unsafe { filled.bytes() };
                    handler.received(self, id, bytes);
                }
                self.buffers.give_back(filled);
            }
            error => match -error {
                libc::EAGAIN | libc::EINTR | libc::ECANCELED => {}
                libc::ENOBUFS => {
                    self.buffers.grow();
                }
                errno => self.tear_down(id, Closed::Error(errno)),
            },
        }
    }

    fn filled(&self, completion: &Completion) -> Option<Filled> {
        completion.buffer().map(|number| self.buffers.filled(number, completion.result.max(0) as usize))
    }

    fn give_back(&mut self, completion: &Completion) {
        if let Some(filled) = self.filled(completion) {
            self.buffers.give_back(filled);
        }
    }

    fn heat_up(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.set(flag::HOT);
        socket.in_flight |= flight::STREAM;
        if !socket.has(flag::LISTED) {
            socket.set(flag::LISTED);
            self.heat.hot.push(id);
        }
        if socket.is_in_flight(flight::POLL) {
            self.queues.cancel(Tag::new(Kind::Poll, id));
        }
        self.queues.receive_stream(id);
    }

    fn cool(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.has(flag::HOT) && !socket.has(flag::COOLING) {
            socket.set(flag::COOLING);
            self.queues.cancel(Tag::new(Kind::Stream, id));
        }
    }

    /// Once a second, hot sockets that went quiet become cool.
    pub(crate) fn cool_quiet_sockets(&mut self) {
        let second = (self.now_ms / 1_000) as u8;
        if second == self.heat.second {
            return;
        }
        self.heat.second = second;
        let mut hot = std::mem::take(&mut self.heat.hot);
        hot.retain(|&id| {
            let Some(socket) = self.sockets.get_mut(id) else { return false };
            let is_quiet = second.wrapping_sub(socket.last_second) >= COOL_AFTER_S;
            if socket.has(flag::HOT) && !is_quiet {
                return true;
            }
            socket.clear(flag::LISTED);
            self.cool(id);
            false
        });
        self.heat.hot = hot;
    }
}
