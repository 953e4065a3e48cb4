//! Accounts and their token versions.

use petrel_protocol::calls::Account;
use petrel_protocol::ids::UserId;

use super::Embedded;
use crate::store::rows::{self, Encoder};
use crate::store::{StoreError, keys};

impl Embedded {
    pub(crate) fn create_account(&self, account: &Account, time_ms: u64) -> Result<bool, StoreError> {
        let tables = &*self.0;
        let _claiming = self.claim();
        if tables.account_names.keyspace.contains_key(&account.username)? {
            return Ok(false);
        }
        let mut encoder = Encoder::default();
        let mut batch = self.batch(2);
        tables.accounts.insert(
            &mut batch,
            keys::user(UserId(account.user)),
            encoder.account(account, time_ms),
        );
        tables.account_names.insert(&mut batch, account.username.as_str(), encoder.number(account.user));
        self.write(batch)?;
        Ok(true)
    }

    pub(crate) fn find_account(&self, username: &str) -> Result<Option<Account>, StoreError> {
        let tables = &*self.0;
        if username.is_empty() {
            // No key is.
            return Ok(None);
        }
        let Some(user) = tables.account_names.get(username.as_bytes(), rows::number)? else {
            return Ok(None);
        };
        let key = keys::user(UserId(user));
        let Some(mut account) = tables.accounts.get(&key, |row| rows::account(UserId(user), row))? else {
            return Err(tables.accounts.damaged(&key, "its username is there, and the row is not"));
        };
        account.token_version = self.token_version(UserId(user))?;
        Ok(Some(account))
    }

    fn token_version(&self, user: UserId) -> Result<u32, StoreError> {
        let version = self.0.token_versions.get(&keys::user(user), rows::number)?;
        Ok(version.unwrap_or(0) as u32)
    }

    pub(crate) fn raise_token_version(&self, user: UserId) -> Result<u32, StoreError> {
        let _claiming = self.claim();
        let version = self.token_version(user)?.wrapping_add(1);
        let mut batch = self.batch(1);
        let row = u64::from(version);
        self.0.token_versions.insert(&mut batch, keys::user(user), Encoder::default().number(row));
        self.write(batch)?;
        Ok(version)
    }
}
