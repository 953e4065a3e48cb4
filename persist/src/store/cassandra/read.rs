//! What is read, single partitions each, many at once. A read is tried once at each node that may answer: who asked decides
//! what follows.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use petrel_protocol::events::{Message, Recalled};
use petrel_protocol::ids::{ConversationId, Device, Position, UserId};
use petrel_protocol::limits;
use petrel_protocol::sequencer::{
    Head, Key, KeyId, KeyRow, Loaded, Loads, MessageRow, Outcome, RowBody, Target,
};
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;

use super::bundles::{Group, bundles};
use super::statements::Statement;
use super::write::{bounds, bucket};
use super::{Cassandra, Client};
use crate::store::{SeqRange, ShownRow, StoreError, keys};

/// A page of rows, and where the next one begins.
type Page<T> = (Vec<T>, Option<PagingState>);

impl Cassandra {
    pub(crate) fn load(&self, loads: &Loads) -> Result<Loaded, StoreError> {
        let Loads { heads, keys, targets } = loads.clone();
        self.wait(|client| async move {
            let client = &*client;
            Ok(Loaded {
                heads: client.heads(heads).await?,
                keys: all(keys, |id| client.key(id)).await?,
                targets: all(targets, |(id, seq)| client.target(id, seq)).await?,
            })
        })
    }

    pub(crate) fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>, StoreError> {
        if conversations.is_empty() {
            return Ok(Vec::new());
        }
        let conversations = conversations.to_vec();
        self.wait(|client| async move { client.heads(conversations).await })
    }

    pub(crate) fn message_key(
        &self,
        conversation: ConversationId,
        msg_id: u64,
    ) -> Result<Option<KeyRow>, StoreError> {
        let id = KeyId { conversation, key: Key::Message(msg_id) };
        self.wait(|client| async move { client.key(id).await })
    }

    pub(crate) fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreError> {
        self.wait(|client| async move {
            let statement = &client.statements.select_devices;
            let rows: Vec<(i32,)> = client.rows(statement, (user.0 as i64,)).await?;
            let device = |(number,): (i32,)| Device::from_number(number as u32);
            let devices = rows.into_iter().map(|row| device(row).ok_or_else(|| damaged(statement, "device")));
            devices.collect()
        })
    }

    pub(crate) fn conversations(
        &self,
        user: UserId,
        from: Option<ConversationId>,
        count: usize,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        self.wait(|client| async move {
            let statement = &client.statements.select_conversations;
            let from = from.map_or_else(Vec::new, |from| from.to_bytes().to_vec());
            let (mut conversations, mut next) = (Vec::new(), Some(PagingState::start()));
            while let Some(page) = next.take().filter(|_| conversations.len() < count) {
                let (rows, after): Page<(Bytes, Option<i64>)> =
                    client.page(statement, (user.0 as i64, &from[..]), page).await?;
                next = after;
                let left = count - conversations.len();
                for (id, seq) in rows.into_iter().take(left) {
                    conversations.push((conversation(statement, &id)?, seq.map(|seq| seq as u64)));
                }
            }
            client.with_heads(conversations).await
        })
    }

    pub(crate) fn cursors(
        &self,
        user: UserId,
        device: Device,
        first: ConversationId,
        last: ConversationId,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        self.wait(|client| async move {
            let statement = &client.statements.select_cursors;
            let (first, last) = (first.to_bytes(), last.to_bytes());
            let values = (user.0 as i64, device as i32, &first[..], &last[..]);
            let (mut cursors, mut next) = (Vec::new(), Some(PagingState::start()));
            while let Some(page) = next.take() {
                let (rows, after): Page<(Bytes, i64)> = client.page(statement, values, page).await?;
                next = after;
                for (id, seq) in rows {
                    cursors.push((conversation(statement, &id)?, seq as u64));
                }
            }
            Ok(cursors)
        })
    }

    /// Page by page, bucket by bucket; between two pages the caller says whether it wants more.
    pub(crate) fn rows(
        &self,
        id: ConversationId,
        from_seq: u64,
        to_seq: u64,
        take: &mut dyn FnMut(ShownRow) -> bool,
    ) -> Result<(), StoreError> {
        for bucket in bucket(from_seq)..=bucket(to_seq) {
            let (first, last) = bounds(bucket);
            let (first, last) = (first.max(from_seq), last.min(to_seq));
            let mut next = Some(PagingState::start());
            while let Some(page) = next.take() {
                let (rows, after) =
                    self.wait(|client| async move { client.messages(id, bucket, first, last, page).await })?;
                next = after;
                for row in rows {
                    if !take(row) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`Self::rows`] for several ranges in turn. The first pages of some of them are read at once.
    pub(crate) fn ranges(
        &self,
        ranges: &[SeqRange],
        take: &mut dyn FnMut(usize, ShownRow) -> bool,
    ) -> Result<(), StoreError> {
        for (chunk, ranges) in ranges.chunks(limits::STORE_RANGES_AHEAD).enumerate() {
            let begun = ranges.to_vec();
            let pages = self.wait(|client| async move {
                let client = &*client;
                all(begun, |range| async move {
                    let bucket = bucket(range.from_seq);
                    let last = range.to_seq.min(bounds(bucket).1);
                    let first = PagingState::start();
                    client.messages(range.conversation, bucket, range.from_seq, last, first).await
                })
                .await
            })?;
            for (index, (range, (rows, next))) in ranges.iter().zip(pages).enumerate() {
                let index = chunk * limits::STORE_RANGES_AHEAD + index;
                // The next page begins after the last row, or, where the bucket is read to its end, after that.
                let read_to = rows.last().filter(|_| next.is_some()).map(|row| row.row.seq);
                let read_to = read_to.unwrap_or_else(|| bounds(bucket(range.from_seq)).1);
                for row in rows {
                    if !take(index, row) {
                        return Ok(());
                    }
                }
                let mut wants_more = true;
                if read_to < range.to_seq {
                    self.rows(range.conversation, read_to + 1, range.to_seq, &mut |row| {
                        wants_more = take(index, row);
                        wants_more
                    })?;
                }
                if !wants_more {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// One row of `select_head` and `select_heads`.
type HeadColumns = (Bytes, Bytes, i64, i64, i64, i64);

/// One row of `select_rows`.
type RowColumns = (
    i64,
    Option<i32>,
    Option<i64>,
    Option<i32>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Bytes>,
    Option<i32>,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// One row of `select_target`.
type TargetColumns =
    (Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<Bytes>, Option<i64>, Option<Bytes>);

impl Client {
    /// Heads in the order of `conversations`, several in one request.
    async fn heads(&self, conversations: Vec<ConversationId>) -> Result<Vec<Option<Head>>, StoreError> {
        let replicas = self.connection.replicas();
        let groups = conversations.iter().map(|conversation| {
            let id = conversation.to_bytes();
            let node = replicas.first(&self.statements.select_head, (&id[..],));
            Group { node, bytes: 0, rows: id }
        });
        let read = all(bundles(groups), |ids| self.some_heads(ids)).await?;
        let found: HashMap<_, _> = read.into_iter().flatten().collect();
        Ok(conversations.into_iter().map(|conversation| found.get(&conversation).copied()).collect())
    }

    /// Those of these heads that are there, in any order.
    async fn some_heads(&self, ids: Vec<[u8; 17]>) -> Result<Vec<(ConversationId, Head)>, StoreError> {
        let statements = &self.statements;
        // A request for one goes to its replica.
        let (statement, rows): (_, Vec<HeadColumns>) = match &ids[..] {
            [id] => (&statements.select_head, self.rows(&statements.select_head, (&id[..],)).await?),
            ids => {
                let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
                (&statements.select_heads, self.rows(&statements.select_heads, (ids,)).await?)
            }
        };
        let head = |(id, place, seq, applied, visible, edge_time_ms): HeadColumns| {
            let head = Head {
                position: position(statement, &place)?,
                seq: seq as u64,
                applied: applied as u64,
                visible: visible as u64,
                edge_time_ms: edge_time_ms as u64,
            };
            Ok((conversation(statement, &id)?, head))
        };
        rows.into_iter().map(head).collect()
    }

    /// Reads the heads of those conversations whose seq no list has, since an older version wrote it.
    async fn with_heads(
        &self,
        listed: Vec<(ConversationId, Option<u64>)>,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        let unknown = listed.iter().filter(|(_, seq)| seq.is_none()).map(|(id, _)| *id).collect();
        let mut heads = self.heads(unknown).await?.into_iter();
        let known = |(id, seq): (ConversationId, Option<u64>)| {
            let read = || heads.next().flatten().map_or(0, |head| head.seq);
            (id, seq.unwrap_or_else(read))
        };
        Ok(listed.into_iter().map(known).collect())
    }

    async fn key(&self, id: KeyId) -> Result<Option<KeyRow>, StoreError> {
        let statement = &self.statements.select_key;
        let key = keys::message_key(&id);
        let row: Option<(i32, i64, i64, i64, Bytes, i64)> =
            self.row(statement, (key.conversation(), key.rest())).await?;
        let Some((outcome, value, sender, edge_time_ms, place, applied)) = row else { return Ok(None) };
        let outcome = match outcome {
            0 => Outcome::Seq(value as u64),
            1 => Outcome::Alias(value as u64),
            2 => Outcome::Refused(value as i32),
            _ => return Err(damaged(statement, "outcome")),
        };
        Ok(Some(KeyRow {
            applied: applied as u64,
            position: position(statement, &place)?,
            edge_time_ms: edge_time_ms as u64,
            sender: UserId(sender as u64),
            outcome,
        }))
    }

    async fn target(&self, conversation: ConversationId, seq: u64) -> Result<Option<Target>, StoreError> {
        let statement = &self.statements.select_target;
        let id = conversation.to_bytes();
        let row: Option<TargetColumns> = self.row(statement, (&id[..], bucket(seq), seq as i64)).await?;
        let Some((kind, Some(sender), edge_time_ms, msg_id, client_msg_id, recall_seq, recall_position)) =
            row
        else {
            return Ok(None);
        };
        if kind != Some(0) {
            return Err(damaged(statement, "kind"));
        }
        let recalled = match (recall_seq, recall_position) {
            (Some(seq), Some(place)) => Some((seq as u64, position(statement, &place)?)),
            _ => None,
        };
        Ok(Some(Target {
            sender: UserId(sender as u64),
            edge_time_ms: edge_time_ms.unwrap_or(0) as u64,
            msg_id: msg_id.unwrap_or(0) as u64,
            client_msg_id: client_msg_id.unwrap_or_default(),
            recalled,
        }))
    }

    async fn messages(
        &self,
        conversation: ConversationId,
        bucket: i64,
        first: u64,
        last: u64,
        page: PagingState,
    ) -> Result<Page<ShownRow>, StoreError> {
        let statement = &self.statements.select_rows;
        let id = conversation.to_bytes();
        let values = (&id[..], bucket, first as i64, last as i64);
        let (rows, next): Page<RowColumns> = self.page(statement, values, page).await?;
        let shown =
            rows.into_iter().filter_map(|columns| shown(statement, conversation, columns).transpose());
        Ok((shown.collect::<Result<_, _>>()?, next))
    }

    /// The one row of a partition, or none.
    pub(super) async fn row<T>(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<Option<T>, StoreError>
    where
        T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let rows = rows_of(statement, self.execute(statement, values).await?)?;
        rows.maybe_first_row::<T>().map_err(|error| unreadable(statement, &error))
    }

    /// All rows of a small partition.
    pub(super) async fn rows<T>(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<Vec<T>, StoreError>
    where
        T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        collect(statement, &rows_of(statement, self.execute(statement, values).await?)?)
    }

    /// Some rows of a large one.
    async fn page<T>(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
        page: PagingState,
    ) -> Result<Page<T>, StoreError>
    where
        T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let session = self.connection.session();
        let request = session.execute_single_page(&statement.prepared, values, page);
        let (result, after) = self.measured(statement, request).await?;
        let next = match after {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((collect(statement, &rows_of(statement, result)?)?, next))
    }
}

/// Reads for all of these, many at once, answers in their order.
async fn all<I, T, F>(ids: Vec<I>, read: impl FnMut(I) -> F) -> Result<Vec<T>, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    stream::iter(ids.into_iter().map(read)).buffered(limits::STORE_READS_IN_FLIGHT).try_collect().await
}

/// None where there is only the mark of a recall: the message itself is not written yet.
fn shown(
    statement: &Statement,
    conversation: ConversationId,
    columns: RowColumns,
) -> Result<Option<ShownRow>, StoreError> {
    let (
        seq,
        kind,
        sender,
        device,
        edge_time_ms,
        visible,
        msg_id,
        client_msg_id,
        format,
        time,
        content,
        target_seq,
        recall_seq,
        applied,
    ) = columns;
    let Some(sender) = sender else { return Ok(None) };
    let number = |column: Option<i64>| column.unwrap_or(0) as u64;
    let is_recalled = recall_seq.is_some();
    let body = match kind {
        Some(0) => RowBody::Message(Message {
            client_msg_id: client_msg_id.unwrap_or_default(),
            msg_id: number(msg_id),
            format: format.unwrap_or(0),
            content: content.filter(|_| !is_recalled).unwrap_or_default(),
            time: number(time),
            is_recalled: false,
        }),
        Some(1) => RowBody::Recall(Recalled { msg_id: number(msg_id), target_seq: number(target_seq) }),
        _ => return Err(damaged(statement, "kind")),
    };
    let row = MessageRow {
        conversation,
        seq: seq as u64,
        applied: number(applied),
        sender: UserId(sender as u64),
        device: device.unwrap_or(0) as u32,
        edge_time_ms: number(edge_time_ms),
        visible: number(visible),
        body,
    };
    Ok(Some(ShownRow { row, is_recalled }))
}

fn rows_of(
    statement: &Statement,
    result: scylla::response::query_result::QueryResult,
) -> Result<QueryRowsResult, StoreError> {
    result.into_rows_result().map_err(|error| unreadable(statement, &error))
}

fn collect<T>(statement: &Statement, rows: &QueryRowsResult) -> Result<Vec<T>, StoreError>
where
    T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let rows = rows.rows::<T>().map_err(|error| unreadable(statement, &error))?;
    rows.collect::<Result<_, _>>().map_err(|error| unreadable(statement, &error))
}

fn unreadable(statement: &Statement, error: &dyn std::error::Error) -> StoreError {
    StoreError::Answer { statement: statement.name, why: error.to_string() }
}

fn damaged(statement: &Statement, column: &'static str) -> StoreError {
    StoreError::Answer { statement: statement.name, why: format!("`{column}` has an impossible value") }
}

fn position(statement: &Statement, bytes: &[u8]) -> Result<Position, StoreError> {
    let bytes = bytes.try_into().map_err(|_| damaged(statement, "position"))?;
    Ok(Position::from_bytes(bytes))
}

fn conversation(statement: &Statement, bytes: &[u8]) -> Result<ConversationId, StoreError> {
    let id = bytes.try_into().ok().and_then(ConversationId::from_bytes);
    id.ok_or_else(|| damaged(statement, "conversation"))
}
