//! Rule 14. Never the wrong user's socket.
//!
//! An address includes the edge's epoch and the slot's generation; a push names user and device, and the session
//! compares them.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn never_the_wrong_users_socket() {
    let scenario = Scenario {
        faults: &[
            Fault::Cut,
            Fault::HalfOpen,
            Fault::CallLost,
            Fault::DeliverBreak,
            Fault::Jitter,
            Fault::EdgeKilled,
        ],
        meets: &[Met::Cut, Met::EdgeKilled],
        broken_by: &[Mutation::DeliverToAnyUser, Mutation::SlotWithoutGeneration],
    };
    scenario.judge();
}
