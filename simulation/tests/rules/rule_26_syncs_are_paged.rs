//! Rule 26. Syncs are paged.
//!
//! A device that lacks much gets it page by page, by the server's cursors, to the end.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn syncs_are_paged() {
    let scenario = Scenario {
        faults: &[Fault::Cut, Fault::SlowReader, Fault::EdgeKilled],
        meets: &[Met::ManyPages],
        broken_by: &[Mutation::FirstPageOnly],
    };
    scenario.judge();
}
