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
/// A payload below this is copied behind its head: one contiguous send is cheaper than a gathering one. Measured by
/// `examples/fan_out.rs`: 5.7 against 6.1 µs at 4 KiB, 7.0 against 7.6 at 8 KiB, 10.5 against 8.1 at 16 KiB.
const SHARE_BYTES_MIN: usize = 8 << 10;
/// Free egresses that are kept. Beyond, when nothing is queued anywhere, the table shrinks to this.
const FREE_MAX: usize = 4_096;
/// Memory of all free buffers together. Beyond: it is given back.
const FREE_BYTES_MAX: usize = 4 << 20;
/// A free buffer that grew beyond this is not kept.
const FREE_BUFFER_BYTES_MAX: usize = 128 << 10;
/// First capacity of a buffer.
const FIRST_BYTES: usize = 512;

/// Bytes in order: those copied, with shared payloads in between.
#[derive(Default)]
pub(crate) struct Egress {
    /// A shared payload that is all there is. It needs no list, whose memory a fan-out would take for each socket.
    alone: Bytes,
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
        self.alone.len() + self.copied.len() - self.taken + self.shared_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.make_company();
        if self.taken > 0 && self.copied.len() + bytes.len() > self.copied.capacity() {
            self.compact();
        }
        if self.copied.capacity() == 0 {
            self.copied.reserve(bytes.len().max(FIRST_BYTES));
        }
        self.copied.extend_from_slice(bytes);
    }

    /// A payload that is all there is to send is shared at any size, since it needs no gathering.
    pub(crate) fn push_parts(&mut self, head: &[u8], payload: &Bytes) {
        if head.is_empty() && self.is_empty() {
            self.clear();
            self.alone = payload.clone();
            return;
        }
        self.push(head);
        if payload.len() >= SHARE_BYTES_MIN {
            self.push_shared(payload);
        } else {
            self.push(payload);
        }
    }

    /// What was alone is so no longer.
    fn make_company(&mut self) {
        if self.alone.is_empty() {
            return;
        }
        let payload = std::mem::take(&mut self.alone);
        if payload.len() >= SHARE_BYTES_MIN {
            self.push_shared(&payload);
        } else {
            self.copied.reserve(payload.len().max(FIRST_BYTES));
            self.copied.extend_from_slice(&payload);
        }
    }

    fn push_shared(&mut self, payload: &Bytes) {
        self.make_company();
        if payload.is_empty() {
            return;
        }
        self.shared_bytes += payload.len();
        self.shared.push_back(Shared { at: self.copied.len(), payload: payload.clone() });
    }

    /// The first pieces in order, and how many bytes they are.
    pub(crate) fn pieces<'a>(&'a self, pieces: &mut [&'a [u8]; PIECES_MAX]) -> (usize, usize) {
        if !self.alone.is_empty() {
            pieces[0] = &self.alone;
            return (1, self.alone.len());
        }
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
        if !self.alone.is_empty() {
            return self.alone.advance(bytes);
        }
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
        self.alone = Bytes::new();
        self.copied.clear();
        self.shared.clear();
        self.taken = 0;
        self.shared_bytes = 0;
    }
}

/// All egresses of a ring, by number.
#[derive(Default)]
pub(crate) struct Pool {
    all: Vec<Egress>,
    free: Vec<u32>,
    free_bytes: usize,
}

impl Pool {
    /// An empty egress.
    pub(crate) fn take(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            self.free_bytes -= self.get(number).copied.capacity();
            return number;
        }
        self.all.push(Egress::default());
        (self.all.len() - 1) as u32
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        let egress = &mut self.all[number as usize];
        egress.clear();
        let bytes = egress.copied.capacity();
        if bytes > FREE_BUFFER_BYTES_MAX || self.free_bytes + bytes > FREE_BYTES_MAX {
            egress.copied = Vec::new();
        } else {
            self.free_bytes += bytes;
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
        self.free_bytes = self.all.iter().map(|egress| egress.copied.capacity()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simple generator, so that the test is the same each time.
    fn next(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % below
    }

    #[test]
    fn whatever_is_queued_comes_out_in_order_whatever_the_kernel_takes() {
        let mut state = 7;
        for _ in 0..200 {
            let mut egress = Egress::default();
            let (mut queued, mut sent) = (Vec::new(), Vec::new());
            for step in 0..60_u8 {
                let bytes = vec![step; next(&mut state, 900)];
                match next(&mut state, 3) {
                    0 => egress.push_shared(&Bytes::from(bytes.clone())),
                    1 => egress.push_parts(b"", &Bytes::from(bytes.clone())),
                    _ => egress.push(&bytes),
                }
                queued.extend_from_slice(&bytes);
                assert_eq!(egress.len(), queued.len() - sent.len());
                let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
                let (count, offered) = egress.pieces(&mut pieces);
                let offer = pieces[..count].concat();
                assert_eq!(offer.len(), offered);
                assert_eq!(egress.is_empty(), offer.is_empty());
                let taken = next(&mut state, offered + 1);
                sent.extend_from_slice(&offer[..taken]);
                egress.advance(taken);
            }
            assert_eq!(queued[..sent.len()], sent);
        }
    }

    #[test]
    fn a_small_payload_is_shared_while_it_is_alone() {
        let payload = Bytes::from(vec![3; 100]);
        let mut egress = Egress::default();
        egress.push_parts(b"", &payload);
        assert_eq!((egress.copied.capacity(), egress.shared.capacity()), (0, 0), "no memory of its own");
        egress.push(b"more");
        let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
        assert_eq!(egress.pieces(&mut pieces), (1, 104), "one contiguous send");
    }

    #[test]
    fn free_memory_is_bounded() {
        let mut pool = Pool::default();
        let numbers: Vec<u32> = (0..FREE_MAX as u32 + 500).map(|_| pool.take()).collect();
        for &number in &numbers {
            pool.get_mut(number).push(&[1; 10_000]);
        }
        for number in numbers {
            pool.give_back(number);
        }
        let kept: usize = pool.all.iter().map(|egress| egress.copied.capacity()).sum();
        assert_eq!(kept, pool.free_bytes);
        assert!(kept <= FREE_BYTES_MAX && pool.all.len() == FREE_MAX);
        let number = pool.take();
        assert!(pool.get(number).is_empty());
    }
}
