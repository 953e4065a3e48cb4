//! The provided receive buffers, shared by all sockets of a ring.
//!
//! The kernel takes a buffer only for bytes that are there, and every buffer is back by the end of the turn, so their
//! number bounds what one turn receives and not how many sockets there are. Few circulate at first, since each that does
//! keeps its pages and its cache lines; when they run out their number doubles, up to the configured one.

use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::Config;
use crate::submit::{BUFFER_GROUP, Queues};
use crate::sys::Mapping;

/// Buffers that circulate at first.
const CIRCULATING_FIRST: u16 = 16;

/// The buffers and the ring of descriptors through which the kernel takes them.
pub(crate) struct Buffers {
    descriptors: Mapping,
    memory: Rc<Mapping>,
    count: u16,
    buffer_bytes: u32,
    circulating: u16,
    tail: u16,
}

/// A buffer that the kernel filled and has not got back.
pub(crate) struct Filled {
    start: NonNull<u8>,
    len: usize,
    number: u16,
}

impl Filled {
    /// # Safety
    /// The memory of the buffers (see [`Buffers::memory`]) must live for as long as the result is used.
    pub(crate) unsafe fn bytes<'a>(&mut self) -> &'a mut [u8] {
        // SAFETY: the kernel wrote `len` bytes here and gave the buffer to us; nothing else refers to it until it is
        // given back, which consumes this. The caller keeps the memory alive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Buffers {
    pub(crate) fn new(config: &Config, queues: &Queues) -> io::Result<Self> {
        let count = config.buffers;
        let descriptors = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * config.buffer_bytes as usize)?;
        let start = descriptors.start().as_ptr() as u64;
        // SAFETY: the mapping is page-aligned, as long as `count` descriptors, and outlives the ring, because `Ring`
        // drops its queues before its buffers.
        unsafe {
            queues.ring().submitter().register_buf_ring_with_flags(start, count, BUFFER_GROUP, 0)?;
        }
        let mut buffers = Self {
            descriptors,
            memory: Rc::new(memory),
            count,
            buffer_bytes: config.buffer_bytes,
            circulating: 0,
            tail: 0,
        };
        buffers.grow_to(CIRCULATING_FIRST);
        Ok(buffers)
    }

    /// The memory that all buffers are in.
    pub(crate) fn memory(&self) -> Rc<Mapping> {
        Rc::clone(&self.memory)
    }

    pub(crate) fn is_memory(&self, memory: &Rc<Mapping>) -> bool {
        Rc::ptr_eq(&self.memory, memory)
    }

    /// Buffers that are with the kernel between turns.
    pub(crate) fn circulating(&self) -> u16 {
        self.circulating
    }

    /// Bytes of a full buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes as usize
    }

    /// Takes a buffer that a completion named. Each is named once, and comes back by [`Self::give_back`].
    pub(crate) fn filled(&self, number: u16, len: usize) -> Filled {
        assert!(len <= self.buffer_bytes as usize, "the kernel filled more than a buffer");
        Filled { start: self.start_of(number), len, number }
    }

    /// The kernel may have it again, from the next [`Self::publish`] on.
    #[expect(clippy::needless_pass_by_value, reason = "whoever gives a buffer back has it no more")]
    pub(crate) fn give_back(&mut self, filled: Filled) {
        let is_ours = filled.start == self.start_of(filled.number);
        assert!(is_ours, "a buffer of another ring: the ring was replaced within its own turn");
        self.offer(filled.number);
    }

    /// Makes what was given back visible to the kernel.
    pub(crate) fn publish(&self) {
        // SAFETY: the first descriptor is zeroed memory that this mapping owns, and its tail lies within it.
        let tail = unsafe { BufRingEntry::tail(self.descriptors.start().as_ptr().cast()) };
        // SAFETY: the tail is a u16 at an even address in the mapping; only this thread writes it, and the kernel reads
        // it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // What was written to the descriptors must be seen with the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// They ran out: lets more of them circulate. False when all do already.
    pub(crate) fn grow(&mut self) -> bool {
        let before = self.circulating;
        self.grow_to(before.saturating_mul(2));
        self.circulating > before
    }

    fn grow_to(&mut self, wanted: u16) {
        let wanted = wanted.min(self.count);
        for number in self.circulating..wanted {
            self.offer(number);
        }
        self.circulating = self.circulating.max(wanted);
        self.publish();
    }

    fn offer(&mut self, number: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        // At most `circulating` of `count` descriptors are with the kernel, so this one is not.
        // SAFETY: `index` is below `count`, for which the mapping is long enough.
        let entry = unsafe { self.descriptors.start().cast::<BufRingEntry>().add(index) };
        // SAFETY: the memory is initialised (zeroed) and aligned to a page. The kernel reads only descriptors between
        // its head and the published tail, and this one is behind the tail.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.start_of(number).as_ptr() as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    fn start_of(&self, number: u16) -> NonNull<u8> {
        assert!(number < self.count, "the kernel named a buffer that was never offered");
        let offset = usize::from(number) * self.buffer_bytes as usize;
        debug_assert!(offset + self.buffer_bytes as usize <= self.memory.bytes());
        // SAFETY: `number` is below `count`, and the mapping is `count` buffers long.
        unsafe { self.memory.start().add(offset) }
    }
}
