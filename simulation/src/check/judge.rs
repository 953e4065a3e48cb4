//! What can be judged entry by entry, and what is remembered for the end.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, STATUS_TOLD_MAX, STATUS_TOLD_US, Verdict, Violation};
use crate::history::{Content, Device, Entry, Id, What};

#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) devices: BTreeMap<Device, Seen>,
    pub(super) sends: BTreeMap<Id, Sent>,
    /// The sends in the order in which they were asked for.
    pub(super) order: Vec<Id>,
    pub(super) conversations: BTreeMap<(u64, u64), Conversation>,
    pub(super) end_us: u64,
    shown: usize,
    fallen: usize,
}

/// What one device has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) shows_in_order: bool,
    pub(super) sends_one_by_one: bool,
    pub(super) is_rested: bool,
    connecting_us: u64,
    /// The last row shown, by peer.
    pub(super) shown: BTreeMap<u64, u64>,
    pub(super) arrived: BTreeSet<Id>,
    /// Seqs shown as the device's own messages, by peer.
    pub(super) own: BTreeSet<(u64, u64)>,
    /// Own sends without an outcome.
    open: BTreeSet<Id>,
    /// What the present connection was told.
    statuses: BTreeMap<Id, Told>,
    told: usize,
}

/// The highest status of a message.
#[derive(Debug)]
struct Told {
    status: i32,
    at_us: u64,
    /// How many statuses had been told when it was.
    number: usize,
}

/// What became of a send, as its sender knows it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that come independently")]
pub(super) struct Sent {
    pub(super) device: Device,
    pub(super) to: u64,
    content: u64,
    pub(super) accepted: bool,
    /// Refused by the log after it was accepted.
    pub(super) failed: bool,
    /// It went out more than once.
    is_resent: bool,
    /// It may be refused after it was accepted, and whoever is gone by then is not told.
    pub(super) is_contested: bool,
    pub(super) refused: Option<bool>,
    /// An attempt was refused, so that a later send may have passed it.
    pub(super) may_be_passed: bool,
    /// Its place, where some device saw it.
    pub(super) seq: Option<u64>,
}

impl Sent {
    fn new(device: Device, to: u64, content: u64) -> Self {
        Self {
            device,
            to,
            content,
            accepted: false,
            failed: false,
            is_contested: false,
            is_resent: false,
            refused: None,
            may_be_passed: false,
            seq: None,
        }
    }

    fn outcome(&mut self, what: What, sends_one_by_one: bool) {
        match what {
            What::Contested { .. } => self.is_contested = true,
            What::Resent { .. } => self.is_resent = true,
            What::Accepted { .. } => self.accepted = true,
            What::Postponed { is_certain, .. } => self.may_be_passed |= is_certain && !sends_one_by_one,
            What::Refused { may_exist, .. } => {
                self.refused = Some(may_exist);
                // One of unknown outcome may still be on its way when the next is sent.
                self.may_be_passed |= may_exist || !sends_one_by_one;
            }
            _ => unreachable!("no outcome of a send"),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) rows: BTreeMap<u64, Row>,
    /// When each recalled row was first known to be recalled.
    recalled_us: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Message(Id),
    Recall { from: u64, target: u64 },
}

/// What is pushed as it happens may be behind what is stored by this much: an edge that is gone holds router up until its
/// epoch is over.
const BEHIND_US: u64 = 10_000_000;

/// The status of a message that the log refused, and of one that it took.
const FAILED: i32 = -1;
const ACCEPTED: i32 = 1;

pub(super) fn conversation_of(one: u64, other: u64) -> (u64, u64) {
    (one.min(other), one.max(other))
}

/// A message as a device met it.
struct Met {
    peer: u64,
    seq: u64,
    from: u64,
    id: Id,
    content: Content,
}

impl Judge {
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), Violation> {
        let Entry { at_us, device, what } = *entry;
        self.end_us = self.end_us.max(at_us);
        let fail =
            |rule, peer, seq, id, text: String| Err(Violation { rule, at_us, device, peer, seq, id, text });
        if let What::Opened { shows_in_order, sends_one_by_one } = what {
            self.devices.insert(device, Seen { shows_in_order, sends_one_by_one, ..Seen::default() });
            return Ok(());
        }
        let Some(seen) = self.devices.get_mut(&device) else {
            return fail(Rule::WellFormed, 0, 0, None, "a device that was never opened".into());
        };
        match what {
            What::Opened { .. } | What::Away => {}
            What::Disconnected => self.lose_answers(device),
            What::Connecting => seen.connecting_us = at_us,
            What::Connected => {
                // What a device was told is promised to rise on one connection; it keeps the highest itself.
                seen.statuses.clear();
            }
            What::Send { to, id, content } => {
                if self.sends.insert(id, Sent::new(device, to, content)).is_some() {
                    return fail(Rule::WellFormed, to, 0, Some(id), "an id was used twice".into());
                }
                seen.open.insert(id);
                self.order.push(id);
            }
            What::Contested { id }
            | What::Resent { id }
            | What::Accepted { id }
            | What::Postponed { id, .. }
            | What::Refused { id, .. } => {
                let sends_one_by_one = seen.sends_one_by_one;
                let Some(sent) = self.sends.get_mut(&id) else {
                    return fail(Rule::WellFormed, 0, 0, Some(id), "the outcome of no send".into());
                };
                sent.outcome(what, sends_one_by_one);
                if sent.accepted || sent.refused.is_some() {
                    seen.open.remove(&id);
                }
            }
            What::Status { id, status: FAILED } => {
                if let Some(sent) = self.sends.get_mut(&id) {
                    sent.failed = true;
                }
            }
            What::Status { id, status } => self.told(entry, id, status)?,
            What::Arrived { peer, seq, from, id, content } => {
                if !seen.arrived.insert(id) {
                    return fail(
                        Rule::SeenOnce,
                        peer,
                        seq,
                        Some(id),
                        "a message arrived as a new one twice".into(),
                    );
                }
                self.message(entry, &Met { peer, seq, from, id, content })?;
                self.recalled_content(entry, peer, seq, content, BEHIND_US)?;
            }
            What::Message { peer, seq, from, id, content } => {
                self.next_row(entry, peer, seq)?;
                self.message(entry, &Met { peer, seq, from, id, content })?;
            }
            What::Own { peer, seq } => {
                seen.own.insert((peer, seq));
                self.next_row(entry, peer, seq)?;
            }
            What::Recall { peer, seq, from, target } => {
                self.next_row(entry, peer, seq)?;
                self.recall(entry, peer, seq, from, target)?;
            }
            What::Absent { peer, seq } => {
                return fail(Rule::Dense, peer, seq, None, "the edge says that a row does not exist".into());
            }
            What::Served { peer, seq, content } => self.recalled_content(entry, peer, seq, content, 0)?,
            What::Rested => seen.is_rested = true,
        }
        Ok(())
    }

    /// A device was told a status: on one connection the latest ones only rise.
    fn told(&mut self, entry: &Entry, id: Id, status: i32) -> Result<(), Violation> {
        let Entry { at_us, device, .. } = *entry;
        let seen = self.devices.get_mut(&device).expect("looked up before");
        seen.told += 1;
        let told = seen.told;
        let known = seen.statuses.entry(id).or_insert(Told { status, at_us, number: told });
        // Each attempt may be answered, and a reader that was slow learns late and all at once.
        let is_late_receipt = status == ACCEPTED && self.sends.get(&id).is_some_and(|sent| sent.is_resent);
        let is_fresh = at_us.saturating_sub(known.at_us) < STATUS_TOLD_US
            && told < known.number + STATUS_TOLD_MAX
            && !is_late_receipt;
        if status >= known.status {
            *known = Told { status, at_us, number: told };
        } else if is_fresh {
            let text = format!("status {status} after {}", known.status);
            return Err(Violation {
                rule: Rule::StatusRises,
                at_us,
                device,
                peer: 0,
                seq: 0,
                id: Some(id),
                text,
            });
        } else {
            self.fallen += 1;
        }
        Ok(())
    }

    /// Whether the sends under way were refused before the ones behind them were accepted is not known.
    fn lose_answers(&mut self, device: Device) {
        let seen = &self.devices[&device];
        if seen.sends_one_by_one {
            return;
        }
        for id in &seen.open {
            self.sends.get_mut(id).expect("open sends were sent").may_be_passed = true;
        }
    }

    /// The next row of a conversation on a device.
    fn next_row(&mut self, entry: &Entry, peer: u64, seq: u64) -> Result<(), Violation> {
        self.shown += 1;
        let seen = self.devices.get_mut(&entry.device).expect("looked up before");
        let last = seen.shown.entry(peer).or_default();
        if last.checked_add(1) != Some(seq) {
            let text = format!("row {seq} was shown after row {last}");
            return Err(violation(entry, Rule::InOrder, peer, seq, None, text));
        }
        *last = seq;
        Ok(())
    }

    fn message(&mut self, entry: &Entry, met: &Met) -> Result<(), Violation> {
        let Met { peer, seq, from, id, content } = *met;
        let fail = |rule, text: String| Err(violation(entry, rule, peer, seq, Some(id), text));
        let Some(sent) = self.sends.get_mut(&id) else {
            return fail(Rule::Unchanged, "a message that nobody sent".into());
        };
        let user = entry.device.user;
        let is_for_it =
            (sent.device.user, sent.to) == (user, peer) || (sent.device.user, sent.to) == (peer, user);
        if from != sent.device.user || !is_for_it {
            let text =
                format!("it was sent by u{} to u{}, and came as one of u{from}", sent.device.user, sent.to);
            return fail(Rule::Unchanged, text);
        }
        if content != Content::Recalled && content != Content::Is(sent.content) {
            return fail(Rule::Unchanged, "the content is not what was sent".into());
        }
        if let Some(known) = sent.seq
            && known != seq
        {
            return fail(Rule::SeenOnce, format!("one message is at seq {known} and at seq {seq}"));
        }
        sent.seq = Some(seq);
        self.row(entry, peer, seq, Row::Message(id))
    }

    fn recall(
        &mut self,
        entry: &Entry,
        peer: u64,
        seq: u64,
        from: u64,
        target: u64,
    ) -> Result<(), Violation> {
        self.row(entry, peer, seq, Row::Recall { from, target })?;
        let conversation = self.conversations.entry(conversation_of(entry.device.user, peer)).or_default();
        conversation.recalled_us.entry(target).or_insert(entry.at_us);
        Ok(())
    }

    /// A place in a conversation holds the same for everybody.
    fn row(&mut self, entry: &Entry, peer: u64, seq: u64, row: Row) -> Result<(), Violation> {
        let conversation = self.conversations.entry(conversation_of(entry.device.user, peer)).or_default();
        let known = *conversation.rows.entry(seq).or_insert(row);
        if known == row {
            return Ok(());
        }
        let id = if let Row::Message(id) = row { Some(id) } else { None };
        let text = format!("it is {row:?} here and {known:?} elsewhere");
        Err(violation(entry, Rule::SameForAll, peer, seq, id, text))
    }

    /// Whoever connects after a recall was seen anywhere is not given what it recalled.
    fn recalled_content(
        &self,
        entry: &Entry,
        peer: u64,
        seq: u64,
        content: Content,
        behind_us: u64,
    ) -> Result<(), Violation> {
        let conversation = self.conversations.get(&conversation_of(entry.device.user, peer));
        let recalled_us = conversation.and_then(|c| c.recalled_us.get(&seq));
        let connecting_us = self.devices[&entry.device].connecting_us;
        match recalled_us {
            Some(recalled_us)
                if content != Content::Recalled && connecting_us.saturating_sub(*recalled_us) > behind_us =>
            {
                let text = format!("content that was recalled at {} ms", recalled_us / 1_000);
                Err(violation(entry, Rule::RecalledIsGone, peer, seq, None, text))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict {
            devices: self.devices.len(),
            sent: self.sends.len(),
            accepted: self.sends.values().filter(|s| s.accepted).count(),
            refused: self.sends.values().filter(|s| s.refused.is_some()).count(),
            shown: self.shown,
            fallen: self.fallen,
            recalled: self.conversations.values().map(|c| c.recalled_us.len()).sum(),
        }
    }
}

fn violation(entry: &Entry, rule: Rule, peer: u64, seq: u64, id: Option<Id>, text: String) -> Violation {
    Violation { rule, at_us: entry.at_us, device: entry.device, peer, seq, id, text }
}
