//! Message ids: 64 bits that grow with time and are unique across workers.
//!
//! An id is 41 bits of milliseconds since [`EPOCH_MS`], 10 bits of worker (5 of data centre, 5 of worker) and 12 bits of
//! sequence. Two generators of one worker must never run at once, and a generator must know the latest time that its
//! predecessor may have used: its high-water mark, stored ahead of use. The pattern for a process:
//!
//! 1. Read the stored mark, `Snowflake::new(worker, mark)`.
//! 2. Before ids are drawn: where [`Snowflake::mark_to_store`] gives a mark, store it durably, then
//!    [`Snowflake::reserve_until`] it. No id goes beyond a reserved mark. It is at most [`RESERVE_MS`] ahead, so that
//!    whoever restarts from it may draw at once.
//! 3. Threads that each need ids share one generator by [`Snowflake::block`]: it hands out a [`Block`], a range that its
//!    owner draws from without any sharing. The generator is locked once a block, not once an id.

use thiserror::Error;

use crate::limits;

/// Milliseconds since 1970 at which ids begin.
pub const EPOCH_MS: u64 = 1_288_834_974_657;
/// How far a generator may run ahead of the clock, ms. Beyond it refuses, and says when to come back.
pub const AHEAD_MS_MAX: u64 = 1_000;
/// How far ahead of the clock a mark is reserved, ms.
pub const RESERVE_MS: u64 = AHEAD_MS_MAX;

const WORKER_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
const SEQUENCES: u64 = 1 << SEQUENCE_BITS;
const TIME_MS_MAX: u64 = (1 << 41) - 1;

/// Why no id was given: the generator is ahead of the clock, which stepped back or was outrun, or it reached its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("message ids are ahead of the clock: try again after {retry_after_ms} ms")]
pub struct Ahead {
    /// When it can be tried again. If the clock stepped back by hours, it is hours.
    pub retry_after_ms: u64,
}

/// A generator of ids: one for each worker number, in one process.
#[derive(Debug)]
pub struct Snowflake {
    worker: u16,
    /// The next id's time since 1970 and sequence, if the clock is not later.
    next_ms: u64,
    next_sequence: u64,
    /// No id's time is later than this.
    reserved_ms: u64,
}

impl Snowflake {
    /// A generator whose ids are all later than `high_water_ms` (0 where none was ever given). It is not bound to a mark
    /// until [`Self::reserve_until`] is called.
    ///
    /// # Panics
    /// `worker` does not fit in 10 bits.
    pub const fn new(worker: u16, high_water_ms: u64) -> Self {
        assert!(worker < 1 << WORKER_BITS, "a worker number has 10 bits");
        let next_ms = if high_water_ms < EPOCH_MS { EPOCH_MS } else { high_water_ms + 1 };
        Self { worker, next_ms, next_sequence: 0, reserved_ms: u64::MAX }
    }

    /// One id.
    ///
    /// # Panics
    /// As [`Self::block`].
    pub fn next(&mut self, now_wall_ms: u64) -> Result<u64, Ahead> {
        let mut block = self.block(now_wall_ms, 1)?;
        Ok(block.next().expect("a block of one"))
    }

    /// `count` ids, in order, or none of them.
    ///
    /// # Panics
    /// As [`Self::block`].
    pub fn batch(&mut self, now_wall_ms: u64, count: usize, take: &mut impl FnMut(u64)) -> Result<(), Ahead> {
        let block = self.block(now_wall_ms, count)?;
        block.for_each(take);
        Ok(())
    }

    /// The range of the next `count` ids, for one owner. They bear the time at which the block was taken: take blocks of
    /// what is used within moments, and drop what is left of one [`Block::is_older_than`] finds too old.
    ///
    /// # Panics
    /// The 41 bits of time are used up, in 2080; or `count` is larger than [`limits::ID_BLOCK_MAX`].
    pub fn block(&mut self, now_wall_ms: u64, count: usize) -> Result<Block, Ahead> {
        assert!(count <= limits::ID_BLOCK_MAX, "{count} ids at once are more than a block has");
        let (start_ms, start_sequence) =
            if now_wall_ms > self.next_ms { (now_wall_ms, 0) } else { (self.next_ms, self.next_sequence) };
        let block = Block { worker: self.worker, ms: start_ms, sequence: start_sequence, left: count as u64 };
        let (next_ms, next_sequence) = block.end();
        // The time of the last id; a block that ends with a millisecond has begun the next one without using it.
        let last_ms = if next_sequence == 0 { next_ms - 1 } else { next_ms };
        let limit_ms = now_wall_ms.saturating_add(AHEAD_MS_MAX);
        if last_ms > limit_ms {
            return Err(Ahead { retry_after_ms: last_ms - limit_ms });
        }
        if last_ms > self.reserved_ms {
            // The mark moves as soon as its store has answered; there is no telling when.
            return Err(Ahead { retry_after_ms: AHEAD_MS_MAX / 10 });
        }
        assert!(last_ms <= EPOCH_MS + TIME_MS_MAX, "the 41 bits of time end in 2080");
        if count > 0 {
            (self.next_ms, self.next_sequence) = (next_ms, next_sequence);
        }
        Ok(block)
    }

    /// The latest time that any id bears, or the mark that the generator began with.
    pub const fn high_water_ms(&self) -> u64 {
        if self.next_sequence == 0 { self.next_ms - 1 } else { self.next_ms }
    }

    /// The mark to store now, or none while the reserved one lasts for half of [`RESERVE_MS`] more.
    pub fn mark_to_store(&self, now_wall_ms: u64) -> Option<u64> {
        let reached_ms = self.high_water_ms().max(now_wall_ms);
        let is_low = self.reserved_ms == u64::MAX || self.reserved_ms < reached_ms + RESERVE_MS / 2;
        is_low.then_some(reached_ms + RESERVE_MS)
    }

    /// `mark_ms` was stored durably: ids may be given up to it. An earlier mark than the reserved one changes nothing.
    pub fn reserve_until(&mut self, mark_ms: u64) {
        if self.reserved_ms == u64::MAX || mark_ms > self.reserved_ms {
            self.reserved_ms = mark_ms;
        }
    }
}

/// A range of ids, drawn in order.
#[derive(Debug)]
pub struct Block {
    worker: u16,
    ms: u64,
    sequence: u64,
    left: u64,
}

impl Block {
    /// Whether its next id is of a time before `wall_ms`.
    pub const fn is_older_than(&self, wall_ms: u64) -> bool {
        self.ms < wall_ms
    }

    /// The time and sequence after the last id.
    const fn end(&self) -> (u64, u64) {
        let sequence = self.sequence + self.left;
        (self.ms + sequence / SEQUENCES, sequence % SEQUENCES)
    }
}

impl Iterator for Block {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let worker = u64::from(self.worker) << SEQUENCE_BITS;
        let id = (self.ms - EPOCH_MS) << (WORKER_BITS + SEQUENCE_BITS) | worker | self.sequence;
        self.sequence += 1;
        if self.sequence == SEQUENCES {
            (self.ms, self.sequence) = (self.ms + 1, 0);
        }
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Block {}
