//! Rule 19. What changes what a device shows takes a seq.
//!
//! A recall is a row that names its target: whoever syncs later gets it in its place.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn what_changes_what_is_shown_takes_a_seq() {
    let scenario = Scenario {
        faults: &[Fault::Cut],
        meets: &[Met::Recalled],
        broken_by: &[Mutation::RecallWithoutRow, Mutation::ServeRecalled],
    };
    scenario.judge();
}
