//! The service on the embedded log, as edge and router meet it.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use petrel_bus::calls::{CallError, Link, PersistCall, Reply};
use petrel_bus::{Bus, Consumer, Publisher, Receipt};
use petrel_persist::{Config, Persist};
use petrel_protocol::calls::{HistoryRequest, Range, ResolveReply, ResolveRequest, SyncReply, SyncRequest};
use petrel_protocol::events::{
    self, ReceiptPack, Send, Stored, StoredPack, Uplink, UplinkPack, stored, uplink,
};
use petrel_protocol::ids::{ConversationId, UserId};
use petrel_protocol::topics::{Subscription, Topic, partition};
use prost::Message;

use crate::place::Place;

pub(crate) const PARTITIONS: u16 = 2;
pub(crate) const T0: u64 = 1_700_000_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) persist: Option<Persist>,
    link: Link<PersistCall>,
    uplink: (Publisher, Receiver<Receipt>),
    receipts: (Publisher, Receiver<Receipt>),
    stored: Vec<Consumer>,
}

pub(crate) fn pair(one: u64, other: u64) -> ConversationId {
    ConversationId::of_users(UserId(one), UserId(other))
}

pub(crate) fn config(place: &Place) -> Config {
    Config { store: place.store(), partitions: (0..PARTITIONS).collect(), worker: 3 }
}

pub(crate) fn send(user: u64, to: u64, msg_id: u64) -> Uplink {
    let client_msg_id = Bytes::copy_from_slice(&[msg_id.to_be_bytes(), user.to_be_bytes()].concat());
    let content = format!("message {msg_id}");
    event(
        user,
        to,
        msg_id,
        uplink::Body::Send(Send { client_msg_id, msg_id, format: 1, content, ..Default::default() }),
    )
}

pub(crate) fn recall(user: u64, to: u64, msg_id: u64) -> Uplink {
    event(user, to, msg_id + 1, uplink::Body::Recall(events::Recall { msg_id }))
}

fn event(user: u64, to: u64, at_ms: u64, body: uplink::Body) -> Uplink {
    let conversation = Some(pair(user, to).into());
    Uplink { conversation, edge_time_ms: T0 + at_ms, user, device: 1, origin: None, body: Some(body) }
}

/// Publishes events of one conversation as one pack, and waits until it is on disk.
pub(crate) fn publish(uplink: &(Publisher, Receiver<Receipt>), events: Vec<Uplink>) {
    let conversation = events[0].conversation.as_ref().unwrap();
    let to = partition(ConversationId::try_from(conversation).unwrap(), PARTITIONS);
    uplink.0.publish(to, 0, UplinkPack { events }.encode_to_vec().into()).unwrap();
    uplink.1.recv_timeout(PATIENCE).unwrap().outcome.unwrap();
}

pub(crate) fn publisher(bus: &Bus, topic: Topic) -> (Publisher, Receiver<Receipt>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    (bus.publisher(topic, Arc::new(move |receipt| drop(sender.lock().unwrap().send(receipt)))), receiver)
}

/// What all pages of a sync have: for each conversation its seqs, and the highest seq covered.
pub(crate) type Synced = Vec<(ConversationId, Vec<u64>, u64)>;

impl World {
    pub(crate) fn start(place: &Place) -> Self {
        let bus = Bus::embedded(&place.path().join("bus"), PARTITIONS).unwrap();
        let persist = Persist::start(config(place), bus.clone()).unwrap();
        persist.wait_started().unwrap();
        let stored =
            (0..PARTITIONS).map(|p| bus.subscribe(Topic::Stored, Subscription::Router, p).unwrap()).collect();
        Self {
            link: persist.link(),
            persist: Some(persist),
            uplink: publisher(&bus, Topic::Uplink),
            receipts: publisher(&bus, Topic::Receipts),
            stored,
            bus,
        }
    }

    pub(crate) fn stop(mut self) {
        self.persist.take().unwrap().stop();
        self.bus.close();
    }

    /// Publishes events of one conversation as one pack.
    pub(crate) fn uplink(&self, events: Vec<Uplink>) {
        publish(&self.uplink, events);
    }

    /// The next `count` events that router gets, by partition.
    pub(crate) fn stored(&mut self, count: usize) -> Vec<Stored> {
        let events = self.stored_until(|events| events.len() >= count);
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// The next events that router gets.
    pub(crate) fn stored_until(&mut self, is_enough: impl Fn(&[Stored]) -> bool) -> Vec<Stored> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut events = Vec::new();
        runtime.block_on(async {
            while !is_enough(&events) {
                let mut nexts: Vec<_> = self.stored.iter_mut().map(|c| Box::pin(c.next())).collect();
                let next = std::future::poll_fn(|context| {
                    let ready = nexts.iter_mut().find_map(|next| match next.as_mut().poll(context) {
                        std::task::Poll::Ready(record) => Some(record),
                        std::task::Poll::Pending => None,
                    });
                    ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
                });
                let record = tokio::time::timeout(PATIENCE, next).await.expect("stored events come").unwrap();
                events.extend(StoredPack::decode(record.pack).unwrap().events);
            }
        });
        events
    }

    pub(crate) fn receipt(&self, user: u64, conversation: ConversationId, device: u32, delivered_seq: u64) {
        let receipt = events::Receipt {
            conversation: Some(conversation.into()),
            user,
            device,
            delivered_seq,
            ..Default::default()
        };
        let pack = ReceiptPack { events: vec![receipt] }.encode_to_vec().into();
        self.receipts.0.publish(partition(conversation, PARTITIONS), 0, pack).unwrap();
        self.receipts.1.recv_timeout(PATIENCE).unwrap().outcome.unwrap();
    }

    pub(crate) fn call<T: std::marker::Send + 'static>(
        &self,
        call: impl FnOnce(Reply<T>) -> PersistCall,
    ) -> Result<T, CallError> {
        let (sender, receiver) = channel();
        self.link.call(call(Reply::new(move |answer| drop(sender.send(answer)))));
        receiver.recv_timeout(PATIENCE).expect("every call is answered")
    }

    fn try_sync_page(
        &self,
        user: u64,
        device: u32,
        rows_max: u32,
        page: Bytes,
    ) -> Result<SyncReply, CallError> {
        let request = SyncRequest { user, device, page, rows_max, pushed: Vec::new() };
        self.call(|reply| PersistCall::Sync(request, reply))
    }

    pub(crate) fn sync_page(&self, user: u64, device: u32, rows_max: u32, page: Bytes) -> SyncReply {
        self.try_sync_page(user, device, rows_max, page).unwrap()
    }

    /// All pages.
    pub(crate) fn sync(&self, user: u64, device: u32, rows_max: u32) -> Synced {
        self.try_sync(user, device, rows_max).unwrap()
    }

    pub(crate) fn try_sync(&self, user: u64, device: u32, rows_max: u32) -> Result<Synced, CallError> {
        let mut found = Synced::new();
        let mut page = Bytes::new();
        loop {
            let reply = self.try_sync_page(user, device, rows_max, page)?;
            for range in reply.ranges {
                assert!(range.rows.len() <= rows_max as usize);
                let conversation = ConversationId::try_from(range.conversation.as_ref().unwrap()).unwrap();
                let seqs = range.rows.iter().map(|row| row.seq);
                match found.last_mut().filter(|(last, ..)| *last == conversation) {
                    Some((_, all, to)) => {
                        assert_eq!(range.from_seq, *to + 1, "pages join");
                        all.extend(seqs);
                        *to = range.to_seq;
                    }
                    None => found.push((conversation, seqs.collect(), range.to_seq)),
                }
            }
            page = reply.next_page;
            if page.is_empty() {
                return Ok(found);
            }
        }
    }

    pub(crate) fn history(
        &self,
        user: u64,
        conversation: ConversationId,
        from_seq: u64,
        to_seq: u64,
    ) -> Range {
        let conversation = Some(conversation.into());
        let request = HistoryRequest { user, conversation, from_seq, to_seq, rows_max: 100 };
        self.call(|reply| PersistCall::History(request, reply)).unwrap()
    }

    pub(crate) fn resolve(&self, conversation: ConversationId, msg_id: u64) -> ResolveReply {
        let request = ResolveRequest { conversation: Some(conversation.into()), msg_id };
        self.call(|reply| PersistCall::Resolve(request, reply)).unwrap()
    }

    /// Waits until a sync of this device says this.
    pub(crate) fn until_synced(&self, user: u64, device: u32, expected: &[(ConversationId, Vec<u64>, u64)]) {
        let until = std::time::Instant::now() + PATIENCE;
        while self.sync(user, device, 100) != expected {
            assert!(std::time::Instant::now() < until, "{:?}", self.sync(user, device, 100));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn content(stored: &Stored) -> &str {
    match stored.body.as_ref() {
        Some(stored::Body::Message(message)) => &message.content,
        body => panic!("a message was expected: {body:?}"),
    }
}
