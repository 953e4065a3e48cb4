//! Where a property writes files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder in memory where there is one, which goes with this. It is not made yet.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// One for this target.
    pub(crate) fn new(target: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(base.join(format!("petrel-fuzz-{target}-{}-{number}", std::process::id())))
    }
}

/// What a power cut may leave of a file whose first `durable` bytes are on disk: it ends somewhere behind them, or there are
/// zeroes from there on, or in one block, or noise. `cut` says where in 255ths of the rest, the low bits of `kind` what.
pub(crate) fn tear(file: &mut Vec<u8>, durable: usize, cut: u8, kind: u8, noise: &[u8]) {
    let at = durable + usize::from(cut) * (file.len() - durable) / 255;
    match kind & 3 {
        0 => file.truncate(at),
        1 => file[at..].fill(0),
        2 => {
            let end = file.len().min(at + 512);
            file[at..end].fill(0);
        }
        _ => {
            let end = file.len().min(at + noise.len());
            file[at..end].copy_from_slice(&noise[..end - at]);
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
