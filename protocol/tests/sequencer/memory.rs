//! What is kept between batches is bounded, and what was forgotten changes no decision.

use petrel_protocol::sequencer::Config;

use crate::world::{Effect, Log, Reader, World, config, duplicate_of, send};

fn small() -> Config {
    Config { heads_max: 4, keys_max: 8, batch_events_max: 2, ..config() }
}

#[test]
fn heads_and_keys_are_bounded() {
    let events = (0..500_u64).map(|n| send(1, 2 + n % 100, (n % 250) as u8 + 1, 1_000 + n, n));
    let log = Log::one_each(events);
    let mut world = World::default();
    let mut reader = Reader::new(small(), 0);
    world.run(&mut reader, &log, 7);
    let (heads, keys) = reader.machine.kept();
    assert!(heads <= 2 * 4, "{heads}");
    // A generation is closed by the event that comes after the bound was reached.
    assert!(keys <= 2 * (8 + 2), "{keys}");
    assert_eq!(world.store, World::of(&log).store);
}

#[test]
fn a_forgotten_key_is_looked_up() {
    let first = send(1, 2, 1, 11, 0);
    let between = (0..50_u64).map(|n| send(1, 3, n as u8 + 2, 100 + n, 1 + n));
    let log = Log::one_each([first.clone()].into_iter().chain(between).chain([send(1, 2, 1, 12, 60)]));
    let mut world = World::default();
    world.run(&mut Reader::new(small(), 0), &log, 1);
    assert_eq!(duplicate_of(world.answer(51)), (11, 12, 1));
}

#[test]
fn a_clock_that_jumps_makes_nothing_forgotten_look_new() {
    const MINUTE: u64 = 60_000;
    let log = Log::one_each([
        send(1, 2, 1, 11, 0),
        send(1, 3, 2, 12, 10 * MINUTE),
        send(1, 3, 3, 13, 20 * MINUTE),
        send(1, 3, 4, 14, 30 * MINUTE),
        send(1, 2, 1, 15, 100),
    ]);
    assert_eq!(duplicate_of(World::of(&log).answer(4)), (11, 15, 1));
}

#[test]
fn a_known_conversation_and_new_keys_cost_no_look_up() {
    let log = Log::one_each((1..100_u8).map(|n| send(1, 2, n, 1_000 + u64::from(n), u64::from(n))));
    let mut world = World::default();
    let mut reader = Reader::new(config(), 0);
    let mut loads = 0;
    while !reader.is_done(&log) {
        if reader.effects.is_empty() {
            reader.read(&log, 1);
        }
        loads += usize::from(matches!(reader.effects.front(), Some(Effect::Load(_))));
        world.step(&mut reader, 0);
    }
    assert_eq!(loads, 1, "the head, once");
}

#[test]
fn a_reader_that_is_behind_takes_no_more() {
    let log = Log::one_each((0..6_000_u64).map(|n| send(1, 2, 0, 1 + n, n)));
    let mut reader = Reader::new(config(), 0);
    let mut taken = 0;
    while reader.machine.has_room() {
        reader.read(&log, 1);
        taken += 1;
    }
    assert!((4_000..5_000).contains(&taken), "{taken}");
    let mut world = World::default();
    world.run(&mut reader, &log, 1);
    assert_eq!(world.store.messages.len(), 6_000);
}
