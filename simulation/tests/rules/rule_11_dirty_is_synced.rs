//! Rule 11. What could not be pushed is synced.
//!
//! A lost last message leaves no gap to notice. router acknowledges `stored` when each edge has answered or its lease
//! is over, and a session that could not take a push is marked dirty and synced from the store.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn dirty_is_synced() {
    let scenario = Scenario {
        faults: &[Fault::SmallInbox, Fault::DeliverBreak, Fault::RouterKilled, Fault::Crash],
        meets: &[Met::Dirty, Met::InboxFull, Met::DeliverBroke, Met::RouterKilled],
        broken_by: &[Mutation::DropDirtyMark, Mutation::AckStoredBeforeEffect],
    };
    scenario.judge();
}
