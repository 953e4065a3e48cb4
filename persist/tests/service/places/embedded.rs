//! A folder for the log and the store.

use std::path::Path;

use petrel_persist::StoreConfig;
use tempfile::TempDir;

pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self) -> StoreConfig {
        StoreConfig::Embedded(self.path().join("store"))
    }
}
