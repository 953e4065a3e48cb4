//! Rule 16. Statuses only rise.
//!
//! A delivery can be faster than the bus's receipt. While that is pending any status stands for it, and a lower one is
//! never told after a higher one.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn statuses_only_rise() {
    let scenario = Scenario {
        faults: &[Fault::Jitter, Fault::Impatient, Fault::Redelivered],
        meets: &[Met::StatusRead, Met::StatusOffline],
        broken_by: &[Mutation::StatusFalls],
    };
    scenario.judge();
}
