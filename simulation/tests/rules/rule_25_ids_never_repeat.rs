//! Rule 25. Message ids never repeat.
//!
//! A mark ahead of use is durable, and time never goes below it, whatever the clock does. A generator too far ahead of
//! the clock refuses.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn ids_never_repeat() {
    let scenario = Scenario {
        faults: &[Fault::EdgeKilled, Fault::ClockStep],
        meets: &[Met::EdgeKilled, Met::ClockBack, Met::IdsRefused],
        broken_by: &[Mutation::ForgetIdMark],
    };
    scenario.judge();
}
