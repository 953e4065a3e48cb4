//! Rule 24. A sync's reply says what it covers.
//!
//! What is absent inside it does not exist, so it must not claim more than it holds. (Unread counts, hide and delete
//! are not served yet.)

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_range_says_what_it_covers() {
    let scenario = Scenario {
        faults: &[Fault::DeliverBreak, Fault::SmallInbox, Fault::CallLost],
        meets: &[Met::Dirty],
        broken_by: &[Mutation::RangeClaimsMore],
    };
    scenario.judge();
}
