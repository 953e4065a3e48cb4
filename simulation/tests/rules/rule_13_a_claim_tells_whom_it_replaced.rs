//! Rule 13. A claim tells whom it replaced.
//!
//! That session is told and ends, else it would sit without a route and miss everything. Removal compares the address,
//! so that a late one never removes its successor's route.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_claim_tells_whom_it_replaced() {
    let scenario = Scenario {
        faults: &[Fault::LoggedInElsewhere, Fault::CallLost],
        meets: &[Met::LoggedInElsewhere, Met::Kicked],
        broken_by: &[Mutation::ReplacedIsNotTold, Mutation::ReleaseWithoutCompare],
    };
    scenario.judge();
}
