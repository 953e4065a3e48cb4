//! What the log decided, in its order of effects, and cursors. A write that fails is tried again in place for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::sequencer::{
    Batch, DeadLetter, Head, KeyId, KeyRow, MessageRow, Outcome, Recall, RowBody,
};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch as Statements, BatchType};

use super::bundles::{Group, Replicas, bundles};
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
    Messages(Vec<&'a MessageRow>),
    RecallRow(&'a MessageRow),
    Recall(&'a Recall),
    Keys(Vec<&'a (KeyId, KeyRow)>),
    DeadLetter(&'a DeadLetter),
    Heads(Vec<&'a (ConversationId, Head)>),
    Listed(Vec<Listed>),
    Cursors(Vec<&'a (CursorId, u64)>),
    Device(UserId, Device),
}

/// A conversation in a user's list, with its last seq.
#[derive(Clone, Copy, Debug)]
struct Listed {
    user: UserId,
    conversation: ConversationId,
    seq: u64,
    applied: u64,
}

impl Cassandra {
    /// Writes everything but the heads; when that is confirmed, the heads, and with them the seqs in users' lists. A list
    /// that was written is never ahead of the messages; one that was not is written again with the replay, since nothing
    /// is acknowledged before.
    pub(crate) fn commit(&self, batches: &[Arc<Batch>]) -> Result<(), StoreError> {
        let batches = batches.to_vec();
        self.wait(|client| async move {
            client.write_all(client.effects(&batches)).await?;
            client.write_all(client.heads_and_lists(&batches)).await
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
        self.wait(|client| async move { client.write_all(client.by_user(&clamped)).await })
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

/// What a server counts for a row besides its contents, roughly.
const ROW_BYTES: usize = 250;

impl Client {
    /// Everything of these batches but their heads.
    fn effects<'a>(&self, batches: &'a [Arc<Batch>]) -> Vec<Write<'a>> {
        let replicas = self.replicas();
        let mut writes = Vec::new();
        let rows = batches.iter().flat_map(|batch| &batch.messages);
        let (messages, recalls): (Vec<_>, Vec<_>) =
            rows.partition(|row| matches!(row.body, RowBody::Message(_)));
        writes.extend(recalls.into_iter().map(Write::RecallRow));
        let messages = bundles(self.by_partition(&replicas, messages));
        writes.extend(messages.into_iter().map(|groups| Write::Messages(groups.concat())));
        let keys = batches.iter().flat_map(|batch| &batch.keys).map(|key| {
            let of_key = keys::message_key(&key.0);
            let node = replicas.first(&self.statements.select_key, (of_key.conversation(), of_key.rest()));
            Group { node, bytes: ROW_BYTES, rows: key }
        });
        writes.extend(bundles(keys).into_iter().map(Write::Keys));
        for batch in batches {
            writes.extend(batch.recalls.iter().map(Write::Recall));
            writes.extend(batch.dead_letters.iter().map(Write::DeadLetter));
        }
        writes
    }

    /// Messages of one partition, up to a bound.
    fn by_partition<'a>(
        &self,
        replicas: &Replicas,
        rows: Vec<&'a MessageRow>,
    ) -> Vec<Group<Vec<&'a MessageRow>>> {
        let mut groups = Vec::new();
        let mut open: HashMap<(ConversationId, i64), Group<Vec<&MessageRow>>> = HashMap::new();
        for row in rows {
            let RowBody::Message(message) = &row.body else { unreachable!("recalls are written apart") };
            let partition = (row.conversation, bucket(row.seq));
            let bytes = ROW_BYTES + message.content.len();
            let group = open.entry(partition).or_insert_with(|| {
                let id = row.conversation.to_bytes();
                let values = (&id[..], partition.1, row.seq as i64);
                let node = replicas.first(&self.statements.select_target, values);
                Group { node, bytes: 0, rows: Vec::new() }
            });
            if group.bytes > 0 && group.bytes + bytes > BATCH_BYTES {
                let rows = std::mem::take(&mut group.rows);
                groups.push(Group { node: group.node, bytes: std::mem::take(&mut group.bytes), rows });
            }
            group.bytes += bytes;
            group.rows.push(row);
        }
        groups.extend(open.into_values());
        groups
    }

    /// Heads, and the same seqs in the lists of both users.
    fn heads_and_lists<'a>(&self, batches: &'a [Arc<Batch>]) -> Vec<Write<'a>> {
        let replicas = self.replicas();
        let heads = || batches.iter().flat_map(|batch| &batch.heads);
        let groups = heads().map(|head| {
            let id = head.0.to_bytes();
            let node = replicas.first(&self.statements.select_head, (&id[..],));
            Group { node, bytes: ROW_BYTES, rows: head }
        });
        let listed = heads().filter(|(_, head)| head.seq > 0).flat_map(|(conversation, head)| {
            let users = match *conversation {
                ConversationId::C2C(one, other) => vec![one, other],
                // There are no groups yet; their members are not in the conversation's name.
                ConversationId::Group(_) => Vec::new(),
            };
            let (conversation, seq, applied) = (*conversation, head.seq, head.applied);
            users.into_iter().map(move |user| Listed { user, conversation, seq, applied })
        });
        let lists = listed.map(|listed| {
            let node = replicas.first(&self.statements.select_devices, (listed.user.0 as i64,));
            Group { node, bytes: ROW_BYTES / 2, rows: listed }
        });
        let heads = bundles(groups).into_iter().map(Write::Heads);
        heads.chain(bundles(lists).into_iter().map(Write::Listed)).collect()
    }

    /// Sorted cursors, those of one user together.
    fn by_user<'a>(&self, cursors: &'a [(CursorId, u64)]) -> Vec<Write<'a>> {
        let replicas = self.replicas();
        let users = cursors.chunk_by(|one, other| one.0.user == other.0.user);
        let groups = users.flat_map(|cursors| cursors.chunks(limits::STORE_BATCH_ROWS)).map(|cursors| {
            let node = replicas.first(&self.statements.select_devices, (cursors[0].0.user.0 as i64,));
            Group { node, bytes: cursors.len() * ROW_BYTES / 2, rows: cursors }
        });
        let bundles = bundles(groups).into_iter();
        bundles.map(|groups| Write::Cursors(groups.into_iter().flatten().collect())).collect()
    }

    fn replicas(&self) -> Replicas {
        self.connection.replicas()
    }

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
            Write::Keys(keys) => self.write_keys(keys).await,
            Write::DeadLetter(dead) => {
                let (position, fault) = (dead.position.to_bytes(), dead.fault.to_string());
                let values = (i32::from(dead.partition), &position[..], &fault, &dead.bytes[..]);
                self.execute(&self.statements.insert_dead_letter, values).await.map(drop)
            }
            Write::Heads(heads) => self.write_heads(heads).await,
            Write::Listed(listed) => self.write_listed(listed).await,
            Write::Cursors(cursors) => self.write_cursors(cursors).await,
            Write::Device(user, device) => {
                let values = (user.0 as i64, *device as i32);
                self.execute(&self.statements.insert_device, values).await.map(drop)
            }
        };
        done.map_err(|error| (write, error))
    }

    async fn write_messages(&self, rows: &[&MessageRow]) -> Result<(), StoreError> {
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
        self.batch(&self.statements.insert_message, values.collect()).await
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

    async fn write_keys(&self, rows: &[&(KeyId, KeyRow)]) -> Result<(), StoreError> {
        let ids: Vec<_> =
            rows.iter().map(|(id, row)| (keys::message_key(id), row.position.to_bytes())).collect();
        let values = rows.iter().zip(&ids).map(|((_, row), (key, position))| {
            let (outcome, value) = match row.outcome {
                Outcome::Seq(seq) => (0, seq as i64),
                Outcome::Alias(seq) => (1, seq as i64),
                Outcome::Refused(code) => (2, i64::from(code)),
            };
            let KeyRow { applied, edge_time_ms, sender, .. } = *row;
            (
                key.conversation(),
                key.rest(),
                outcome,
                value,
                sender.0 as i64,
                edge_time_ms as i64,
                &position[..],
                applied as i64,
            )
        });
        self.batch(&self.statements.insert_key, values.collect()).await
    }

    async fn write_heads(&self, rows: &[&(ConversationId, Head)]) -> Result<(), StoreError> {
        let ids: Vec<_> = rows.iter().map(|(id, head)| (id.to_bytes(), head.position.to_bytes())).collect();
        let values = rows.iter().zip(&ids).map(|((_, head), (id, position))| {
            let Head { seq, applied, visible, edge_time_ms, .. } = *head;
            (
                &id[..],
                &position[..],
                seq as i64,
                applied as i64,
                visible as i64,
                edge_time_ms as i64,
                applied as i64,
            )
        });
        self.batch(&self.statements.insert_head, values.collect()).await
    }

    async fn write_listed(&self, rows: &[Listed]) -> Result<(), StoreError> {
        let ids: Vec<_> = rows.iter().map(|row| row.conversation.to_bytes()).collect();
        let values = rows
            .iter()
            .zip(&ids)
            .map(|(row, id)| (row.user.0 as i64, &id[..], row.seq as i64, row.applied as i64));
        self.batch(&self.statements.list_conversation, values.collect()).await
    }

    async fn write_cursors(&self, cursors: &[&(CursorId, u64)]) -> Result<(), StoreError> {
        let ids: Vec<_> = cursors.iter().map(|(id, _)| id.conversation.to_bytes()).collect();
        let values = cursors.iter().zip(&ids).map(|((id, seq), conversation)| {
            let device = id.device.map_or(0, |device| device as i32);
            (*seq as i64, *seq as i64, id.user.0 as i64, device, &conversation[..])
        });
        self.batch(&self.statements.raise_cursor, values.collect()).await
    }

    /// Rows as one request.
    async fn batch<T: SerializeRow>(&self, statement: &Statement, rows: Vec<T>) -> Result<(), StoreError> {
        if let [values] = &rows[..] {
            return self.execute(statement, values).await.map(drop);
        }
        let mut batch = Statements::new(BatchType::Unlogged);
        (0..rows.len()).for_each(|_| batch.append_statement(statement.prepared.clone()));
        batch.set_is_idempotent(true);
        let session = self.connection.session();
        self.measured(statement, session.batch(&batch, rows)).await.map(drop)
    }
}
