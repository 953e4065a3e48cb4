//! How long clients waited, from the history that the load writes.
//!
//! Two waits are measured: that of a sender, from being asked to send until the message is accepted, however often it was
//! sent again; and that of a device, from the acceptance of a message for its user until the message arrives. Who is away on
//! purpose waits only from when it begins to connect again. A wait counts for each fault that began before its end, from the
//! later of the fault's and its own beginning, unless another fault had begun by then: a wait that lasts over two faults
//! counts for both.

use std::collections::BTreeMap;
use std::io::BufRead;

use petrel_simulation::history::{Device, Entry, Id, What};

/// The longest wait of a kind, and whose it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Longest {
    pub(crate) us: u64,
    pub(crate) whose: Option<(Device, Id)>,
}

impl Longest {
    fn meet(&mut self, us: u64, whose: (Device, Id)) {
        if us > self.us {
            *self = Self { us, whose: Some(whose) };
        }
    }
}

/// What clients saw of one fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) accept: Longest,
    pub(crate) delivery: Longest,
    /// Sends that were refused for now.
    pub(crate) refusals: u64,
    /// Connections that ended.
    pub(crate) disconnects: u64,
}

/// Reads a history. `starts_us` are the beginnings of the faults, in order, by the history's clock.
#[derive(Debug)]
pub(crate) struct Waits<'a> {
    starts_us: &'a [u64],
    /// By fault.
    pub(crate) seen: Vec<Seen>,
    /// What is waited when there is no fault before.
    pub(crate) calm: Seen,
    devices: BTreeMap<Device, Presence>,
    sends: BTreeMap<Id, Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Presence {
    /// Since when it wants to be connected.
    since_us: u64,
    /// On purpose: it has not begun to connect, or to connect again.
    is_away: bool,
}

impl Default for Presence {
    fn default() -> Self {
        Self { since_us: 0, is_away: true }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    by: Device,
    at_us: u64,
    accepted_us: Option<u64>,
}

impl<'a> Waits<'a> {
    pub(crate) fn new(starts_us: &'a [u64]) -> Self {
        debug_assert!(starts_us.is_sorted());
        let seen = vec![Seen::default(); starts_us.len()];
        Self { starts_us, seen, calm: Seen::default(), devices: BTreeMap::new(), sends: BTreeMap::new() }
    }

    /// Takes all entries in.
    pub(crate) fn read(&mut self, history: impl BufRead) -> Result<(), String> {
        for (number, line) in (1..).zip(history.lines()) {
            let line = line.map_err(|e| format!("the history cannot be read: {e}"))?;
            let entry = line.parse().map_err(|()| format!("line {number} of the history: {line:?}"))?;
            self.entry(&entry);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) {
        let Entry { at_us, device, what } = *entry;
        let presence = self.devices.entry(device).or_default();
        match what {
            What::Connecting if presence.is_away => *presence = Presence { since_us: at_us, is_away: false },
            What::Away => presence.is_away = true,
            What::Disconnected => self.at(at_us).disconnects += 1,
            What::Send { id, .. } => {
                self.sends.insert(id, Sent { by: device, at_us, accepted_us: None });
            }
            What::Postponed { .. } => self.at(at_us).refusals += 1,
            What::Accepted { id } => {
                let since_us = presence.since_us;
                let Some(sent) = self.sends.get_mut(&id) else { return };
                if sent.accepted_us.is_none() {
                    sent.accepted_us = Some(at_us);
                    let (from_us, whose) = (sent.at_us.max(since_us), (sent.by, id));
                    self.waited(from_us, at_us, |seen, us| seen.accept.meet(us, whose));
                }
            }
            What::Arrived { id, .. } => {
                let since_us = presence.since_us;
                let accepted_us = self.sends.get(&id).and_then(|sent| sent.accepted_us);
                if let Some(accepted_us) = accepted_us {
                    let whose = (device, id);
                    self.waited(accepted_us.max(since_us), at_us, |seen, us| seen.delivery.meet(us, whose));
                }
            }
            _ => {}
        }
    }

    /// The fault that began last.
    fn at(&mut self, at_us: u64) -> &mut Seen {
        match self.starts_us.partition_point(|start| *start <= at_us) {
            0 => &mut self.calm,
            begun => &mut self.seen[begun - 1],
        }
    }

    fn waited(&mut self, from_us: u64, to_us: u64, meet: impl Fn(&mut Seen, u64)) {
        let begun = self.starts_us.partition_point(|start| *start <= from_us);
        let first = if begun == 0 { &mut self.calm } else { &mut self.seen[begun - 1] };
        meet(first, to_us.saturating_sub(from_us));
        for index in begun..self.starts_us.partition_point(|start| *start < to_us) {
            meet(&mut self.seen[index], to_us - self.starts_us[index]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Device = Device { user: 1, kind: 1 };
    const BOB: Device = Device { user: 2, kind: 1 };
    const ID: Id = Id([7; 16]);

    fn waits(starts_us: &[u64], entries: &[(u64, Device, What)]) -> Vec<(u64, u64)> {
        let mut waits = Waits::new(starts_us);
        for (at_us, device, what) in entries {
            waits.entry(&Entry { at_us: *at_us, device: *device, what: *what });
        }
        waits.seen.iter().map(|seen| (seen.accept.us, seen.delivery.us)).collect()
    }

    fn sent(at_us: u64) -> (u64, Device, What) {
        (at_us, ALICE, What::Send { to: 2, id: ID, content: 0 })
    }

    fn arrived(at_us: u64) -> (u64, Device, What) {
        let content = petrel_simulation::history::Content::Is(0);
        (at_us, BOB, What::Arrived { peer: 1, seq: 1, from: 1, id: ID, content })
    }

    #[test]
    fn a_wait_counts_from_its_beginning_or_the_faults() {
        let accepted = (9_000, ALICE, What::Accepted { id: ID });
        assert_eq!(waits(&[1_000], &[sent(3_000), accepted]), [(6_000, 0)]);
        assert_eq!(waits(&[4_000], &[sent(3_000), accepted]), [(5_000, 0)]);
        assert_eq!(waits(&[1_000, 8_000], &[sent(3_000), accepted]), [(6_000, 0), (1_000, 0)]);
        assert_eq!(waits(&[1_000, 10_000], &[sent(3_000), accepted]), [(6_000, 0), (0, 0)]);
    }

    #[test]
    fn a_sender_that_is_away_on_purpose_does_not_wait() {
        let begun = [(0, ALICE, What::Connecting), sent(3_000), (4_000, ALICE, What::Disconnected)];
        // It tries once more before it goes away.
        let away = [(5_000, ALICE, What::Connecting), (6_000, ALICE, What::Away)];
        let back = [(9_000_000, ALICE, What::Connecting), (9_001_000, ALICE, What::Accepted { id: ID })];
        assert_eq!(waits(&[2_000], &[&begun[..], &away, &back].concat()), [(1_000, 0)]);
        assert_eq!(waits(&[2_000], &[&begun[..], &away[..1], &back].concat()), [(8_998_000, 0)]);
    }

    #[test]
    fn a_device_that_is_away_on_purpose_does_not_wait() {
        let accepted = (4_000, ALICE, What::Accepted { id: ID });
        let lost = [(1_000, BOB, What::Connecting), (3_000, BOB, What::Disconnected)];
        let (back, late) = ((3_000_000, BOB, What::Connecting), 9_000_000);
        let soon = [sent(3_500), lost[0], lost[1], accepted, back, arrived(late)];
        assert_eq!(waits(&[2_000], &soon)[0].1, late - 4_000);
        let away = (3_000, BOB, What::Away);
        let away = [sent(3_500), lost[0], lost[1], away, accepted, back, arrived(late)];
        assert_eq!(waits(&[2_000], &away)[0].1, late - 3_000_000);
    }
}
