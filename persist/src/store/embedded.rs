//! The store in one folder, on fjall. One keyspace a table; the tables are those of `cassandra/schema.rs`.
//!
//! One process holds the folder's lock, so there is one writer, and write timestamps are kept but decide nothing: what
//! makes a late write harmless elsewhere is here that a batch is written with its heads, or not at all.

mod accounts;
pub(super) mod folder;
mod meta;
mod recovery;
mod seqs;
mod table;
#[cfg(any(test, fuzzing))]
pub(super) mod torn;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fjall::{Database, OwnedWriteBatch, PersistMode, Slice};
use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::sequencer::{Batch, Head, Key, KeyId, KeyRow, Loaded, Loads, RowBody, Target};

use self::seqs::{Known, Seqs};
use self::table::{Kind, Table};
use super::keys::{self, Part};
use super::rows::{self, Encoder};
use super::{Belongs, CursorId, KnownHead, ShownRow, StoreError};
use crate::StartError;

/// A handle on the folder.
#[derive(Clone)]
pub(crate) struct Embedded(Arc<Tables>);

struct Tables {
    db: Database,
    messages: Table,
    message_keys: Table,
    message_ids: Table,
    conversation_heads: Table,
    cursors: Table,
    user_conversations: Table,
    devices: Table,
    accounts: Table,
    account_names: Table,
    token_versions: Table,
    dead_letters: Table,
    meta: Table,
    /// What `conversation_heads` holds, as far as a sync needs it.
    seqs: Seqs,
    /// Held from the reading of cursors to their writing, since they only rise.
    raising: Mutex<()>,
    /// Writes hold it together, a sync alone. fjall's journal is locked while it is synced anyway.
    quiet: RwLock<()>,
    /// Held from looking for a name, or reading a version or mark, to its writing.
    claiming: Mutex<()>,
}

/// So many rows are looked up one by one: filters say which of the table's parts has a key, where a range has to look into
/// each of them first.
const ROWS_BY_KEY_MAX: u64 = 4;

impl Embedded {
    pub(super) fn open(dir: &Path, belongs: &Belongs) -> Result<Self, StartError> {
        let tables =
            recovery::open(dir, dir, || Tables::open(dir)).map_err(|error| cannot_open(dir, &error))?;
        let store = Self(Arc::new(tables));
        store.check(dir, belongs)?;
        let read = store.0.read_seqs();
        read.map_err(|error| StartError(format!("cannot open the store in {}: {error}", dir.display())))?;
        Ok(store)
    }

    pub(super) fn load(&self, loads: &Loads) -> Result<Loaded, StoreError> {
        let heads = loads.heads.iter().map(|conversation| self.head(*conversation));
        let heads = heads.collect::<Result<_, _>>()?;
        let keys = loads.keys.iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
        let targets = loads.targets.iter().map(|(conversation, seq)| self.target(*conversation, *seq));
        let targets = targets.collect::<Result<_, _>>()?;
        Ok(Loaded { heads, keys, targets })
    }

    fn target(&self, conversation: ConversationId, seq: u64) -> Result<Option<Target>, StoreError> {
        let messages = &self.0.messages;
        let key = keys::message(conversation, seq, Part::Row);
        let Some(row) = messages.get(&key, |row| rows::message(conversation, seq, row, false))? else {
            return Ok(None);
        };
        let RowBody::Message(message) = row.body else {
            return Err(messages.damaged(&key, "a message was expected, and it is a recall"));
        };
        let recalled = messages.get(&keys::message(conversation, seq, Part::Recall), rows::recall)?;
        let (sender, edge_time_ms, msg_id) = (row.sender, row.edge_time_ms, message.msg_id);
        Ok(Some(Target { sender, edge_time_ms, msg_id, client_msg_id: message.client_msg_id, recalled }))
    }

    pub(super) fn commit(&self, batches: &[Arc<Batch>]) -> Result<(), StoreError> {
        let tables = &*self.0;
        let rows = |b: &Arc<Batch>| {
            b.messages.len() + b.recalls.len() + b.keys.len() + b.members.len() + b.heads.len()
        };
        let mut batch = self.batch(batches.iter().map(rows).sum());
        let mut encoder = Encoder::default();
        for b in batches {
            for row in &b.messages {
                let key = keys::message(row.conversation, row.seq, Part::Row);
                tables.messages.insert(&mut batch, key, encoder.message(row));
            }
            for recall in &b.recalls {
                let key = keys::message(recall.conversation, recall.target_seq, Part::Recall);
                tables.messages.insert(&mut batch, key, encoder.recall(recall));
            }
            for (id, row) in &b.keys {
                let (table, key) = (tables.of_key(id), keys::message_key(id));
                table.insert(&mut batch, key.as_ref(), encoder.key(row));
            }
            for member in &b.members {
                let key = keys::member(member.user, member.conversation);
                tables.user_conversations.insert(&mut batch, key, encoder.empty());
            }
            for dead in &b.dead_letters {
                tables.dead_letters.insert(
                    &mut batch,
                    keys::dead_letter(dead.partition, dead.position),
                    &dead.bytes[..],
                );
            }
            for (conversation, head) in &b.heads {
                let key = keys::conversation(*conversation);
                tables.conversation_heads.insert(&mut batch, key, encoder.head(head));
            }
        }
        self.write(batch)?;
        let heads = batches.iter().flat_map(|b| &b.heads);
        tables.seqs.note(heads.map(|(conversation, head)| (*conversation, head.seq)));
        Ok(())
    }

    /// Written to the system when committed, so that it survives this process.
    fn batch(&self, rows: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.0.db.clone(), rows).durability(Some(PersistMode::Buffer))
    }

    fn write(&self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        let _writing = self.0.quiet.read().unwrap_or_else(PoisonError::into_inner);
        batch.commit()?;
        Ok(self.0.all().iter().try_for_each(|table| table.rotate())?)
    }

    /// `has_lost_pages` is set where the sync itself has failed. What a write has left in fjall's buffer goes to the file
    /// before, without another write between: on a full disk that fails, which loses nothing.
    pub(super) fn sync(&self, has_lost_pages: &AtomicBool) -> Result<(), StoreError> {
        let _alone = self.0.quiet.write().unwrap_or_else(PoisonError::into_inner);
        self.0.db.persist(PersistMode::Buffer)?;
        let synced = self.0.db.persist(PersistMode::SyncData);
        // One that was refused was not tried: the failure was another's.
        if matches!(&synced, Err(error) if !matches!(error, fjall::Error::Poisoned)) {
            has_lost_pages.store(true, Ordering::Relaxed);
        }
        Ok(synced?)
    }

    pub(super) fn advance(
        &self,
        cursors: &[(CursorId, u64)],
        known: &KnownHead<'_>,
    ) -> Result<(), StoreError> {
        let _raising = self.0.raising.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.batch(cursors.len());
        self.raise(&mut batch, cursors, known)?;
        self.write(batch)
    }

    fn raise(
        &self,
        batch: &mut OwnedWriteBatch,
        cursors: &[(CursorId, u64)],
        known: &KnownHead<'_>,
    ) -> Result<(), StoreError> {
        let mut encoder = Encoder::default();
        for (id, seq) in cursors {
            let key = keys::cursor(id);
            let head = match self.0.seqs.get(id.conversation) {
                Known::Seq(seq) => seq,
                Known::Absent => 0,
                Known::Unknown => match known(id.conversation) {
                    Some(seq) => seq,
                    None => self.head(id.conversation)?.map_or(0, |head| head.seq),
                },
            };
            let seq = (*seq).min(head);
            // No cursor is beyond the head, so at the head there is nothing to compare with.
            let before = if seq == head { 0 } else { self.0.cursors.get(&key, rows::number)?.unwrap_or(0) };
            if seq > before {
                self.0.cursors.insert(batch, key, encoder.number(seq));
            }
        }
        Ok(())
    }

    pub(super) fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreError> {
        let table = &self.0.devices;
        let mut devices = Vec::new();
        for entry in table.keyspace.prefix(keys::user(user)) {
            let key = entry.key()?;
            devices.push(
                keys::device_of(&key).ok_or_else(|| table.damaged(&key, "its device type is unknown"))?,
            );
        }
        Ok(devices)
    }

    pub(super) fn register(
        &self,
        user: UserId,
        device: Device,
        cursors: &[(CursorId, u64)],
    ) -> Result<(), StoreError> {
        let _raising = self.0.raising.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.batch(cursors.len() + 1);
        self.raise(&mut batch, cursors, &|_| None)?;
        self.0.devices.insert(&mut batch, keys::device(user, device), Encoder::default().empty());
        self.write(batch)
    }

    pub(super) fn conversations(
        &self,
        user: UserId,
        from: Option<ConversationId>,
        count: usize,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        let table = &self.0.user_conversations;
        let first = from.map_or_else(|| lowest(user), |from| keys::member(user, from));
        let mut conversations = Vec::new();
        for entry in table.keyspace.range(first..=highest(user)).take(count) {
            let key = entry.key()?;
            conversations.push(conversation_at_end(table, &key)?);
        }
        let seqs = self.head_seqs(&conversations)?;
        Ok(conversations.into_iter().zip(seqs).collect())
    }

    pub(super) fn cursors(
        &self,
        user: UserId,
        device: Device,
        first: ConversationId,
        last: ConversationId,
    ) -> Result<Vec<(ConversationId, u64)>, StoreError> {
        let table = &self.0.cursors;
        let bounds = [first, last].map(|conversation| keys::cursor_of(user, device as u8, conversation));
        let mut cursors = Vec::new();
        for entry in table.keyspace.range(bounds[0]..=bounds[1]) {
            let (key, row) = entry.into_inner()?;
            let seq = rows::number(&row).map_err(|damage| table.damaged(&key, damage))?;
            cursors.push((conversation_at_end(table, &key)?, seq));
        }
        Ok(cursors)
    }

    pub(super) fn head_seqs(&self, conversations: &[ConversationId]) -> Result<Vec<u64>, StoreError> {
        let seq = |conversation: &ConversationId| match self.0.seqs.get(*conversation) {
            Known::Seq(seq) => Ok(seq),
            Known::Absent => Ok(0),
            Known::Unknown => Ok(self.head(*conversation)?.map_or(0, |head| head.seq)),
        };
        conversations.iter().map(seq).collect()
    }

    fn head(&self, conversation: ConversationId) -> Result<Option<Head>, StoreError> {
        if self.0.seqs.get(conversation) == Known::Absent {
            return Ok(None);
        }
        self.0.conversation_heads.get(&keys::conversation(conversation), rows::head)
    }

    fn key(&self, id: &KeyId) -> Result<Option<KeyRow>, StoreError> {
        self.0.of_key(id).get(keys::message_key(id).as_ref(), rows::key)
    }

    pub(super) fn rows(
        &self,
        conversation: ConversationId,
        from_seq: u64,
        to_seq: u64,
        take: &mut dyn FnMut(ShownRow) -> bool,
    ) -> Result<(), StoreError> {
        if to_seq.saturating_sub(from_seq) < ROWS_BY_KEY_MAX {
            return self.rows_by_key(conversation, from_seq, to_seq, take);
        }
        let table = &self.0.messages;
        let first = keys::message(conversation, from_seq, Part::Row);
        let last = keys::message(conversation, to_seq, Part::Recall);
        // A row is known when its recall, which sorts right after it, is known to be absent.
        let mut held: Option<(Slice, Slice, u64)> = None;
        for entry in table.keyspace.range(first..=last) {
            let (key, row) = entry.into_inner()?;
            let (seq, part) =
                keys::message_seq(&key).ok_or_else(|| table.damaged(&key, "its key is foreign"))?;
            if part == Part::Row {
                if let Some((key, row, seq)) = held.replace((key, row, seq))
                    && !take(shown(table, conversation, seq, &key, &row, false)?)
                {
                    return Ok(());
                }
            } else if let Some((row_key, row, _)) = held.take_if(|(_, _, held_seq)| *held_seq == seq)
                && !take(shown(table, conversation, seq, &row_key, &row, true)?)
            {
                return Ok(());
            }
        }
        if let Some((key, row, seq)) = held {
            take(shown(table, conversation, seq, &key, &row, false)?);
        }
        Ok(())
    }

    fn rows_by_key(
        &self,
        conversation: ConversationId,
        from_seq: u64,
        to_seq: u64,
        take: &mut dyn FnMut(ShownRow) -> bool,
    ) -> Result<(), StoreError> {
        let table = &self.0.messages;
        for seq in from_seq..=to_seq {
            let key = keys::message(conversation, seq, Part::Row);
            let Some(row) = table.keyspace.get(key)? else { continue };
            let is_recalled = table.keyspace.contains_key(keys::message(conversation, seq, Part::Recall))?;
            if !take(shown(table, conversation, seq, &key, &row, is_recalled)?) {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn message_key(
        &self,
        conversation: ConversationId,
        msg_id: u64,
    ) -> Result<Option<KeyRow>, StoreError> {
        self.key(&KeyId { conversation, key: Key::Message(msg_id) })
    }

    fn claim(&self) -> MutexGuard<'_, ()> {
        self.0.claiming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn all(&self) -> [&Table; 12] {
        [
            &self.messages,
            &self.message_keys,
            &self.message_ids,
            &self.conversation_heads,
            &self.cursors,
            &self.user_conversations,
            &self.devices,
            &self.accounts,
            &self.account_names,
            &self.token_versions,
            &self.dead_letters,
            &self.meta,
        ]
    }

    fn of_key(&self, id: &KeyId) -> &Table {
        match id.key {
            Key::Client { .. } => &self.message_keys,
            Key::Message(_) => &self.message_ids,
        }
    }

    /// Reads the heads that there are, as many as are kept in memory.
    fn read_seqs(&self) -> Result<(), StoreError> {
        let table = &self.conversation_heads;
        for (count, entry) in table.keyspace.iter().enumerate() {
            if count == limits::STORE_SEQS_MAX {
                self.seqs.is_partial();
                break;
            }
            let (key, row) = entry.into_inner()?;
            let conversation =
                keys::conversation_of(&key).ok_or_else(|| table.damaged(&key, "its key is foreign"))?;
            let head = rows::head(&row).map_err(|damage| table.damaged(&key, damage))?;
            self.seqs.note(std::iter::once((conversation, head.seq)));
        }
        Ok(())
    }

    fn open(dir: &Path) -> Result<Self, fjall::Error> {
        let db = Database::builder(dir)
            .cache_size(limits::STORE_CACHE_BYTES)
            .max_journaling_size(limits::STORE_JOURNAL_BYTES_MAX)
            // With more of them, one spins while another compacts.
            .worker_threads(1)
            .open()?;
        let open = |name, kind| Table::open(&db, name, kind);
        Ok(Self {
            messages: open("messages", Kind::Contents)?,
            message_keys: open("message_keys", Kind::Busy)?,
            message_ids: open("message_ids", Kind::Busy)?,
            conversation_heads: open("conversation_heads", Kind::Busy)?,
            cursors: open("cursors", Kind::Busy)?,
            user_conversations: open("user_conversations", Kind::Quiet)?,
            devices: open("devices", Kind::Quiet)?,
            accounts: open("accounts", Kind::Quiet)?,
            account_names: open("account_names", Kind::Quiet)?,
            token_versions: open("token_versions", Kind::Quiet)?,
            dead_letters: open("dead_letters", Kind::Quiet)?,
            meta: open("meta", Kind::Quiet)?,
            seqs: Seqs::default(),
            raising: Mutex::new(()),
            quiet: RwLock::new(()),
            claiming: Mutex::new(()),
            db,
        })
    }
}

fn cannot_open(dir: &Path, error: &fjall::Error) -> StartError {
    let dir = dir.display();
    StartError(match error {
        fjall::Error::Locked => {
            format!(
                "the store in {dir} is in use by another process: stop that one, or choose another data folder"
            )
        }
        fjall::Error::InvalidVersion(_) => {
            format!(
                "the store in {dir} was written by another version: start the version of Petrel that wrote it"
            )
        }
        error => format!("cannot open the store in {dir}: {error}; check the folder and its disk"),
    })
}

fn lowest(user: UserId) -> [u8; 29] {
    let mut key = [0; 29];
    key[..12].copy_from_slice(&keys::user(user));
    key
}

fn highest(user: UserId) -> [u8; 29] {
    let mut key = [0xff; 29];
    key[..12].copy_from_slice(&keys::user(user));
    key
}

fn conversation_at_end(table: &Table, key: &[u8]) -> Result<ConversationId, StoreError> {
    keys::last_conversation(key).ok_or_else(|| table.damaged(key, "its conversation is impossible"))
}

fn shown(
    table: &Table,
    conversation: ConversationId,
    seq: u64,
    key: &[u8],
    row: &[u8],
    is_recalled: bool,
) -> Result<ShownRow, StoreError> {
    let row =
        rows::message(conversation, seq, row, !is_recalled).map_err(|damage| table.damaged(key, damage))?;
    Ok(ShownRow { row, is_recalled })
}

#[cfg(test)]
mod tests;
