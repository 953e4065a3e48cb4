//! Rule 5. A record that comes again to its reader joins the work under way.
//!
//! What is compared is the last position that was assigned, in memory; the stored head is only its first value. A
//! reader that has a partition again after another one forgets what it remembered of conversations.

use super::{Fault, Met, Mutation, Scenario};

#[test]
fn redelivery_joins_the_work_under_way() {
    let scenario = Scenario {
        faults: &[
            Fault::Redelivered,
            Fault::Crash,
            Fault::PersistKilled,
            Fault::PersistReturned,
            Fault::StoreTimeout,
            Fault::Jitter,
        ],
        meets: &[Met::UplinkAgainUnderWay, Met::PersistReturned],
        broken_by: &[Mutation::AckRedelivered, Mutation::KeepStaleHeads],
    };
    scenario.judge();
}
