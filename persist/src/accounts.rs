//! Accounts: names, password hashes, token versions, and the ids of users.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use petrel_bus::calls::CallError;
use petrel_protocol::calls::{Account, CreateAccount};
use petrel_protocol::ids::UserId;
use petrel_protocol::limits;
use petrel_protocol::snowflake::Snowflake;

use crate::store::{Store, StoreError};

/// What writes accounts.
pub(crate) struct Accounts {
    store: Store,
    worker: u16,
    ids: Mutex<Ids>,
}

/// The generator, with the mark that it stands on.
#[derive(Default)]
struct Ids {
    generator: Option<Snowflake>,
    mark_ms: u64,
}

impl Accounts {
    pub(crate) fn new(store: Store, worker: u16) -> Self {
        Self { store, worker, ids: Mutex::default() }
    }

    /// A new account, on disk when this returns.
    pub(crate) fn create(&self, request: CreateAccount) -> Result<Result<Account, CallError>, StoreError> {
        let CreateAccount { username, password_hash, time_ms } = request;
        let length = username.len();
        if length == 0 || length > limits::USERNAME_BYTES_MAX || self.store.find_account(&username)?.is_some()
        {
            return Ok(Err(CallError::Taken));
        }
        let Some(user) = self.next_id()? else { return Ok(Err(CallError::Full)) };
        let account = Account { user, username, password_hash, token_version: 0 };
        if !self.store.create_account(&account, time_ms)? {
            return Ok(Err(CallError::Taken));
        }
        self.store.sync()?;
        Ok(Ok(account))
    }

    /// None: the generator is ahead of the clock.
    fn next_id(&self) -> Result<Option<u64>, StoreError> {
        let wall_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Ids { generator, mark_ms } = &mut *ids;
        if generator.is_none() {
            *mark_ms = self.store.snowflake_mark(self.worker)?;
        }
        let generator = generator.get_or_insert_with(|| Snowflake::new(self.worker, *mark_ms));
        // Each reservation moves the mark from where this generator knows it. Whoever finds it moved by somebody else
        // goes on above that, so that even two processes with one worker number never give an id twice.
        while let Some(to_ms) = generator.mark_to_store(wall_ms) {
            match self.store.move_snowflake_mark(self.worker, *mark_ms, to_ms)? {
                None => {
                    self.store.sync()?;
                    generator.reserve_until(to_ms);
                    *mark_ms = to_ms;
                }
                Some(moved_ms) => {
                    tracing::warn!(
                        worker = self.worker,
                        "another process draws account ids with this worker number: give each its own"
                    );
                    *generator = Snowflake::new(self.worker, moved_ms);
                    *mark_ms = moved_ms;
                }
            }
        }
        Ok(generator.next(wall_ms).ok())
    }

    /// Makes all tokens of a user invalid, on disk when this returns.
    pub(crate) fn revoke_tokens(&self, user: u64) -> Result<u32, StoreError> {
        let version = self.store.raise_token_version(UserId(user))?;
        self.store.sync()?;
        Ok(version)
    }
}
