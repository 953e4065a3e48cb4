//! One table: a keyspace of fjall, and when its memtable is written out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch};
use petrel_protocol::limits::STORE_MEMTABLE_BYTES;

use crate::store::StoreError;
use crate::store::rows::Damage;

/// A keyspace and its name, which errors tell.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) keyspace: Keyspace,
    /// Bytes in its memtable, about.
    filled: AtomicU64,
    filled_max: u64,
}

/// What an entry of a memtable costs besides its key and row.
const ENTRY_BYTES: usize = 64;
/// Written-out memtables that are merged at once. More of them are merged less often, and cost reads a bit.
const TABLES_MERGED: u8 = 8;

/// A value above this is written once, into a file of its own kind, and not again when tables are merged.
const SEPARATED_BYTES_MIN: u32 = 96;

/// What goes into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of each message, with contents.
    Contents,
    /// Rows of each message.
    Busy,
    /// Now and then a row.
    Quiet,
}

impl Table {
    pub(super) fn open(db: &Database, name: &'static str, kind: Kind) -> Result<Self, fjall::Error> {
        let filled_max = if kind == Kind::Quiet { STORE_MEMTABLE_BYTES / 2 } else { STORE_MEMTABLE_BYTES };
        let strategy = Leveled::default().with_l0_threshold(TABLES_MERGED).with_table_target_size(filled_max);
        let separation = KvSeparationOptions::default().separation_threshold(SEPARATED_BYTES_MIN);
        // Beyond a bound, fjall would ask its worker for a rotation with each write, until a queue full of that stops
        // the worker for ever. So there is no bound, and memtables are rotated from here.
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .compaction_strategy(Arc::new(strategy))
                .with_kv_separation((kind == Kind::Contents).then_some(separation))
        };
        Ok(Self { name, keyspace: db.keyspace(name, options)?, filled: AtomicU64::new(0), filled_max })
    }

    pub(super) fn get<T>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, StoreError> {
        let Some(row) = self.keyspace.get(key)? else { return Ok(None) };
        decode(&row).map(Some).map_err(|damage| self.damaged(key, damage))
    }

    /// Adds a row to a batch. When that is committed, [`Self::rotate`] follows.
    pub(super) fn insert(&self, batch: &mut OwnedWriteBatch, key: impl AsRef<[u8]>, row: &[u8]) {
        let key = key.as_ref();
        self.filled.fetch_add((key.len() + row.len() + ENTRY_BYTES) as u64, Ordering::Relaxed);
        batch.insert(&self.keyspace, key, row);
    }

    /// Hands a full memtable over to be written out. While two wait for that already, this one grows instead, up to a
    /// bound at which writing waits.
    pub(super) fn rotate(&self) -> Result<(), fjall::Error> {
        let filled = self.filled.load(Ordering::Relaxed);
        let is_growing = filled < self.filled_max * 4 && self.keyspace.sealed_memtable_count() >= 2;
        if filled >= self.filled_max && !is_growing && self.keyspace.rotate_memtable()? {
            self.filled.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn damaged(&self, key: &[u8], damage: Damage) -> StoreError {
        use std::fmt::Write;
        let key = key.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        StoreError::Row { table: self.name, key, damage }
    }
}
