//! Every statement, prepared once, with its metrics.
//!
//! `TIMESTAMP ?` is never a clock: for what the log decides it is `applied` of the event, for a cursor its seq. The highest
//! wins, so a late write of a reader that was replaced undoes nothing, and a cursor is a maximum without a read.

use std::sync::Arc;
use std::time::Duration;

use petrel_protocol::limits;
use prometheus::{Histogram, IntCounter};
use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::prepared::PreparedStatement;

use super::metrics::METRICS;

/// One statement.
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) prepared: PreparedStatement,
    pub(super) seconds: Histogram,
    pub(super) failures: IntCounter,
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $cql:expr,)*) => {
        /// All of them.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: Statement,)*
        }

        impl Statements {
            pub(super) async fn prepare(session: &Session, keyspace: &str) -> Result<Self, PrepareError> {
                let reads = reads(session);
                Ok(Self { $($name: prepare(session, stringify!($name), $cql, keyspace, &reads).await?,)* })
            }
        }
    };
}

statements! {
    insert_message: "INSERT INTO KS.messages (conversation, bucket, seq, kind, sender, device, edge_time_ms, visible, \
        msg_id, client_msg_id, format, time_ms, content) VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
    insert_recall: "INSERT INTO KS.messages (conversation, bucket, seq, kind, sender, device, edge_time_ms, visible, \
        msg_id, target_seq) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
    mark_recalled: "UPDATE KS.messages USING TIMESTAMP ? SET recall_seq = ?, recall_position = ? \
        WHERE conversation = ? AND bucket = ? AND seq = ?",
    insert_key: "INSERT INTO KS.message_keys (conversation, key, outcome, value, sender, edge_time_ms, position) \
        VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
    /// The seq alone: a user's own settings of the conversation are never touched.
    list_conversation: "INSERT INTO KS.user_conversations (user, conversation, seq) VALUES (?, ?, ?) USING TIMESTAMP ?",
    insert_head: "INSERT INTO KS.conversation_heads (conversation, position, seq, applied, visible, edge_time_ms) \
        VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
    insert_dead_letter: "INSERT INTO KS.dead_letters (partition, position, fault, bytes) VALUES (?, ?, ?, ?) \
        USING TIMESTAMP 1",
    raise_cursor: "UPDATE KS.cursors USING TIMESTAMP ? SET seq = ? WHERE user = ? AND device = ? AND conversation = ?",
    insert_device: "INSERT INTO KS.devices (user, device) VALUES (?, ?) USING TIMESTAMP 1",
    insert_account: "INSERT INTO KS.accounts (username, user, password_hash, created_ms) VALUES (?, ?, ?, ?) \
        IF NOT EXISTS",
    raise_token_version: "UPDATE KS.token_versions USING TIMESTAMP ? SET version = ? WHERE user = ?",
    insert_mark: "INSERT INTO KS.snowflake_marks (worker, mark_ms) VALUES (?, ?) IF NOT EXISTS",
    move_mark: "UPDATE KS.snowflake_marks SET mark_ms = ? WHERE worker = ? IF mark_ms = ?",
    select_head: "SELECT conversation, position, seq, applied, visible, edge_time_ms FROM KS.conversation_heads \
        WHERE conversation = ?",
    select_heads: "SELECT conversation, position, seq, applied, visible, edge_time_ms FROM KS.conversation_heads \
        WHERE conversation IN ?",
    select_key: "SELECT outcome, value, sender, edge_time_ms, position, WRITETIME(position) FROM KS.message_keys \
        WHERE conversation = ? AND key = ?",
    select_target: "SELECT kind, sender, edge_time_ms, msg_id, client_msg_id, recall_seq, recall_position \
        FROM KS.messages WHERE conversation = ? AND bucket = ? AND seq = ?",
    select_rows: "SELECT seq, kind, sender, device, edge_time_ms, visible, msg_id, client_msg_id, format, time_ms, \
        content, target_seq, recall_seq, WRITETIME(sender) FROM KS.messages \
        WHERE conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?",
    select_conversations: "SELECT conversation, seq FROM KS.user_conversations WHERE user = ? AND conversation >= ?",
    select_cursors: "SELECT conversation, seq FROM KS.cursors \
        WHERE user = ? AND device = ? AND conversation >= ? AND conversation <= ?",
    select_devices: "SELECT device FROM KS.devices WHERE user = ?",
    select_account: "SELECT user, password_hash FROM KS.accounts WHERE username = ?",
    select_token_version: "SELECT version FROM KS.token_versions WHERE user = ?",
    select_mark: "SELECT mark_ms FROM KS.snowflake_marks WHERE worker = ?",
}

/// A read is asked of another node where the first one fails, or has not answered for so long: one node that is lost or
/// stands still delays nobody. Writes are repeated where they are decided about (`write`).
const READ_ELSEWHERE_AFTER: Duration = Duration::from_millis(500);

/// How reads are carried out.
fn reads(session: &Session) -> ExecutionProfileHandle {
    let elsewhere =
        SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: READ_ELSEWHERE_AFTER };
    let profile = session.get_default_execution_profile_handle().pointee_to_builder();
    let profile = profile
        .retry_policy(Arc::new(DefaultRetryPolicy::new()))
        .speculative_execution_policy(Some(Arc::new(elsewhere)));
    profile.build().into_handle()
}

/// Rows in one page: contents may have 64 KiB each, ids have 17 bytes.
fn page_rows(name: &str) -> i32 {
    let rows =
        if name == "select_rows" { limits::STORE_PAGE_MESSAGES } else { limits::SYNC_CONVERSATIONS_MAX };
    rows as i32
}

async fn prepare(
    session: &Session,
    name: &'static str,
    cql: &str,
    keyspace: &str,
    reads: &ExecutionProfileHandle,
) -> Result<Statement, PrepareError> {
    let mut prepared = session.prepare(cql.replace("KS.", &format!("{keyspace}."))).await?;
    prepared.set_is_idempotent(true);
    if cql.starts_with("SELECT") {
        prepared.set_execution_profile_handle(Some(reads.clone()));
    }
    prepared.set_page_size(page_rows(name));
    // The columns are named in each statement and never change their type: the server need not send them each time.
    prepared.set_use_cached_result_metadata(true);
    let (seconds, failures) = (&METRICS.seconds, &METRICS.failures);
    Ok(Statement {
        name,
        prepared,
        seconds: seconds.with_label_values(&[name]),
        failures: failures.with_label_values(&[name]),
    })
}
