//! What a partition's readers share: the newest records in memory, who reads, and how far each has acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use petrel_protocol::limits::{BUS_READ_BYTES, BUS_READ_PACKS, BUS_TAIL_BYTES_MAX};
use tokio::sync::Notify;

/// One partition of one topic, in memory.
pub(super) struct Partition(Mutex<State>);

struct State {
    /// The first offset that cannot be read yet.
    end: u64,
    /// The records before `end`: the last one has the offset `end - 1`.
    tail: VecDeque<Bytes>,
    tail_bytes: usize,
    /// One for each subscription of the topic.
    readers: Vec<Reader>,
    closed: bool,
}

/// A subscription's side of a partition.
struct Reader {
    /// The consumer that is active, if one lives.
    active: Option<Arc<Wake>>,
    /// The first offset that the active consumer has not taken.
    taken: u64,
    /// The first offset that is not acknowledged.
    acked: u64,
}

/// How a consumer is woken, and told that it is over.
#[derive(Default)]
pub(super) struct Wake {
    pub(super) notify: Notify,
    over: AtomicBool,
}

impl Wake {
    /// Another consumer took over, or the log was closed.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends the consumer.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// What a consumer finds.
pub(super) enum Found {
    /// Records from this offset on; at least one.
    Records(u64, Vec<Bytes>),
    /// The records from the first offset up to before the second are on disk only.
    OnDisk(u64, u64),
    /// There are none yet.
    None,
    /// The consumer is over.
    Over,
}

impl Partition {
    /// A partition whose next offset is `end`, with the first unacknowledged offset of each subscription.
    pub(super) fn new(end: u64, acked: &[u64]) -> Self {
        let readers = acked.iter().map(|&acked| Reader { active: None, taken: acked, acked }).collect();
        Self(Mutex::new(State { end, tail: VecDeque::new(), tail_bytes: 0, readers, closed: false }))
    }

    /// These records can be read from now on. Empties the list.
    pub(super) fn append(&self, records: &mut Vec<Bytes>) {
        let mut state = self.lock();
        state.end += records.len() as u64;
        for record in records.drain(..) {
            state.tail_bytes += record.len();
            state.tail.push_back(record);
        }
        while state.tail_bytes > BUS_TAIL_BYTES_MAX {
            state.drop_first();
        }
        state.wake_readers();
    }

    /// After the log was opened again: the records before `end` are on disk. False: some that could be read are not.
    pub(super) fn reset(&self, end: u64) -> bool {
        let mut state = self.lock();
        if end < state.end {
            return false;
        }
        state.end = end;
        state.tail.clear();
        state.tail_bytes = 0;
        state.wake_readers();
        true
    }

    /// Makes a consumer the active one of this subscription. Returns where it starts, or none where the log is closed.
    pub(super) fn activate(&self, slot: usize, wake: &Arc<Wake>) -> Option<u64> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let reader = &mut state.readers[slot];
        if let Some(older) = reader.active.replace(Arc::clone(wake)) {
            older.end();
        }
        reader.taken = reader.acked;
        Some(reader.acked)
    }

    /// The consumer is gone.
    pub(super) fn deactivate(&self, slot: usize, wake: &Arc<Wake>) {
        self.lock().readers[slot].active.take_if(|active| Arc::ptr_eq(active, wake));
    }

    /// What the consumer reads next, from `next` on.
    pub(super) fn find(&self, slot: usize, wake: &Wake, next: u64) -> Found {
        let mut state = self.lock();
        if wake.is_over() {
            return Found::Over;
        }
        // What is acknowledged may be gone from the disk, so it is passed over even where it was not taken.
        let next = next.max(state.readers[slot].acked);
        if next >= state.end {
            return Found::None;
        }
        let tail_start = state.end - state.tail.len() as u64;
        if next < tail_start {
            return Found::OnDisk(next, tail_start);
        }
        let mut bytes = 0;
        let records: Vec<Bytes> = state
            .tail
            .range((next - tail_start) as usize..)
            .take(BUS_READ_PACKS)
            .take_while(|record| {
                let fits = bytes < BUS_READ_BYTES;
                bytes += record.len();
                fits
            })
            .cloned()
            .collect();
        state.readers[slot].taken = next + records.len() as u64;
        state.drop_taken();
        Found::Records(next, records)
    }

    /// Acknowledges everything before `acked`, for the active consumer only. Returns whether that is news.
    pub(super) fn acknowledge(&self, slot: usize, wake: &Wake, acked: u64) -> bool {
        let mut state = self.lock();
        if wake.is_over() || acked <= state.readers[slot].acked {
            return false;
        }
        debug_assert!(acked <= state.end, "what was not read cannot be acknowledged");
        state.readers[slot].acked = acked.min(state.end);
        true
    }

    /// The first offset that is not acknowledged, for each subscription, into `acked`; and the next offset.
    pub(super) fn acked(&self, acked: &mut Vec<u64>) -> u64 {
        let state = self.lock();
        acked.clear();
        acked.extend(state.readers.iter().map(|reader| reader.acked));
        state.end
    }

    /// Ends all consumers, for good.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for reader in &mut state.readers {
            if let Some(wake) = reader.active.take() {
                wake.end();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}

impl State {
    fn wake_readers(&self) {
        for wake in self.readers.iter().filter_map(|reader| reader.active.as_ref()) {
            wake.notify.notify_one();
        }
    }

    fn drop_first(&mut self) {
        if let Some(record) = self.tail.pop_front() {
            self.tail_bytes -= record.len();
        }
    }

    /// Drops what every living consumer has taken. A subscription without one reads from disk when it is back.
    fn drop_taken(&mut self) {
        let living = self.readers.iter().filter(|reader| reader.active.is_some());
        let Some(taken) = living.map(|reader| reader.taken).min() else { return };
        let tail_start = self.end - self.tail.len() as u64;
        for _ in tail_start..taken {
            self.drop_first();
        }
    }
}
