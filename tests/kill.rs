//! kill -9 in the middle, again and again: nothing that was accepted is lost, doubled or out of order.

mod harness;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Client, PATIENCE, Petrel};
use petrel_protocol::ids::Device;
use petrel_protocol::packets::{C2cAckReq, C2cMsgPush, C2cSendReq, MsgType, request, status};
use prost::Message;

const PAIRS: u64 = 4;
const KILLS: u32 = 6;

/// One conversation: what its sender was told is accepted, what its receiver saw.
#[derive(Default)]
struct Conversation {
    accepted: Mutex<Vec<u64>>,
    /// Number of the message by seq.
    seen: Mutex<BTreeMap<u64, u64>>,
}

fn id(user: u64, number: u64) -> Bytes {
    [user.to_be_bytes(), number.to_be_bytes()].concat().into()
}

fn reconnect(edge: &str, token: &str, user: u64, is_over: &AtomicBool) -> Option<Client> {
    while !is_over.load(Ordering::Relaxed) {
        if let Some(client) = Client::connect(edge, token, user) {
            return Some(client);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Sends numbers 1, 2, 3, …, each until it is accepted, with the same id after every reconnect.
fn send(edge: &str, token: &str, from: u64, conversation: &Conversation, is_over: &AtomicBool) {
    let mut client = reconnect(edge, token, from, is_over);
    for number in 1.. {
        for attempt in 0.. {
            let Some(connected) = &mut client else { return };
            let send = C2cSendReq {
                client_msg_id: id(from, number),
                from,
                to: from + 1,
                format: 1,
                content: number.to_string(),
                attempt: Some(attempt),
                ..Default::default()
            };
            let packet = tungstenite::Message::Binary(request(MsgType::C2cSend, &send));
            if connected.socket.send(packet).is_ok() && is_accepted(connected, &send.client_msg_id) {
                break;
            }
            client = reconnect(edge, token, from, is_over);
        }
        conversation.accepted.lock().expect("no panic").push(number);
        if is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Whether this message is accepted; false where the connection ended or it was refused.
fn is_accepted(client: &mut Client, id: &Bytes) -> bool {
    while let Ok(packet) = client.next() {
        match packet.r#type() {
            MsgType::C2cAck => {
                let ack = C2cAckReq::decode(packet.payload).expect("valid");
                if ack.client_msg_id == *id && ack.status >= status::ACCEPTED {
                    return true;
                }
            }
            MsgType::Nack if packet.payload == *id => {
                thread::sleep(Duration::from_millis(packet.retry_after_ms.into()));
                return false;
            }
            _ => {}
        }
    }
    false
}

fn receive(edge: &str, token: &str, user: u64, conversation: &Conversation, is_over: &AtomicBool) {
    while let Some(mut client) = reconnect(edge, token, user, is_over) {
        client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        loop {
            match client.socket.read() {
                Ok(tungstenite::Message::Binary(bytes)) => {
                    let packet = petrel_protocol::packets::ImProtoResponse::decode(bytes).expect("valid");
                    if packet.r#type() != MsgType::C2cMsgPush {
                        continue;
                    }
                    let push = C2cMsgPush::decode(packet.payload).expect("valid");
                    let number = push.content.parse().expect("a number");
                    let before = conversation.seen.lock().expect("no panic").insert(push.seq, number);
                    assert!(
                        before.is_none_or(|b| b == number),
                        "seq {} was {before:?}, is {number}",
                        push.seq
                    );
                    let ack = C2cAckReq {
                        msg_id: push.msg_id,
                        from: user,
                        to: push.from,
                        status: 3,
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

#[test]
fn kill_9_in_the_middle_loses_no_accepted_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut petrel = Petrel::start(dir.path());
    let (edge, http) = (petrel.edge.clone(), petrel.http.clone());
    let (senders_stop, receivers_stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let conversations: Vec<_> = (0..PAIRS).map(|_| Arc::new(Conversation::default())).collect();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for (pair, conversation) in (0..).zip(&conversations) {
        let from = 10 * (pair + 1);
        let start = |user: u64,
                     device,
                     is_over: &Arc<AtomicBool>,
                     run: fn(&str, &str, u64, &Conversation, &AtomicBool)| {
            let (edge, token) = (edge.clone(), petrel.token(user, device));
            let (conversation, is_over) = (Arc::clone(conversation), Arc::clone(is_over));
            thread::spawn(move || run(&edge, &token, user, &conversation, &is_over))
        };
        senders.push(start(from, Device::Web, &senders_stop, send));
        receivers.push(start(from + 1, Device::Android, &receivers_stop, receive));
    }
    for kill in 0..KILLS {
        // Long enough to get going, and another moment each time.
        thread::sleep(Duration::from_millis(250 + u64::from(kill * 137 % 300)));
        petrel.kill();
        petrel = Petrel::start_again(dir.path(), &edge, &http);
    }
    thread::sleep(Duration::from_millis(300));
    senders_stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().expect("no violation");
    }
    let until = Instant::now() + PATIENCE;
    let is_complete = |c: &Conversation| {
        c.seen.lock().expect("no panic").len() >= c.accepted.lock().expect("no panic").len()
    };
    while !conversations.iter().all(|c| is_complete(c)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    receivers_stop.store(true, Ordering::Relaxed);
    for receiver in receivers {
        receiver.join().expect("no violation");
    }
    for conversation in &conversations {
        let (accepted, seen) =
            (conversation.accepted.lock().expect("no panic"), conversation.seen.lock().expect("no panic"));
        assert!(accepted.len() > KILLS as usize, "the load went on: {}", accepted.len());
        // One sender a conversation: the numbers in seq order are 1, 2, 3, … without a gap, a repeat or a swap.
        let by_seq: Vec<_> = seen.iter().map(|(seq, number)| (*seq, *number)).collect();
        let expected: Vec<_> = (1..=by_seq.len() as u64).map(|n| (n, n)).collect();
        assert_eq!(by_seq, expected);
        assert!(seen.len() >= accepted.len(), "{} accepted, {} seen", accepted.len(), seen.len());
    }
    assert_eq!(petrel.terminate().code(), Some(0));
}
