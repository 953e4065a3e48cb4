//! The store: cells that keep the highest write timestamp, cursors, and the answers to the edges' calls.

use std::collections::BTreeMap;

use petrel_protocol::calls::{HistoryRequest, Range, ResolveReply, ResolveRequest, SyncReply, SyncRequest};
use petrel_protocol::events::{Receipt, Stored, stored};
use petrel_protocol::ids::{ConversationId, UserId};
use petrel_protocol::sequencer::{
    Batch, Head, Key, KeyId, KeyRow, Loaded, Loads, MessageRow, Outcome, Recall, RowBody, Target,
};

use super::mutation::Mutation;

#[derive(Default)]
pub(crate) struct Store {
    messages: BTreeMap<(ConversationId, u64), MessageRow>,
    recalls: BTreeMap<(ConversationId, u64), Recall>,
    keys: BTreeMap<KeyId, KeyRow>,
    /// By user: its conversations, each with its last seq. A copy of heads, which a sync reads instead.
    lists: BTreeMap<(u64, ConversationId), Listed>,
    heads: BTreeMap<ConversationId, Head>,
    delivered: BTreeMap<(ConversationId, u64, u32), u64>,
    mutation: Option<Mutation>,
    /// Where power may be cut: how to take back what was not synced, oldest first.
    undo: Option<Vec<Undo>>,
    /// How far each device has acknowledged, as its receipts said.
    pub(crate) acked: BTreeMap<(ConversationId, u64, u32), u64>,
    /// The highest head, or copy of one, that was ever written: what is lost with the power comes again.
    highest: BTreeMap<ConversationId, u64>,
    /// Two writers disagreed about one event: what they said.
    pub(crate) contradiction: Option<String>,
}

/// What a cell held before.
enum Undo {
    Message((ConversationId, u64), Option<MessageRow>),
    Recall((ConversationId, u64), Option<Recall>),
    Key(KeyId, Option<KeyRow>),
    Head(ConversationId, Option<Head>),
    Listed((u64, ConversationId), Option<Listed>),
    Cursor((ConversationId, u64, u32), Option<u64>),
}

/// One write to one cell.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Message(MessageRow),
    Recall(Recall),
    Key(KeyId, KeyRow),
    Head(ConversationId, Head),
    Listed((u64, ConversationId), Listed),
}

impl Write {
    /// The conversation whose entry in a list this is.
    pub(crate) fn listed(&self) -> Option<ConversationId> {
        match self {
            Self::Listed((_, conversation), _) => Some(*conversation),
            _ => None,
        }
    }
}

/// The last seq of a conversation in a user's list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Listed {
    seq: u64,
    applied: u64,
}

/// The rows of a batch, all but its heads.
pub(crate) fn rows_of(batch: &Batch) -> Vec<Write> {
    let messages = batch.messages.iter().cloned().map(Write::Message);
    let recalls = batch.recalls.iter().copied().map(Write::Recall);
    let keys = batch.keys.iter().map(|(id, row)| Write::Key(*id, *row));
    messages.chain(recalls).chain(keys).collect()
}

/// The heads of a batch, and their copies in users' lists.
pub(crate) fn heads_of(batch: &Batch) -> Vec<Write> {
    let mut writes = Vec::new();
    for (id, head) in &batch.heads {
        writes.push(Write::Head(*id, *head));
        if let ConversationId::C2C(one, other) = id
            && head.seq > 0
        {
            let listed = Listed { seq: head.seq, applied: head.applied };
            writes.extend([one, other].map(|user| Write::Listed((user.0, *id), listed)));
        }
    }
    writes
}

impl Store {
    pub(crate) fn new(mutation: Option<Mutation>, can_lose: bool) -> Self {
        Self { mutation, undo: can_lose.then(Vec::new), ..Self::default() }
    }

    /// What was written so far stays whatever happens.
    pub(crate) fn keep_written(&mut self) {
        if let Some(undo) = &mut self.undo {
            undo.clear();
        }
    }

    /// Nothing is lost any more.
    pub(crate) fn is_safe(&mut self) {
        self.undo = None;
    }

    /// The power was cut: of what was not synced, the oldest writes survive. Answers with how many did not.
    pub(crate) fn lose_unsynced(&mut self, mut survivors: impl FnMut(u64) -> u64) -> usize {
        let Some(mut undo) = self.undo.take() else { return 0 };
        let lost = undo.split_off(survivors(undo.len() as u64) as usize);
        let count = lost.len();
        for write in lost.into_iter().rev() {
            match write {
                Undo::Message(id, row) => restore(&mut self.messages, id, row),
                Undo::Recall(id, row) => restore(&mut self.recalls, id, row),
                Undo::Key(id, row) => restore(&mut self.keys, id, row),
                Undo::Head(id, head) => restore(&mut self.heads, id, head),
                Undo::Listed(id, listed) => restore(&mut self.lists, id, listed),
                Undo::Cursor(id, seq) => restore(&mut self.delivered, id, seq),
            }
        }
        self.undo = Some(Vec::new());
        self.acked.clone_from(&self.delivered);
        count
    }

    fn remember(&mut self, write: &Write) {
        let Some(undo) = &mut self.undo else { return };
        undo.push(match write {
            Write::Message(row) => {
                let id = (row.conversation, row.seq);
                Undo::Message(id, self.messages.get(&id).cloned())
            }
            Write::Recall(row) => {
                let id = (row.conversation, row.target_seq);
                Undo::Recall(id, self.recalls.get(&id).copied())
            }
            Write::Key(id, _) => Undo::Key(*id, self.keys.get(id).copied()),
            Write::Head(id, _) => Undo::Head(*id, self.heads.get(id).copied()),
            Write::Listed(id, _) => Undo::Listed(*id, self.lists.get(id).copied()),
        });
    }

    pub(crate) fn write(&mut self, write: Write) {
        let write = match write {
            Write::Key(id, row) => {
                let is_alias = matches!(row.outcome, Outcome::Alias(_));
                if is_alias && self.mutation == Some(Mutation::ForgetAliases) {
                    return;
                }
                Write::Key(self.key(id), row)
            }
            write => write,
        };
        self.remember(&write);
        let last_wins = self.mutation == Some(Mutation::LastWriteWins);
        let clash = match write {
            Write::Message(row) => {
                let id = (row.conversation, row.seq);
                if self.mutation == Some(Mutation::InsertUndoesRecall) {
                    self.recalls.remove(&id);
                }
                put(&mut self.messages, id, row, |row| row.applied, last_wins)
            }
            Write::Recall(row) => {
                put(&mut self.recalls, (row.conversation, row.target_seq), row, |row| row.applied, last_wins)
            }
            Write::Key(id, row) => put(&mut self.keys, id, row, |row| row.applied, last_wins),
            Write::Listed(id, listed) => {
                let highest = self.highest.entry(id.1).or_default();
                *highest = listed.seq.max(*highest);
                put(&mut self.lists, id, listed, |listed| listed.applied, last_wins)
            }
            Write::Head(id, head) => {
                let highest = self.highest.entry(id).or_default();
                *highest = head.seq.max(*highest);
                put(&mut self.heads, id, head, |head| head.applied, last_wins)
            }
        };
        if self.contradiction.is_none() {
            self.contradiction = clash;
        }
    }

    pub(crate) fn load(&self, loads: &Loads) -> Loaded {
        Loaded {
            heads: loads.heads.iter().map(|c| self.heads.get(c).copied()).collect(),
            keys: loads.keys.iter().map(|key| self.keys.get(&self.key(*key)).copied()).collect(),
            targets: loads.targets.iter().map(|id| self.target(*id)).collect(),
        }
    }

    /// Where a key is kept.
    fn key(&self, id: KeyId) -> KeyId {
        match id.key {
            Key::Client { id: client, .. } if self.mutation == Some(Mutation::KeysWithoutSender) => {
                KeyId { key: Key::Client { sender: UserId(0), id: client }, ..id }
            }
            _ => id,
        }
    }

    fn target(&self, id: (ConversationId, u64)) -> Option<Target> {
        let row = self.messages.get(&id)?;
        let RowBody::Message(message) = &row.body else { return None };
        Some(Target {
            sender: row.sender,
            edge_time_ms: row.edge_time_ms,
            msg_id: message.msg_id,
            client_msg_id: message.client_msg_id.clone(),
            recalled: self.recalls.get(&id).map(|recall| (recall.seq, recall.position)),
        })
    }

    pub(crate) fn head_seq(&self, conversation: ConversationId) -> u64 {
        self.heads.get(&conversation).map_or(0, |head| head.seq)
    }

    /// The highest head, or copy of one, that was ever there: the rows up to it are.
    pub(crate) fn highest_seq(&self, conversation: ConversationId) -> u64 {
        self.highest.get(&conversation).copied().unwrap_or(0)
    }

    /// Moves a cursor, never back and never beyond the head.
    pub(crate) fn receipt(&mut self, receipt: &Receipt) {
        let conversation = receipt.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
        let Some(conversation) = conversation else { return };
        let delivered = receipt.delivered_seq.min(self.head_seq(conversation));
        let id = (conversation, receipt.user, receipt.device);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Cursor(id, self.delivered.get(&id).copied()));
        }
        let cursor = self.delivered.entry(id).or_default();
        let is_last = self.mutation == Some(Mutation::CursorFalls) && delivered != 0;
        *cursor = if is_last { delivered } else { delivered.max(*cursor) };
        // What was acknowledged is told apart from the cursor: it must never be given again.
        let acked = self.acked.entry(id).or_default();
        *acked = delivered.max(*acked);
    }

    fn row(&self, conversation: ConversationId, seq: u64) -> Option<Stored> {
        let row = self.messages.get(&(conversation, seq))?;
        let serves_recalled = self.mutation == Some(Mutation::ServeRecalled);
        let body = match &row.body {
            RowBody::Message(message) => {
                let mut message = message.clone();
                if self.recalls.contains_key(&(conversation, seq)) && !serves_recalled {
                    message.is_recalled = true;
                    message.content.clear();
                }
                stored::Body::Message(message)
            }
            RowBody::Recall(_) if self.mutation == Some(Mutation::RecallWithoutRow) => return None,
            RowBody::Recall(recalled) => stored::Body::Recalled(*recalled),
        };
        Some(Stored {
            conversation: Some(conversation.into()),
            seq,
            edge_time_ms: row.edge_time_ms,
            user: row.sender.0,
            device: row.device,
            body: Some(body),
            ..Stored::default()
        })
    }

    /// What a device lacks: for each conversation, from its cursor to the head, without the device's own messages.
    pub(crate) fn sync(&self, request: &SyncRequest) -> SyncReply {
        let mut reply = SyncReply::default();
        let (from, resume_seq) = parse_page(&request.page);
        let mut room = request.rows_max as u64;
        for ((user, conversation), listed) in &self.lists {
            if *user != request.user || from.is_some_and(|from| *conversation < from) {
                continue;
            }
            let key = (*conversation, request.user, request.device);
            let cursor = self.delivered.get(&key).copied().unwrap_or(0);
            let is_it = |p: &&petrel_protocol::calls::Progress| {
                p.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok()) == Some(*conversation)
            };
            let pushed = request.pushed.iter().find(is_it).map_or(0, |p| p.seq);
            let resumed = if from == Some(*conversation) { resume_seq } else { 0 };
            let start = cursor.max(pushed).max(resumed) + 1;
            let head = listed.seq;
            if start > head {
                continue;
            }
            if room == 0 {
                reply.next_page = page(*conversation, start - 1);
                break;
            }
            let end = head.min(start + room - 1);
            room -= end + 1 - start;
            let is_own = |row: &Stored| {
                let is_message = matches!(row.body, Some(stored::Body::Message(_)));
                is_message && row.user == request.user && row.device == request.device
            };
            let rows = (start..=end).filter_map(|seq| self.row(*conversation, seq)).filter(|r| !is_own(r));
            reply.ranges.push(Range {
                conversation: Some((*conversation).into()),
                from_seq: start,
                to_seq: end,
                head_seq: head,
                rows: rows.collect(),
            });
            if end < head {
                reply.next_page = page(*conversation, end);
                break;
            }
        }
        if self.mutation == Some(Mutation::FirstPageOnly) {
            reply.next_page.clear();
        }
        reply
    }

    pub(crate) fn history(&self, request: &HistoryRequest) -> Range {
        let conversation = request.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
        let Some(conversation) = conversation.filter(|c| c.peer_of(UserId(request.user)).is_some()) else {
            return Range::default();
        };
        let head = self.head_seq(conversation);
        let wanted = if request.to_seq == 0 { head } else { request.to_seq.min(head) };
        let to = wanted.min(request.from_seq.saturating_add(u64::from(request.rows_max) - 1));
        let claims_more = self.mutation == Some(Mutation::RangeClaimsMore);
        let last = if claims_more { request.from_seq.midpoint(to) } else { to };
        Range {
            conversation: Some(conversation.into()),
            from_seq: request.from_seq,
            to_seq: to,
            head_seq: head,
            rows: (request.from_seq..=last).filter_map(|seq| self.row(conversation, seq)).collect(),
        }
    }

    pub(crate) fn resolve(&self, request: &ResolveRequest) -> ResolveReply {
        let conversation = request.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
        let found = conversation.and_then(|conversation| {
            let key = KeyId { conversation, key: Key::Message(request.msg_id) };
            let (Outcome::Seq(seq) | Outcome::Alias(seq)) = self.keys.get(&key)?.outcome else { return None };
            let target = self.target((conversation, seq))?;
            Some(ResolveReply {
                seq,
                sender: target.sender.0,
                client_msg_id: target.client_msg_id,
                msg_id: target.msg_id,
            })
        });
        found.unwrap_or_default()
    }
}

fn restore<K: Ord, V>(cells: &mut BTreeMap<K, V>, id: K, before: Option<V>) {
    match before {
        Some(value) => {
            cells.insert(id, value);
        }
        None => {
            cells.remove(&id);
        }
    }
}

/// Keeps the highest write timestamp; answers with what two writers of the same event disagree about.
fn put<K: Ord, V: PartialEq + std::fmt::Debug>(
    cells: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    applied: fn(&V) -> u64,
    last_wins: bool,
) -> Option<String> {
    match cells.entry(key) {
        std::collections::btree_map::Entry::Vacant(vacant) => {
            vacant.insert(value);
            None
        }
        std::collections::btree_map::Entry::Occupied(mut occupied) => {
            let (old, new) = (applied(occupied.get()), applied(&value));
            let clash = (old == new && *occupied.get() != value)
                .then(|| format!("two readers disagree about one event: {:?} and {value:?}", occupied.get()));
            if new > old || last_wins {
                occupied.insert(value);
            }
            clash
        }
    }
}

fn page(conversation: ConversationId, seq: u64) -> bytes::Bytes {
    let mut page = conversation.to_bytes().to_vec();
    page.extend(seq.to_be_bytes());
    page.into()
}

fn parse_page(page: &[u8]) -> (Option<ConversationId>, u64) {
    let Some((conversation, seq)) = page.split_first_chunk::<17>() else { return (None, 0) };
    let seq = seq.try_into().map_or(0, u64::from_be_bytes);
    (ConversationId::from_bytes(conversation), seq)
}
