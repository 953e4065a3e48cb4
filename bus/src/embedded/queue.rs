//! The bounded queue between the publishers and the commit thread.
//!
//! What a topic has taken counts against its bound until it is receipted, so the bound covers the group that is being
//! written too, and a flood on one topic leaves the others their room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use petrel_protocol::limits::{BUS_QUEUE_BYTES_MAX, BUS_QUEUE_PACKS_MAX};
use petrel_protocol::topics::Topic;

use crate::{OnReceipt, PublishError};

/// A pack on its way into the log.
pub(super) struct Pending {
    pub(super) topic: Topic,
    pub(super) partition: u16,
    pub(super) tag: u64,
    pub(super) pack: Bytes,
    pub(super) on_receipt: OnReceipt,
}

/// Who waits for a sync.
pub(super) type SyncWaiter = SyncSender<Result<(), PublishError>>;

/// What the commit thread takes in one go. It is given back, so that its buffers are used again.
#[derive(Default)]
pub(super) struct Group {
    pub(super) packs: Vec<Pending>,
    pub(super) syncs: Vec<SyncWaiter>,
    /// The log is being closed, and this is the last group.
    pub(super) closing: bool,
}

/// The queue.
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    /// There are acknowledgements that the commit thread has not collected. Outside of the lock, since most of them
    /// find it set.
    acked: AtomicBool,
}

#[derive(Default)]
struct State {
    next: Group,
    load: [Load; Topic::ALL.len()],
    reader: Reader,
    /// The log cannot be written, or is closed: publishes are refused at once.
    refusing: bool,
}

/// What the commit thread does.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Reader {
    /// It is at work, and looks here before it waits.
    #[default]
    Busy,
    /// It waits for anything.
    Waiting,
    /// It waits, and wakes by itself in a while: acknowledgements wait for that.
    WaitingUntil,
}

/// What one topic has taken and not receipted.
#[derive(Clone, Copy, Default)]
struct Load {
    packs: usize,
    bytes: usize,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::default()), work: Condvar::new(), acked: AtomicBool::new(false) }
    }

    /// Takes a pack. `backlog_room`: the bytes that the topic's backlog may still grow.
    pub(super) fn push(&self, pending: Pending, backlog_room: u64) -> Result<(), PublishError> {
        let bytes = pending.pack.len();
        let mut state = self.lock();
        if state.refusing {
            return Err(PublishError::Unavailable);
        }
        let load = &mut state.load[pending.topic as usize];
        if load.packs >= BUS_QUEUE_PACKS_MAX
            || load.bytes + bytes > BUS_QUEUE_BYTES_MAX
            || (load.bytes + bytes) as u64 > backlog_room
        {
            return Err(PublishError::Full);
        }
        load.packs += 1;
        load.bytes += bytes;
        state.next.packs.push(pending);
        self.wake(state);
        Ok(())
    }

    /// Asks for a sync; the answer comes to `waiter`.
    pub(super) fn sync(&self, waiter: SyncWaiter) -> Result<(), PublishError> {
        let mut state = self.lock();
        if state.refusing {
            return Err(PublishError::Unavailable);
        }
        state.next.syncs.push(waiter);
        self.wake(state);
        Ok(())
    }

    /// Says that there are acknowledgements to write.
    pub(super) fn acked(&self) {
        if self.acked.swap(true, Ordering::SeqCst) {
            return;
        }
        let state = self.lock();
        if state.reader == Reader::Waiting {
            self.wake(state);
        }
    }

    /// Whether there are acknowledgements to write.
    pub(super) fn has_acks(&self) -> bool {
        self.acked.load(Ordering::Acquire)
    }

    /// The acknowledgements that there are will be written. They are read after this, so that none is missed.
    pub(super) fn collect_acks(&self) {
        self.acked.store(false, Ordering::SeqCst);
    }

    /// Refuses all further publishes, and lets the commit thread end once it has written what waits.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.refusing = true;
        state.next.closing = true;
        self.wake(state);
    }

    /// Refuses publishes, or takes them again; a queue that is being closed stays so.
    pub(super) fn refuse(&self, refusing: bool) {
        let mut state = self.lock();
        state.refusing = refusing || state.next.closing;
    }

    /// Waits for the next group, or until `deadline`, and swaps it with `group`, which has been emptied. Without a
    /// deadline it also returns when the first acknowledgement comes, so that the caller can set one.
    pub(super) fn take(&self, group: &mut Group, deadline: Option<Instant>) {
        debug_assert!(group.is_empty(), "the last group is finished");
        let mut state = self.lock();
        while state.next.is_empty() && !(deadline.is_none() && self.has_acks()) {
            let Some(deadline) = deadline else {
                state.reader = Reader::Waiting;
                state = self.work.wait(state).expect("no holder panics");
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.reader = Reader::WaitingUntil;
            state = self.work.wait_timeout(state, left).expect("no holder panics").0;
        }
        state.reader = Reader::Busy;
        let closing = state.next.closing;
        std::mem::swap(&mut state.next, group);
        state.next.closing = closing;
    }

    /// These packs are receipted: their room is free. Empties the list; returns the packs that are left, by topic.
    pub(super) fn release(&self, packs: &mut Vec<Pending>) -> [usize; Topic::ALL.len()] {
        let mut freed = [Load::default(); Topic::ALL.len()];
        for pending in packs.drain(..) {
            let load = &mut freed[pending.topic as usize];
            load.packs += 1;
            load.bytes += pending.pack.len();
        }
        let mut state = self.lock();
        for (load, freed) in state.load.iter_mut().zip(freed) {
            load.packs -= freed.packs;
            load.bytes -= freed.bytes;
        }
        state.load.map(|load| load.packs)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::take(&mut state.reader) != Reader::Busy {
            drop(state);
            self.work.notify_one();
        }
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.syncs.is_empty() && !self.closing
    }
}
