//! The log's folder: its lock, and the few facts that never change within a generation.
//!
//! ```text
//! DIR/lock     held (flock) by the process that has the log open; says which one
//! DIR/format   the format's version, the generation, the number of partitions, the generation's random id, and whether
//!              the log was begun
//! DIR/log/     the segments
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::store::{Store, StoreError};
use crate::{OpenError, durable};

/// The format that this version writes and reads. 1 was a database of fjall.
const FORMAT: u32 = 2;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    pub(super) partitions: u16,
    pub(super) generation: u32,
    pub(super) generation_id: [u8; 16],
    /// Whether the log was written to: its segments must be there.
    is_begun: bool,
    /// Unlocked when it is closed, also by the end of the process.
    lock: File,
}

impl Folder {
    /// Locks the folder, which is created where there is none, and reads or writes its facts.
    pub(super) fn open(dir: &Path, partitions: u16) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|error| cannot_open(dir, &error))?;
        let lock = lock(dir)?;
        match fs::read_to_string(dir.join("format")) {
            Ok(text) => verify(dir, &text, partitions, lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The segments are made after this file is durable, so one without the other is not a log that was cut
                // short but a folder that was tampered with.
                if segments(dir).exists() {
                    return Err(unreadable(dir, "its file `format` is missing"));
                }
                let generation_id = random_id()?;
                let dir = dir.to_owned();
                let folder = Self { dir, partitions, generation: 1, generation_id, is_begun: false, lock };
                folder.write()?;
                Ok(folder)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(unreadable(dir, "its file `format` is not text"))
            }
            Err(error) => Err(cannot_open(dir, &error)),
        }
    }

    fn write(&self) -> Result<(), OpenError> {
        let Self { generation, partitions, is_begun, .. } = self;
        let id = u128::from_be_bytes(self.generation_id);
        let text = format!(
            "format {FORMAT}\ngeneration {generation}\npartitions {partitions}\nid {id:032x}\nbegun {}\n",
            u8::from(*is_begun)
        );
        let written = durable::replace(&self.dir.join("format"), &text, 0o644);
        written.map_err(|error| cannot_open(&self.dir, &error))
    }

    /// Opens the log, or begins it.
    pub(super) fn begin(&mut self) -> Result<Store, OpenError> {
        let store = self.store().map_err(|error| self.refuse(&error))?;
        if !self.is_begun {
            self.is_begun = true;
            self.write()?;
        }
        Ok(store)
    }

    /// Opens the log.
    pub(super) fn store(&self) -> Result<Store, StoreError> {
        Store::open(&segments(&self.dir), self.generation_id, self.partitions, self.is_begun)
    }

    /// Why the log cannot be opened, with the mend.
    fn refuse(&self, error: &StoreError) -> OpenError {
        match error {
            StoreError::Disk(error) => OpenError(format!(
                "cannot open the log in {}: {error}; free space there, or mend its permissions",
                self.dir.display()
            )),
            StoreError::Damaged(why) => unreadable(&self.dir, why),
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

fn segments(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn cannot_open(dir: &Path, error: &io::Error) -> OpenError {
    OpenError(format!("cannot open the log in {}: {error}", dir.display()))
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

/// The folder with these facts, where they are what is wanted.
fn verify(dir: &Path, text: &str, partitions: u16, lock: File) -> Result<Folder, OpenError> {
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
    if format < FORMAT {
        return Err(OpenError(format!(
            "the log in {} has format {format}, which this version cannot read ({FORMAT}): run the version of Petrel that \
             wrote it until everything is delivered, then stop it and move the folder away",
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
    let id = value("id").filter(|hex| hex.len() == 32).and_then(|hex| u128::from_str_radix(hex, 16).ok());
    let id = id.ok_or_else(|| unreadable(dir, "the `id` in its file `format` is broken"))?;
    Ok(Folder {
        dir: dir.to_owned(),
        partitions,
        generation: number("generation")?,
        generation_id: id.to_be_bytes(),
        is_begun: number("begun")? != 0,
        lock,
    })
}

fn unreadable(dir: &Path, why: &str) -> OpenError {
    OpenError(format!(
        "the log in {} cannot be read: {why}; restore the folder from a copy, or move it away to start an empty log",
        dir.display(),
    ))
}
