//! Starting and stopping.

use petrel_bus::Bus;
use petrel_bus::calls::{CallError, PersistCall, Reply};
use petrel_persist::Persist;

use crate::world::{PARTITIONS, World, config};

#[test]
fn a_store_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    let error = Persist::start(config(dir.path()), world.bus.clone()).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    world.stop();
}

#[test]
fn calls_after_the_stop_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(&dir.path().join("bus"), PARTITIONS).unwrap();
    let persist = Persist::start(config(dir.path()), bus.clone()).unwrap();
    let link = persist.link();
    persist.stop();
    let (reply, answer) = Reply::channel();
    link.call(PersistCall::FindAccount("one".into(), reply));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(answer).unwrap_err(), CallError::Unavailable);
    bus.close();
}

#[test]
fn a_partition_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::embedded(&dir.path().join("bus"), PARTITIONS).unwrap();
    let mut config = config(dir.path());
    config.partitions = vec![9];
    let error = Persist::start(config, bus.clone()).unwrap_err().to_string();
    assert!(error.contains("partition 9 does not exist"), "{error}");
    bus.close();
}
