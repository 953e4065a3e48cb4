//! Rule 15. A device is synced after its claim is confirmed.
//!
//! Heads are read then, and a push that comes meanwhile only raises the sync's target. The other way round, a message
//! between the two is seen by neither.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn claimed_then_synced() {
    let scenario = Scenario {
        faults: &[Fault::Cut, Fault::Jitter, Fault::CallLost],
        meets: &[Met::Cut, Met::AnswerLost, Met::CallLost],
        broken_by: &[Mutation::ClaimIsNotAwaited],
    };
    scenario.judge();
}
