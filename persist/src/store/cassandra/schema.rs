//! The tables, their version, and what a keyspace belongs to.
//!
//! Two processes that start at once are safe: every statement says IF NOT EXISTS, the one table that both may create has
//! an id that depends on the keyspace alone, and the others are created by whoever holds the lock in it. A lock whose
//! holder died expires; should its holder be alive after all, both run the same statements.

use std::collections::HashMap;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::Statement;

use super::config::{Config, Consistency};
use crate::StartError;
use crate::store::{Belongs, hash};

/// The version of the tables below. A keyspace of a higher one is left alone; one of a lower one is migrated, one step
/// after the other ([`steps`]).
pub(super) const VERSION: i64 = 3;

/// How long the lock is held at most by somebody who died over it, seconds.
const LOCK_S: i32 = 60;
/// What changes the schema may take this long: every node has to agree.
const DEFINE: Duration = Duration::from_secs(30);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(300);

/// All tables.
const TABLES: [&str; 11] = [
    "meta",
    "messages",
    "message_keys",
    "conversation_heads",
    "cursors",
    "user_conversations",
    "devices",
    "accounts",
    "token_versions",
    "snowflake_marks",
    "dead_letters",
];

/// The names of the rows in `meta`.
pub(super) const META_VERSION: &str = "schema version";
const META_LOCK: &str = "schema lock";
const META_GENERATION: &str = "generation";

/// Why the keyspace cannot be used.
pub(super) enum Failure {
    /// Waiting may mend it.
    Wait(String),
    /// It does not.
    Fatal(StartError),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Wait(error.to_string())
    }
}

/// The statements that lead from the version before to this one.
///
/// In these tables no row is ever deleted and none expires (what was accepted is kept), so there are no tombstones, and
/// compaction serves reading alone. Tables whose rows are written once (`T4`: tiered, four at a time) cost the least for
/// each write; those whose rows are written again and again (`L4`: levelled) keep the copies of a row in few files, so that
/// reading it touches few.
fn steps(version: i64) -> Vec<String> {
    let once = "compaction = {'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}";
    let again = "compaction = {'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L4'}";
    // Rows of some hundred bytes that are read alone: a small chunk is less to decompress.
    let alone = "compression = {'class': 'LZ4Compressor', 'chunk_length_in_kb': 4}";
    match version {
        1 => vec![
            // A partition has 1,024 seqs. The columns from recall_seq on are the mark that a message was recalled; an
            // insert never names them, so that a late one cannot undo a recall. kind: 0 a message, 1 a recall.
            format!(
                "CREATE TABLE IF NOT EXISTS KS.messages (conversation blob, bucket bigint, seq bigint, kind int, \
                 sender bigint, device int, edge_time_ms bigint, visible bigint, msg_id bigint, client_msg_id blob, \
                 format int, time_ms bigint, content text, target_seq bigint, recall_seq bigint, \
                 recall_position blob, PRIMARY KEY ((conversation, bucket), seq)) WITH {once}"
            ),
            // outcome: 0 the seq, 1 the seq under another id, 2 a refusal, whose code is the value. Nearly every look-up
            // is for a key that is not there, and a filter that is seldom wrong spares reading for it.
            format!(
                "CREATE TABLE IF NOT EXISTS KS.message_keys (conversation blob, key blob, outcome int, value bigint, \
                 sender bigint, edge_time_ms bigint, position blob, PRIMARY KEY ((conversation, key))) \
                 WITH {once} AND {alone} AND bloom_filter_fp_chance = 0.001"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.conversation_heads (conversation blob PRIMARY KEY, position blob, \
                 seq bigint, applied bigint, visible bigint, edge_time_ms bigint) WITH {again} AND {alone}"
            ),
            // device 0: what the user has read. By user, not by conversation: a sync reads them of one user.
            format!(
                "CREATE TABLE IF NOT EXISTS KS.cursors (user bigint, device int, conversation blob, seq bigint, \
                 PRIMARY KEY ((user), device, conversation)) WITH {again}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.user_conversations (user bigint, conversation blob, \
                 PRIMARY KEY ((user), conversation)) WITH {once}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.devices (user bigint, device int, PRIMARY KEY ((user), device)) \
                 WITH {once} AND {alone}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.accounts (username text PRIMARY KEY, user bigint, password_hash text, \
                 created_ms bigint) WITH {once} AND {alone}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.token_versions (user bigint PRIMARY KEY, version bigint) \
                 WITH {again} AND {alone}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.snowflake_marks (worker int PRIMARY KEY, mark_ms bigint) \
                 WITH {again} AND {alone}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS KS.dead_letters (partition int, position blob, fault text, bytes blob, \
                 PRIMARY KEY ((partition), position)) WITH {once}"
            ),
        ],
        // A copy of each conversation's last seq for each of two users, so that a sync reads one partition, not a head for
        // each conversation. Null in rows of version 1: then the head is read.
        2 => vec![
            "ALTER TABLE KS.user_conversations ADD IF NOT EXISTS seq bigint".to_owned(),
            format!("ALTER TABLE KS.user_conversations WITH {again}"),
        ],
        // A node asks another replica where the first does not answer soon. By default it waits for as long as all but 1 % of
        // reads took, and where there were few, for half of its time-out: until a node that is lost is known as such, 10 s and
        // more, each quorum with it would take seconds.
        3 => TABLES
            .map(|table| format!("ALTER TABLE KS.{table} WITH speculative_retry = 'MIN(99p,200ms)'"))
            .into(),
        _ => Vec::new(),
    }
}

/// Creates or migrates the keyspace, and compares what it belongs to.
pub(super) async fn prepare(session: &Session, config: &Config, belongs: &Belongs) -> Result<(), Failure> {
    let keyspace = &config.keyspace;
    let exists = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let found = session.query_unpaged(exists, (keyspace,)).await?.into_rows_result()?;
    if found.rows_num() == 0 {
        let replication = config.replication.as_cql();
        let create = format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}");
        define(session, create).await?;
    }
    check_replication(session, config).await?;
    let meta = format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.meta (name text PRIMARY KEY, number bigint, bytes blob) WITH id = {}",
        table_id(keyspace, "meta")
    );
    define(session, meta).await?;
    let meta = Meta { session, keyspace, serial: config.consistency };
    loop {
        match meta.number(META_VERSION).await? {
            Some(VERSION) => break,
            Some(newer) if newer > VERSION => {
                return Err(Failure::Fatal(StartError(format!(
                    "the keyspace {keyspace} has schema version {newer}, this version of Petrel knows up to {VERSION}: \
                     start the newer version that migrated it, or name another keyspace"
                ))));
            }
            older if meta.lock().await? => {
                let migrated = migrate(session, keyspace, older.unwrap_or(0), &meta).await;
                meta.unlock().await?;
                migrated?;
            }
            _ => tokio::time::sleep(LOCK_RETRY).await,
        }
    }
    check_generation(&meta, belongs).await
}

/// Changes the schema.
pub(super) async fn define(session: &Session, statement: String) -> Result<(), ExecutionError> {
    let mut statement = Statement::new(statement);
    statement.set_request_timeout(Some(DEFINE));
    session.query_unpaged(statement, ()).await.map(drop)
}

async fn migrate(session: &Session, keyspace: &str, from: i64, meta: &Meta<'_>) -> Result<(), Failure> {
    for version in from + 1..=VERSION {
        tracing::info!(keyspace, version, "migrating the schema");
        for statement in steps(version) {
            define(session, statement.replace("KS.", &format!("{keyspace}."))).await?;
        }
        meta.set_number(META_VERSION, version).await?;
    }
    Ok(())
}

/// Refuses a consistency at which a read may miss what was written; says so where a crash may take back what counts as
/// written.
async fn check_replication(session: &Session, config: &Config) -> Result<(), Failure> {
    let keyspace = &config.keyspace;
    let query = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let rows = session.query_unpaged(query, (keyspace,)).await?.into_rows_result()?;
    let (replication,) = rows.single_row::<(HashMap<String, String>,)>()?;
    let replicas: u32 = replication.values().filter_map(|factor| factor.parse::<u32>().ok()).sum();
    if config.consistency == Consistency::One && replicas > 1 {
        return Err(Failure::Fatal(StartError(format!(
            "the keyspace {keyspace} has {replicas} replicas, and the consistency is ONE: what one replica has stored \
             another may not have when it is read, and messages would be lost; set LOCAL_QUORUM"
        ))));
    }
    let query = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
    let sync = match session.query_unpaged(query, ()).await {
        Ok(settings) => settings.into_rows_result()?.maybe_first_row::<(Option<String>,)>()?,
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Unauthorized, why))) => {
            tracing::warn!(
                keyspace,
                "Cassandra does not tell how it syncs ({why}): see that commitlog_sync is group or batch, else messages are \
                 lost when all replicas of a row lose power at once; GRANT SELECT ON system_views.settings lets it be asked"
            );
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some((sync,)) = sync
        && sync.as_deref() == Some("periodic")
    {
        tracing::warn!(
            keyspace,
            replicas,
            "Cassandra acknowledges writes before they are on disk (commitlog_sync: periodic): when all replicas of a \
             row lose power within that period, messages are lost; set commitlog_sync to group or batch"
        );
    }
    Ok(())
}

async fn check_generation(meta: &Meta<'_>, belongs: &Belongs) -> Result<(), Failure> {
    let (id, number) = (belongs.generation_id.as_slice(), i64::from(belongs.generation));
    let Some(written) = meta.claim(META_GENERATION, number, id).await? else { return Ok(()) };
    if written == (number, id.to_vec()) {
        return Ok(());
    }
    Err(Failure::Fatal(StartError(belongs.mismatch(
        &format!("the keyspace {}", meta.keyspace),
        "restore the bus that belongs to it, or name an empty keyspace",
        written.0 as u32,
        &written.1,
    ))))
}

/// The rows that say what the keyspace is.
struct Meta<'a> {
    session: &'a Session,
    keyspace: &'a str,
    serial: Consistency,
}

impl Meta<'_> {
    async fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let query = format!("SELECT number FROM {}.meta WHERE name = ?", self.keyspace);
        let rows = self.session.query_unpaged(query, (name,)).await?.into_rows_result()?;
        Ok(rows.maybe_first_row::<(Option<i64>,)>()?.and_then(|(number,)| number))
    }

    async fn set_number(&self, name: &str, number: i64) -> Result<(), Failure> {
        let query = format!("INSERT INTO {}.meta (name, number) VALUES (?, ?)", self.keyspace);
        self.session.query_unpaged(query, (name, number)).await?;
        Ok(())
    }

    /// Writes the row where it is not there; else answers what is.
    async fn claim(&self, name: &str, number: i64, bytes: &[u8]) -> Result<Option<(i64, Vec<u8>)>, Failure> {
        let query = format!(
            "INSERT INTO {}.meta (name, number, bytes) VALUES (?, ?, ?) IF NOT EXISTS",
            self.keyspace
        );
        if self.applies(query, (name, number, bytes)).await? {
            return Ok(None);
        }
        let query = format!("SELECT number, bytes FROM {}.meta WHERE name = ?", self.keyspace);
        let rows = self.session.query_unpaged(query, (name,)).await?.into_rows_result()?;
        let (number, bytes) = rows.single_row::<(Option<i64>, Option<Vec<u8>>)>()?;
        Ok(Some((number.unwrap_or(0), bytes.unwrap_or_default())))
    }

    /// True: this process holds the lock, until it gives it up or dies and [`LOCK_S`] pass.
    async fn lock(&self) -> Result<bool, Failure> {
        let query = format!(
            "INSERT INTO {}.meta (name, number) VALUES ('{META_LOCK}', 1) IF NOT EXISTS USING TTL {LOCK_S}",
            self.keyspace
        );
        self.applies(query, ()).await
    }

    async fn unlock(&self) -> Result<(), Failure> {
        let query = format!("DELETE FROM {}.meta WHERE name = '{META_LOCK}' IF EXISTS", self.keyspace);
        self.applies(query, ()).await.map(drop)
    }

    /// Whether a conditional statement was carried out: the first column of its answer.
    async fn applies(
        &self,
        query: String,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> Result<bool, Failure> {
        let mut statement = Statement::new(query);
        statement.set_serial_consistency(Some(self.serial.serial()));
        let rows = self.session.query_unpaged(statement, values).await?.into_rows_result()?;
        let row = rows.first_row::<scylla::value::Row>()?;
        let applied =
            row.columns.first().and_then(Option::as_ref).and_then(scylla::value::CqlValue::as_boolean);
        Ok(applied == Some(true))
    }
}

/// An id for a table that two nodes give alike, so that two processes which create it at once create one.
fn table_id(keyspace: &str, table: &str) -> String {
    let half = |salt: &str| hash(format!("{salt} {keyspace}.{table}").as_bytes());
    let (high, low) = (half("high"), half("low"));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
