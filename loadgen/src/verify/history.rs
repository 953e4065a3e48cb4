//! All that is known of a message and its neighbours, for people.

use std::fmt::Write;

use super::conversations::{Pair, Row, known_rows, pair as pair_of};
use super::{Facts, Marks};
use crate::content::MessageRef;
use crate::records::{Recalled, Sent};

/// Rows on either side that are told too.
const NEIGHBOURS: u64 = 2;

impl Facts {
    /// `user/device`, by its id.
    pub(super) fn device_name(&self, device: u32) -> String {
        let user = self.users.get(self.user_of(device) as usize).map_or(0, |u| u.0);
        format!("user {user} device {}", device % self.devices)
    }

    /// A message and its neighbours.
    pub(super) fn history_of(&self, message: MessageRef) -> String {
        let Some(sent) = self.message(message) else { return format!("  {message:?} was never sent\n") };
        let seq = if sent.seq == 0 { self.arrivals(message).first().map_or(0, |r| r.seq) } else { sent.seq };
        let pair = pair_of(self.user_of(sent.device), sent.to);
        let mut text = format!("> {}", self.one(message, sent));
        if seq != 0 {
            text.push_str(&self.rows_around(pair, seq, Some(message)));
        } else {
            text.push_str(&self.sent_around(pair, message, sent));
        }
        text
    }

    /// The rows around a place of a conversation.
    pub(super) fn history_around(&self, pair: Pair, seq: u64) -> String {
        self.rows_around(pair, seq, None)
    }

    fn rows_around(&self, pair: Pair, seq: u64, but: Option<MessageRef>) -> String {
        let mut text = String::new();
        let near = seq.saturating_sub(NEIGHBOURS)..=seq.saturating_add(NEIGHBOURS);
        for (_, seq, row) in known_rows(self).iter().filter(|(p, s, _)| *p == pair && near.contains(s)) {
            match row {
                Row::Message(message) if Some(*message) == but => {}
                Row::Message(message) => {
                    let sent = self.message(*message).expect("known rows were sent");
                    write!(text, "  {}", self.one(*message, sent)).expect("a String grows");
                }
                Row::Recall(target) => {
                    writeln!(text, "  seq {seq}: the recall of seq {target}").expect("a String grows");
                    let is_it = |r: &&Recalled| {
                        r.seq == *seq
                            && r.target_seq == *target
                            && pair_of(self.user_of(r.device), r.peer) == pair
                    };
                    for shown in self.recalled.iter().filter(is_it) {
                        let device = self.device_name(shown.device);
                        writeln!(text, "      shown at {} ms on {device}", shown.at).expect("a String grows");
                    }
                }
            }
        }
        text
    }

    /// For a message whose place nobody knows: what was sent in its conversation at about the same time.
    fn sent_around(&self, conversation: Pair, message: MessageRef, sent: &Sent) -> String {
        let all = self.sent.iter().enumerate().flat_map(|(station, sent)| {
            sent.iter()
                .enumerate()
                .map(move |(index, sent)| (MessageRef { station: station as u16, index: index as u32 }, sent))
        });
        let mut near: Vec<_> = all
            .filter(|(m, s)| *m != message && pair_of(self.user_of(s.device), s.to) == conversation)
            .collect();
        near.sort_by_key(|(_, s)| s.intended.0.abs_diff(sent.intended.0));
        near.truncate(2 * NEIGHBOURS as usize);
        near.sort_by_key(|(_, s)| s.intended);
        let mut text = String::new();
        for (message, sent) in near {
            write!(text, "  {}", self.one(message, sent)).expect("a String grows");
        }
        text
    }

    fn one(&self, message: MessageRef, sent: &Sent) -> String {
        let to = self.users.get(sent.to as usize).map_or(0, |u| u.0);
        let mut text = format!(
            "message {}/{} (msg_id {}, seq {}) from {} to user {to}, times in ms\n      intended {}, first sent {}, \
             resent {} times, accepted {}, delivered {}, status {}",
            message.station,
            message.index,
            sent.msg_id,
            sent.seq,
            self.device_name(sent.device),
            sent.intended,
            sent.first_sent,
            sent.resends,
            sent.accepted,
            sent.delivered,
            sent.status,
        );
        for (mark, name) in [
            (Marks::REFUSED, "refused"),
            (Marks::MAY_EXIST, "an attempt had an unknown outcome"),
            (Marks::UNANSWERED, "unanswered"),
            (Marks::RECALLING, "recall asked for"),
            (Marks::RECALLED, "recall confirmed"),
            (Marks::FAILED, "failed after it was accepted"),
        ] {
            if sent.marks.has(mark) {
                write!(text, ", {name}").expect("a String grows");
            }
        }
        if sent.refusal != 0 {
            write!(text, ", code {}", sent.refusal).expect("a String grows");
        }
        text.push('\n');
        for r in self.arrivals(message) {
            let device = self.device_name(r.device);
            writeln!(text, "      arrived {} at {device} as seq {} ({:?})", r.at, r.seq, r.body)
                .expect("a String grows");
        }
        text
    }
}
