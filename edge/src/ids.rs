//! Message ids: one generator for the edge, blocks of ids for its shards.
//!
//! The generator's high-water mark is on disk ahead of its use, so that an edge that restarts with a clock that stepped
//! back gives no id twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use petrel_protocol::snowflake::Snowflake;

/// How far ahead of the clock the mark on disk stands, ms. A restart never waits longer than this for its first id.
const AHEAD_MS: u64 = 10_000;
/// Ids that a shard takes at a time.
const BLOCK: usize = 1_024;

/// The edge's generator and its mark on disk.
pub(crate) struct IdSource {
    generator: Mutex<Generator>,
    file: PathBuf,
}

struct Generator {
    snowflake: Snowflake,
    /// The mark on disk: no id of a later time is given out.
    mark_ms: u64,
}

impl IdSource {
    /// Reads the mark and moves it ahead of `now_ms`.
    pub(crate) fn open(worker: u16, file: PathBuf, now_ms: u64) -> io::Result<Self> {
        let mark_ms = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let text = format!(
                    "{} does not hold a number: restore it, or delete it if no other clock gave ids",
                    file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        let snowflake = Snowflake::new(worker, mark_ms);
        let source = Self { generator: Mutex::new(Generator { snowflake, mark_ms }), file };
        source.reserve(now_ms)?;
        Ok(source)
    }

    /// Moves the mark on disk ahead of the clock. Called every few seconds, never by a shard.
    pub(crate) fn reserve(&self, now_ms: u64) -> io::Result<()> {
        let used_ms = self.lock().snowflake.high_water_ms();
        let mark_ms = now_ms.max(used_ms) + AHEAD_MS;
        let next = self.file.with_extension("next");
        let mut file = File::create(&next)?;
        writeln!(file, "{mark_ms}")?;
        file.sync_data()?;
        fs::rename(&next, &self.file)?;
        if let Some(folder) = self.file.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.lock().mark_ms = mark_ms;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generator> {
        // A panic elsewhere leaves the generator as it was: ids are taken in one call.
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `count` ids; fewer or none where the generator is too far ahead of the clock or of the mark.
    fn take(&self, now_ms: u64, count: usize, out: &mut Vec<u64>) {
        let mut generator = self.lock();
        if generator.snowflake.high_water_ms().max(now_ms) < generator.mark_ms {
            // Ahead of the clock by too much: what was given so far is all there is.
            let _ = generator.snowflake.batch(now_ms, count, &mut |id| out.push(id));
        }
    }
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

    /// Appends `count` ids; false, with nothing taken, where there are not as many.
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

    #[test]
    fn a_restart_with_an_earlier_clock_gives_no_id_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ids");
        let mut first = Vec::new();
        let now_ms = 1_800_000_000_000;
        let source = IdSource::open(3, file.clone(), now_ms).expect("opens");
        source.take(now_ms, 5_000, &mut first);
        assert_eq!(first.len(), 5_000);
        drop(source);
        let mut second = Vec::new();
        let back_ms = now_ms - 3_600_000;
        let source = IdSource::open(3, file, back_ms).expect("opens");
        source.take(back_ms, 10, &mut second);
        assert!(second.iter().all(|id| !first.contains(id)));
        source.take(now_ms + 20_000, 10, &mut second);
        assert!(second.is_empty(), "the mark was not moved: nothing is given beyond it");
        source.reserve(now_ms + 20_000).expect("written");
        source.take(now_ms + 20_000, 10, &mut second);
        assert_eq!(second.len(), 10);
        assert!(second.iter().min() > first.iter().max());
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
