//! What every log does: order, positions, readers, acknowledgements, bounds.

mod support;

use bytes::Bytes;
use petrel_bus::embedded::{Config, Log};
use petrel_bus::{Bus, PublishError, SubscribeError};
use petrel_protocol::ids::Position;
use petrel_protocol::limits::{BUS_QUEUE_BYTES_MAX, BUS_TAIL_BYTES_MAX, PACK_BYTES_MAX};
use petrel_protocol::topics::{Subscription, Topic};
use support::{PATIENCE, Publishing, next};

fn open(dir: &tempfile::TempDir) -> Bus {
    Bus::embedded(dir.path(), 4).expect("it opens")
}

#[tokio::test]
async fn records_come_in_publish_order_with_dense_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    for topic in Topic::ALL {
        let publishing = Publishing::new(&bus, topic);
        for i in 0..1_000_u64 {
            publishing.publish_patiently((i % 4) as u16, i, i.to_be_bytes().to_vec());
        }
        let receipts = publishing.receipts(1_000);
        for (i, receipt) in (0..).zip(&receipts) {
            assert_eq!(receipt.tag, i, "receipts come in publish order");
            let expected = Position { generation: bus.generation(), ledger: 0, entry: i / 4, index: 0 };
            assert_eq!(receipt.outcome, Ok(expected));
        }
        for &subscription in topic.subscriptions() {
            for partition in 0..4 {
                let mut consumer = bus.subscribe(topic, subscription, partition).unwrap();
                for i in 0..250 {
                    let record = next(&mut consumer).await;
                    assert_eq!(record.partition, partition);
                    assert_eq!(record.position.entry, i);
                    assert_eq!(record.is_resumed, i == 0, "the others follow");
                    assert_eq!(record.pack, (i * 4 + u64::from(partition)).to_be_bytes()[..]);
                }
                assert!(consumer.try_next().is_none(), "there is no more");
            }
        }
    }
}

#[tokio::test]
async fn a_waiting_reader_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 2).unwrap();
    let reader = tokio::spawn(async move { next(&mut consumer).await });
    tokio::task::yield_now().await;
    let position = Publishing::new(&bus, Topic::Uplink).put(2, "hello");
    let record = reader.await.unwrap();
    assert_eq!((record.position, &record.pack[..]), (position, &b"hello"[..]));
}

#[tokio::test]
async fn reading_goes_on_after_the_last_acknowledged_record() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let publishing = Publishing::new(&bus, Topic::Receipts);
    let positions: Vec<Position> = (0..10).map(|i| publishing.put(0, vec![i])).collect();
    let mut persist = bus.subscribe(Topic::Receipts, Subscription::Persist, 0).unwrap();
    persist.ack(positions[6]);
    persist.ack(positions[3]);
    persist.ack(Position { generation: 99, ..positions[9] });
    drop(persist);

    let mut persist = bus.subscribe(Topic::Receipts, Subscription::Persist, 0).unwrap();
    assert_eq!(
        next(&mut persist).await.position,
        positions[7],
        "an older acknowledgement takes nothing back"
    );
    let mut router = bus.subscribe(Topic::Receipts, Subscription::Router, 0).unwrap();
    assert_eq!(next(&mut router).await.position, positions[0], "each subscription has its own cursor");

    bus.close();
    let bus = open(&dir);
    let mut persist = bus.subscribe(Topic::Receipts, Subscription::Persist, 0).unwrap();
    assert_eq!(next(&mut persist).await.position, positions[7]);
    let mut router = bus.subscribe(Topic::Receipts, Subscription::Router, 0).unwrap();
    assert_eq!(next(&mut router).await.position, positions[0]);
    assert_eq!(Publishing::new(&bus, Topic::Receipts).put(0, "x").entry, 10, "offsets go on");
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
async fn a_newer_consumer_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let publishing = Publishing::new(&bus, Topic::Stored);
    let positions: Vec<Position> = (0..5).map(|i| publishing.put(3, vec![i])).collect();
    let mut older = bus.subscribe(Topic::Stored, Subscription::Router, 3).unwrap();
    assert_eq!(next(&mut older).await.position, positions[0]);
    older.ack(positions[0]);
    let mut newer = bus.subscribe(Topic::Stored, Subscription::Router, 3).unwrap();
    older.ack(positions[4]);
    assert!(tokio::time::timeout(PATIENCE, older.next()).await.unwrap().is_none(), "the older one is over");
    assert!(older.try_next().is_none());
    assert_eq!(
        next(&mut newer).await.position,
        positions[1],
        "what the older one acknowledged later counts not"
    );
    drop(older);
    publishing.put(3, "more");
    for _ in 2..6 {
        next(&mut newer).await;
    }
    newer.ack(positions[4]);
    drop(newer);
    let mut last = bus.subscribe(Topic::Stored, Subscription::Router, 3).unwrap();
    assert_eq!(next(&mut last).await.pack, "more");
}

#[tokio::test]
async fn a_record_behind_what_was_passed_over_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let publishing = Publishing::new(&bus, Topic::Stored);
    let positions: Vec<Position> = (0..100).map(|i| publishing.put(3, vec![i])).collect();
    let mut consumer = bus.subscribe(Topic::Stored, Subscription::Router, 3).unwrap();
    assert!(next(&mut consumer).await.is_resumed, "the first one");
    assert!(!next(&mut consumer).await.is_resumed, "it follows");
    // What is acknowledged is passed over, also where this consumer has not read it.
    consumer.ack(positions[90]);
    let mut last = positions[1].entry;
    for _ in 0..100 {
        let Some(record) = consumer.try_next() else { break };
        let follows = record.position.entry == last + 1;
        assert_eq!(record.is_resumed, !follows, "{:?}", record.position);
        last = record.position.entry;
    }
    assert_eq!(last, 99);
}

#[tokio::test]
async fn a_waiting_consumer_ends_when_another_takes_over_or_the_bus_closes() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let mut older = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    let older = tokio::spawn(async move { older.next().await });
    tokio::task::yield_now().await;
    let mut newer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    assert!(tokio::time::timeout(PATIENCE, older).await.unwrap().unwrap().is_none());
    let newer = tokio::spawn(async move { newer.next().await });
    tokio::task::yield_now().await;
    bus.close();
    assert!(tokio::time::timeout(PATIENCE, newer).await.unwrap().unwrap().is_none());
    assert_eq!(
        bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap_err(),
        SubscribeError::Unavailable
    );
    assert_eq!(Publishing::new(&bus, Topic::Uplink).publish(0, 0, "x"), Err(PublishError::Unavailable));
    assert_eq!(bus.sync(), Err(PublishError::Unavailable));
    bus.close();
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

#[test]
fn a_full_queue_refuses_at_once_and_takes_more_later() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let publishing = Publishing::new(&bus, Topic::Uplink);
    let pack = Bytes::from(vec![7; PACK_BYTES_MAX]);
    let taken = (0..10_000).take_while(|&tag| publishing.publish(0, tag, pack.clone()).is_ok()).count();
    assert!(taken < 10_000, "the queue has a bound");
    assert!(taken >= BUS_QUEUE_BYTES_MAX / PACK_BYTES_MAX, "the bound leaves {taken} packs");
    let other = Publishing::new(&bus, Topic::Stored);
    assert_eq!(other.put(0, "x").entry, 0, "another topic has its own room");
    let receipts = publishing.receipts(taken);
    assert!(receipts.iter().all(|receipt| receipt.outcome.is_ok()));
    assert_eq!(publishing.put(0, "x").entry, taken as u64, "a refused pack took no offset");
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

#[test]
fn what_does_not_exist_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    assert_eq!(
        bus.subscribe(Topic::Uplink, Subscription::Persist, 4).unwrap_err(),
        SubscribeError::NoSuchPartition { partition: 4, partitions: 4 }
    );
    assert_eq!(
        bus.subscribe(Topic::Uplink, Subscription::Router, 0).unwrap_err(),
        SubscribeError::NoSuchSubscription(Topic::Uplink, Subscription::Router)
    );
}

#[tokio::test]
async fn many_publishers_keep_their_own_order() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    std::thread::scope(|scope| {
        for publisher in 0..8_u64 {
            let bus = bus.clone();
            scope.spawn(move || {
                let publishing = Publishing::new(&bus, Topic::Uplink);
                for i in 0..2_000_u64 {
                    let pack = [publisher.to_be_bytes(), i.to_be_bytes()].concat();
                    publishing.publish_patiently((i % 4) as u16, i, pack);
                }
                let receipts = publishing.receipts(2_000);
                assert!(receipts.iter().map(|receipt| receipt.tag).eq(0..2_000));
            });
        }
    });
    let mut seen = 0;
    for partition in 0..4 {
        let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, partition).unwrap();
        let mut last = [None; 8];
        for entry in 0..4_000 {
            let record = next(&mut consumer).await;
            assert_eq!(record.position.entry, entry);
            let publisher = u64::from_be_bytes(record.pack[..8].try_into().unwrap()) as usize;
            let i = u64::from_be_bytes(record.pack[8..].try_into().unwrap());
            assert!(last[publisher] < Some(i), "in order");
            last[publisher] = Some(i);
            seen += 1;
        }
    }
    assert_eq!(seen, 16_000);
}

#[tokio::test]
async fn a_callback_that_panics_ends_the_log_and_hangs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(&dir);
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    let publisher = bus.publisher(Topic::Stored, std::sync::Arc::new(|_| panic!("as the test wants it")));
    publisher.publish(0, 0, Bytes::from_static(b"x")).unwrap();
    assert!(tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().is_none());
    assert_eq!(publisher.publish(0, 0, Bytes::from_static(b"x")), Err(PublishError::Unavailable));
    assert_eq!(bus.sync(), Err(PublishError::Unavailable));
    bus.close();
}
