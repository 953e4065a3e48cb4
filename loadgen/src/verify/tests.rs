//! Each kind of violation, made by hand in records that are otherwise clean.

use super::*;
use crate::stamp::Stamp;

fn message(index: u32) -> MessageRef {
    MessageRef { station: 0, index }
}

/// Users 0, 1 and 2 with one device each; user 0 sends three messages to user 1, and all is well.
fn clean() -> Facts {
    let sent = |index: u32| Sent {
        intended: Stamp(100 * index + 1),
        first_sent: Stamp(100 * index + 2),
        accepted: Stamp(100 * index + 10),
        delivered: Stamp(100 * index + 30),
        device: 0,
        to: 1,
        msg_id: 1_000 + u64::from(index),
        seq: u64::from(index) + 1,
        transmissions: (index + 1, index + 1),
        resends: 0,
        status: 3,
        told: (Stamp(100 * index + 30), index + 1),
        marks: Marks::default(),
        refusal: 0,
    };
    let received = |index: u32| Received {
        message: message(index),
        body: Body::Intact,
        device: 1,
        at: Stamp(100 * index + 20),
        seq: u64::from(index) + 1,
    };
    let records = Records {
        sent: (0..3).map(sent).collect(),
        received: (0..3).map(received).collect(),
        ..Records::default()
    };
    Facts::new(vec![UserId(10), UserId(11), UserId(12)], 1, true, vec![records])
}

fn kinds(facts: &Facts) -> Vec<Violation> {
    facts.judge().violations.into_keys().collect()
}

/// The kinds found after a change to clean facts.
fn after(change: impl FnOnce(&mut Facts)) -> Vec<Violation> {
    let mut facts = clean();
    change(&mut facts);
    facts.received.sort_unstable_by_key(|r| (r.message, r.device, r.at));
    kinds(&facts)
}

#[test]
fn clean_records_are_clean() {
    let judgement = clean().judge();
    assert!(judgement.is_clean(), "{:?}", judgement.histories);
    assert_eq!((judgement.messages, judgement.arrivals, judgement.conversations), (3, 3, 1));
}

#[test]
fn a_lost_message_is_found_and_its_history_told() {
    let mut facts = clean();
    facts.received.remove(1);
    let judgement = facts.judge();
    assert_eq!(judgement.violations, BTreeMap::from([(Violation::Lost, 1)]));
    let history = &judgement.histories[0];
    for words in
        ["on user 11 device 0", "message 0/1", "msg_id 1001", "message 0/0", "message 0/2", "arrived"]
    {
        assert!(history.contains(words), "{words} is missing in: {history}");
    }
}

#[test]
fn a_message_of_unknown_place_that_is_lost_is_told_with_its_neighbours_in_time() {
    let mut facts = clean();
    facts.received.remove(2);
    facts.sent[0][2].seq = 0;
    let judgement = facts.judge();
    assert_eq!(judgement.violations, BTreeMap::from([(Violation::Lost, 1)]));
    assert!(judgement.histories[0].contains("message 0/1"), "{}", judgement.histories[0]);
}

#[test]
fn every_device_of_both_users_must_have_it() {
    let mut facts = clean();
    facts.devices = 2;
    // Device 0 of user 0 sends to user 1, whose devices are 2 and 3; 1 is the sender's other one.
    let arrivals: Vec<Received> = facts.received.clone();
    facts.received.clear();
    for device in [1, 2, 3] {
        facts.received.extend(arrivals.iter().map(|r| Received { device, ..*r }));
    }
    facts.received.sort_unstable_by_key(|r| (r.message, r.device, r.at));
    assert_eq!(kinds(&facts), []);
    facts.received.retain(|r| !(r.device == 1 && r.message.index == 0));
    assert_eq!(facts.judge().violations, BTreeMap::from([(Violation::Lost, 1)]));
}

#[test]
fn seqs_are_one_for_each_message_and_dense() {
    assert_eq!(after(|f| f.sent[0][2].seq = 4), [Violation::TwoSeqs]);
    let moved = after(|f| {
        f.sent[0][2].seq = 5;
        f.received[2].seq = 5;
    });
    assert_eq!(moved, [Violation::Hole]);
    let taken = after(|f| {
        f.sent[0][2].seq = 2;
        f.received[2].seq = 2;
    });
    assert_eq!(taken, [Violation::SeqTaken]);
    let late_start = |starts_at_one| {
        after(|f| {
            f.starts_at_one = starts_at_one;
            f.sent[0].iter_mut().for_each(|s| s.seq += 5);
            f.received.iter_mut().for_each(|r| r.seq += 5);
        })
    };
    assert_eq!(late_start(true), [Violation::Hole]);
    assert_eq!(late_start(false), []);
    // A recall of an earlier run that is shown again says nothing about what lies between.
    let after_an_earlier_run = after(|f| {
        f.starts_at_one = false;
        f.sent[0].iter_mut().for_each(|s| s.seq += 5);
        f.received.iter_mut().for_each(|r| r.seq += 5);
        f.recalled.push(Recalled { device: 1, peer: 0, seq: 3, target_seq: 2, at: Stamp(1) });
    });
    assert_eq!(after_an_earlier_run, []);
}

#[test]
fn a_senders_order_is_the_order_of_the_seqs() {
    let swapped = |change: fn(&mut Facts)| {
        after(|f| {
            for (index, seq) in [(0, 2), (1, 1)] {
                f.sent[0][index].seq = seq;
                f.received[index].seq = seq;
            }
            change(f);
        })
    };
    assert_eq!(swapped(|_| {}), [Violation::Order]);
    // Where the first was sent again after the second went out, either order is right.
    assert_eq!(swapped(|f| f.sent[0][0].transmissions = (1, 9)), []);
}

#[test]
fn contents_and_audiences_are_checked() {
    assert_eq!(after(|f| f.received[0].body = Body::Changed), [Violation::Content]);
    assert_eq!(after(|f| f.received[0].body = Body::Recalled), [Violation::Content]);
    let stray = after(|f| f.received.push(Received { device: 2, ..f.received[0] }));
    assert_eq!(stray, [Violation::Misdelivered]);
    let unsent = after(|f| f.received.push(Received { message: message(9), ..f.received[0] }));
    assert_eq!(unsent, [Violation::Stranger]);
}

#[test]
fn refusals_are_kept() {
    let refused = |marks: &'static [Marks]| {
        after(move |f| {
            f.sent[0][2].accepted = Stamp::NEVER;
            for mark in marks {
                f.sent[0][2].marks.set(*mark);
            }
        })
    };
    assert_eq!(refused(&[Marks::REFUSED]), [Violation::RefusedDelivered]);
    assert_eq!(refused(&[Marks::REFUSED, Marks::MAY_EXIST]), []);
    assert_eq!(refused(&[]), [Violation::Unsettled]);
    assert_eq!(after(|f| f.sent[0][2].marks.set(Marks::FAILED)), [Violation::RefusedDelivered]);
}

#[test]
fn recalls_reach_everybody() {
    let recalled = |is_shown: bool| {
        after(move |f| {
            f.sent[0][0].marks.set(Marks::RECALLING);
            f.sent[0][0].marks.set(Marks::RECALLED);
            let shown = |device, peer| Recalled { device, peer, seq: 4, target_seq: 1, at: Stamp(900) };
            f.recalled.push(shown(0, 1));
            if is_shown {
                f.recalled.push(shown(1, 0));
            }
        })
    };
    assert_eq!(recalled(true), []);
    assert_eq!(recalled(false), [Violation::RecallLost]);
}

#[test]
fn what_devices_saw_themselves_counts() {
    for (kind, violation) in [
        (FaultKind::StatusFell, Violation::StatusFell),
        (FaultKind::Unanswered, Violation::Unanswered),
        (FaultKind::Nonsense, Violation::Nonsense),
        (FaultKind::Stranger, Violation::Stranger),
        (FaultKind::Absent, Violation::Hole),
        (FaultKind::Forgotten, Violation::Forgotten),
    ] {
        let found = after(|f| {
            let fault =
                Fault { kind, message: Some(message(1)), device: 1, at: Stamp(5), detail: "x".into() };
            f.faults.push(fault);
        });
        assert_eq!(found, [violation]);
    }
    assert_eq!(after(|f| f.unsynced.push(2)), [Violation::Unsynced]);
}
