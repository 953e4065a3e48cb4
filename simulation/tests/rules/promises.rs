//! Promises to clients that stand beside the rules.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn accepted_means_durable() {
    let scenario = Scenario {
        faults: &[Fault::PublishRefused, Fault::PublishUnknown, Fault::EdgeKilled],
        meets: &[Met::PublishUnknownLost, Met::PublishUnknownApplied, Met::PublishFull],
        broken_by: &[Mutation::AcceptBeforeReceipt, Mutation::UnknownAsRefused],
    };
    scenario.judge();
}

#[test]
fn acknowledged_means_done() {
    let scenario = Scenario {
        faults: &[Fault::PersistKilled, Fault::Crash, Fault::StoreTimeout],
        meets: &[Met::PersistKilled, Met::PersistCrashed],
        broken_by: &[Mutation::AckUplinkBeforeEffect],
    };
    scenario.judge();
}

#[test]
fn the_order_of_a_sender_holds_through_failures() {
    let scenario = Scenario {
        faults: &[Fault::PublishUnknown, Fault::PublishRefused, Fault::Jitter],
        meets: &[Met::OutcomeUnknown, Met::HeldBack],
        broken_by: &[Mutation::PacksOvertake],
    };
    scenario.judge();
}

#[test]
fn credit_comes_back_with_the_end_of_a_session() {
    let scenario = Scenario {
        faults: &[Fault::Cut, Fault::Impatient, Fault::StoreTimeout, Fault::PersistKilled],
        meets: &[Met::RefusedForNow, Met::Cut],
        broken_by: &[Mutation::LeakCredit],
    };
    scenario.judge();
}
