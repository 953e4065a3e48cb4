//! The store as its callers have it: opened again by itself once a disk that was full, or failed, can be written again.
//!
//! After a write that fails fjall refuses every further one, since it no longer knows what is in its journal. A store that is
//! opened anew reads that from the disk: what failed is there whole, or not at all, and whoever wrote it writes it again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::Embedded;
use crate::StartError;
use crate::store::{Belongs, StoreError};

/// A store that cannot be written is looked after this often.
const MEND_EVERY: Duration = Duration::from_secs(1);
/// What has to fit on the disk before the store is opened again: a few batches, so that it does not fail at once.
const ROOM_BYTES: usize = 256 << 10;

/// A handle on the folder.
#[derive(Clone)]
pub(crate) struct Folder(Arc<State>);

struct State {
    dir: PathBuf,
    belongs: Belongs,
    /// None while it cannot be opened.
    store: RwLock<Option<Embedded>>,
    /// A sync has failed: the kernel takes pages for clean that are not on disk, so that nothing that is read tells what
    /// would survive a power cut. Only a new start, after a look at the disk, may go on.
    has_lost_pages: AtomicBool,
    /// When it may be opened again. Held while it is.
    mending: Mutex<Instant>,
}

impl Folder {
    pub(crate) fn open(dir: &Path, belongs: &Belongs) -> Result<Self, StartError> {
        Ok(Self(Arc::new(State {
            dir: dir.to_owned(),
            belongs: belongs.clone(),
            store: RwLock::new(Some(Embedded::open(dir, belongs)?)),
            has_lost_pages: AtomicBool::new(false),
            mending: Mutex::new(Instant::now()),
        })))
    }

    /// Calls the store. After an error of the disk it is opened again, if it can be, for the next call.
    pub(crate) fn with<T>(
        &self,
        call: impl FnOnce(&Embedded) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let state = &*self.0;
        let done = match &*state.store.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => call(store),
            None => Err(StoreError::Disk(fjall::Error::Poisoned)),
        };
        if let Err(StoreError::Disk(_)) = &done {
            state.mend();
        }
        done
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.with(|store| store.sync(&self.0.has_lost_pages))
    }

    #[cfg(test)]
    pub(crate) fn opened(&self) -> Embedded {
        self.0.store.read().unwrap().clone().expect("an open store")
    }
}

impl State {
    fn mend(&self) {
        // Whoever comes while it is mended tries again anyway.
        let Ok(mut at) = self.mending.try_lock() else { return };
        if Instant::now() < *at {
            return;
        }
        *at = Instant::now() + MEND_EVERY;
        let dir = self.dir.display();
        if self.has_lost_pages.load(Ordering::Relaxed) {
            tracing::error!(
                "a sync of the store in {dir} has failed: check this folder's disk, then restart"
            );
            return;
        }
        if let Err(error) = self.has_room() {
            tracing::warn!(
                "the store in {dir} cannot be written: {error}; free space there, or mend its disk"
            );
            return;
        }
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        tracing::info!("the store in {dir} is opened again, since it could not be written");
        // Its lock on the folder ends with it.
        *store = None;
        match Embedded::open(&self.dir, &self.belongs) {
            Ok(opened) => {
                *store = Some(opened);
                tracing::info!("the store in {dir} can be written again");
            }
            Err(error) => tracing::warn!("{error}; it is tried again each second"),
        }
    }

    fn has_room(&self) -> io::Result<()> {
        let path = self.dir.join("room");
        let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(&vec![0; ROOM_BYTES]));
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{GENERATION, belongs};

    const MARK_MS: u64 = 7;

    fn poisoned(folder: &Folder) {
        let failed = folder.with(|_| Err::<(), _>(StoreError::Disk(fjall::Error::Poisoned)));
        assert!(failed.is_err());
    }

    #[test]
    fn a_store_that_cannot_be_written_is_opened_again_with_what_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), &belongs(GENERATION)).unwrap();
        folder.with(|store| store.move_snowflake_mark(1, 0, MARK_MS)).unwrap();
        let before = Arc::downgrade(&folder.opened().0);
        poisoned(&folder);
        assert!(before.upgrade().is_none(), "it is the same store");
        assert_eq!(folder.with(|store| store.snowflake_mark(1)).unwrap(), MARK_MS);
        folder.sync().unwrap();
    }

    #[test]
    fn it_is_not_opened_again_where_the_disk_has_no_room_or_pages_were_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), &belongs(GENERATION)).unwrap();
        let before = Arc::downgrade(&folder.opened().0);
        folder.0.has_lost_pages.store(true, Ordering::Relaxed);
        poisoned(&folder);
        assert!(before.upgrade().is_some());
        folder.0.has_lost_pages.store(false, Ordering::Relaxed);
        *folder.0.mending.lock().unwrap() = Instant::now();
        // A folder of that name stands where room is looked for.
        std::fs::create_dir(dir.path().join("room")).unwrap();
        poisoned(&folder);
        assert!(before.upgrade().is_some());
    }
}
