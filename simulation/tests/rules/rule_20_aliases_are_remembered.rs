//! Rule 20. The second id of a resend is remembered.
//!
//! A send without a message id that is resent through another edge has two of them. Both lead to the same row, in acks
//! and in recalls.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn aliases_are_remembered() {
    let scenario = Scenario {
        faults: &[Fault::PublishUnknown, Fault::Impatient, Fault::Cut, Fault::Jitter],
        meets: &[Met::Alias],
        broken_by: &[Mutation::ForgetAliases],
    };
    scenario.judge();
}
