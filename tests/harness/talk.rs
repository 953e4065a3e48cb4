//! Conversations under way while processes fail: a sender that goes on until each message is accepted, a receiver that
//! writes down what it sees, and the judgement over both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_protocol::codes::Code;
use petrel_protocol::packets::{
    C2cAckReq, C2cMsgPush, C2cSendReq, ImProtoResponse, MsgType, request, status,
};
use prost::Message;

use super::{Client, PATIENCE};

/// Between two attempts to connect, and two looks at what is waited for.
const AGAIN: Duration = Duration::from_millis(20);
/// A receiver to whom nothing comes looks this often whether the test is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who connects, and where.
#[derive(Clone)]
pub(crate) struct At {
    /// Host and port.
    pub(crate) edge: String,
    pub(crate) token: String,
    pub(crate) user: u64,
}

impl At {
    /// Connects, however long it takes. None: the test is over.
    fn connect(&self, conversation: &Conversation, is_over: &AtomicBool) -> Option<Client> {
        while !is_over.load(Ordering::Relaxed) {
            if let Some(client) = Client::connect(&self.edge, &self.token, self.user) {
                conversation.connects.fetch_add(1, Ordering::Relaxed);
                return Some(client);
            }
            thread::sleep(AGAIN);
        }
        None
    }
}

/// One sender's numbers 1, 2, 3, … to one receiver.
#[derive(Default)]
struct Conversation {
    /// How many the sender was told are accepted.
    accepted: AtomicU64,
    /// The numbers that the receiver saw, by seq.
    seen: Mutex<BTreeMap<u64, u64>>,
    /// Connections that both have made.
    connects: AtomicU64,
}

impl Conversation {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.seen.lock().expect("no panic")
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// Conversations under way, each with a thread for its sender and one for its receiver.
pub(crate) struct Talks {
    conversations: Vec<Arc<Conversation>>,
    senders: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
    senders_stop: Arc<AtomicBool>,
    receivers_stop: Arc<AtomicBool>,
}

impl Talks {
    /// Each of these senders begins to talk to its receiver.
    pub(crate) fn start(pairs: impl IntoIterator<Item = (At, At)>) -> Self {
        let mut talks = Self {
            conversations: Vec::new(),
            senders: Vec::new(),
            receivers: Vec::new(),
            senders_stop: Arc::default(),
            receivers_stop: Arc::default(),
        };
        for (from, to) in pairs {
            let conversation = Arc::new(Conversation::default());
            talks.conversations.push(Arc::clone(&conversation));
            let (its, is_over, user) =
                (Arc::clone(&conversation), Arc::clone(&talks.receivers_stop), to.user);
            talks.receivers.push(thread::spawn(move || receive(&to, &its, &is_over)));
            let is_over = Arc::clone(&talks.senders_stop);
            talks.senders.push(thread::spawn(move || send(&from, user, &conversation, &is_over)));
        }
        talks
    }

    /// Waits until this many more messages of each conversation were accepted and seen.
    pub(crate) fn go_on(&self, count: u64) {
        let accepted: Vec<_> = self.conversations.iter().map(|c| c.accepted() + count).collect();
        self.until("the conversations go on", |c, place| c.seen().len() as u64 >= accepted[place]);
    }

    /// Waits until this many more messages of each conversation were accepted, seen or not.
    pub(crate) fn are_accepted(&self, count: u64) {
        let accepted: Vec<_> = self.conversations.iter().map(|c| c.accepted() + count).collect();
        self.until("messages are accepted", |c, place| c.accepted() >= accepted[place]);
    }

    /// Connections that were made since the beginning: two a conversation, while none is lost.
    pub(crate) fn connects(&self) -> u64 {
        self.conversations.iter().map(|c| c.connects.load(Ordering::Relaxed)).sum()
    }

    /// Ends the conversations and judges them: everything accepted was seen once, in the sender's order, under dense
    /// seqs. How many messages each had.
    pub(crate) fn end(mut self) -> Vec<u64> {
        self.senders_stop.store(true, Ordering::Relaxed);
        join(std::mem::take(&mut self.senders));
        let until = Instant::now() + PATIENCE;
        let are_complete = || self.conversations.iter().all(|c| c.seen().len() as u64 >= c.accepted());
        while !are_complete() && Instant::now() < until {
            thread::sleep(AGAIN);
        }
        self.receivers_stop.store(true, Ordering::Relaxed);
        join(std::mem::take(&mut self.receivers));
        let judge = |conversation: &Arc<Conversation>| {
            let seen = conversation.seen();
            let numbers: Vec<_> = seen.iter().map(|(seq, number)| (*seq, *number)).collect();
            let expected: Vec<_> = (1..=numbers.len() as u64).map(|n| (n, n)).collect();
            assert_eq!(numbers, expected, "seq and number");
            assert!(
                numbers.len() as u64 >= conversation.accepted(),
                "{} accepted, {} seen",
                conversation.accepted(),
                numbers.len()
            );
            numbers.len() as u64
        };
        self.conversations.iter().map(judge).collect()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Conversation, usize) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !(0..).zip(&self.conversations).all(|(place, c)| is_so(c, place)) {
            assert!(Instant::now() < until, "{what}: not within {} s: {self:?}", PATIENCE.as_secs());
            thread::sleep(AGAIN);
        }
    }
}

impl fmt::Debug for Talks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for conversation in &self.conversations {
            let seen = conversation.seen();
            let (accepted, count, last) = (conversation.accepted(), seen.len(), seen.keys().next_back());
            let connects = conversation.connects.load(Ordering::Relaxed);
            write!(f, "({accepted} accepted, {count} seen up to seq {last:?}, {connects} connects) ")?;
        }
        Ok(())
    }
}

impl Drop for Talks {
    fn drop(&mut self) {
        // A test that failed leaves no threads behind.
        self.senders_stop.store(true, Ordering::Relaxed);
        self.receivers_stop.store(true, Ordering::Relaxed);
    }
}

/// The `client_msg_id` of a number.
fn id(user: u64, number: u64) -> Bytes {
    [user.to_be_bytes(), number.to_be_bytes()].concat().into()
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no violation");
    }
}

/// Sends numbers 1, 2, 3, …, each until it is accepted, with the same id after every reconnect.
fn send(at: &At, to: u64, conversation: &Conversation, is_over: &AtomicBool) {
    let mut client = at.connect(conversation, is_over);
    for number in 1.. {
        for attempt in 0.. {
            let Some(connected) = &mut client else { return };
            let send = C2cSendReq {
                client_msg_id: id(at.user, number),
                from: at.user,
                to,
                format: 1,
                content: number.to_string(),
                attempt: Some(attempt),
                ..Default::default()
            };
            let packet = tungstenite::Message::Binary(request(MsgType::C2cSend, &send));
            let outcome = match connected.socket.send(packet) {
                Ok(()) => outcome(connected, &send.client_msg_id),
                Err(_) => Outcome::Closed,
            };
            match outcome {
                Outcome::Accepted => break,
                Outcome::Refused { retry_after_ms } => {
                    // Until it is stopped, since whoever is refused for good would never end.
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::sleep(Duration::from_millis(retry_after_ms.into()).max(AGAIN));
                }
                Outcome::Closed => client = at.connect(conversation, is_over),
            }
        }
        conversation.accepted.store(number, Ordering::Relaxed);
        if is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

enum Outcome {
    Accepted,
    Refused { retry_after_ms: u32 },
    Closed,
}

/// What becomes of the message with this id.
fn outcome(client: &mut Client, id: &Bytes) -> Outcome {
    while let Ok(packet) = client.next() {
        match packet.r#type() {
            MsgType::C2cAck => {
                let ack = C2cAckReq::decode(packet.payload).expect("valid");
                if ack.client_msg_id == *id && ack.status >= status::ACCEPTED {
                    return Outcome::Accepted;
                }
            }
            MsgType::Nack if packet.payload == *id => {
                let says_when = packet.retry_after_ms > 0 || packet.code == Code::Draining as i32;
                assert!(says_when, "a refusal says when to try again: {packet:?}");
                return Outcome::Refused { retry_after_ms: packet.retry_after_ms };
            }
            _ => {}
        }
    }
    Outcome::Closed
}

fn receive(at: &At, conversation: &Conversation, is_over: &AtomicBool) {
    while let Some(mut client) = at.connect(conversation, is_over) {
        client.socket.get_ref().set_read_timeout(Some(LOOK_EVERY)).expect("set");
        loop {
            match client.socket.read() {
                Ok(tungstenite::Message::Binary(bytes)) => {
                    let packet = ImProtoResponse::decode(bytes).expect("valid");
                    if packet.r#type() != MsgType::C2cMsgPush {
                        continue;
                    }
                    let push = C2cMsgPush::decode(packet.payload).expect("valid");
                    let number = push.content.parse().expect("a number");
                    let before = conversation.seen().insert(push.seq, number);
                    assert!(
                        before.is_none_or(|b| b == number),
                        "seq {} was {before:?}, is {number}",
                        push.seq
                    );
                    let ack = C2cAckReq {
                        msg_id: push.msg_id,
                        from: at.user,
                        to: push.from,
                        status: status::DELIVERED,
                        ..Default::default()
                    };
                    let ack = request(MsgType::C2cAck, &ack);
                    if client.socket.send(tungstenite::Message::Binary(ack)).is_err() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
                Err(_) => break,
            }
        }
    }
}
