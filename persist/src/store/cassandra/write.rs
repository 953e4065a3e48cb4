//! What the log decided, in its order of effects, and cursors. A write that fails is tried again in place for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::sequencer::{
    Batch, DeadLetter, Head, KeyId, KeyRow, Member, MessageRow, Outcome, Recall, RowBody,
};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch as Statements, BatchType};

use super::metrics::METRICS;
use super::statements::Statement;
use super::{Cassandra, Client, PAUSE_MAX};
use crate::status::STORE;
use crate::store::{CursorId, KnownHead, StoreError, keys};

/// The bucket of a seq: a partition of `messages` has this many. Never changes: it is part of every key.
const BUCKET_SEQS: u64 = 1_024;
/// Bytes of contents in one batch of a partition: far below what a server takes as one mutation (16 MiB by default).
const BATCH_BYTES: usize = 256 << 10;

pub(super) fn bucket(seq: u64) -> i64 {
    (seq / BUCKET_SEQS) as i64
}

/// The first and last seq of a bucket.
pub(super) fn bounds(bucket: i64) -> (u64, u64) {
    let first = bucket as u64 * BUCKET_SEQS;
    (first, first + BUCKET_SEQS - 1)
}

/// One request.
#[derive(Debug)]
enum Write<'a> {
    /// Messages of one partition.
    Messages(Vec<&'a MessageRow>),
    RecallRow(&'a MessageRow),
    Recall(&'a Recall),
    Key(&'a KeyId, &'a KeyRow),
    Member(Member),
    DeadLetter(&'a DeadLetter),
    Head(ConversationId, Head),
    /// Cursors of one user.
    Cursors(&'a [(CursorId, u64)]),
    Device(UserId, Device),
}

impl Cassandra {
    /// Writes everything but the heads; when that is confirmed, the heads.
    pub(crate) fn commit(&self, batches: &[Arc<Batch>]) -> Result<(), StoreError> {
        let batches = batches.to_vec();
        self.wait(|client| async move {
            client.write_all(effects(&batches)).await?;
            let heads = batches.iter().flat_map(|batch| &batch.heads);
            client
                .write_all(heads.map(|(conversation, head)| Write::Head(*conversation, *head)).collect())
                .await
        })
    }

    /// Raises cursors, clamped to the heads: to `known` ones where there are.
    pub(crate) fn advance(
        &self,
        cursors: &[(CursorId, u64)],
        known: &KnownHead<'_>,
    ) -> Result<(), StoreError> {
        let heads = cursors.iter().map(|(id, _)| (id.conversation, known(id.conversation)));
        let heads: HashMap<_, _> = heads.collect();
        let unknown: Vec<_> = heads.iter().filter(|(_, seq)| seq.is_none()).map(|(id, _)| *id).collect();
        let read = self.heads(&unknown)?.into_iter().map(|head| head.map_or(0, |head| head.seq));
        let read: HashMap<_, _> = unknown.into_iter().zip(read).collect();
        let head = |id| heads.get(&id).copied().flatten().or_else(|| read.get(&id).copied()).unwrap_or(0);
        let mut clamped: Vec<_> =
            cursors.iter().map(|(id, seq)| (*id, (*seq).min(head(id.conversation)))).collect();
        clamped.retain(|(_, seq)| *seq > 0);
        clamped.sort_unstable();
        self.wait(|client| async move { client.write_all(by_user(&clamped)).await })
    }

    /// The cursors first: a device whose cursors were not written is registered again.
    pub(crate) fn register(
        &self,
        user: UserId,
        device: Device,
        cursors: &[(CursorId, u64)],
    ) -> Result<(), StoreError> {
        self.advance(cursors, &|_| None)?;
        self.wait(|client| async move { client.write_all(vec![Write::Device(user, device)]).await })
    }
}

/// Everything of these batches but their heads.
fn effects(batches: &[Arc<Batch>]) -> Vec<Write<'_>> {
    let mut writes = Vec::new();
    for batch in batches {
        messages(&batch.messages, &mut writes);
        writes.extend(batch.recalls.iter().map(Write::Recall));
        writes.extend(batch.keys.iter().map(|(id, row)| Write::Key(id, row)));
        writes.extend(batch.members.iter().map(|member| Write::Member(*member)));
        writes.extend(batch.dead_letters.iter().map(Write::DeadLetter));
    }
    writes
}

/// Messages of one partition go together, up to a bound.
fn messages<'a>(rows: &'a [MessageRow], writes: &mut Vec<Write<'a>>) {
    let mut groups: HashMap<(ConversationId, i64), (Vec<&MessageRow>, usize)> = HashMap::new();
    for row in rows {
        let RowBody::Message(message) = &row.body else {
            writes.push(Write::RecallRow(row));
            continue;
        };
        let (group, bytes) = groups.entry((row.conversation, bucket(row.seq))).or_default();
        if *bytes > 0 && *bytes + message.content.len() > BATCH_BYTES {
            writes.push(Write::Messages(std::mem::take(group)));
            *bytes = 0;
        }
        *bytes += message.content.len().max(1);
        group.push(row);
    }
    writes.extend(groups.into_values().map(|(group, _)| Write::Messages(group)));
}

/// Sorted cursors, those of one user together.
fn by_user(cursors: &[(CursorId, u64)]) -> Vec<Write<'_>> {
    let users = cursors.chunk_by(|one, other| one.0.user == other.0.user);
    users.flat_map(|cursors| cursors.chunks(limits::STORE_BATCH_ROWS)).map(Write::Cursors).collect()
}

impl Client {
    /// Returns when all of them are confirmed, in whatever order. One that fails is tried again until it is done, and
    /// nothing else happens meanwhile; an error is that persist stops.
    async fn write_all(&self, writes: Vec<Write<'_>>) -> Result<(), StoreError> {
        let mut left = writes;
        let mut pause = Duration::from_millis(10);
        loop {
            let (all, mut failed, mut first) = (left.len(), Vec::new(), None);
            let mut waiting = left.into_iter();
            let mut under_way: FuturesUnordered<_> = waiting
                .by_ref()
                .take(limits::STORE_WRITES_IN_FLIGHT)
                .map(|write| self.attempt(write))
                .collect();
            while let Some(outcome) = under_way.next().await {
                if let Err((write, error)) = outcome {
                    failed.push(write);
                    first.get_or_insert(error);
                }
                under_way.extend(waiting.next().map(|write| self.attempt(write)));
            }
            drop(under_way);
            let Some(error) = first else {
                self.health.works(STORE);
                return Ok(());
            };
            METRICS.retries.inc_by(failed.len() as u64);
            self.health.waits(
                STORE,
                format!("{} of {all} writes failed, first {error}; trying again", failed.len()),
            );
            if self.stopping.is_begun() {
                return Err(StoreError::Stopped);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            left = failed;
        }
    }

    async fn attempt<'a>(&self, write: Write<'a>) -> Result<(), (Write<'a>, StoreError)> {
        let done = match &write {
            Write::Messages(rows) => self.write_messages(rows).await,
            Write::RecallRow(row) => self.write_recall_row(row).await,
            Write::Recall(recall) => self.mark_recalled(recall).await,
            Write::Key(id, row) => self.write_key(id, row).await,
            Write::Member(Member { user, conversation }) => {
                let id = conversation.to_bytes();
                self.execute(&self.statements.insert_member, (user.0 as i64, &id[..])).await.map(drop)
            }
            Write::DeadLetter(dead) => {
                let (position, fault) = (dead.position.to_bytes(), dead.fault.to_string());
                let values = (i32::from(dead.partition), &position[..], &fault, &dead.bytes[..]);
                self.execute(&self.statements.insert_dead_letter, values).await.map(drop)
            }
            Write::Head(conversation, head) => self.write_head(*conversation, head).await,
            Write::Cursors(cursors) => self.write_cursors(cursors).await,
            Write::Device(user, device) => {
                let values = (user.0 as i64, *device as i32);
                self.execute(&self.statements.insert_device, values).await.map(drop)
            }
        };
        done.map_err(|error| (write, error))
    }

    async fn write_messages(&self, rows: &[&MessageRow]) -> Result<(), StoreError> {
        let statement = &self.statements.insert_message;
        let ids: Vec<_> = rows.iter().map(|row| row.conversation.to_bytes()).collect();
        let values = rows.iter().zip(&ids).filter_map(|(row, id)| match &row.body {
            RowBody::Message(m) => Some((
                &id[..],
                bucket(row.seq),
                row.seq as i64,
                row.sender.0 as i64,
                row.device as i32,
                row.edge_time_ms as i64,
                row.visible as i64,
                m.msg_id as i64,
                &m.client_msg_id[..],
                m.format,
                m.time as i64,
                m.content.as_str(),
                row.applied as i64,
            )),
            RowBody::Recall(_) => None,
        });
        self.batch(statement, values.collect()).await
    }

    async fn write_recall_row(&self, row: &MessageRow) -> Result<(), StoreError> {
        let RowBody::Recall(recalled) = &row.body else { unreachable!("messages are written apart") };
        let id = row.conversation.to_bytes();
        let values = (
            &id[..],
            bucket(row.seq),
            row.seq as i64,
            row.sender.0 as i64,
            row.device as i32,
            row.edge_time_ms as i64,
            row.visible as i64,
            recalled.msg_id as i64,
            recalled.target_seq as i64,
            row.applied as i64,
        );
        self.execute(&self.statements.insert_recall, values).await.map(drop)
    }

    async fn mark_recalled(&self, recall: &Recall) -> Result<(), StoreError> {
        let (id, position) = (recall.conversation.to_bytes(), recall.position.to_bytes());
        let target = (&id[..], bucket(recall.target_seq), recall.target_seq as i64);
        let values = (recall.applied as i64, recall.seq as i64, &position[..], target.0, target.1, target.2);
        self.execute(&self.statements.mark_recalled, values).await.map(drop)
    }

    async fn write_key(&self, id: &KeyId, row: &KeyRow) -> Result<(), StoreError> {
        let (outcome, value) = match row.outcome {
            Outcome::Seq(seq) => (0, seq as i64),
            Outcome::Alias(seq) => (1, seq as i64),
            Outcome::Refused(code) => (2, i64::from(code)),
        };
        let (key, position) = (keys::message_key(id), row.position.to_bytes());
        let values = (
            key.conversation(),
            key.rest(),
            outcome,
            value,
            row.sender.0 as i64,
            row.edge_time_ms as i64,
            &position[..],
            row.applied as i64,
        );
        self.execute(&self.statements.insert_key, values).await.map(drop)
    }

    async fn write_head(&self, conversation: ConversationId, head: &Head) -> Result<(), StoreError> {
        let (id, position) = (conversation.to_bytes(), head.position.to_bytes());
        let Head { seq, applied, visible, edge_time_ms, .. } = *head;
        let values = (
            &id[..],
            &position[..],
            seq as i64,
            applied as i64,
            visible as i64,
            edge_time_ms as i64,
            applied as i64,
        );
        self.execute(&self.statements.insert_head, values).await.map(drop)
    }

    async fn write_cursors(&self, cursors: &[(CursorId, u64)]) -> Result<(), StoreError> {
        let statement = &self.statements.raise_cursor;
        let ids: Vec<_> = cursors.iter().map(|(id, _)| id.conversation.to_bytes()).collect();
        let values = cursors.iter().zip(&ids).map(|((id, seq), conversation)| {
            let device = id.device.map_or(0, |device| device as i32);
            (*seq as i64, *seq as i64, id.user.0 as i64, device, &conversation[..])
        });
        self.batch(statement, values.collect()).await
    }

    /// One statement with each of these values, which are all of one partition.
    async fn batch<V: SerializeRow>(&self, statement: &Statement, values: Vec<V>) -> Result<(), StoreError> {
        if let [values] = &values[..] {
            return self.execute(statement, values).await.map(drop);
        }
        let mut batch = Statements::new(BatchType::Unlogged);
        (0..values.len()).for_each(|_| batch.append_statement(statement.prepared.clone()));
        batch.set_is_idempotent(true);
        let session = self.connection.session();
        self.measured(statement, session.batch(&batch, values)).await.map(drop)
    }
}
