//! Several processes that read the same partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use petrel_bus::pulsar::Config;
use petrel_bus::{Bus, Consumer, Receipt, Record};
use petrel_protocol::topics::{Subscription, Topic};

use crate::failures::publish_until;
use crate::stack::Stack;
use crate::support::{PATIENCE, Publishing, next};

async fn second(stack: &Stack, name: &str) -> Bus {
    Bus::pulsar(Config { name: name.to_owned(), ..stack.config.clone() }).await.unwrap()
}

fn tag(record: &Record) -> u64 {
    u64::from_be_bytes(record.pack[..8].try_into().unwrap())
}

/// What is there within a moment.
async fn glance(consumer: &mut Consumer) -> Option<Record> {
    tokio::time::timeout(Duration::from_millis(300), consumer.next()).await.ok().flatten()
}

#[tokio::test]
async fn one_reads_a_partition_and_the_other_goes_on_where_it_acknowledged() {
    let stack = Stack::new(1);
    let (a, b) = (second(&stack, "a").await, second(&stack, "b").await);
    let publishing = Publishing::new(&a, Topic::Uplink);
    let positions: Vec<_> = (0..20_u64).map(|i| publishing.put(0, i.to_be_bytes().to_vec())).collect();
    let mut on_a = a.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    for i in 0..10 {
        assert_eq!(tag(&next(&mut on_a).await), i);
    }
    let mut on_b = b.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    on_a.ack(positions[6]);
    // Its last acknowledgement is sent before it leaves.
    drop(on_a);
    a.close();
    let record = next(&mut on_b).await;
    assert_eq!((tag(&record), record.is_resumed), (7, true));
    for i in 8..20 {
        let record = next(&mut on_b).await;
        assert_eq!((tag(&record), record.is_resumed), (i, false));
    }
}

/// A → B → A, seen by A: it is told that there is a gap.
#[tokio::test]
async fn a_partition_that_comes_back_is_resumed() {
    let stack = Stack::new(1);
    // For partition 0 the broker takes the first by name, so a process of an earlier name takes it away.
    let (z, a) = (second(&stack, "z").await, second(&stack, "a").await);
    let publishing = Publishing::new(&z, Topic::Uplink);
    let mut published = 0_u64;
    let mut publish = |count| {
        for _ in 0..count {
            publishing.put(0, published.to_be_bytes().to_vec());
            published += 1;
        }
    };
    publish(5);
    let mut on_z = z.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    for i in 0..5 {
        let record = next(&mut on_z).await;
        assert_eq!((tag(&record), record.is_resumed), (i, i == 0));
        on_z.ack(record.position);
    }
    let mut on_a = a.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    // The broker moves it within a moment; what comes until then is still read by the first.
    let until = Instant::now() + PATIENCE;
    let mut read_by_a = 0;
    while read_by_a < 5 {
        assert!(Instant::now() < until, "the partition moved");
        publish(1);
        if let Some(record) = glance(&mut on_a).await {
            read_by_a += 1;
            on_a.ack(record.position);
        }
    }
    let mut last = None;
    while let Some(record) = glance(&mut on_z).await {
        assert!(!record.is_resumed, "what it was given before follows");
        last = Some(tag(&record));
    }
    drop(on_a);
    a.close();
    publish(3);
    let record = next(&mut on_z).await;
    assert!(tag(&record) > last.unwrap_or(4) + 1, "the other one has acknowledged what is between");
    assert!(record.is_resumed, "{record:?}");
    assert!(!next(&mut on_z).await.is_resumed);
}

/// What a consumer was given, and acknowledges. `from` is the first number that nobody has had.
fn took(consumer: &mut Consumer, record: &Record, from: &mut u64) {
    assert!(tag(record) <= *from, "{} came, and {from} has come to nobody", tag(record));
    *from = (*from).max(tag(record) + 1);
    consumer.ack(record.position);
}

async fn read_some(consumer: &mut Consumer, count: usize, from: &mut u64) {
    for _ in 0..count {
        let record = next(consumer).await;
        took(consumer, &record, from);
    }
}

/// A reader leaves while records are on their way to it and more are published: the next one begins with what was not
/// acknowledged. Were it given what is new first, and acknowledged that, what is between would be lost for everybody: so a
/// broker does that has `activeConsumerFailoverDelayTimeMillis` above 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_over_begins_with_what_was_not_acknowledged() {
    let stack = Stack::new(1);
    let z = second(&stack, "z").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = z.publisher(Topic::Uplink, Arc::new(|_: Receipt| {}));
    let over = Arc::clone(&is_over);
    let publishing = std::thread::spawn(move || publish_until(&over, &publisher, 1));
    let mut from = 0;
    let mut on_z = z.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    for round in 0..20 {
        read_some(&mut on_z, 20, &mut from).await;
        let a = second(&stack, &format!("a{round}")).await;
        let mut on_a = a.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
        // Both read until the partition has moved.
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "the partition moved");
            tokio::select! {
                record = on_z.next() => took(&mut on_z, &record.expect("a record"), &mut from),
                record = on_a.next() => {
                    took(&mut on_a, &record.expect("a record"), &mut from);
                    break;
                }
            }
        }
        read_some(&mut on_a, 20, &mut from).await;
        drop(on_a);
        a.close();
    }
    is_over.store(true, Ordering::Relaxed);
    publishing.join().unwrap();
    z.close();
}

#[tokio::test]
async fn partitions_are_spread_over_the_processes() {
    let stack = Stack::new(4);
    let (a, b) = (second(&stack, "a").await, second(&stack, "b").await);
    let subscribe = |bus: &Bus| -> Vec<Consumer> {
        let subscribe = |p| bus.subscribe(Topic::Stored, Subscription::Router, p).unwrap();
        (0..4).map(subscribe).collect()
    };
    let (mut on_a, mut on_b) = (subscribe(&a), subscribe(&b));
    let publishing = Publishing::new(&a, Topic::Stored);
    // Until each of both reads half of them.
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "each process has its partitions");
        for partition in 0..4 {
            publishing.put(partition, "x");
        }
        let mut counts = [0, 0];
        for (count, consumers) in counts.iter_mut().zip([&mut on_a, &mut on_b]) {
            for consumer in consumers {
                let mut last = None;
                while let Some(record) = glance(consumer).await {
                    last = Some(record.position);
                }
                *count += usize::from(last.is_some());
                if let Some(position) = last {
                    consumer.ack(position);
                }
            }
        }
        if counts == [2, 2] {
            break;
        }
    }
}
