//! What happened to one message, for people.

use std::collections::BTreeSet;

use petrel_protocol::ids::ConversationId;

use super::clients::id_of;
use crate::history::Id;

/// What a line of a trace is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The message.
    pub id: Option<Id>,
    /// Its conversation: the smaller user, the larger one.
    pub conversation: Option<(u64, u64)>,
    /// Its place there; 0: not known.
    pub seq: u64,
    /// Whatever happens to whole processes concerns every message.
    pub is_general: bool,
}

impl About {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { is_general: true, ..Self::default() }
    }

    /// A message by its sender and the bytes of its client's id.
    pub(crate) fn message(sender: u64, id: &[u8]) -> Self {
        Self { id: Some(id_of(sender, id)), ..Self::default() }
    }

    /// A place in a conversation.
    pub(crate) fn row(conversation: ConversationId, seq: u64) -> Self {
        Self { conversation: users_of(conversation), seq, ..Self::default() }
    }

    /// The same, at this place.
    pub(crate) fn at(self, conversation: ConversationId, seq: u64) -> Self {
        Self { conversation: users_of(conversation), seq, ..self }
    }
}

fn users_of(conversation: ConversationId) -> Option<(u64, u64)> {
    match conversation {
        ConversationId::C2C(one, other) => Some((one.0, other.0)),
        ConversationId::Group(_) => None,
    }
}

/// All that happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Vec<(u64, About, String)>,
}

/// Lines that fit on a screen.
const LINES_MAX: usize = 48;

impl Trace {
    pub(crate) fn add(&mut self, at_us: u64, about: About, text: String) {
        self.lines.push((at_us, about, text));
    }

    /// The whole run.
    pub fn all(&self) -> String {
        self.lines.iter().map(text).collect()
    }

    /// What happened to `about` and, while it was under way, to whole processes: one screen at most.
    pub fn of(&self, about: About) -> String {
        // A message and its place lead to each other.
        let mut ids: BTreeSet<Id> = about.id.into_iter().collect();
        let mut rows: BTreeSet<((u64, u64), u64)> = BTreeSet::new();
        if let (Some(conversation), true) = (about.conversation, about.seq != 0) {
            rows.insert((conversation, about.seq));
        }
        for _ in 0..2 {
            for (_, line, _) in &self.lines {
                let row = line.conversation.filter(|_| line.seq != 0).map(|c| (c, line.seq));
                if let (Some(id), Some(row)) = (line.id, row)
                    && (ids.contains(&id) || rows.contains(&row))
                {
                    ids.insert(id);
                    rows.insert(row);
                }
            }
        }
        let is_about = |line: &About| {
            line.id.is_some_and(|id| ids.contains(&id))
                || line.conversation.is_some_and(|c| rows.contains(&(c, line.seq)))
        };
        let first = self.lines.iter().position(|(_, line, _)| is_about(line)).unwrap_or(0);
        let shown = self.lines[first..].iter().filter(|(_, line, _)| line.is_general || is_about(line));
        let shown: Vec<_> = shown.map(text).collect();
        if shown.len() <= LINES_MAX {
            return shown.concat();
        }
        let (head, tail) = (LINES_MAX / 2, shown.len() - LINES_MAX / 2);
        let left_out = format!("{:>12} … {} more lines, see --trace all\n", "", tail - head);
        [shown[..head].concat(), left_out, shown[tail..].concat()].concat()
    }
}

fn text((at_us, _, text): &(u64, About, String)) -> String {
    format!("{:>9}.{:03} {text}\n", at_us / 1_000, at_us % 1_000)
}
