//! A scenario for every rule that makes the promises true: the faults that the rule is about, the states that must be
//! reached for it to say anything, and the mistakes that break it. `simulation/RULES.md` lists them.
//!
//! A scenario fails where the rule is broken, and where breaking it is not noticed.

mod promises;
mod rule_01_log_derived_timestamps;
mod rule_02_inserts_name_no_mutable_column;
mod rule_03_a_key_is_not_a_message;
mod rule_04_a_failed_effect_is_retried;
mod rule_05_redelivery_joins_the_work_under_way;
mod rule_06_duplicates_are_a_function_of_the_log;
mod rule_07_inputs_of_decisions_are_in_the_log;
mod rule_08_subscriptions_come_before_publishing;
mod rule_09_a_generation_is_sealed;
mod rule_10_the_store_is_durable_before_the_ack;
mod rule_11_dirty_is_synced;
mod rule_12_a_lapsed_lease_forces_a_new_epoch;
mod rule_13_a_claim_tells_whom_it_replaced;
mod rule_14_never_the_wrong_users_socket;
mod rule_15_claimed_then_synced;
mod rule_16_statuses_only_rise;
mod rule_17_cursors_are_maxima;
mod rule_18_a_cursor_never_jumps_a_gap;
mod rule_19_what_changes_what_is_shown_takes_a_seq;
mod rule_20_aliases_are_remembered;
mod rule_21_keys_belong_to_their_sender;
mod rule_22_refusals_are_told_and_kept;
mod rule_24_a_range_says_what_it_covers;
mod rule_25_ids_never_repeat;
mod rule_26_syncs_are_paged;

use petrel_simulation::world::{Coverage, Plan, Swarm, run};
pub(crate) use petrel_simulation::world::{Fault, Met, Mutation};

/// One rule.
pub(crate) struct Scenario {
    /// What goes wrong, in every seed.
    pub(crate) faults: &'static [Fault],
    /// What must happen in some of them.
    pub(crate) meets: &'static [Met],
    /// What must be noticed in some of them.
    pub(crate) broken_by: &'static [Mutation],
}

/// Seeds in which the rule must hold.
const SEEDS: u64 = 60;
/// Seeds in which each mistake must be noticed. Nearly all are within 400; an answer before recovery takes some thousands.
const SEEDS_MAX: u64 = 10_000;

impl Scenario {
    pub(crate) fn judge(&self) {
        self.holds();
        for mutation in self.broken_by {
            let is_noticed = |seed: &u64| {
                let plan = Plan { seed: *seed, mutation: Some(*mutation), ..self.plan() };
                run(&plan).verdict.is_err()
            };
            let noticed = (0..SEEDS_MAX).find(is_noticed);
            let seed = noticed.unwrap_or_else(|| panic!("{mutation:?} is not noticed in {SEEDS_MAX} seeds"));
            println!("{mutation:?}: noticed by seed {seed}");
        }
    }

    fn holds(&self) {
        let mut coverage = Coverage::default();
        for seed in 0..SEEDS {
            let plan = Plan { seed, ..self.plan() };
            let report = run(&plan);
            if let Err(failure) = &report.verdict {
                let traced = run(&Plan { is_traced: true, ..plan });
                let trace = traced.trace.map_or(String::new(), |trace| trace.of(failure.about));
                panic!("seed {seed} of this scenario breaks {failure}\n{trace}");
            }
            coverage.add(&report.coverage);
        }
        let missing: Vec<_> = self.meets.iter().filter(|met| coverage.of(**met) == 0).collect();
        assert!(missing.is_empty(), "never met in {SEEDS} seeds: {missing:?}");
    }

    fn plan(&self) -> Plan {
        Plan { swarm: Swarm::Only(self.faults), ..Plan::default() }
    }
}
