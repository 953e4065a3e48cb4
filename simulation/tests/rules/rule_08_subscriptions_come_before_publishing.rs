//! Rule 8. Subscriptions exist before the first publish.
//!
//! A bus keeps nothing for a topic without a subscription, and receipts it all the same: a reader that begins takes
//! what was never acknowledged, not what comes from then on.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn subscriptions_come_before_publishing() {
    let scenario = Scenario {
        faults: &[Fault::PersistKilled, Fault::RouterKilled],
        meets: &[Met::PersistKilled, Met::RouterKilled],
        broken_by: &[Mutation::SubscribeAtEnd],
    };
    scenario.judge();
}
