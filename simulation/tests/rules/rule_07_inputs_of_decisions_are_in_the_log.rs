//! Rule 7. The inputs of every decision are in the log.
//!
//! The recall window is judged by the edge's stamps, so that two readers decide alike. (Membership, roles and blocks
//! will be events of the conversation too; there are none yet.)

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn inputs_of_decisions_are_in_the_log() {
    let scenario = Scenario {
        faults: &[Fault::PersistReplaced, Fault::PersistKilled, Fault::ClockStep],
        meets: &[Met::Recalled, Met::ZombieWrote, Met::ClockBack],
        broken_by: &[Mutation::PersistClock],
    };
    scenario.judge();
}
