//! Rule 18. A cursor never jumps a gap.
//!
//! It moves only through what the device has acknowledged, in order. Else what was lost on the way is never given
//! again.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_cursor_never_jumps_a_gap() {
    let scenario = Scenario {
        faults: &[Fault::Cut, Fault::SmallEgress, Fault::SlowReader],
        meets: &[Met::Cut, Met::SlowReaderCut],
        broken_by: &[Mutation::CursorBeforeAck],
    };
    scenario.judge();
}
