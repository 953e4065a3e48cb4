//! Rule 9. A generation is sealed before the next begins.
//!
//! Late sends into it fail, it is read to its end, and the next one's positions are higher. A bus that was wiped and
//! does not say so would swallow new messages as old ones.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_generation_is_sealed() {
    let scenario = Scenario {
        faults: &[Fault::Generation, Fault::PublishAgain, Fault::PersistKilled],
        meets: &[Met::NewGeneration, Met::Sealed],
        broken_by: &[Mutation::WipedBus],
    };
    scenario.judge();
}
