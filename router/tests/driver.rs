//! The fan-out on the real embedded log: what is published reaches the edges, and what they have not answered comes
//! again.

mod support;

use std::sync::{Arc, mpsc};

use bytes::Bytes;
use petrel_bus::Publisher;
use petrel_protocol::calls::{Delivery, Lease, delivery::What};
use petrel_protocol::codes::Code;
use petrel_protocol::events::{Message, Receipt, ReceiptPack, Status, Stored, StoredPack, stored::Body};
use petrel_protocol::ids::{Address, ConversationId, Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::topics::{Topic, partition};
use prost::Message as _;
use support::{Manner, World, address, eventually, lease};

const ANNA: UserId = UserId(1);
const BERT: UserId = UserId(2);

/// Publishes and waits until the log has it.
struct Writer {
    publisher: Publisher,
    receipts: mpsc::Receiver<()>,
}

impl Writer {
    fn new(world: &World, topic: Topic) -> Self {
        let (tell, receipts) = mpsc::channel();
        let on_receipt = move |receipt: petrel_bus::Receipt| {
            receipt.outcome.unwrap();
            let _ = tell.send(());
        };
        Self { publisher: world.bus.publisher(topic, Arc::new(on_receipt)), receipts }
    }

    fn write(&self, conversation: ConversationId, pack: Vec<u8>) {
        self.publisher.publish(partition(conversation, 4), 0, pack.into()).unwrap();
        self.receipts.recv_timeout(support::SOON).unwrap();
    }

    fn stored(&self, events: Vec<Stored>) {
        let conversation = ConversationId::try_from(events[0].conversation.as_ref().unwrap()).unwrap();
        self.write(conversation, StoredPack { events }.encode_to_vec());
    }
}

fn message(from: UserId, to: UserId, seq: u64, origin: Option<Address>) -> Stored {
    Stored {
        conversation: Some(ConversationId::of_users(from, to).into()),
        seq,
        edge_time_ms: 1,
        user: from.0,
        device: Device::Web as u32,
        origin: origin.map(Into::into),
        again: false,
        body: Some(Body::Message(Message {
            client_msg_id: Bytes::from(vec![seq as u8; 16]),
            msg_id: seq,
            format: 1,
            content: "hello".into(),
            time: 1,
            is_recalled: false,
        })),
    }
}

fn pushed(deliveries: &[Delivery]) -> Vec<u64> {
    let push = |d: &Delivery| match &d.what {
        Some(What::Push(push)) => Some(push.seq),
        _ => None,
    };
    deliveries.iter().filter_map(push).collect()
}

#[test]
fn messages_of_all_partitions_reach_their_receivers_in_order() {
    let world = World::new();
    let edge = world.edge(1, 10, 0);
    for user in 2..=40 {
        world.claim(UserId(user), Device::Web, address(1, 10, user as u32)).unwrap();
    }
    let writer = Writer::new(&world, Topic::Stored);
    for seq in 1..=20 {
        for user in 2..=40 {
            writer.stored(vec![message(ANNA, UserId(user), seq, None)]);
        }
    }
    let got = eventually("all pushes", || Some(edge.deliveries()).filter(|d| d.len() == 20 * 39));
    for user in 2..=40 {
        let its: Vec<Delivery> = got.iter().filter(|d| d.user == user).cloned().collect();
        assert_eq!(pushed(&its), (1..=20).collect::<Vec<_>>());
        assert!(its.iter().all(|d| u64::from(d.slot) == user));
    }
}

#[test]
fn the_sender_learns_of_offline_receivers_and_of_receipts() {
    let world = World::new();
    let edge = world.edge(1, 10, 0);
    let origin = address(1, 10, 1);
    world.claim(ANNA, Device::Web, origin).unwrap();
    Writer::new(&world, Topic::Stored).stored(vec![message(ANNA, BERT, 1, Some(origin))]);
    let conversation = ConversationId::of_users(ANNA, BERT);
    let receipt = Receipt {
        conversation: Some(conversation.into()),
        user: BERT.0,
        device: 1,
        delivered_seq: 1,
        read_seq: 0,
        statuses: vec![Status { msg_id: 1, client_msg_id: Bytes::new(), seq: 1, status: 3 }],
    };
    let own = eventually("the own", || edge.deliveries().into_iter().next());
    assert!(matches!(own.what, Some(What::Own(own)) if own.is_offline && own.seq == 1));
    Writer::new(&world, Topic::Receipts)
        .write(conversation, ReceiptPack { events: vec![receipt] }.encode_to_vec());
    let status = eventually("the status", || edge.deliveries().into_iter().nth(1));
    assert!(matches!(status.what, Some(What::Status(s)) if s.status.as_ref().unwrap().status == 3));
}

#[test]
fn a_second_login_on_a_device_type_ends_the_first() {
    let world = World::new();
    let (one, two) = (world.edge(1, 10, 0), world.edge(2, 20, 0));
    assert_eq!(world.claim(ANNA, Device::Web, address(1, 10, 1)).unwrap().replaced, None);
    assert_eq!(world.claim(ANNA, Device::Ios, address(1, 10, 2)).unwrap().replaced, None);
    let reply = world.claim(ANNA, Device::Web, address(2, 20, 3)).unwrap();
    assert_eq!(reply.replaced, Some(address(1, 10, 1).into()));
    let kicked = one.deliveries();
    assert_eq!(kicked.len(), 1);
    assert_eq!((kicked[0].slot, kicked[0].user, kicked[0].device), (1, 1, Device::Web as u32));
    assert!(matches!(&kicked[0].what, Some(What::Kick(k)) if k.code == Code::LoggedInElsewhere as i32));
    assert!(two.deliveries().is_empty());
}

#[test]
fn a_batch_that_is_refused_comes_again_in_order() {
    let world = World::new();
    let edge = world.edge(1, 10, 0);
    world.claim(BERT, Device::Web, address(1, 10, 2)).unwrap();
    edge.set(Manner::Refuses);
    let writer = Writer::new(&world, Topic::Stored);
    for seq in 1..=5 {
        writer.stored(vec![message(ANNA, BERT, seq, None)]);
    }
    edge.set(Manner::Takes);
    let got = eventually("what was refused", || Some(edge.deliveries()).filter(|d| d.len() == 5));
    assert_eq!(pushed(&got), [1, 2, 3, 4, 5]);
}

#[test]
fn a_successor_forwards_what_was_not_answered() {
    let mut world = World::new();
    let edge = world.edge(1, 10, 0);
    world.claim(BERT, Device::Web, address(1, 10, 2)).unwrap();
    let writer = Writer::new(&world, Topic::Stored);
    writer.stored(vec![message(ANNA, BERT, 1, None)]);
    eventually("the first", || Some(edge.deliveries()).filter(|d| d.len() == 1));
    edge.set(Manner::Holds);
    writer.stored(vec![message(ANNA, BERT, 2, None)]);
    eventually("the second", || Some(edge.deliveries()).filter(|d| d.len() == 2));
    world.router.take().unwrap().stop();
    // An answer that comes after the end is nobody's.
    edge.answer();

    world.start(|_| ());
    let edge = world.edge(1, 11, 0);
    world.claim(BERT, Device::Web, address(1, 11, 2)).unwrap();
    writer.stored(vec![message(ANNA, BERT, 3, None)]);
    let got = eventually("the third", || Some(edge.deliveries()).filter(|d| pushed(d).contains(&3)));
    // The second was pushed again where its route was there in time; the first was answered and is not.
    assert!(!pushed(&got).contains(&1), "{got:?}");
    assert!(pushed(&got).is_sorted());
}

#[test]
fn an_edge_that_never_answers_is_given_up_and_the_others_go_on() {
    let world = World::new();
    let (dead, alive) = (world.edge(1, 10, 0), world.edge(2, 20, 0));
    world.claim(BERT, Device::Web, address(1, 10, 2)).unwrap();
    world.claim(ANNA, Device::Web, address(2, 20, 1)).unwrap();
    dead.set(Manner::Holds);
    let writer = Writer::new(&world, Topic::Stored);
    // More than the window holds, one by one.
    let count = 2 * limits::FANOUT_ROUNDS_MAX as u64;
    for seq in 1..=count {
        writer.stored(vec![message(ANNA, BERT, seq, Some(address(2, 20, 1)))]);
    }
    eventually("the end of its epoch", || (world.lease(lease(1, 10, 0)) == Ok(false)).then_some(()));
    let owns = eventually("all owns", || Some(alive.deliveries()).filter(|d| d.len() as u64 == count));
    assert!(owns.iter().all(|d| matches!(d.what, Some(What::Own(_)))));
    assert_eq!(world.lease(lease(1, 11, 0)), Ok(true));
}

#[test]
fn records_that_cannot_be_read_stop_nothing() {
    let world = World::new();
    let edge = world.edge(1, 10, 0);
    world.claim(BERT, Device::Web, address(1, 10, 2)).unwrap();
    let writer = Writer::new(&world, Topic::Stored);
    writer.write(ConversationId::of_users(ANNA, BERT), vec![0xff; 40]);
    writer.stored(vec![message(ANNA, BERT, 1, None)]);
    let got = eventually("the push", || Some(edge.deliveries()).filter(|d| !d.is_empty()));
    assert_eq!(pushed(&got), [1]);
}

#[test]
fn claims_without_a_lease_or_without_sense_are_refused() {
    use petrel_bus::calls::CallError;
    let world = World::new();
    assert_eq!(world.claim(ANNA, Device::Web, address(1, 10, 1)), Err(CallError::Unavailable));
    world.edge(1, 10, 0);
    assert_eq!(world.claim(UserId(0), Device::Web, address(1, 10, 1)), Err(CallError::Unavailable));
    assert!(world.claim(ANNA, Device::Web, address(1, 10, 1)).is_ok());
}

#[test]
fn of_two_edges_that_are_one_worker_the_later_one_gives_way() {
    let world = World::new();
    let ask = |edge, epoch, worker| {
        let reply = world.lease_reply(Lease { worker, ..lease(edge, epoch, 0) }).unwrap();
        (reply.holds, reply.worker_of)
    };
    assert_eq!(ask(2, 20, Some(7)), (true, None));
    assert_eq!(ask(3, 21, Some(8)), (true, None));
    assert_eq!(ask(1, 22, Some(7)), (false, Some(2)), "the later one, whatever its id");
    assert_eq!(ask(2, 20, Some(7)), (true, None), "the earlier one goes on");
    assert_eq!(ask(2, 23, Some(7)), (true, None), "a restart of it, too");
    assert_eq!(ask(4, 24, None), (true, None), "one that does not say");
    assert_eq!(ask(2, 25, Some(9)), (true, None));
    assert_eq!(ask(1, 26, Some(7)), (true, None), "it is free again");
}
