//! How many bytes of a partition wait for an acknowledgement.

use std::collections::VecDeque;

/// Bytes that are counted together: the most by which the count is too high.
const CHUNK_BYTES: u64 = 64 << 10;

/// The unacknowledged records of one partition, counted in chunks.
#[derive(Default)]
pub(super) struct Backlog {
    chunks: VecDeque<Chunk>,
    bytes: u64,
}

struct Chunk {
    /// The first offset after the chunk.
    end: u64,
    bytes: u64,
}

impl Backlog {
    /// Adds records that end before `end`.
    pub(super) fn add(&mut self, end: u64, bytes: u64) {
        self.bytes += bytes;
        match self.chunks.back_mut() {
            Some(last) if last.bytes + bytes <= CHUNK_BYTES => {
                *last = Chunk { end, bytes: last.bytes + bytes }
            }
            _ => self.chunks.push_back(Chunk { end, bytes }),
        }
    }

    /// Everything before `acked` is acknowledged.
    pub(super) fn acknowledge(&mut self, acked: u64) {
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.end <= acked) {
            self.bytes -= chunk.bytes;
        }
    }

    /// Bytes that wait, at most a chunk too many.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_leaves_in_chunks() {
        let mut backlog = Backlog::default();
        for end in 1..=100 {
            backlog.add(end, 32 << 10);
        }
        assert_eq!(backlog.bytes(), 100 * (32 << 10));
        backlog.acknowledge(51);
        assert_eq!(backlog.bytes(), 50 * (32 << 10), "the chunk of 51 and 52 is still needed");
        backlog.acknowledge(40);
        assert_eq!(backlog.bytes(), 50 * (32 << 10), "never backwards");
        backlog.acknowledge(100);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn a_record_larger_than_a_chunk_is_one() {
        let mut backlog = Backlog::default();
        backlog.add(1, CHUNK_BYTES * 3);
        backlog.add(2, 1);
        backlog.acknowledge(1);
        assert_eq!(backlog.bytes(), 1);
    }
}
