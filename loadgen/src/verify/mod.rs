//! The judgement: did every accepted message reach every device once, in order and unchanged?
//!
//! Judged after dedup and reordering by seq, as a client shows it; what came twice or out of order on a connection is
//! counted elsewhere. The records of all threads are compared when the run is over.

mod conversations;
mod history;

use std::collections::{BTreeMap, HashSet};

use petrel_protocol::ids::UserId;
use serde::{Deserialize, Serialize};

use crate::content::MessageRef;
use crate::records::{Body, Fault, FaultKind, Marks, Recalled, Received, Records, Sent};

/// All that the threads remember, and who is who.
#[derive(Debug)]
pub struct Facts {
    /// Users by their place.
    pub users: Vec<UserId>,
    /// Devices of each user.
    pub devices: u32,
    /// Whether all conversations began in this run, so that their first seq is 1.
    pub starts_at_one: bool,
    /// By thread, then by index.
    pub sent: Vec<Vec<Sent>>,
    /// Sorted by message and device.
    pub received: Vec<Received>,
    /// In any order.
    pub recalled: Vec<Recalled>,
    /// In any order.
    pub faults: Vec<Fault>,
    /// Faults of which only the number is known.
    pub faults_more: u64,
    /// Devices that did not come through the final sync in time.
    pub unsynced: Vec<u32>,
}

/// A kind of violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// Accepted, and missing on a device after the final sync.
    Lost,
    /// One message has two places in its conversation.
    TwoSeqs,
    /// Two messages have the same place in their conversation.
    SeqTaken,
    /// A place in a conversation that nobody knows a message of.
    Hole,
    /// A sender's messages are not in the order in which they were accepted.
    Order,
    /// The content is not what was sent.
    Content,
    /// It arrived at a device that is none of its conversation's.
    Misdelivered,
    /// Refused for good and delivered all the same.
    RefusedDelivered,
    /// A status was followed by a lower one.
    StatusFell,
    /// No answer to a send on an open connection.
    Unanswered,
    /// A send without an outcome at the end.
    Unsettled,
    /// A recall that was confirmed and is missing on a device.
    RecallLost,
    /// A packet that makes no sense.
    Nonsense,
    /// A message that nobody sent.
    Stranger,
    /// What was acknowledged came again after the final sync: the store does not know what its device said.
    Forgotten,
    /// A device did not get ready and quiet in the final sync.
    Unsynced,
}

/// The result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Judgement {
    /// Accepted messages that were checked.
    pub messages: u64,
    /// Message and device pairs that were checked.
    pub arrivals: u64,
    /// Conversations that were checked.
    pub conversations: u64,
    /// How often each kind of violation was found.
    pub violations: BTreeMap<Violation, u64>,
    /// The first ones with their histories.
    pub histories: Vec<String>,
}

/// Histories that are kept and printed.
const HISTORIES_MAX: usize = 20;
/// Histories of one kind, so that one kind does not hide the others.
const HISTORIES_OF_KIND_MAX: u64 = 3;

impl Judgement {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Adds another process's.
    pub fn merge(&mut self, other: Self) {
        self.messages += other.messages;
        self.arrivals += other.arrivals;
        self.conversations += other.conversations;
        for (kind, count) in other.violations {
            *self.violations.entry(kind).or_default() += count;
        }
        self.histories.extend(other.histories);
        self.histories.truncate(HISTORIES_MAX);
    }

    fn found(&mut self, kind: Violation, history: impl FnOnce() -> String) {
        let count = self.violations.entry(kind).or_default();
        *count += 1;
        if *count <= HISTORIES_OF_KIND_MAX && self.histories.len() < HISTORIES_MAX {
            self.histories.push(format!("{}: {}", kind.text(), history()));
        }
    }
}

impl Violation {
    /// What it says in one phrase.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Lost => "accepted and not delivered",
            Self::TwoSeqs => "one message with two seqs",
            Self::SeqTaken => "two messages with one seq",
            Self::Hole => "a seq that nobody knows",
            Self::Order => "a sender's order is not kept",
            Self::Content => "content changed",
            Self::Misdelivered => "delivered to a stranger",
            Self::RefusedDelivered => "refused and delivered",
            Self::StatusFell => "a status fell",
            Self::Unanswered => "a send without an answer",
            Self::Unsettled => "a send without an outcome at the end",
            Self::RecallLost => "a recall that a device does not know",
            Self::Nonsense => "a packet that makes no sense",
            Self::Stranger => "a message that nobody sent",
            Self::Forgotten => "acknowledged, and pushed again after the final sync",
            Self::Unsynced => "a device did not come through the final sync",
        }
    }
}

impl Facts {
    /// Brings the threads' records together. `threads` are in the order of their numbers.
    pub fn new(users: Vec<UserId>, devices: u32, starts_at_one: bool, threads: Vec<Records>) -> Self {
        let mut facts = Self {
            users,
            devices,
            starts_at_one,
            sent: Vec::new(),
            received: Vec::new(),
            recalled: Vec::new(),
            faults: Vec::new(),
            faults_more: 0,
            unsynced: Vec::new(),
        };
        for records in threads {
            facts.sent.push(records.sent);
            facts.received.extend(records.received);
            facts.recalled.extend(records.recalled);
            facts.faults.extend(records.faults);
            facts.faults_more += records.faults_more;
        }
        facts.received.sort_unstable_by_key(|r| (r.message, r.device, r.at));
        facts
    }

    /// Judges.
    pub fn judge(&self) -> Judgement {
        let mut judgement = Judgement::default();
        self.judge_messages(&mut judgement);
        self.judge_recalls(&mut judgement);
        conversations::judge(self, &mut judgement);
        self.judge_faults(&mut judgement);
        judgement
    }

    fn message(&self, message: MessageRef) -> Option<&Sent> {
        self.sent.get(usize::from(message.station))?.get(message.index as usize)
    }

    fn user_of(&self, device: u32) -> u32 {
        device / self.devices
    }

    /// The devices that must show this message: the receiver's, and the sender's others.
    fn audience(&self, sent: &Sent) -> impl Iterator<Item = u32> {
        let of_user = |user: u32| user * self.devices..(user + 1) * self.devices;
        let sending = sent.device;
        of_user(sent.to).chain(of_user(self.user_of(sending)).filter(move |d| *d != sending))
    }

    fn arrivals(&self, message: MessageRef) -> &[Received] {
        let start = self.received.partition_point(|r| r.message < message);
        let len = self.received[start..].partition_point(|r| r.message == message);
        &self.received[start..start + len]
    }

    fn judge_messages(&self, judgement: &mut Judgement) {
        for (station, sent) in self.sent.iter().enumerate() {
            for (index, sent) in sent.iter().enumerate() {
                let message = MessageRef { station: station as u16, index: index as u32 };
                self.judge_message(message, sent, judgement);
            }
        }
        // What claims to be of this run and was never sent.
        for received in self.received.iter().filter(|r| self.message(r.message).is_none()) {
            judgement.found(Violation::Stranger, || format!("{received:?}"));
        }
    }

    fn judge_message(&self, message: MessageRef, sent: &Sent, judgement: &mut Judgement) {
        let arrivals = self.arrivals(message);
        let marks = sent.marks;
        let is_failed = marks.has(Marks::FAILED);
        if sent.accepted.is_set() && !is_failed {
            judgement.messages += 1;
            for device in self.audience(sent) {
                judgement.arrivals += 1;
                if arrivals.binary_search_by_key(&device, |r| r.device).is_err() {
                    judgement.found(Violation::Lost, || {
                        format!("on {}\n{}", self.device_name(device), self.history_of(message))
                    });
                }
            }
        }
        let is_refused = marks.has(Marks::REFUSED) && !marks.has(Marks::MAY_EXIST);
        if (is_failed || is_refused) && !arrivals.is_empty() {
            judgement.found(Violation::RefusedDelivered, || self.history_of(message));
        }
        if sent.first_sent.is_set() && !sent.accepted.is_set() && !marks.has(Marks::REFUSED) {
            judgement.found(Violation::Unsettled, || self.history_of(message));
        }
        for arrival in arrivals {
            if !self.audience(sent).any(|d| d == arrival.device) && arrival.device != sent.device {
                judgement.found(Violation::Misdelivered, || {
                    format!("{}\n{}", self.device_name(arrival.device), self.history_of(message))
                });
            }
            let may_be_recalled = marks.has(Marks::RECALLING);
            if arrival.body == Body::Changed || (arrival.body == Body::Recalled && !may_be_recalled) {
                judgement.found(Violation::Content, || {
                    format!("on {}\n{}", self.device_name(arrival.device), self.history_of(message))
                });
            }
        }
        let seqs = arrivals.iter().map(|r| r.seq).chain((sent.seq != 0).then_some(sent.seq));
        let (lowest, highest) = seqs.fold((u64::MAX, 0), |(low, high), s| (low.min(s), high.max(s)));
        if lowest < highest {
            judgement.found(Violation::TwoSeqs, || self.history_of(message));
        }
    }

    fn judge_recalls(&self, judgement: &mut Judgement) {
        let shown: HashSet<(u32, u32, u64)> =
            self.recalled.iter().map(|r| (r.device, r.peer, r.target_seq)).collect();
        for (station, sent) in self.sent.iter().enumerate() {
            for (index, sent) in sent.iter().enumerate().filter(|(_, s)| s.marks.has(Marks::RECALLED)) {
                let message = MessageRef { station: station as u16, index: index as u32 };
                let seq = match sent.seq {
                    0 => self.arrivals(message).first().map_or(0, |r| r.seq),
                    seq => seq,
                };
                let sender = self.user_of(sent.device);
                for device in self.audience(sent) {
                    let peer = if self.user_of(device) == sender { sent.to } else { sender };
                    if !shown.contains(&(device, peer, seq)) {
                        judgement.found(Violation::RecallLost, || {
                            format!("on {}\n{}", self.device_name(device), self.history_of(message))
                        });
                    }
                }
            }
        }
    }

    fn judge_faults(&self, judgement: &mut Judgement) {
        for fault in &self.faults {
            let kind = match fault.kind {
                FaultKind::StatusFell => Violation::StatusFell,
                FaultKind::Unanswered => Violation::Unanswered,
                FaultKind::Nonsense => Violation::Nonsense,
                FaultKind::Stranger => Violation::Stranger,
                FaultKind::Absent => Violation::Hole,
                FaultKind::Forgotten => Violation::Forgotten,
            };
            judgement.found(kind, || {
                let device = self.device_name(fault.device);
                let history = fault.message.map(|m| format!("\n{}", self.history_of(m))).unwrap_or_default();
                format!("at {} ms on {device}: {}{history}", fault.at, fault.detail)
            });
        }
        if self.faults_more > 0 {
            *judgement.violations.entry(Violation::Nonsense).or_default() += self.faults_more;
        }
        for device in &self.unsynced {
            judgement.found(Violation::Unsynced, || self.device_name(*device));
        }
    }
}

#[cfg(test)]
mod tests;
