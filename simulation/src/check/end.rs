//! What can be judged only at the end, when everything that was under way has come.

use std::collections::BTreeMap;

use super::judge::{Conversation, Judge, Row, Seen, conversation_of};
use super::{Rule, Violation};
use crate::history::{Device, Id};

pub(super) fn check(judge: &Judge) -> Result<(), Violation> {
    rests(judge)?;
    sends(judge)?;
    sender_order(judge)?;
    for ((one, other), conversation) in &judge.conversations {
        dense(judge, (*one, *other), conversation)?;
        for (device, seen) in &judge.devices {
            if device.user == *one {
                complete(judge, *device, seen, *other, conversation)?;
            } else if device.user == *other {
                complete(judge, *device, seen, *one, conversation)?;
            }
        }
    }
    Ok(())
}

fn violation(
    judge: &Judge,
    rule: Rule,
    device: Device,
    (peer, seq): (u64, u64),
    id: Option<Id>,
    text: String,
) -> Violation {
    Violation { rule, at_us: judge.end_us, device, peer, seq, id, text }
}

fn rests(judge: &Judge) -> Result<(), Violation> {
    let restless = judge.devices.iter().find(|(_, seen)| !seen.is_rested);
    restless.map_or(Ok(()), |(device, _)| {
        Err(violation(judge, Rule::Rests, *device, (0, 0), None, "it had not come to rest at the end".into()))
    })
}

fn sends(judge: &Judge) -> Result<(), Violation> {
    for id in &judge.order {
        let sent = &judge.sends[id];
        let fail = |rule, text: &str| {
            Err(violation(judge, rule, sent.device, (sent.to, sent.seq.unwrap_or(0)), Some(*id), text.into()))
        };
        match (sent.accepted, sent.refused, sent.seq) {
            (true, Some(_), _) => return fail(Rule::WellFormed, "a send was both accepted and refused"),
            (true, None, Some(_)) if sent.failed => {
                return fail(Rule::RefusedIsUnseen, "it was refused after it was accepted, and was seen");
            }
            (true, None, None) if !sent.failed && !sent.is_contested => {
                return fail(Rule::AcceptedIsSeen, "it was accepted and nobody has seen it");
            }
            (false, Some(false), Some(_)) => {
                return fail(Rule::RefusedIsUnseen, "it was refused as certainly absent, and was seen");
            }
            (false, None, _) => return fail(Rule::Rests, "a send has no outcome"),
            _ => {}
        }
    }
    Ok(())
}

/// Later sends of a device into a conversation have later seqs, unless an earlier one was refused in between.
fn sender_order(judge: &Judge) -> Result<(), Violation> {
    let mut last: BTreeMap<(Device, u64), (u64, Id)> = BTreeMap::new();
    for id in &judge.order {
        let sent = &judge.sends[id];
        let Some(seq) = sent.seq else { continue };
        if let Some((before, other)) = last.get(&(sent.device, sent.to))
            && *before > seq
        {
            let text = format!("it was sent after {other}, which has the later seq {before}");
            let place = (sent.to, seq);
            return Err(violation(judge, Rule::SenderOrder, sent.device, place, Some(*id), text));
        }
        if !sent.may_be_passed {
            last.insert((sent.device, sent.to), (seq, *id));
        }
    }
    Ok(())
}

fn dense(judge: &Judge, (one, other): (u64, u64), conversation: &Conversation) -> Result<(), Violation> {
    // Devices that show what comes as it comes say nothing about recalls.
    let shows_all = |(device, seen): &(&Device, &Seen)| {
        seen.shows_in_order && (device.user == one || device.user == other)
    };
    let Some((device, _)) = judge.devices.iter().find(shows_all) else { return Ok(()) };
    let (device, other) = (*device, if device.user == one { other } else { one });
    for (expected, (seq, row)) in (1..).zip(&conversation.rows) {
        if *seq != expected {
            let text = format!("nobody has seen this row, and row {seq} exists");
            return Err(violation(judge, Rule::Dense, device, (other, expected), None, text));
        }
        let Row::Recall { from, target } = row else { continue };
        let is_own = matches!(conversation.rows.get(target), Some(Row::Message(id))
            if judge.sends[id].device.user == *from && target < seq);
        if !is_own {
            let text =
                format!("a recall by u{from} names row {target}, which is no earlier message of that user");
            return Err(violation(judge, Rule::Unchanged, device, (other, *seq), None, text));
        }
    }
    Ok(())
}

/// A device has every row that it has not written itself.
fn complete(
    judge: &Judge,
    device: Device,
    seen: &Seen,
    peer: u64,
    conversation: &Conversation,
) -> Result<(), Violation> {
    debug_assert!(
        conversation.rows.is_empty() || judge.conversations.contains_key(&conversation_of(device.user, peer))
    );
    let shown = seen.shown.get(&peer).copied().unwrap_or(0);
    for (seq, row) in &conversation.rows {
        let place = (peer, *seq);
        let (id, is_own) = match row {
            Row::Message(id) => (Some(*id), judge.sends[id].device == device),
            // Who asked for a recall is told like everybody else, but which device asked is not in the row.
            Row::Recall { .. } => (None, false),
        };
        if is_own {
            continue;
        }
        if seen.own.contains(&place) {
            let text = "shown as the device's own message, which it is not".into();
            return Err(violation(judge, Rule::SameForAll, device, place, id, text));
        }
        let is_seen = match id {
            _ if seen.shows_in_order => *seq <= shown,
            Some(id) => seen.arrived.contains(&id),
            None => true,
        };
        if !is_seen {
            let text = format!("it has seen the rows up to {shown} only");
            return Err(violation(judge, Rule::AcceptedIsSeen, device, place, id, text));
        }
    }
    Ok(())
}
