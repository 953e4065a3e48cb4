//! Rule 6. What is a duplicate is a function of the log.
//!
//! The bus publishes again without saying so. A reader remembers all keys of the last two minutes of edge time, and
//! looks every key up until it has read that much itself.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn duplicates_are_a_function_of_the_log() {
    let scenario = Scenario {
        faults: &[
            Fault::PublishAgain,
            Fault::PublishUnknown,
            Fault::Impatient,
            Fault::PersistReplaced,
            Fault::PersistKilled,
        ],
        meets: &[Met::Duplicate, Met::PublishedAgain, Met::PublishedAgainLate],
        broken_by: &[Mutation::ForgetKeys],
    };
    scenario.judge();
}
