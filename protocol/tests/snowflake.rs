//! Ids: unique and rising whatever the clock does.

use petrel_protocol::limits::ID_BLOCK_MAX;
use petrel_protocol::snowflake::{AHEAD_MS_MAX, Ahead, EPOCH_MS, RESERVE_MS, Snowflake};

const NOW_MS: u64 = 1_800_000_000_000;

fn time_ms(id: u64) -> u64 {
    (id >> 22) + EPOCH_MS
}

fn drawn(snowflake: &mut Snowflake, now_ms: u64, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    snowflake.batch(now_ms, count, &mut |id| ids.push(id)).expect("not ahead");
    assert_eq!(ids.len(), count);
    ids
}

#[test]
fn an_id_has_time_worker_and_sequence() {
    let mut snowflake = Snowflake::new(0b10101_00011, 0);
    assert_eq!(snowflake.next(NOW_MS), Ok((NOW_MS - EPOCH_MS) << 22 | 0b10101_00011 << 12));
    assert_eq!(snowflake.next(NOW_MS), Ok((NOW_MS - EPOCH_MS) << 22 | 0b10101_00011 << 12 | 1));
    assert_eq!(snowflake.next(NOW_MS + 1), Ok((NOW_MS + 1 - EPOCH_MS) << 22 | 0b10101_00011 << 12));
}

#[test]
fn ids_rise_through_any_mix_of_draws_and_clock_steps() {
    let mut snowflake = Snowflake::new(5, 0);
    let mut last = 0;
    let mut seed = 1_u64;
    let mut now_ms = NOW_MS;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (step, count) = ((seed >> 60) as i64 - 7, (seed >> 40) as usize % 3_000);
        now_ms = now_ms.saturating_add_signed(step);
        let Ok(block) = snowflake.block(now_ms, count) else { continue };
        for id in block {
            assert!(id > last);
            assert_eq!(id >> 12 & 0x3FF, 5);
            assert!(time_ms(id) <= now_ms + AHEAD_MS_MAX);
            last = id;
        }
    }
    assert!(last > 0);
}

#[test]
fn blocks_of_several_owners_never_meet() {
    let mut snowflake = Snowflake::new(1, 0);
    let mut blocks: Vec<_> =
        (0..4).map(|n| snowflake.block(NOW_MS + n % 2, 3_000).expect("not ahead")).collect();
    let mut ids: Vec<u64> = Vec::new();
    for _ in 0..3_000 {
        ids.extend(blocks.iter_mut().map(|block| block.next().expect("3,000 each")));
    }
    assert!(blocks.iter_mut().all(|block| block.next().is_none()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12_000);
}

#[test]
fn a_clock_that_steps_back_is_not_followed() {
    let mut snowflake = Snowflake::new(1, 0);
    let first = snowflake.next(NOW_MS).expect("not ahead");
    let second = snowflake.next(NOW_MS - 500).expect("half a second is within the bound");
    assert!(second > first);
    assert_eq!(snowflake.next(NOW_MS - 1_500), Err(Ahead { retry_after_ms: 500 }));
    assert_eq!(snowflake.next(NOW_MS - 1_001), Err(Ahead { retry_after_ms: 1 }));
    assert!(snowflake.next(NOW_MS - 1_000).expect("a second later") > second);
}

#[test]
fn a_clock_that_is_outrun_refuses_whole_batches() {
    let mut snowflake = Snowflake::new(1, 0);
    let mut count = 0;
    let refused = loop {
        match snowflake.batch(NOW_MS, ID_BLOCK_MAX, &mut |_| count += 1) {
            Ok(()) => {}
            Err(ahead) => break ahead,
        }
    };
    // The milliseconds from now to a second ahead, both included; a batch that does not fit is refused whole.
    assert_eq!(count, 1_001 * 4_096 / ID_BLOCK_MAX * ID_BLOCK_MAX);
    let last_ms = snowflake.high_water_ms();
    assert!(
        drawn(&mut snowflake, NOW_MS + refused.retry_after_ms, ID_BLOCK_MAX)
            .iter()
            .all(|&id| time_ms(id) > last_ms)
    );
}

#[test]
fn a_successor_begins_after_the_mark() {
    let mut snowflake = Snowflake::new(1, NOW_MS + 700);
    assert_eq!(snowflake.high_water_ms(), NOW_MS + 700);
    assert_eq!(time_ms(snowflake.next(NOW_MS).expect("not ahead")), NOW_MS + 701);
    assert_eq!(snowflake.high_water_ms(), NOW_MS + 701);
}

#[test]
fn no_id_goes_beyond_a_reserved_mark() {
    let mut snowflake = Snowflake::new(1, 0);
    let mark_ms = snowflake.mark_to_store(NOW_MS).expect("none is reserved");
    assert_eq!(mark_ms, NOW_MS + RESERVE_MS);
    snowflake.reserve_until(mark_ms);
    assert_eq!(snowflake.mark_to_store(NOW_MS + RESERVE_MS / 2), None);
    assert!(snowflake.next(mark_ms).is_ok());
    assert!(snowflake.next(mark_ms + 1).is_err());
    let later_ms = snowflake.mark_to_store(mark_ms + 1).expect("the mark was reached");
    snowflake.reserve_until(later_ms);
    snowflake.reserve_until(mark_ms);
    assert!(snowflake.next(mark_ms + 1).is_ok(), "an earlier mark changes nothing");
}

#[test]
fn whoever_restarts_from_a_mark_draws_at_once_and_anew() {
    let mut stored_ms = 0;
    let mut last = 0;
    let mut now_ms = NOW_MS;
    for _ in 0..50 {
        let mut snowflake = Snowflake::new(1, stored_ms);
        if let Some(mark_ms) = snowflake.mark_to_store(now_ms) {
            stored_ms = mark_ms;
            snowflake.reserve_until(mark_ms);
        }
        let id = snowflake.next(now_ms).expect("a restart does not have to wait");
        assert!(id > last);
        last = id;
        // A generator lives for a second before the next one: marks do not run away from the clock.
        now_ms += 1_000;
    }
}

#[test]
fn an_empty_batch_changes_nothing() {
    let mut snowflake = Snowflake::new(1, 0);
    let before_ms = snowflake.high_water_ms();
    assert!(drawn(&mut snowflake, NOW_MS, 0).is_empty());
    assert_eq!(snowflake.high_water_ms(), before_ms);
}

#[test]
#[should_panic(expected = "10 bits")]
fn a_worker_has_ten_bits() {
    let _ = Snowflake::new(1_024, 0);
}
