//! What a device lacks, and what a user may read of a conversation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_protocol::calls::{HistoryRequest, Range, ResolveReply, ResolveRequest, SyncReply, SyncRequest};
use petrel_protocol::events::{Stored, stored};
use petrel_protocol::ids::{ConversationId, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::sequencer::RowBody;

use crate::store::{CursorId, SeqRange, ShownRow, Store, StoreError};

/// A page that has something ends after this long.
const PAGE_MAX: Duration = Duration::from_millis(limits::SYNC_PAGE_MS);

/// Where a page begins: at the rows after `after_seq` of this conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    conversation: ConversationId,
    after_seq: u64,
}

impl Page {
    fn to_bytes(self) -> Bytes {
        [&self.conversation.to_bytes()[..], &self.after_seq.to_be_bytes()].concat().into()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (conversation, after_seq) = bytes.split_first_chunk::<17>()?;
        let conversation = ConversationId::from_bytes(conversation)?;
        Some(Self { conversation, after_seq: u64::from_be_bytes(after_seq.try_into().ok()?) })
    }
}

/// What may still go into a reply.
struct Budget {
    rows: usize,
    bytes: usize,
    /// Rows that are read, own sends included.
    reads: usize,
    /// When no further range is begun: a page that comes too late is worth nothing, and is asked for again, so a slow store
    /// gives small ones.
    until: Option<Instant>,
}

impl Budget {
    fn new(rows_max: u32, until: Option<Instant>) -> Self {
        Self {
            until,
            rows: (rows_max as usize).clamp(1, limits::SYNC_ROWS_MAX),
            bytes: limits::SYNC_BYTES_MAX,
            reads: limits::SYNC_READS_MAX,
        }
    }

    fn take(&mut self, row: &ShownRow) {
        self.rows = self.rows.saturating_sub(1);
        if let RowBody::Message(message) = &row.row.body {
            self.bytes = self.bytes.saturating_sub(message.content.len());
        }
    }

    fn is_spent(&self) -> bool {
        self.rows == 0 || self.bytes == 0 || self.reads == 0
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// One page of what this device lacks. None: the request is not one that an edge makes.
pub(crate) fn sync(store: &Store, request: &SyncRequest) -> Result<Option<SyncReply>, StoreError> {
    let (user, device) = (UserId(request.user), Device::from_number(request.device));
    let Some(device) = device.filter(|_| user.0 != 0) else { return Ok(None) };
    let page = if request.page.is_empty() {
        register(store, user, device)?;
        None
    } else {
        let Some(page) = Page::from_bytes(&request.page) else { return Ok(None) };
        Some(page)
    };
    let mut all_own = Vec::new();
    let reply = lacking(store, request, (user, device), page, &mut all_own)?;
    // What a device sent itself counts as delivered to it: the next sync has nothing to read there.
    if !all_own.is_empty() {
        store.advance(&all_own, &|_| None)?;
    }
    Ok(Some(reply))
}

/// What this device lacks from `page` on. Cursors behind which there are only its own sends are added to `all_own`.
fn lacking(
    store: &Store,
    request: &SyncRequest,
    (user, device): (UserId, Device),
    page: Option<Page>,
    all_own: &mut Vec<(CursorId, u64)>,
) -> Result<SyncReply, StoreError> {
    let began = Instant::now();
    let mut pushed: BTreeMap<ConversationId, u64> = BTreeMap::new();
    for progress in &request.pushed {
        if let Some(conversation) =
            progress.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok())
        {
            let seq = pushed.entry(conversation).or_default();
            *seq = progress.seq.max(*seq);
        }
    }
    let from = page.map(|page| page.conversation);
    let conversations = store.conversations(user, from, limits::SYNC_CONVERSATIONS_MAX)?;
    let mut reply = SyncReply::default();
    let (Some((first, _)), Some((last, _))) = (conversations.first(), conversations.last()) else {
        return Ok(reply);
    };
    let mut cursors = store.cursors(user, device, *first, *last)?.into_iter().peekable();
    let (mut ranges, mut are_all) = (Vec::new(), Vec::new());
    for (conversation, head_seq) in &conversations {
        // Both come in the conversations' order.
        while cursors.next_if(|(cursor, _)| cursor < conversation).is_some() {}
        let delivered = cursors.next_if(|(cursor, _)| cursor == conversation).map_or(0, |(_, seq)| seq);
        let after_page =
            page.filter(|page| page.conversation == *conversation).map_or(0, |page| page.after_seq);
        let after_seq = delivered.max(after_page).max(pushed.get(conversation).copied().unwrap_or(0));
        if after_seq < *head_seq {
            ranges.push(SeqRange { conversation: *conversation, from_seq: after_seq + 1, to_seq: *head_seq });
            are_all.push(after_seq == delivered);
        }
    }
    let budget = Budget::new(request.rows_max, Some(began + PAGE_MAX));
    let (given, end) = rows_of(store, &ranges, Some((user, device as u32)), budget)?;
    for (index, (rows, range)) in given.into_iter().zip(ranges).enumerate() {
        let SeqRange { conversation, from_seq, to_seq: head_seq } = range;
        let to_seq = match end {
            End::Before(at) if at <= index => {
                reply.next_page = Page { conversation, after_seq: from_seq - 1 }.to_bytes();
                return Ok(reply);
            }
            End::Within(at, seq) if at == index => seq,
            _ => head_seq,
        };
        if rows.is_empty() && are_all[index] {
            all_own.push((CursorId { user, device: Some(device), conversation }, to_seq));
        }
        reply.ranges.push(Range {
            conversation: Some(conversation.into()),
            from_seq,
            to_seq,
            head_seq,
            rows,
        });
        if to_seq < head_seq {
            reply.next_page = Page { conversation, after_seq: to_seq }.to_bytes();
            return Ok(reply);
        }
    }
    if conversations.len() == limits::SYNC_CONVERSATIONS_MAX {
        // Nothing of this one is lacking, so that the next page goes on behind it.
        reply.next_page = Page { conversation: *last, after_seq: u64::MAX }.to_bytes();
    }
    Ok(reply)
}

/// A device type's first login. The first of a user gets everything from the start, so that what came before the user
/// ever connected is delivered; a further one starts at the heads, and has the rest as history.
fn register(store: &Store, user: UserId, device: Device) -> Result<(), StoreError> {
    let known = store.devices(user)?;
    if known.contains(&device) {
        return Ok(());
    }
    let mut cursors = Vec::new();
    if !known.is_empty() {
        let conversations = store.conversations(user, None, usize::MAX)?;
        for (conversation, seq) in conversations {
            cursors.push((CursorId { user, device: Some(device), conversation }, seq));
        }
    }
    store.register(user, device, &cursors)
}

/// Where reading several ranges ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With the last one.
    All,
    /// With this seq of this range.
    Within(usize, u64),
    /// Before anything of this range.
    Before(usize),
}

/// The rows of each range, as far as the budget goes; those that `own` sent itself are left out.
fn rows_of(
    store: &Store,
    ranges: &[SeqRange],
    own: Option<(UserId, u32)>,
    mut budget: Budget,
) -> Result<(Vec<Vec<Stored>>, End), StoreError> {
    let mut rows = vec![Vec::new(); ranges.len()];
    let (mut end, mut at) = (End::All, 0);
    store.ranges(ranges, &mut |index, row| {
        if index > at && budget.is_over() {
            end = End::Before(index);
            return false;
        }
        at = index;
        let seq = row.row.seq;
        budget.reads = budget.reads.saturating_sub(1);
        if own != Some((row.row.sender, row.row.device)) {
            budget.take(&row);
            rows[index].push(as_stored(row));
        }
        let is_spent = budget.is_spent();
        if is_spent {
            end = match ranges[index].to_seq {
                last if seq < last => End::Within(index, seq),
                _ => End::Before(index + 1),
            };
        }
        !is_spent
    })?;
    Ok((rows, end))
}

fn as_stored(shown: ShownRow) -> Stored {
    let row = shown.row;
    let body = match row.body {
        RowBody::Message(mut message) => {
            message.is_recalled = shown.is_recalled;
            if shown.is_recalled {
                message.content.clear();
            }
            stored::Body::Message(message)
        }
        RowBody::Recall(recalled) => stored::Body::Recalled(recalled),
    };
    Stored {
        conversation: Some(row.conversation.into()),
        seq: row.seq,
        edge_time_ms: row.edge_time_ms,
        user: row.sender.0,
        device: row.device,
        origin: None,
        again: true,
        body: Some(body),
    }
}

/// One range of one conversation. For somebody who is not in it, or for none: an empty range.
pub(crate) fn history(store: &Store, request: &HistoryRequest) -> Result<Range, StoreError> {
    let conversation = request.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
    let is_member = |c: &ConversationId| c.peer_of(UserId(request.user)).is_some();
    let empty = Range { conversation: request.conversation, ..Range::default() };
    let Some(conversation) = conversation.filter(is_member) else { return Ok(empty) };
    let head_seq = store.head_seqs(&[conversation])?[0];
    let from_seq = request.from_seq.max(1);
    let to_seq = if request.to_seq == 0 { head_seq } else { request.to_seq.min(head_seq) };
    if from_seq > to_seq {
        return Ok(Range { from_seq, to_seq, head_seq, ..empty });
    }
    let range = SeqRange { conversation, from_seq, to_seq };
    let (mut rows, end) = rows_of(store, &[range], None, Budget::new(request.rows_max, None))?;
    let to_seq = if let End::Within(_, seq) = end { seq } else { to_seq };
    Ok(Range { from_seq, to_seq, head_seq, rows: rows.remove(0), ..empty })
}

/// The seq of a message, and the ids under which it is stored.
pub(crate) fn resolve(store: &Store, request: &ResolveRequest) -> Result<ResolveReply, StoreError> {
    let conversation = request.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
    let Some(conversation) = conversation else { return Ok(ResolveReply::default()) };
    let key = store.message_key(conversation, request.msg_id)?;
    let Some(seq) = key.and_then(|row| row.outcome.seq()) else { return Ok(ResolveReply::default()) };
    let mut reply = ResolveReply::default();
    store.rows(conversation, seq, seq, &mut |shown| {
        if let RowBody::Message(message) = shown.row.body {
            let sender = shown.row.sender.0;
            let (client_msg_id, msg_id) = (message.client_msg_id, message.msg_id);
            reply = ResolveReply { seq, sender, client_msg_id, msg_id };
        }
        false
    })?;
    Ok(reply)
}
