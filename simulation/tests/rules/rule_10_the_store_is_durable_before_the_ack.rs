//! Rule 10. The store is durable before `uplink` is acknowledged.
//!
//! What was acknowledged is never read again, so a loss of power must not take it. After one, nothing is answered from
//! the store before it has caught up with the log: `stored` may have kept more than the store has.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn the_store_is_durable_before_the_ack() {
    let scenario = Scenario {
        faults: &[Fault::PowerCut, Fault::Jitter, Fault::Impatient],
        meets: &[Met::PowerCut, Met::Replay],
        broken_by: &[Mutation::AckBeforeSync, Mutation::AnswerBeforeRecovery],
    };
    scenario.judge();
}
