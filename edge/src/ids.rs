//! Message ids: one generator for the edge, blocks of ids for its shards.
//!
//! The generator's high-water mark is on disk ahead of its use, so that an edge that restarts with a clock that stepped
//! back gives no id twice.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use petrel_bus::durable;
use petrel_protocol::snowflake::Snowflake;

/// Ids that a shard takes at a time.
const BLOCK: usize = 1_024;

/// The edge's generator, its mark on disk, and the alarm that has the mark moved: by a thread that may block, never by a
/// shard.
pub(crate) struct IdSource {
    generator: Mutex<Snowflake>,
    file: PathBuf,
    alarm: Mutex<Alarm>,
    rung: Condvar,
}

#[derive(Default)]
struct Alarm {
    is_mark_due: bool,
    is_stopped: bool,
}

/// Why [`IdSource::wait`] returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// [`IdSource::store_mark`] is due.
    MarkDue,
    /// Nothing happened.
    TimedOut,
    /// [`IdSource::stop`] was called.
    Stopped,
}

impl IdSource {
    /// Reads the mark, and moves it ahead of `now_ms`.
    pub(crate) fn open(worker: u16, file: PathBuf, now_ms: u64) -> io::Result<Self> {
        let mark_ms = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let text = format!("{} does not hold a number: restore it from a backup", file.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        let source = Self {
            generator: Mutex::new(Snowflake::new(worker, mark_ms)),
            file,
            alarm: Mutex::default(),
            rung: Condvar::new(),
        };
        source.store_mark(now_ms)?;
        Ok(source)
    }

    /// Waits until the mark is due, [`Self::stop`] or `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> Rung {
        let alarm = lock(&self.alarm);
        let is_quiet = |alarm: &mut Alarm| !alarm.is_mark_due && !alarm.is_stopped;
        let (mut alarm, _) =
            self.rung.wait_timeout_while(alarm, timeout, is_quiet).unwrap_or_else(PoisonError::into_inner);
        match (alarm.is_stopped, std::mem::take(&mut alarm.is_mark_due)) {
            (true, _) => Rung::Stopped,
            (false, true) => Rung::MarkDue,
            (false, false) => Rung::TimedOut,
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.alarm).is_stopped = true;
        self.rung.notify_all();
    }

    /// Moves the mark on disk ahead of the clock, where that is due.
    pub(crate) fn store_mark(&self, now_ms: u64) -> io::Result<()> {
        let Some(mark_ms) = lock(&self.generator).mark_to_store(now_ms) else { return Ok(()) };
        durable::replace(&self.file, &format!("{mark_ms}\n"), 0o644)?;
        lock(&self.generator).reserve_until(mark_ms);
        Ok(())
    }

    /// Appends `count` ids, or none where the generator is too far ahead of the clock or has reached its mark.
    fn take(&self, now_ms: u64, count: usize, out: &mut Vec<u64>) -> bool {
        let (is_taken, is_due) = {
            let mut generator = lock(&self.generator);
            let is_due = generator.mark_to_store(now_ms).is_some();
            (generator.batch(now_ms, count, &mut |id| out.push(id)).is_ok(), is_due)
        };
        if is_due || !is_taken {
            lock(&self.alarm).is_mark_due = true;
            self.rung.notify_one();
        }
        is_taken
    }
}

/// A panic elsewhere leaves what is locked here as it was: every change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shard's hold on the generator: it takes ids by blocks, so that shards seldom meet at the lock.
pub(crate) struct IdBlocks {
    source: Arc<IdSource>,
    block: Vec<u64>,
}

impl IdBlocks {
    pub(crate) fn new(source: Arc<IdSource>) -> Self {
        Self { source, block: Vec::new() }
    }

    /// Appends `count` ids; false, with nothing taken, where there are not as many just now. The edge's shards are told
    /// once the mark was moved.
    pub(crate) fn take(&mut self, now_ms: u64, count: usize, out: &mut Vec<u64>) -> bool {
        if self.block.len() < count {
            self.source.take(now_ms, BLOCK.max(count), &mut self.block);
        }
        let Some(rest) = self.block.len().checked_sub(count) else { return false };
        out.extend(self.block.drain(rest..));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn a_restart_with_an_earlier_clock_gives_no_id_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ids");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let source = IdSource::open(3, file.clone(), NOW_MS).expect("opens");
        assert!(source.take(NOW_MS, 1_000, &mut first));
        drop(source);
        let back_ms = NOW_MS - 3_600_000;
        let source = IdSource::open(3, file, back_ms).expect("opens");
        assert!(!source.take(back_ms, 10, &mut second), "an hour ahead of the clock");
        source.store_mark(NOW_MS + 1_000).expect("written");
        assert!(source.take(NOW_MS + 1_000, 10, &mut second));
        assert!(second.iter().min() > first.iter().max());
    }

    #[test]
    fn ids_beyond_the_mark_wait_for_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = IdSource::open(3, folder.path().join("ids"), NOW_MS).expect("opens");
        let mut ids = Vec::new();
        let later_ms = NOW_MS + 60_000;
        assert!(!source.take(later_ms, 10, &mut ids));
        assert_eq!(source.wait(Duration::from_mins(1)), Rung::MarkDue);
        source.store_mark(later_ms).expect("written");
        assert!(source.take(later_ms, 10, &mut ids));
        source.stop();
        assert_eq!(source.wait(Duration::from_mins(1)), Rung::Stopped);
    }

    #[test]
    fn a_damaged_mark_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ids");
        fs::write(&file, "soon").expect("written");
        let error = IdSource::open(1, file, 0).err().expect("refused");
        assert!(error.to_string().contains("ids"), "{error}");
    }
}
