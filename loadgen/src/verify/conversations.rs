//! What is judged conversation by conversation: that seqs are dense and each is one row's, and that they keep the order
//! of each sender.

use super::{Facts, Judgement, Violation};
use crate::content::MessageRef;

/// A row of a conversation as somebody knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    /// A message.
    Message(MessageRef),
    /// A recall of the message at this seq.
    Recall(u64),
}

/// The smaller user's place, then the larger one's.
pub(super) type Pair = (u32, u32);

pub(super) fn pair(one: u32, other: u32) -> Pair {
    (one.min(other), one.max(other))
}

pub(super) fn judge(facts: &Facts, judgement: &mut Judgement) {
    let rows = known_rows(facts);
    for conversation in rows.chunk_by(|a, b| a.0 == b.0) {
        judgement.conversations += 1;
        let pair = conversation[0].0;
        let rows: Vec<(u64, Row)> = conversation.iter().map(|(_, seq, row)| (*seq, *row)).collect();
        judge_seqs(facts, pair, &rows, judgement);
        judge_order(facts, pair, &rows, judgement);
    }
}

/// What both sides know of every conversation, sorted, each fact once.
pub(super) fn known_rows(facts: &Facts) -> Vec<(Pair, u64, Row)> {
    let mut rows = Vec::with_capacity(facts.received.len() * 2 + facts.recalled.len());
    for (station, sent) in facts.sent.iter().enumerate() {
        for (index, sent) in sent.iter().enumerate().filter(|(_, s)| s.seq != 0) {
            let message = MessageRef { station: station as u16, index: index as u32 };
            let pair = pair(facts.user_of(sent.device), sent.to);
            rows.push((pair, sent.seq, Row::Message(message)));
        }
    }
    for received in &facts.received {
        if let Some(sent) = facts.message(received.message) {
            let pair = pair(facts.user_of(sent.device), sent.to);
            rows.push((pair, received.seq, Row::Message(received.message)));
        }
    }
    for recalled in &facts.recalled {
        let pair = pair(facts.user_of(recalled.device), recalled.peer);
        rows.push((pair, recalled.seq, Row::Recall(recalled.target_seq)));
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn judge_seqs(facts: &Facts, pair: Pair, rows: &[(u64, Row)], judgement: &mut Judgement) {
    // What was left of an earlier run may be shown again; between it and this run's first message nothing is known.
    let first_message =
        rows.iter().find(|(_, row)| matches!(row, Row::Message(_))).map_or(u64::MAX, |(seq, _)| *seq);
    let mut expected = if facts.starts_at_one { 1 } else { first_message };
    for (i, (seq, row)) in rows.iter().enumerate() {
        if i > 0 && rows[i - 1].0 == *seq {
            judgement.found(Violation::SeqTaken, || {
                format!("seq {seq}: {:?} and {row:?}\n{}", rows[i - 1].1, facts.history_around(pair, *seq))
            });
            continue;
        }
        if *seq > expected && first_message != u64::MAX {
            judgement.found(Violation::Hole, || {
                let before = seq - 1;
                format!("seqs {expected} to {before}\n{}", facts.history_around(pair, expected))
            });
        }
        expected = expected.max(seq + 1);
    }
}

/// A message of a device: what is compared.
#[derive(Clone, Copy)]
struct Placed {
    device: u32,
    first_transmission: u32,
    last_transmission: u32,
    is_accepted: bool,
    seq: u64,
}

/// Whatever was transmitted for the last time before another's first transmission has the lower seq, where it was
/// accepted: nothing of a conversation is sent while an earlier outcome is unknown.
fn judge_order(facts: &Facts, pair: Pair, rows: &[(u64, Row)], judgement: &mut Judgement) {
    let placed = rows.iter().filter_map(|(seq, row)| {
        let Row::Message(message) = row else { return None };
        let sent = facts.message(*message)?;
        Some(Placed {
            device: sent.device,
            first_transmission: sent.transmissions.0,
            last_transmission: sent.transmissions.1,
            is_accepted: sent.accepted.is_set(),
            seq: *seq,
        })
    });
    let mut by_first: Vec<Placed> = placed.collect();
    by_first.sort_unstable_by_key(|p| (p.device, p.first_transmission));
    let mut by_last = by_first.clone();
    by_last.sort_unstable_by_key(|p| (p.device, p.last_transmission));
    let mut earlier = by_last.iter().peekable();
    let mut highest: Option<Placed> = None;
    for later in &by_first {
        if highest.is_some_and(|h| h.device != later.device) {
            highest = None;
        }
        while let Some(x) =
            earlier.next_if(|x| (x.device, x.last_transmission) < (later.device, later.first_transmission))
        {
            if x.device == later.device && x.is_accepted && highest.is_none_or(|h| h.seq < x.seq) {
                highest = Some(*x);
            }
        }
        if let Some(h) = highest.filter(|h| h.seq > later.seq) {
            judgement.found(Violation::Order, || {
                let (first, second) = (h.seq, later.seq);
                format!("seq {first} was sent before seq {second}\n{}", facts.history_around(pair, later.seq))
            });
        }
    }
}
