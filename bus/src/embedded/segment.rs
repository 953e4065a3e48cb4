//! The files of the log: `DIR/log/0000000007` for each segment, `DIR/log/0000000007-0000000012` for one that stands for those
//! that were merged into it, and `DIR/log/spare`, which becomes the next one.
//!
//! A file keeps its full length, and one whose records are all acknowledged becomes the spare: overwriting blocks that are
//! on disk already needs no change of the file system's own records, which makes each sync cheaper.

use std::cmp::Reverse;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use petrel_protocol::limits::BUS_SEGMENT_BYTES;

use super::frame::{Frame, HEADER_BYTES, Kind};
use super::index::Place;
use super::store::StoreError;

/// Which segment: a number, or those from one to another that were merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Name {
    /// A segment as it is begun.
    pub(super) fn one(number: u64) -> Self {
        Self { first: number, last: number }
    }

    fn parse(name: &str) -> Option<Self> {
        let number = |digits: &str| {
            (digits.len() == 10).then_some(())?;
            digits.parse().ok()
        };
        match name.split_once('-') {
            None => number(name).map(Self::one),
            Some((first, last)) => {
                let name = Self { first: number(first)?, last: number(last)? };
                (name.first < name.last).then_some(name)
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.first)?;
        if self.last > self.first { write!(f, "-{:010}", self.last) } else { Ok(()) }
    }
}

/// A segment's file, open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) file: File,
    /// Bytes of the records in it that are still needed.
    needed: AtomicU64,
    is_closed: AtomicBool,
}

impl Segment {
    /// A segment that may be written to.
    pub(super) fn new(name: Name, file: File) -> Self {
        Self { name, file, needed: AtomicU64::new(0), is_closed: AtomicBool::new(false) }
    }

    /// Nothing is written to it any more, and all of it is on disk.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Bytes of the records in it that are still needed.
    pub(super) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// A record that is needed is here.
    pub(super) fn keep(&self, place: Place) {
        self.needed.fetch_add(place.bytes(), Ordering::Relaxed);
    }

    /// A record that was here is needed no more.
    pub(super) fn let_go(&self, place: Place) {
        self.needed.fetch_sub(place.bytes(), Ordering::Relaxed);
    }

    /// The pack of this record. None: what is there is not this record.
    pub(super) fn read(&self, place: Place, offset: u64) -> io::Result<Option<Bytes>> {
        let mut bytes = vec![0; place.bytes() as usize];
        self.file.read_exact_at(&mut bytes, place.at.into())?;
        let is_it = Frame::read(&bytes).is_some_and(|(frame, rest)| {
            frame.kind == Kind::Record && frame.offset == offset && rest.is_empty()
        });
        Ok(is_it.then(|| Bytes::from(bytes).slice(HEADER_BYTES..)))
    }

    /// All that its file holds.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.file.metadata()?.len() as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// The folder of the segments.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Whether there is a spare. Held while that changes.
    has_spare: Mutex<bool>,
}

/// Names of files that are being made.
const UNFINISHED: [&str; 2] = ["spare.next", "merged.next"];

impl Files {
    /// The folder, made where there is none. What a kill left unfinished is removed.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for unfinished in UNFINISHED {
            remove_if_there(&dir.join(unfinished))?;
        }
        if let Some(parent) = dir.parent() {
            File::open(parent)?.sync_all()?;
        }
        let has_spare = Mutex::new(dir.join("spare").exists());
        Ok(Self { dir: dir.to_owned(), has_spare })
    }

    /// The segments that are there, in order. Those that were merged into one that is there are deleted: a kill left them.
    pub(super) fn names(&self) -> Result<Vec<Name>, StoreError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if name == "spare" {
                continue;
            }
            names.push(name.to_str().and_then(Name::parse).ok_or_else(|| {
                StoreError::Damaged(format!("the file {} is no segment", self.dir.join(&name).display()))
            })?);
        }
        // One that stands for others comes before them.
        names.sort_unstable_by_key(|name| (name.first, Reverse(name.last)));
        let mut kept: Vec<Name> = Vec::new();
        for name in names {
            if kept.last().is_some_and(|merged| merged.last >= name.last) {
                self.delete(name)?;
            } else {
                kept.push(name);
            }
        }
        Ok(kept)
    }

    /// Opens a segment that is there.
    pub(super) fn segment(&self, name: Name) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    pub(super) fn has_spare(&self) -> bool {
        *self.lock()
    }

    /// Makes a spare, where there is none.
    pub(super) fn make_spare(&self) -> io::Result<()> {
        let mut has_spare = self.lock();
        if *has_spare {
            return Ok(());
        }
        self.make_whole(UNFINISHED[0], &self.spare(), |file| file.set_len(BUS_SEGMENT_BYTES))?;
        *has_spare = true;
        Ok(())
    }

    /// Makes the spare, which is there, this segment. Not durable before [`Self::sync`].
    pub(super) fn begin(&self, name: Name) -> io::Result<File> {
        let mut has_spare = self.lock();
        fs::rename(self.spare(), self.path(name))?;
        *has_spare = false;
        self.segment(name)
    }

    /// Takes away a segment that nobody has open any more: it becomes the spare, or is deleted.
    pub(super) fn retire(&self, name: Name) -> io::Result<()> {
        let path = self.path(name);
        let mut has_spare = self.lock();
        if *has_spare || fs::metadata(&path)?.len() < BUS_SEGMENT_BYTES {
            return fs::remove_file(path);
        }
        fs::rename(path, self.spare())?;
        *has_spare = true;
        // It is overwritten under its new name, so it must not come back under the old one.
        self.sync()
    }

    /// Deletes a segment that somebody may still be reading.
    pub(super) fn delete(&self, name: Name) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    /// Makes a segment of these bytes, on disk when this returns: from then on it stands for all that its name says.
    pub(super) fn make(&self, name: Name, bytes: &[u8]) -> io::Result<File> {
        self.make_whole(UNFINISHED[1], &self.path(name), |file| file.write_all_at(bytes, 0))
    }

    /// Makes a file that has its name only once it is whole, and on disk.
    fn make_whole(
        &self,
        unfinished: &str,
        path: &Path,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<File> {
        let next = self.dir.join(unfinished);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&next)?;
        write(&file)?;
        file.sync_all()?;
        fs::rename(next, path)?;
        self.sync()?;
        Ok(file)
    }

    /// Returns when the names are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, name: Name) -> PathBuf {
        self.dir.join(name.to_string())
    }

    fn spare(&self) -> PathBuf {
        self.dir.join("spare")
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.has_spare.lock().expect("no holder panics")
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
