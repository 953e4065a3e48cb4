//! The log's folder: its lock, and the few facts that never change within a generation.
//!
//! ```text
//! DIR/lock     held (flock) by the process that has the log open; says which one
//! DIR/format   the format's version, the generation, the number of partitions, the generation's random id
//! DIR/fjall/   the database
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::store::StoreError;
use crate::{OpenError, durable};

/// The format that this version writes. A higher one cannot be read.
const FORMAT: u32 = 1;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    pub(super) partitions: u16,
    pub(super) generation: u32,
    pub(super) generation_id: [u8; 16],
    /// Unlocked when it is closed, also by the end of the process.
    lock: File,
}

impl Folder {
    /// Locks the folder, which is created where there is none, and reads or writes its facts.
    pub(super) fn open(dir: &Path, partitions: u16) -> Result<Self, OpenError> {
        let failed =
            |error: io::Error| OpenError(format!("cannot open the log in {}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = lock(dir)?;
        let path = dir.join("format");
        let write = |generation| -> Result<_, OpenError> {
            let id = random_id()?;
            let hex = u128::from_be_bytes(id);
            let text =
                format!("format {FORMAT}\ngeneration {generation}\npartitions {partitions}\nid {hex:032x}\n");
            durable::replace(&path, &text, 0o644).map_err(failed)?;
            Ok((generation, id))
        };
        let (generation, generation_id) = match fs::read_to_string(&path) {
            Ok(text) => match verify(dir, &text, partitions)? {
                (generation, Some(id)) => (generation, id),
                // A folder of the first version, which drew no id.
                (generation, None) => write(generation)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The database is made after this file is durable, so one without the other is not a log that was cut
                // short but a folder that was tampered with.
                if database(dir).exists() {
                    return Err(unreadable(dir, "its file `format` is missing"));
                }
                write(1)?
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(unreadable(dir, "its file `format` is not text"));
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { dir: dir.to_owned(), partitions, generation, generation_id, lock })
    }

    /// The database's folder.
    pub(super) fn database(&self) -> PathBuf {
        database(&self.dir)
    }

    /// Why the log cannot be opened, with the mend.
    pub(super) fn refuse(&self, error: &StoreError) -> OpenError {
        let dir = self.dir.display();
        match error {
            StoreError::Disk(fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)))
                if error.kind() != io::ErrorKind::InvalidData =>
            {
                OpenError(format!(
                    "cannot open the log in {dir}: {error}; free space there, or mend its permissions"
                ))
            }
            StoreError::Disk(fjall::Error::InvalidVersion(_)) => {
                unreadable(&self.dir, "its database has another format")
            }
            error => unreadable(&self.dir, &error.to_string()),
        }
    }

    /// Lets another process open the folder.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(
                "unlocking {} failed: {error}; it is unlocked when this process ends",
                self.dir.display()
            );
        }
    }
}

fn database(dir: &Path) -> PathBuf {
    dir.join("fjall")
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let failed = |error: io::Error| OpenError(format!("cannot lock {}: {error}", path.display()));
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only a courtesy: the lock is what counts.
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError(format!(
                "the log in {} is in use by process {}: stop that one, or give this one another data folder",
                dir.display(),
                holder.trim(),
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn random_id() -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    let filled = getrandom::fill(&mut id);
    filled.map_err(|error| OpenError(format!("no randomness for the log's id: {error}")))?;
    Ok(id)
}

/// Compares the facts with what is wanted; returns the generation and its id.
fn verify(dir: &Path, text: &str, partitions: u16) -> Result<(u32, Option<[u8; 16]>), OpenError> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let number = |name: &str| {
        value(name)
            .and_then(|value| value.parse::<u32>().ok())
            .ok_or_else(|| unreadable(dir, &format!("its file `format` has no number for `{name}`")))
    };
    let format = number("format")?;
    if format > FORMAT {
        return Err(OpenError(format!(
            "the log in {} has format {format}, which is newer than this version can read ({FORMAT}): run the version \
             of Petrel that wrote it, or a later one",
            dir.display(),
        )));
    }
    let has = number("partitions")?;
    if has != u32::from(partitions) {
        return Err(OpenError(format!(
            "the log in {} has {has} partitions and {partitions} were asked for: start with {has} partitions, since \
             their number is fixed for the life of a log",
            dir.display(),
        )));
    }
    let id = value("id").map(|hex| {
        let id = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32);
        id.map(u128::to_be_bytes).ok_or_else(|| unreadable(dir, "the `id` in its file `format` is broken"))
    });
    Ok((number("generation")?, id.transpose()?))
}

fn unreadable(dir: &Path, why: &str) -> OpenError {
    OpenError(format!(
        "the log in {} cannot be read: {why}; restore the folder from a copy, or move it away to start an empty log",
        dir.display(),
    ))
}
