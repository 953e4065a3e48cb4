//! The embedded log: what every log does, and what only this one does.

mod behaviour;
#[path = "stack/embedded.rs"]
mod stack;
mod support;

use bytes::Bytes;
use petrel_bus::embedded::{Config, Log};
use petrel_bus::{Bus, PublishError};
use petrel_protocol::ids::Position;
use petrel_protocol::limits::BUS_TAIL_BYTES_MAX;
use petrel_protocol::topics::{Subscription, Topic};
use support::{Publishing, next};

fn open(dir: &tempfile::TempDir) -> Bus {
    Bus::embedded(dir.path(), 4).expect("it opens")
}

#[tokio::test]
async fn offsets_go_on_after_everything_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let bus = open(&dir);
        let position = Publishing::new(&bus, Topic::Uplink).put(1, "x");
        assert_eq!(position.entry, round);
        let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 1).unwrap();
        assert_eq!(next(&mut consumer).await.position, position);
        consumer.ack(position);
        bus.close();
    }
}

#[tokio::test]
async fn older_records_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let publishing = Publishing::new(&bus, Topic::Uplink);
    // Several times the tail, and several segments.
    let size = 40_000;
    let count = 30 * BUS_TAIL_BYTES_MAX / size;
    let pack = |i: usize| {
        let mut pack = vec![0; size];
        pack[..8].copy_from_slice(&(i as u64).to_be_bytes());
        pack
    };
    for i in 0..count {
        publishing.publish_patiently(0, i as u64, pack(i));
    }
    publishing.receipts(count);
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    for i in 0..count {
        let record = next(&mut consumer).await;
        assert_eq!((record.position.entry, record.pack), (i as u64, Bytes::from(pack(i))));
    }
    // The same after a start, when nothing is in memory, and while new records come.
    bus.close();
    let bus = open(&dir);
    let publishing = Publishing::new(&bus, Topic::Uplink);
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    for i in 0..count {
        if i % 10 == 0 {
            publishing.put(0, "later");
        }
        let record = next(&mut consumer).await;
        assert_eq!((record.position.entry, record.pack), (i as u64, Bytes::from(pack(i))));
    }
    assert_eq!(next(&mut consumer).await.pack, "later");
}

#[tokio::test]
async fn a_full_backlog_refuses_until_readers_acknowledge() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(2);
    config.backlog_bytes_max = 4 << 20;
    let bus = Bus::Embedded(Log::open(dir.path(), config.clone()).unwrap());
    let publishing = Publishing::new(&bus, Topic::Receipts);
    let mut taken = 0;
    while publishing.publish(0, 0, vec![1; 100_000]).is_ok() {
        publishing.receipts(1);
        taken += 1;
    }
    assert!((35..=42).contains(&taken), "{taken} packs of 100 kB in 4 MiB");
    bus.close();
    let bus = Bus::Embedded(Log::open(dir.path(), config).unwrap());
    let publishing = Publishing::new(&bus, Topic::Receipts);
    assert_eq!(publishing.publish(1, 0, vec![1; 100_000]), Err(PublishError::Full), "also after a start");
    assert_eq!(Publishing::new(&bus, Topic::Uplink).put(1, "x").entry, 0, "the bound is for each topic");

    // Only what both subscriptions have acknowledged makes room.
    let mut persist = bus.subscribe(Topic::Receipts, Subscription::Persist, 0).unwrap();
    let mut last = Position::default();
    for _ in 0..taken {
        last = next(&mut persist).await.position;
    }
    persist.ack(last);
    bus.sync().unwrap();
    assert_eq!(publishing.publish(1, 0, vec![1; 100_000]), Err(PublishError::Full));
    bus.subscribe(Topic::Receipts, Subscription::Router, 0).unwrap().ack(last);
    publishing.publish_patiently(1, 0, vec![1; 100_000]);
    assert!(publishing.receipts(1)[0].outcome.is_ok());
}
