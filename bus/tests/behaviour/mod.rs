//! What every log does: order, positions, readers, acknowledgements, bounds. Each kind of log runs these on its own
//! `Stack`.

use bytes::Bytes;
use petrel_bus::{PublishError, SubscribeError};
use petrel_protocol::ids::Position;
use petrel_protocol::limits::{BUS_QUEUE_BYTES_MAX, PACK_BYTES_MAX};
use petrel_protocol::topics::{Subscription, Topic};

use crate::stack::Stack;
use crate::support::{PATIENCE, Publishing, next};

#[tokio::test]
async fn records_come_in_publish_order() {
    let stack = Stack::new(4);
    let bus = stack.open().await;
    for topic in Topic::ALL {
        let publishing = Publishing::new(&bus, topic);
        for i in 0..1_000_u64 {
            publishing.publish_patiently((i % 4) as u16, i, i.to_be_bytes().to_vec());
        }
        let receipts = publishing.receipts(1_000);
        let mut positions = [const { Vec::<Position>::new() }; 4];
        for receipt in &receipts {
            let positions = &mut positions[receipt.tag as usize % 4];
            assert_eq!(receipt.tag / 4, positions.len() as u64, "receipts come in publish order");
            positions.push(receipt.outcome.unwrap());
        }
        for positions in &positions {
            assert!(positions.is_sorted_by(|one, next| one < next), "positions only grow");
            assert!(positions.iter().all(|position| position.generation == bus.generation()));
            let are_dense = positions.iter().zip(0..).all(|(position, entry)| position.entry == entry);
            assert!(are_dense || !Stack::IS_DENSE);
        }
        for &subscription in topic.subscriptions() {
            for partition in 0..4 {
                let mut consumer = bus.subscribe(topic, subscription, partition).unwrap();
                for i in 0..250 {
                    let record = next(&mut consumer).await;
                    assert_eq!(record.partition, partition);
                    let position = positions[usize::from(partition)][i as usize];
                    assert_eq!(record.position, position, "it is where its receipt says");
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
    let stack = Stack::new(4);
    let bus = stack.open().await;
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 2).unwrap();
    let reader = tokio::spawn(async move { next(&mut consumer).await });
    tokio::task::yield_now().await;
    let position = Publishing::new(&bus, Topic::Uplink).put(2, "hello");
    let record = reader.await.unwrap();
    assert_eq!((record.position, &record.pack[..]), (position, &b"hello"[..]));
}

#[tokio::test]
async fn reading_goes_on_after_the_last_acknowledged_record() {
    let stack = Stack::new(4);
    let bus = stack.open().await;
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
    let bus = stack.open().await;
    let mut persist = bus.subscribe(Topic::Receipts, Subscription::Persist, 0).unwrap();
    assert_eq!(next(&mut persist).await.position, positions[7]);
    let mut router = bus.subscribe(Topic::Receipts, Subscription::Router, 0).unwrap();
    assert_eq!(next(&mut router).await.position, positions[0]);
    assert!(Publishing::new(&bus, Topic::Receipts).put(0, "x") > positions[9], "positions go on");
}

#[tokio::test]
async fn a_newer_consumer_takes_over() {
    let stack = Stack::new(4);
    let bus = stack.open().await;
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
    let stack = Stack::new(4);
    let bus = stack.open().await;
    let publishing = Publishing::new(&bus, Topic::Stored);
    let positions: Vec<Position> = (0..100).map(|i| publishing.put(3, vec![i])).collect();
    let mut consumer = bus.subscribe(Topic::Stored, Subscription::Router, 3).unwrap();
    assert!(next(&mut consumer).await.is_resumed, "the first one");
    assert!(!next(&mut consumer).await.is_resumed, "it follows");
    // What is acknowledged is passed over, also where this consumer has not read it.
    consumer.ack(positions[90]);
    let mut last = positions[1];
    while last != positions[99] {
        let record = next(&mut consumer).await;
        let follows = record.position == Position { entry: last.entry + 1, ..last };
        assert_eq!(record.is_resumed, !follows, "{:?} after {last:?}", record.position);
        last = record.position;
    }
}

#[tokio::test]
async fn a_waiting_consumer_ends_when_another_takes_over_or_the_bus_closes() {
    let stack = Stack::new(4);
    let bus = stack.open().await;
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
async fn a_full_queue_refuses_at_once_and_takes_more_later() {
    let stack = Stack::new(4);
    let bus = stack.open().await;
    let publishing = Publishing::new(&bus, Topic::Uplink);
    let pack = Bytes::from(vec![7; PACK_BYTES_MAX]);
    let taken = (0..10_000).take_while(|&tag| publishing.publish(0, tag, pack.clone()).is_ok()).count();
    assert!(taken < 10_000, "the queue has a bound");
    assert!(taken >= BUS_QUEUE_BYTES_MAX / PACK_BYTES_MAX, "the bound leaves {taken} packs");
    let other = Publishing::new(&bus, Topic::Stored);
    other.put(0, "another topic has its own room");
    let receipts = publishing.receipts(taken);
    let positions: Vec<_> = receipts.into_iter().map(|receipt| receipt.outcome.unwrap()).collect();
    let end = publishing.put(0, "x");
    let last = positions[taken - 1];
    assert_eq!(end, Position { entry: last.entry + 1, ..last }, "a refused pack took no offset");
}

#[tokio::test]
async fn what_does_not_exist_cannot_be_read() {
    let stack = Stack::new(4);
    let bus = stack.open().await;
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
    let stack = Stack::new(4);
    let bus = stack.open().await;
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
                assert!(receipts.iter().all(|receipt| receipt.outcome.is_ok()));
                for partition in 0..4 {
                    let tags = receipts.iter().map(|receipt| receipt.tag).filter(|tag| tag % 4 == partition);
                    assert!(tags.eq((partition..2_000).step_by(4)), "in publish order");
                }
            });
        }
    });
    let mut seen = 0;
    for partition in 0..4 {
        let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, partition).unwrap();
        let mut last = [None; 8];
        for entry in 0..4_000 {
            let record = next(&mut consumer).await;
            assert!(!Stack::IS_DENSE || record.position.entry == entry);
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
    let stack = Stack::new(4);
    let bus = stack.open().await;
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    let publisher = bus.publisher(Topic::Stored, std::sync::Arc::new(|_| panic!("as the test wants it")));
    publisher.publish(0, 0, Bytes::from_static(b"x")).unwrap();
    assert!(tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().is_none());
    assert_eq!(publisher.publish(0, 0, Bytes::from_static(b"x")), Err(PublishError::Unavailable));
    assert_eq!(bus.sync(), Err(PublishError::Unavailable));
    bus.close();
}
