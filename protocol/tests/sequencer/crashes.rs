//! Readers that stop between two effects, readers that do not know that they were replaced, records that come twice.

use petrel_protocol::events::stored;
use petrel_protocol::limits::{DEDUP_WINDOW_MS, RECALL_WINDOW_MS};
use petrel_protocol::sequencer::Input;

use crate::world::{
    Effect, Log, Reader, World, Write, code_of, config, duplicate_of, pair, recall, resent, send,
};

/// One of everything.
fn log() -> Log {
    let first = send(1, 2, 1, 11, 0);
    let mut log = Log::default();
    log.append(vec![first.clone(), send(2, 1, 2, 12, 1), send(1, 3, 3, 13, 2)]);
    log.append(vec![resent(first, 99, 3), send(2, 1, 7, 11, 4), send(1, 2, 0, 14, 5)]);
    log.append(vec![recall(1, 2, 99, 6), recall(1, 2, 11, 7), recall(2, 1, 14, 8), send(1, 2, 0, 14, 9)]);
    // Refused as too late, then accepted: the edges' clocks differ.
    log.append(vec![send(1, 2, 5, 15, 10), recall(1, 2, 15, 11 + RECALL_WINDOW_MS), recall(1, 2, 15, 12)]);
    log
}

#[test]
fn every_prefix_of_effects_then_a_new_reader_gives_the_same() {
    let log = log();
    let expected = World::of(&log);
    let mut is_reached = true;
    let mut stop_after = 0;
    while is_reached {
        let mut world = World::default();
        let mut reader = Reader::new(config(), 0);
        let mut steps = 0;
        while steps < stop_after && !reader.is_done(&log) {
            if reader.effects.is_empty() {
                reader.read(&log, 2);
            } else {
                world.step(&mut reader, 0);
                steps += 1;
            }
        }
        is_reached = !reader.is_done(&log);
        let mut successor = world.restart(config());
        world.run(&mut successor, &log, 3);
        assert_eq!(world.store, expected.store, "stopped after {stop_after} effects");
        assert_same_answers(&world, &expected);
        stop_after += 1;
    }
    assert!(stop_after > 40, "there were effects to stop between: {stop_after}");
}

/// Each event has at least one answer, and all of its answers say the same.
pub(crate) fn assert_same_answers(world: &World, expected: &World) {
    for answer in &expected.stored {
        let slot = answer.origin.as_ref().unwrap().slot;
        let answers = world.answers(slot / 1_000, slot % 1_000);
        assert!(!answers.is_empty(), "no answer to {answer:?}");
        for other in answers {
            assert_eq!(other.seq, answer.seq, "{other:?}");
            match (&other.body, &answer.body) {
                (Some(stored::Body::Message(one)), Some(stored::Body::Message(two))) if one.is_recalled => {
                    assert_eq!((one.msg_id, &one.content[..]), (two.msg_id, ""));
                }
                (one, two) => assert_eq!(one, two),
            }
        }
    }
}

#[test]
fn a_replay_from_the_start_writes_heads_alone_and_publishes_everything_again() {
    let log = log();
    let mut world = World::of(&log);
    let expected = world.clone();
    world.stored.clear();
    let mut reader = Reader::new(config(), 0);
    while !reader.is_done(&log) {
        if reader.effects.is_empty() {
            reader.read(&log, 10);
        }
        if let Some(Effect::Writes(writes)) = reader.effects.front() {
            assert!(writes.iter().all(|write| matches!(write, Write::Head(..))), "{writes:?}");
        }
        world.step(&mut reader, 0);
    }
    assert_eq!(world.store, expected.store);
    assert!(world.stored.iter().all(|stored| stored.again));
    assert_same_answers(&world, &expected);
}

#[test]
fn a_replay_of_many_windows_publishes_every_event_again() {
    let later = (0..20_u8).map(|n| send(1, 2, n + 1, 100 + u64::from(n), u64::from(n) * DEDUP_WINDOW_MS / 2));
    // The reader has begun when it loads the head of the conversation that another one has already taken further.
    let log = Log::one_each([send(1, 3, 99, 99, 0)].into_iter().chain(later));
    let mut world = World::of(&log);
    let expected = std::mem::take(&mut world.stored);
    world.run(&mut Reader::new(config(), 0), &log, 1);
    let seqs = |stored: &[petrel_protocol::events::Stored]| stored.iter().map(|s| s.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&world.stored), seqs(&expected));
}

#[test]
fn a_recalled_message_is_replayed_without_its_content() {
    let log = Log::one_each([send(1, 2, 1, 11, 0), recall(1, 2, 11, 1)]);
    let mut world = World::of(&log);
    world.stored.clear();
    world.run(&mut Reader::new(config(), 0), &log, 1);
    match world.answer(0).body.as_ref().unwrap() {
        stored::Body::Message(message) => assert!(message.is_recalled && message.content.is_empty()),
        body => panic!("a message was expected: {body:?}"),
    }
}

/// The store after the first `count` writes of the first batch.
fn crashed_after(log: &Log, count: usize) -> World {
    let mut world = World::default();
    let mut reader = Reader::new(config(), 0);
    reader.read(log, log.records.len());
    while !matches!(reader.effects[0], Effect::Writes(_)) {
        world.step(&mut reader, 0);
    }
    for _ in 0..count {
        world.step(&mut reader, 0);
    }
    world
}

#[test]
fn a_key_without_its_message_is_not_a_duplicate() {
    let log = Log::one_each([send(1, 2, 1, 11, 0)]);
    let mut world = crashed_after(&log, 3);
    assert_eq!(world.store.keys.len(), 2);
    // A store that confirms writes in any order: the keys are there, the message is not.
    world.store.messages.clear();
    let mut successor = world.restart(config());
    world.run(&mut successor, &log, 1);
    assert_eq!(world.store, World::of(&log).store);
    assert_eq!(world.answer(0).seq, 1);
}

#[test]
fn late_writes_of_a_zombie_undo_nothing() {
    let log = Log::one_each([send(1, 2, 1, 11, 0), send(1, 2, 2, 12, 1), recall(1, 2, 11, 2)]);
    let mut world = World::default();
    // A reads the first two, and stalls before it writes.
    let mut a = Reader::new(config(), 0);
    a.read(&log, 2);
    while !matches!(a.effects[0], Effect::Writes(_)) {
        world.step(&mut a, 0);
    }
    let mut b = Reader::new(config(), 0);
    world.run(&mut b, &log, 1);
    let expected = world.store.clone();
    // A wakes up and writes everything, its older head included.
    let Effect::Writes(writes) = &a.effects[0] else { unreachable!() };
    assert!(writes.iter().any(|write| matches!(write, Write::Head(_, head) if head.seq == 2)));
    while !a.effects.is_empty() {
        world.step(&mut a, 0);
    }
    assert_eq!(world.store, expected);
    assert_eq!(world.store.heads[&pair(1, 2)].seq, 3);
}

/// A reads, B takes over and reads on, and the partition comes back to A, which was never told.
#[test]
fn a_partition_that_comes_back_gets_no_seq_twice() {
    let first = send(1, 2, 1, 11, 0);
    let log = Log::one_each([
        first.clone(),
        send(1, 2, 2, 12, 1),
        send(2, 1, 3, 13, 2),
        send(1, 2, 4, 14, 3),
        send(1, 2, 5, 15, 4),
        // B has read the first use of this key, and A has not.
        send(1, 2, 4, 16, 5),
        first,
    ]);
    let expected = World::of(&log);
    // How far A has come with what it read when the partition comes back.
    for effects in 0..12 {
        let mut world = World::default();
        let mut a = Reader::new(config(), 0);
        a.read(&log, 1);
        while !a.effects.is_empty() {
            world.step(&mut a, 0);
        }
        a.read(&log, 1);
        for _ in 0..effects {
            if !a.effects.is_empty() {
                world.step(&mut a, 0);
            }
        }
        let mut b = world.restart(config());
        while b.next < 4 || !b.effects.is_empty() {
            if b.effects.is_empty() {
                b.read(&log, 4 - b.next);
            }
            world.step(&mut b, 0);
        }
        assert_eq!(world.acked.unwrap().entry, 3);
        a.resume(world.unacked());
        a.read(&log, 2);
        world.run(&mut a, &log, 2);
        assert_eq!(world.store, expected.store, "after {effects} effects");
        assert_same_answers(&world, &expected);
    }
}

#[test]
fn a_partition_that_comes_back_with_what_was_read_looks_nothing_up() {
    let log = Log::one_each((1..6_u8).map(|n| send(1, 2, n, 10 + u64::from(n), u64::from(n))));
    let mut world = World::default();
    let mut a = Reader::new(config(), 0);
    a.read(&log, 4);
    while !a.effects.is_empty() {
        world.step(&mut a, 0);
    }
    // Its last acknowledgements were lost on the way.
    a.resume(2);
    a.read(&log, 1);
    a.read(&log, 2);
    while !a.effects.is_empty() {
        assert!(!matches!(&a.effects[0], Effect::Load(loads) if !loads.heads.is_empty()));
        world.step(&mut a, 0);
    }
    assert_eq!(world.store, World::of(&log).store);
}

#[test]
fn a_record_that_comes_again_while_it_is_under_way_is_done_once() {
    let log = Log::one_each([send(1, 2, 1, 11, 0), send(1, 2, 2, 12, 1)]);
    let mut world = World::default();
    let mut reader = Reader::new(config(), 0);
    reader.read(&log, 2);
    reader.handle(Input::Records(log.records.clone()));
    world.run(&mut reader, &log, 1);
    assert_eq!(world.stored.len(), 2);
    assert_eq!(world.acked.unwrap().entry, 1);
}

#[test]
fn a_record_that_comes_again_later_is_only_published_again() {
    let first = send(1, 2, 1, 11, 0);
    let log = Log::one_each([first.clone(), resent(first, 12, 1), recall(1, 2, 11, 2), recall(2, 1, 11, 3)]);
    let mut world = World::default();
    let mut reader = Reader::new(config(), 0);
    world.run(&mut reader, &log, 2);
    let expected = world.clone();
    world.stored.clear();
    reader.handle(Input::Records(log.records.clone()));
    world.run(&mut reader, &log, 1);
    assert_eq!(world.store, expected.store);
    assert_eq!(world.stored.len(), 4);
    assert!(world.stored.iter().all(|stored| stored.again));
    assert_same_answers(&world, &expected);
}

#[test]
fn a_new_reader_knows_duplicates_of_what_an_old_one_read() {
    let first = send(1, 2, 1, 11, 0);
    let mut log = Log::one_each([first.clone()]);
    let mut world = World::of(&log);
    // The bus's silent resend, without any flag, and a refusal that is asked for again.
    log.append(vec![first, send(2, 1, 7, 11, 1)]);
    let mut reader = world.restart(config());
    world.run(&mut reader, &log, 1);
    assert_eq!(duplicate_of(world.answers(1, 0)[0]), (11, 11, 1));
    log.append(vec![send(2, 1, 7, 88, 2)]);
    let mut reader = world.restart(config());
    world.run(&mut reader, &log, 1);
    assert_eq!(code_of(world.answers(2, 0)[0]), code_of(world.answers(1, 1)[0]));
}

#[test]
fn a_fresh_reader_stops_looking_up_when_the_window_has_passed() {
    let mut log = Log::one_each([send(1, 2, 1, 11, 0)]);
    let mut world = World::of(&log);
    log.append(vec![send(1, 2, 2, 12, DEDUP_WINDOW_MS)]);
    log.append(vec![send(1, 2, 3, 13, DEDUP_WINDOW_MS + 1)]);
    let mut reader = world.restart(config());
    let mut asked = Vec::new();
    while !reader.is_done(&log) {
        if reader.effects.is_empty() {
            reader.read(&log, 1);
        }
        if let Some(Effect::Load(loads)) = reader.effects.front() {
            asked.push((loads.heads.len(), loads.keys.len()));
        }
        world.step(&mut reader, 0);
    }
    assert_eq!(asked, [(1, 0), (0, 2)], "one head, and the keys of the event within the window");
}

#[test]
fn a_done_record_that_comes_again_does_not_hide_the_ack_of_a_newer_one() {
    let log = Log::one_each((1..=4).map(|n| send(1, 2, n, 10 + u64::from(n), n.into())));
    let mut world = World::default();
    let mut reader = Reader::new(config(), 0);
    reader.read(&log, 1);
    while !reader.effects.is_empty() {
        world.step(&mut reader, 0);
    }
    // The first one is done, two are under way, the last waits, and all of them come again.
    for _ in 0..3 {
        reader.read(&log, 1);
    }
    reader.next = 0;
    reader.read(&log, 4);
    world.run(&mut reader, &log, 1);
    assert_eq!(world.unacked(), 4, "everything is acknowledged");
}
