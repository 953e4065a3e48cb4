//! Accounts: names, password hashes, token versions, and the ids of users.

use std::time::{SystemTime, UNIX_EPOCH};

use petrel_bus::calls::CallError;
use petrel_protocol::calls::{Account, CreateAccount};
use petrel_protocol::ids::UserId;
use petrel_protocol::limits;
use petrel_protocol::snowflake::Snowflake;

use crate::store::{Store, StoreError};

/// What writes accounts. There is one of it, so that a name is taken once.
pub(crate) struct Accounts {
    store: Store,
    ids: Snowflake,
}

impl Accounts {
    pub(crate) fn open(store: Store, worker: u16) -> Result<Self, StoreError> {
        let ids = Snowflake::new(worker, store.snowflake_mark()?);
        Ok(Self { store, ids })
    }

    /// A new account, on disk when this returns.
    pub(crate) fn create(
        &mut self,
        request: CreateAccount,
    ) -> Result<Result<Account, CallError>, StoreError> {
        let CreateAccount { username, password_hash, time_ms } = request;
        let length = username.len();
        if length == 0 || length > limits::USERNAME_BYTES_MAX || self.store.find_account(&username)?.is_some()
        {
            return Ok(Err(CallError::Taken));
        }
        let wall_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        if let Some(mark_ms) = self.ids.mark_to_store(wall_ms) {
            self.store.set_snowflake_mark(mark_ms)?;
            self.store.sync()?;
            self.ids.reserve_until(mark_ms);
        }
        let Ok(user) = self.ids.next(wall_ms) else { return Ok(Err(CallError::Full)) };
        let account = Account { user, username, password_hash, token_version: 0 };
        if !self.store.create_account(&account, time_ms)? {
            return Ok(Err(CallError::Taken));
        }
        self.store.sync()?;
        Ok(Ok(account))
    }

    /// Makes all tokens of a user invalid, on disk when this returns.
    pub(crate) fn revoke_tokens(&mut self, user: u64) -> Result<u32, StoreError> {
        let version = self.store.raise_token_version(UserId(user))?;
        self.store.sync()?;
        Ok(version)
    }
}
