//! Rule 3. A key is not a message.
//!
//! Whoever finds a key of the same position has died half-way before: everything is written again with that seq. Only a
//! key of a smaller position makes a duplicate. Rows are confirmed before heads and their copies in users' lists, both
//! of these before `stored`, `stored` before the acknowledgement; a replay writes the copies again, since a crash may have
//! come between them and their heads.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn a_key_is_not_a_message() {
    let scenario = Scenario {
        faults: &[Fault::PersistKilled, Fault::Crash, Fault::StoreTimeout],
        meets: &[Met::PartialBatch, Met::Replay],
        broken_by: &[Mutation::KeyIsMessage, Mutation::HeadBeforeRows, Mutation::DeliverBeforeStored],
    };
    scenario.judge();
}
