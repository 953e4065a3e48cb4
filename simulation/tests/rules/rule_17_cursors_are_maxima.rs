//! Rule 17. Cursors are maxima.
//!
//! Receipts come late, twice and in any order. A cursor takes the highest, clamped to the head, so that nothing
//! acknowledged is given again.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn cursors_are_maxima() {
    let scenario = Scenario {
        faults: &[Fault::Redelivered, Fault::Cut, Fault::Jitter],
        meets: &[Met::ReceiptsAgain],
        broken_by: &[Mutation::CursorFalls],
    };
    scenario.judge();
}
