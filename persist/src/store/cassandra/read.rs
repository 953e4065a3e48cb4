//! What is read, single partitions each, many at once. A read is tried once: who asked decides what follows.

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

use super::statements::Statement;
use super::write::{bounds, bucket};
use super::{Cassandra, Client};
use crate::store::{ShownRow, StoreError, keys};

/// A page of rows, and where the next one begins.
type Page<T> = (Vec<T>, Option<PagingState>);

impl Cassandra {
    pub(crate) fn load(&self, loads: &Loads) -> Result<Loaded, StoreError> {
        let Loads { heads, keys, targets } = loads.clone();
        self.wait(|client| async move {
            let client = &*client;
            Ok(Loaded {
                heads: all(heads, |id| client.head(id)).await?,
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
        self.wait(|client| async move { all(conversations, |id| client.head(id)).await })
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
    ) -> Result<Vec<ConversationId>, StoreError> {
        self.wait(|client| async move {
            let statement = &client.statements.select_conversations;
            let from = from.map_or_else(Vec::new, |from| from.to_bytes().to_vec());
            let (mut conversations, mut next) = (Vec::new(), Some(PagingState::start()));
            while let Some(page) = next.take().filter(|_| conversations.len() < count) {
                let (rows, after): Page<(Bytes,)> =
                    client.page(statement, (user.0 as i64, &from[..]), page).await?;
                next = after;
                let left = count - conversations.len();
                for (id,) in rows.into_iter().take(left) {
                    conversations.push(conversation(statement, &id)?);
                }
            }
            Ok(conversations)
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
}

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
    pub(super) async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, StoreError> {
        let statement = &self.statements.select_head;
        let id = conversation.to_bytes();
        let row: Option<(Bytes, i64, i64, i64, i64)> = self.row(statement, (&id[..],)).await?;
        let Some((place, seq, applied, visible, edge_time_ms)) = row else { return Ok(None) };
        Ok(Some(Head {
            position: position(statement, &place)?,
            seq: seq as u64,
            applied: applied as u64,
            visible: visible as u64,
            edge_time_ms: edge_time_ms as u64,
        }))
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
