//! Starting on a folder.

use petrel_bus::Bus;
use petrel_bus::calls::{PersistCall, Reply};
use petrel_persist::Persist;
use petrel_protocol::calls::{HistoryRequest, SyncRequest};
use petrel_protocol::topics::Topic;

use crate::place::Place;
use crate::world::{PARTITIONS, World, config, pair, publish, publisher, send};

#[test]
fn a_store_in_use_is_left_alone() {
    let place = Place::new();
    let world = World::start(&place);
    let error = Persist::start(config(&place), world.bus.clone()).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    world.stop();
}

/// As after a loss of power, in which `stored` kept more than the store: who asked before the store had caught up would be
/// told that there is nothing, and would lack it until its next sync.
#[test]
fn what_reads_messages_is_answered_once_the_store_has_what_waits_in_the_log() {
    const SENDS: u64 = 2_000;
    let place = Place::new();
    let bus = Bus::embedded(&place.path().join("bus"), PARTITIONS).unwrap();
    let uplink = publisher(&bus, Topic::Uplink);
    for first in (0..SENDS).step_by(100) {
        publish(&uplink, (first..first + 100).map(|n| send(1, 2, 1_000 + n)).collect());
    }
    let persist = Persist::start(config(&place), bus.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (reply, history) = Reply::channel();
    let conversation = Some(pair(1, 2).into());
    let request = HistoryRequest { user: 2, conversation, from_seq: 1, to_seq: 0, rows_max: 1 };
    persist.link().call(PersistCall::History(request, reply));
    let (reply, sync) = Reply::channel();
    let request = SyncRequest { user: 2, device: 1, rows_max: 1, ..Default::default() };
    persist.link().call(PersistCall::Sync(request, reply));
    // Accounts do not come from the log: they wait for nothing, and for nobody who does.
    let (reply, account) = Reply::channel();
    persist.link().call(PersistCall::FindAccount("one".into(), reply));
    assert_eq!(runtime.block_on(account).unwrap(), None);
    assert_eq!(runtime.block_on(history).unwrap().head_seq, SENDS);
    assert_eq!(runtime.block_on(sync).unwrap().ranges[0].head_seq, SENDS);
    persist.stop();
    bus.close();
}
