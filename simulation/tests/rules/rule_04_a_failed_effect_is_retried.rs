//! Rule 4. persist skips nothing.
//!
//! An effect that failed is retried in place, and nothing later of its conversation passes it. A time-out is no
//! success.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_failed_effect_is_retried() {
    let scenario = Scenario {
        faults: &[Fault::StoreTimeout],
        meets: &[Met::StoreTimeoutLost, Met::StoreTimeoutApplied, Met::StoreTimeoutLate],
        broken_by: &[Mutation::SkipFailedWrite],
    };
    scenario.judge();
}
