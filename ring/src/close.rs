//! The end of a socket. Every way leads to one place: no operation in flight, the slot closed, the handler told once.
//!
//! The order of a close that we begin is: flush, close our end, wait for the peer's, close the slot. Closing the slot
//! while the peer still sends would reset the connection, and the peer might lose what was sent last. The ring's shutdown
//! operation runs on a kernel worker thread, so the descriptor is made a plain one for a moment instead.

use std::net::{Shutdown, TcpStream};

use crate::egress;
use crate::sockets::{Stage, flag, flight};
use crate::submit::Completion;
use crate::tag::{Kind, Tag};
use crate::{Closed, Handler, Ring, SocketId, sys};

/// A close that takes longer is cut: the peer does not read what is left, or does not close its end.
pub const CLOSE_MS_MAX: u64 = 2_000;

impl Ring {
    pub(crate) fn begin_close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match socket.stage {
            Stage::Connecting => self.tear_down(id, Closed::ByUs),
            Stage::Open => self.begin_flush(id, Closed::ByUs),
            _ => {}
        }
    }

    /// The peer closed its end, and everything before that was delivered.
    pub(crate) fn on_end(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.set(flag::EOF);
        match socket.stage {
            Stage::Open => self.begin_flush(id, Closed::ByPeer),
            Stage::Lingering => self.tear_down(id, Closed::ByUs),
            _ => {}
        }
    }

    fn begin_flush(&mut self, id: SocketId, reason: Closed) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.stage = Stage::Flushing;
        socket.reason = reason;
        let has_egress = socket.egress != egress::NONE;
        if !socket.has(flag::EOF) || has_egress {
            // The last turn may be a while ago.
            self.deadlines.push_back((sys::clock_ms() + CLOSE_MS_MAX, id));
        }
        // The end of a peer that was paused must be seen now.
        self.make_readable_again(id);
        if !has_egress {
            self.flushed(id);
        }
    }

    /// Nothing is queued any more for a socket that is flushing.
    pub(crate) fn flushed(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.has(flag::EOF) {
            let reason = socket.reason;
            self.tear_down(id, reason);
        } else {
            socket.stage = Stage::HalfClosing;
            socket.in_flight |= flight::INSTALL;
            self.queues.install(id);
        }
    }

    pub(crate) fn on_install(&mut self, completion: &Completion) {
        let id = completion.tag.id();
        if completion.result >= 0 {
            // Dropped after the shutdown; the table still has the socket. The shutdown fails where the peer was quicker,
            // and then the receive shows it.
            let plain = TcpStream::from(sys::adopt(completion.result));
            let _ = plain.shutdown(Shutdown::Write);
        }
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.in_flight &= !flight::INSTALL;
        if socket.stage >= Stage::Dying {
            self.bury(id);
        } else if completion.result < 0 || socket.has(flag::EOF) {
            self.tear_down(id, Closed::ByUs);
        } else {
            socket.stage = Stage::Lingering;
        }
    }

    /// Ends a socket at once. The first reason counts.
    pub(crate) fn tear_down(&mut self, id: SocketId, reason: Closed) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.stage >= Stage::Dying {
            return;
        }
        if matches!(socket.stage, Stage::Open | Stage::Connecting) {
            socket.reason = reason;
        }
        socket.stage = Stage::Dying;
        if socket.egress != egress::NONE {
            self.egresses.give_back(socket.egress);
            socket.egress = egress::NONE;
        }
        let in_flight = socket.in_flight;
        for (operation, kind) in [
            (flight::POLL, Kind::Poll),
            (flight::STREAM, Kind::Stream),
            (flight::WRITABLE, Kind::Writable),
            (flight::CONNECT, Kind::Connect),
        ] {
            if in_flight & operation != 0 {
                self.queues.cancel(Tag::new(kind, id));
            }
        }
        // Receives and installs complete by themselves, within their submission.
        self.bury(id);
    }

    /// Closes the slot of a dying socket once nothing is in flight that could meet the slot's next socket.
    pub(crate) fn bury(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.stage == Stage::Dying && socket.in_flight == 0 {
            socket.stage = Stage::Closing;
            socket.in_flight = flight::CLOSE;
            self.queues.close(id);
        }
    }

    pub(crate) fn on_close(&mut self, id: SocketId, handler: &mut impl Handler) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        debug_assert_eq!((socket.stage, socket.in_flight), (Stage::Closing, flight::CLOSE));
        socket.in_flight = 0;
        let reason = self.sockets.free(id);
        handler.closed(self, id, reason);
    }

    /// Cuts what has been closing for too long.
    pub(crate) fn cut_late_closes(&mut self) {
        while let Some(&(deadline_ms, id)) = self.deadlines.front() {
            let is_over = self.sockets.get(id).is_none();
            if !is_over && self.now_ms < deadline_ms {
                return;
            }
            self.deadlines.pop_front();
            self.tear_down(id, Closed::ByUs);
        }
    }
}
