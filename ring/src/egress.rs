//! What is queued towards a socket.
//!
//! An egress exists only while something is queued. Its memory comes from a pool that hands out the buffer that was used
//! last, which is still in the cache. The kernel sees it only within one submission: sends never stay in flight.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// No egress: nothing is queued.
pub(crate) const NONE: u32 = u32::MAX;
/// Pieces in one send. What is beyond goes with the next.
pub(crate) const PIECES_MAX: usize = 16;
/// A payload below this is copied behind its head: one contiguous send is cheaper than a gathering one.
pub(crate) const SHARE_BYTES_MIN: usize = 4 << 10;
/// Free buffers that are kept. Beyond: their memory is given back.
const FREE_MAX: usize = 256;
/// A free buffer that grew beyond this is not kept.
const FREE_BYTES_MAX: usize = 16 << 10;
/// First capacity of a buffer.
const FIRST_BYTES: usize = 512;

/// Bytes in order: those copied, with shared payloads in between.
#[derive(Default)]
pub(crate) struct Egress {
    copied: Vec<u8>,
    /// Of `copied`, what the kernel has taken.
    taken: usize,
    shared: VecDeque<Shared>,
    shared_bytes: usize,
}

/// A payload that goes before the byte `at` of the copied ones.
struct Shared {
    at: usize,
    payload: Bytes,
}

impl Egress {
    /// Bytes that the kernel has not taken.
    pub(crate) fn len(&self) -> usize {
        self.copied.len() - self.taken + self.shared_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 && self.copied.len() + bytes.len() > self.copied.capacity() {
            self.compact();
        }
        if self.copied.capacity() == 0 {
            self.copied.reserve(bytes.len().max(FIRST_BYTES));
        }
        self.copied.extend_from_slice(bytes);
    }

    pub(crate) fn push_shared(&mut self, payload: &Bytes) {
        self.shared_bytes += payload.len();
        self.shared.push_back(Shared { at: self.copied.len(), payload: payload.clone() });
    }

    /// The first pieces in order, and how many bytes they are.
    pub(crate) fn pieces<'a>(&'a self, pieces: &mut [&'a [u8]; PIECES_MAX]) -> (usize, usize) {
        let mut count = 0;
        let mut bytes = 0;
        let mut add = |piece: &'a [u8]| {
            if !piece.is_empty() && count < PIECES_MAX {
                pieces[count] = piece;
                count += 1;
                bytes += piece.len();
            }
        };
        let mut from = self.taken;
        for shared in self.shared.iter().take(PIECES_MAX) {
            add(&self.copied[from..shared.at]);
            add(&shared.payload);
            from = shared.at;
        }
        if self.shared.len() <= PIECES_MAX {
            add(&self.copied[from..]);
        }
        (count, bytes)
    }

    /// The kernel took this many bytes.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.shared.front_mut() {
            let before = (first.at - self.taken).min(bytes);
            self.taken += before;
            bytes -= before;
            let of_payload = first.payload.len().min(bytes);
            if self.taken < first.at || of_payload == 0 {
                break;
            }
            first.payload.advance(of_payload);
            self.shared_bytes -= of_payload;
            bytes -= of_payload;
            if !first.payload.is_empty() {
                break;
            }
            self.shared.pop_front();
        }
        if self.shared.is_empty() {
            self.taken += bytes;
        } else {
            assert_eq!(bytes, 0, "the kernel took more than a send had");
        }
        assert!(self.taken <= self.copied.len(), "the kernel took more than was queued");
    }

    fn compact(&mut self) {
        self.copied.drain(..self.taken);
        for shared in &mut self.shared {
            shared.at -= self.taken;
        }
        self.taken = 0;
    }

    fn clear(&mut self) {
        self.copied.clear();
        self.shared.clear();
        self.taken = 0;
        self.shared_bytes = 0;
        if self.copied.capacity() > FREE_BYTES_MAX {
            self.copied = Vec::new();
        }
    }
}

/// All egresses of a ring, by number.
#[derive(Default)]
pub(crate) struct Pool {
    all: Vec<Egress>,
    free: Vec<u32>,
}

impl Pool {
    /// An empty egress.
    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.all.push(Egress::default());
            (self.all.len() - 1) as u32
        })
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        self.all[number as usize].clear();
        if self.free.len() >= FREE_MAX {
            self.all[number as usize] = Egress::default();
        }
        self.free.push(number);
        if self.free.len() == self.all.len() && self.all.len() > FREE_MAX {
            self.trim();
        }
    }

    pub(crate) fn get(&self, number: u32) -> &Egress {
        &self.all[number as usize]
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> &mut Egress {
        &mut self.all[number as usize]
    }

    /// After a burst nothing is queued anywhere: back to the usual size.
    fn trim(&mut self) {
        self.all.truncate(FREE_MAX);
        self.all.shrink_to(FREE_MAX);
        self.free.clear();
        self.free.extend((0..FREE_MAX as u32).rev());
        self.free.shrink_to(FREE_MAX);
    }
}
