//! Rule 2. An insert never undoes a recall.
//!
//! The mark of a recall stands apart from the row that it recalls, so that the late insert of a replaced reader does
//! not bring the content back.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn inserts_name_no_mutable_column() {
    let scenario = Scenario {
        faults: &[Fault::PersistReplaced, Fault::StoreTimeout, Fault::Crash, Fault::Redelivered],
        meets: &[Met::Recalled, Met::StoreTimeoutLate, Met::ZombieWrote],
        broken_by: &[Mutation::InsertUndoesRecall],
    };
    scenario.judge();
}
