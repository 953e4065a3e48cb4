//! Where persist keeps everything. One enum for all kinds of stores: the embedded one is in this process, the other on
//! Apache Cassandra.

#[cfg(feature = "cassandra")]
pub(crate) mod cassandra;
mod embedded;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod keys;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;

use petrel_protocol::calls::Account;
use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::sequencer::{Batch, KeyRow, Loaded, Loads, MessageRow};

use crate::StartError;
use embedded::folder::Folder;

/// The format of what is written. A store of a higher one is left alone.
pub(crate) const FORMAT: u32 = 2;

/// A store. A clone is another handle on the same one.
#[derive(Clone)]
pub(crate) enum Store {
    /// In this process, in one folder.
    Embedded(Folder),
    /// In a keyspace of a cluster.
    #[cfg(feature = "cassandra")]
    Cassandra(cassandra::Cassandra),
}

/// The log that a store is filled from. Positions compare within one generation, so a store that was filled from another
/// would swallow new events as old ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Belongs {
    /// The generation's number, which counts up.
    pub(crate) generation: u32,
    /// Its random id: two logs that both begin with the same number differ in it.
    pub(crate) generation_id: [u8; 16],
}

impl Belongs {
    /// What to say where a store belongs to another log.
    pub(crate) fn mismatch(&self, store: &str, mend: &str, number: u32, id: &[u8]) -> String {
        let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        format!(
            "{store} belongs to generation {number} ({}) of the bus, and this bus has {} ({}): {mend}",
            hex(id),
            self.generation,
            hex(&self.generation_id)
        )
    }
}

/// FNV-1a: stable across versions and machines.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot be read or written.
    #[error("the store cannot be read or written: {0}; free space on its disk, or mend it")]
    Disk(#[from] fjall::Error),
    /// A row is not what was written.
    #[error("the row {key} of `{table}` is damaged ({damage}): restore the store from a backup")]
    Row {
        /// The table.
        table: &'static str,
        /// The key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        damage: &'static str,
    },
    /// The server did not do it, or did not say so in time.
    #[cfg(feature = "cassandra")]
    #[error("`{statement}`: {why}")]
    Request {
        /// The statement.
        statement: &'static str,
        /// What the driver or the server says.
        why: String,
    },
    /// The server's answer is not what was written.
    #[cfg(feature = "cassandra")]
    #[error("the answer to `{statement}` cannot be read ({why}): restore the keyspace from a backup")]
    Answer {
        /// The statement.
        statement: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Persist stops, and what was asked is not done.
    #[cfg(feature = "cassandra")]
    #[error("persist stops")]
    Stopped,
}

/// How far a device, or with none a user's reading, has come in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CursorId {
    pub(crate) user: UserId,
    pub(crate) device: Option<Device>,
    pub(crate) conversation: ConversationId,
}

/// The seq of a conversation's head where the caller has it at hand, so that it need not be read.
pub(crate) type KnownHead<'a> = dyn Fn(ConversationId) -> Option<u64> + 'a;

/// Seqs of one conversation, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeqRange {
    pub(crate) conversation: ConversationId,
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
}

/// A row as it may be shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShownRow {
    /// The row. A recalled message has no content.
    pub(crate) row: MessageRow,
    pub(crate) is_recalled: bool,
}

/// One store call in each variant.
macro_rules! forward {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Embedded(folder) => folder.with(|$store| $call),
            #[cfg(feature = "cassandra")]
            Self::Cassandra($store) => $call,
        }
    };
}

impl Store {
    /// Opens the folder, or creates it for this log.
    pub(crate) fn embedded(dir: &Path, belongs: &Belongs) -> Result<Self, StartError> {
        Folder::open(dir, belongs).map(Self::Embedded)
    }

    /// Opens the keyspace, or creates it for this log. Blocks while no server answers; `None`: stopped meanwhile.
    #[cfg(feature = "cassandra")]
    pub(crate) fn cassandra(
        config: &cassandra::config::Config,
        belongs: &Belongs,
        health: &crate::status::Health,
        stopping: &crate::status::Stopping,
    ) -> Result<Option<Self>, StartError> {
        Ok(cassandra::Cassandra::open(config, belongs, health, stopping)?.map(Self::Cassandra))
    }

    /// Reads what a sequencer asks for.
    pub(crate) fn load(&self, loads: &Loads) -> Result<Loaded, StoreError> {
        forward!(self, store => store.load(loads))
    }

    /// Writes batches, heads after everything else. Survives this process; a power cut only after [`Self::sync`].
    pub(crate) fn commit(&self, batches: &[Arc<Batch>]) -> Result<(), StoreError> {
        forward!(self, store => store.commit(batches))
    }

    /// Returns when everything written so far survives a power cut. Blocks. On Cassandra a confirmed write does, as far as
    /// its `commitlog_sync` says.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(folder) => folder.sync(),
            #[cfg(feature = "cassandra")]
            Self::Cassandra(_) => Ok(()),
        }
    }

    /// Raises cursors; none of them beyond its conversation's head, none of them ever lower.
    pub(crate) fn advance(
        &self,
        cursors: &[(CursorId, u64)],
        known: &KnownHead<'_>,
    ) -> Result<(), StoreError> {
        forward!(self, store => store.advance(cursors, known))
    }

    /// The device types with which this user has been connected.
    pub(crate) fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreError> {
        forward!(self, store => store.devices(user))
    }

    /// Registers a device type, its cursors before it.
    pub(crate) fn register(
        &self,
        user: UserId,
        device: Device,
        cursors: &[(CursorId, u64)],
    ) -> Result<(), StoreError> {
        forward!(self, store => store.register(user, device, cursors))
    }

    /// Up to `count` of this user's conversations, from this one on, in their order, each with its last seq.
    pub(crate) fn conversations(
        &self,
        user: UserId,
        from: Option<ConversationId>,
        count: usize,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        forward!(self, store => store.conversations(user, from, count))
    }

    /// The delivered cursors of this device in the conversations from the first to the last given, in their order.
    pub(crate) fn cursors(
        &self,
        user: UserId,
        device: Device,
        first: ConversationId,
        last: ConversationId,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        forward!(self, store => store.cursors(user, device, first, last))
    }

    /// The last seq of each of these conversations, 0 where it has none.
    pub(crate) fn head_seqs(&self, conversations: &[ConversationId]) -> Result<Vec<u64>, StoreError> {
        match self {
            Self::Embedded(folder) => folder.with(|store| store.head_seqs(conversations)),
            #[cfg(feature = "cassandra")]
            Self::Cassandra(store) => Ok(store
                .heads(conversations)?
                .into_iter()
                .map(|head| head.map_or(0, |head| head.seq))
                .collect()),
        }
    }

    /// The rows of a range, in seq order. `take` says whether it wants the next one.
    pub(crate) fn rows(
        &self,
        conversation: ConversationId,
        from_seq: u64,
        to_seq: u64,
        take: &mut dyn FnMut(ShownRow) -> bool,
    ) -> Result<(), StoreError> {
        forward!(self, store => store.rows(conversation, from_seq, to_seq, take))
    }

    /// The rows of several ranges, one range after the other, with the range's index. `take` says whether it wants more.
    pub(crate) fn ranges(
        &self,
        ranges: &[SeqRange],
        take: &mut dyn FnMut(usize, ShownRow) -> bool,
    ) -> Result<(), StoreError> {
        match self {
            Self::Embedded(folder) => folder.with(|store| {
                for (index, SeqRange { conversation, from_seq, to_seq }) in ranges.iter().enumerate() {
                    let mut wants_more = true;
                    store.rows(*conversation, *from_seq, *to_seq, &mut |row| {
                        wants_more = take(index, row);
                        wants_more
                    })?;
                    if !wants_more {
                        break;
                    }
                }
                Ok(())
            }),
            #[cfg(feature = "cassandra")]
            Self::Cassandra(store) => store.ranges(ranges, take),
        }
    }

    /// Where this message id leads.
    pub(crate) fn message_key(
        &self,
        conversation: ConversationId,
        msg_id: u64,
    ) -> Result<Option<KeyRow>, StoreError> {
        forward!(self, store => store.message_key(conversation, msg_id))
    }

    /// Writes a new account; false where the name is taken.
    pub(crate) fn create_account(&self, account: &Account, time_ms: u64) -> Result<bool, StoreError> {
        forward!(self, store => store.create_account(account, time_ms))
    }

    /// The account of this name.
    pub(crate) fn find_account(&self, username: &str) -> Result<Option<Account>, StoreError> {
        forward!(self, store => store.find_account(username))
    }

    /// Raises the token version of a user, and says what it is now.
    pub(crate) fn raise_token_version(&self, user: UserId) -> Result<u32, StoreError> {
        forward!(self, store => store.raise_token_version(user))
    }

    /// The mark below which this worker may have given account ids.
    pub(crate) fn snowflake_mark(&self, worker: u16) -> Result<u64, StoreError> {
        forward!(self, store => store.snowflake_mark(worker))
    }

    /// Moves that mark, where it still is at `from_ms`. Else: where somebody else has moved it.
    pub(crate) fn move_snowflake_mark(
        &self,
        worker: u16,
        from_ms: u64,
        to_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        forward!(self, store => store.move_snowflake_mark(worker, from_ms, to_ms))
    }
}
