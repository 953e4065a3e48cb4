//! Where persist keeps everything. One enum for all kinds of stores; the embedded one is in this process.

mod embedded;
mod keys;
mod rows;

use std::path::Path;

use petrel_protocol::calls::Account;
use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::sequencer::{Batch, Head, KeyRow, Loaded, Loads, MessageRow};

use crate::StartError;
use embedded::Embedded;

/// The format of what is written. A store of a higher one is left alone.
pub(crate) const FORMAT: u32 = 1;

/// A store. A clone is another handle on the same one.
#[derive(Clone)]
pub(crate) enum Store {
    /// In this process, in one folder.
    Embedded(Embedded),
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot be read or written.
    #[error("the store cannot be read or written: {0}; check its disk, then restart")]
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
            Self::Embedded($store) => $call,
        }
    };
}

impl Store {
    /// Opens the folder, or creates it for this generation of the topics.
    pub(crate) fn embedded(dir: &Path, generation: u32) -> Result<Self, StartError> {
        Embedded::open(dir, generation).map(Self::Embedded)
    }

    /// Reads what a sequencer asks for.
    pub(crate) fn load(&self, loads: &Loads) -> Result<Loaded, StoreError> {
        forward!(self, store => store.load(loads))
    }

    /// Writes batches, heads after everything else. Survives this process; a power cut only after [`Self::sync`].
    pub(crate) fn commit(&self, batches: &[&Batch]) -> Result<(), StoreError> {
        forward!(self, store => store.commit(batches))
    }

    /// Returns when everything written so far survives a power cut. Blocks.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        forward!(self, store => store.sync())
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

    /// Up to `count` of this user's conversations, from this one on, in their order.
    pub(crate) fn conversations(
        &self,
        user: UserId,
        from: Option<ConversationId>,
        count: usize,
    ) -> Result<Vec<ConversationId>, StoreError> {
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

    /// The heads of these conversations.
    pub(crate) fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>, StoreError> {
        forward!(self, store => store.heads(conversations))
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

    /// Where this message id leads.
    pub(crate) fn message_key(
        &self,
        conversation: ConversationId,
        msg_id: u64,
    ) -> Result<Option<KeyRow>, StoreError> {
        forward!(self, store => store.message_key(conversation, msg_id))
    }

    /// Writes a new account; false where the name is taken. One call at a time.
    pub(crate) fn create_account(&self, account: &Account, time_ms: u64) -> Result<bool, StoreError> {
        forward!(self, store => store.create_account(account, time_ms))
    }

    /// The account of this name.
    pub(crate) fn find_account(&self, username: &str) -> Result<Option<Account>, StoreError> {
        forward!(self, store => store.find_account(username))
    }

    /// Raises the token version of a user, and says what it is now. One call at a time.
    pub(crate) fn raise_token_version(&self, user: UserId) -> Result<u32, StoreError> {
        forward!(self, store => store.raise_token_version(user))
    }

    /// The mark below which account ids may have been given.
    pub(crate) fn snowflake_mark(&self) -> Result<u64, StoreError> {
        forward!(self, store => store.snowflake_mark())
    }

    /// Stores that mark.
    pub(crate) fn set_snowflake_mark(&self, mark_ms: u64) -> Result<(), StoreError> {
        forward!(self, store => store.set_snowflake_mark(mark_ms))
    }
}
