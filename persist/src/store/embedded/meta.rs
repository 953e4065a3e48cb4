//! What the folder says of itself: its format, the log that it belongs to, and the mark of account ids.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::Embedded;
use crate::StartError;
use crate::store::rows::{self, Encoder};
use crate::store::{Belongs, FORMAT, StoreError};

pub(super) const META_FORMAT: &str = "format";
const META_GENERATION: &str = "generation";
const META_GENERATION_ID: [&str; 2] = ["generation id, first half", "generation id, second half"];
const META_SNOWFLAKE: &str = "snowflake";

impl Embedded {
    /// Compares the folder's format and log, or writes them where it is new.
    pub(super) fn check(&self, dir: &Path, belongs: &Belongs) -> Result<(), StartError> {
        let failed =
            |error: StoreError| StartError(format!("cannot open the store in {}: {error}", dir.display()));
        let dir = dir.display();
        let (high, low) = belongs.generation_id.split_at(8);
        let id = [high, low].map(|half| u64::from_be_bytes(half.try_into().expect("8 bytes")));
        match self.meta(META_FORMAT).map_err(failed)? {
            None => {
                self.set_meta(META_GENERATION, u64::from(belongs.generation)).map_err(failed)?;
                self.set_meta(META_GENERATION_ID[0], id[0]).map_err(failed)?;
                self.set_meta(META_GENERATION_ID[1], id[1]).map_err(failed)?;
                self.set_meta(META_FORMAT, u64::from(FORMAT)).map_err(failed)?;
                return self.sync(&AtomicBool::default()).map_err(failed);
            }
            Some(format) if format > u64::from(FORMAT) => {
                return Err(StartError(format!(
                    "the store in {dir} has format {format}, this version reads up to {FORMAT}: start the newer version \
                     of Petrel that wrote it, or restore a backup of before"
                )));
            }
            Some(format) if format < u64::from(FORMAT) => {
                return Err(StartError(format!(
                    "the store in {dir} has format {format}, which this version does not read: start the version of \
                     Petrel that wrote it, or start with an empty data folder"
                )));
            }
            Some(_) => {}
        }
        let number = self.meta(META_GENERATION).map_err(failed)?.unwrap_or(0);
        let mut written = Vec::new();
        for (name, half) in META_GENERATION_ID.into_iter().zip(id) {
            // A folder of a version that knew no ids takes that of its bus.
            let half =
                self.meta(name).map_err(failed)?.map_or_else(|| self.set_meta(name, half).map(|()| half), Ok);
            written.extend_from_slice(&half.map_err(failed)?.to_be_bytes());
        }
        if number != u64::from(belongs.generation) || written != belongs.generation_id {
            return Err(StartError(belongs.mismatch(
                &format!("the store in {dir}"),
                "restore the folder of the bus that belongs to it, or start with an empty data folder",
                number as u32,
                &written,
            )));
        }
        Ok(())
    }

    /// One process holds the folder, so the worker makes no difference.
    pub(crate) fn snowflake_mark(&self, _worker: u16) -> Result<u64, StoreError> {
        Ok(self.meta(META_SNOWFLAKE)?.unwrap_or(0))
    }

    pub(crate) fn move_snowflake_mark(
        &self,
        worker: u16,
        from_ms: u64,
        to_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        let _claiming = self.claim();
        let mark_ms = self.snowflake_mark(worker)?;
        if mark_ms != from_ms {
            return Ok(Some(mark_ms));
        }
        self.set_meta(META_SNOWFLAKE, to_ms)?;
        Ok(None)
    }

    fn meta(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.0.meta.get(name.as_bytes(), rows::number)
    }

    pub(super) fn set_meta(&self, name: &str, number: u64) -> Result<(), StoreError> {
        let mut batch = self.batch(1);
        self.0.meta.insert(&mut batch, name, Encoder::default().number(number));
        self.write(batch)
    }
}
