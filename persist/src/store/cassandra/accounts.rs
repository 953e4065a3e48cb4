//! Accounts, token versions and the mark of account ids. The only place with lightweight transactions: a name is taken
//! once, and a span of ids is reserved once.

use petrel_protocol::calls::Account;
use petrel_protocol::ids::UserId;
use scylla::serialize::row::SerializeRow;
use scylla::value::{CqlValue, Row};

use super::statements::Statement;
use super::{Cassandra, Client};
use crate::store::StoreError;

impl Cassandra {
    /// The outcome of a try that was not answered is unknown: where the name then belongs to this very account, it was
    /// this call that took it.
    pub(crate) fn create_account(&self, account: &Account, time_ms: u64) -> Result<bool, StoreError> {
        let account = account.clone();
        self.wait(|client| async move {
            let statement = &client.statements.insert_account;
            let Account { user, username, password_hash, .. } = &account;
            let values = (username.as_str(), *user as i64, password_hash.as_str(), time_ms as i64);
            let is_created = match client.applies(statement, values).await {
                Err(_) => client.applies(statement, values).await?,
                Ok(is_created) => is_created,
            };
            Ok(is_created || client.account(username.clone()).await?.is_some_and(|found| found.user == *user))
        })
    }

    pub(crate) fn find_account(&self, username: &str) -> Result<Option<Account>, StoreError> {
        if username.is_empty() {
            // No key is.
            return Ok(None);
        }
        let username = username.to_owned();
        self.wait(|client| async move {
            let Some(mut account) = client.account(username).await? else { return Ok(None) };
            account.token_version = client.token_version(UserId(account.user)).await?;
            Ok(Some(account))
        })
    }

    /// Two that raise it at once may both answer the same version: each has made every token of before invalid.
    pub(crate) fn raise_token_version(&self, user: UserId) -> Result<u32, StoreError> {
        self.wait(|client| async move {
            let version = client.token_version(user).await?.wrapping_add(1);
            let values = (i64::from(version), i64::from(version), user.0 as i64);
            client.execute(&client.statements.raise_token_version, values).await?;
            Ok(version)
        })
    }

    pub(crate) fn snowflake_mark(&self, worker: u16) -> Result<u64, StoreError> {
        self.wait(|client| async move { client.mark(worker).await })
    }

    /// A move whose outcome is unknown is an error; the next one then finds where the mark is.
    pub(crate) fn move_snowflake_mark(
        &self,
        worker: u16,
        from_ms: u64,
        to_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        self.wait(|client| async move {
            let (worker_id, from, to) = (i32::from(worker), from_ms as i64, to_ms as i64);
            let is_moved = if from_ms == 0 {
                client.applies(&client.statements.insert_mark, (worker_id, to)).await?
            } else {
                client.applies(&client.statements.move_mark, (to, worker_id, from)).await?
            };
            if is_moved { Ok(None) } else { client.mark(worker).await.map(Some) }
        })
    }
}

impl Client {
    async fn account(&self, username: String) -> Result<Option<Account>, StoreError> {
        let row: Option<(i64, String)> =
            self.row(&self.statements.select_account, (username.as_str(),)).await?;
        Ok(row.map(|(user, password_hash)| Account {
            user: user as u64,
            username,
            password_hash,
            token_version: 0,
        }))
    }

    async fn token_version(&self, user: UserId) -> Result<u32, StoreError> {
        let row: Option<(i64,)> = self.row(&self.statements.select_token_version, (user.0 as i64,)).await?;
        Ok(row.map_or(0, |(version,)| version as u32))
    }

    async fn mark(&self, worker: u16) -> Result<u64, StoreError> {
        let row: Option<(i64,)> = self.row(&self.statements.select_mark, (i32::from(worker),)).await?;
        Ok(row.map_or(0, |(mark_ms,)| mark_ms as u64))
    }

    /// Whether a conditional statement was carried out: the first column of its answer, whose others differ.
    async fn applies(&self, statement: &Statement, values: impl SerializeRow) -> Result<bool, StoreError> {
        let rows: Vec<Row> = self.rows(statement, values).await?;
        let applied = rows.first().and_then(|row| row.columns.first()).and_then(Option::as_ref);
        Ok(applied.and_then(CqlValue::as_boolean) == Some(true))
    }
}
