//! What the tests of the bus share.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_bus::{Bus, Consumer, PublishError, Publisher, Receipt, Record};
use petrel_protocol::ids::Position;
use petrel_protocol::topics::Topic;

/// The longest that anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A publisher that keeps its receipts.
pub(crate) struct Publishing {
    publisher: Publisher,
    receipts: Arc<Receipts>,
}

#[derive(Default)]
struct Receipts {
    list: Mutex<Vec<Receipt>>,
    more: Condvar,
}

impl Publishing {
    pub(crate) fn new(bus: &Bus, topic: Topic) -> Self {
        // Shown where a test fails: what the log has to say.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let receipts = Arc::new(Receipts::default());
        let sink = Arc::clone(&receipts);
        let on_receipt = Arc::new(move |receipt| {
            sink.list.lock().unwrap().push(receipt);
            sink.more.notify_all();
        });
        Self { publisher: bus.publisher(topic, on_receipt), receipts }
    }

    pub(crate) fn publish(
        &self,
        partition: u16,
        tag: u64,
        pack: impl Into<Bytes>,
    ) -> Result<(), PublishError> {
        self.publisher.publish(partition, tag, pack.into())
    }

    /// Publishes, waiting while the bus is full.
    pub(crate) fn publish_patiently(&self, partition: u16, tag: u64, pack: impl Into<Bytes>) {
        let pack = pack.into();
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.publish(partition, tag, pack.clone()) {
            assert_eq!(error, PublishError::Full);
            assert!(Instant::now() < until, "the bus stayed full");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for this many receipts in all since the last call, and takes them.
    pub(crate) fn receipts(&self, count: usize) -> Vec<Receipt> {
        let until = Instant::now() + PATIENCE;
        let mut list = self.receipts.list.lock().unwrap();
        while list.len() < count {
            assert!(Instant::now() < until, "{} of {count} receipts came", list.len());
            list = self.receipts.more.wait_timeout(list, PATIENCE).unwrap().0;
        }
        std::mem::take(&mut *list)
    }

    /// Publishes and waits for the position.
    pub(crate) fn put(&self, partition: u16, pack: impl Into<Bytes>) -> Position {
        self.publish_patiently(partition, 0, pack);
        self.receipts(1).remove(0).outcome.expect("it is published")
    }
}

/// The next record; panics where none comes.
pub(crate) async fn next(consumer: &mut Consumer) -> Record {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a record comes").expect("the bus is open")
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}
