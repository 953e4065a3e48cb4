//! A small edge on tungstenite that does what Petrel's would, and misbehaves on purpose where it is told to.
//!
//! One device a user. Everything is in one lock and in memory; a connection is a thread.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use petrel_protocol::codes::Code;
use petrel_protocol::packets::{
    self, C2cAckReq, C2cMsgPush, C2cSendReq, C2cWithdrawReq, ImProtoRequest, MsgType, Ready, SyncRange,
    SyncReq, SyncRow, sync_row,
};
use petrel_protocol::token::{Keys, Kind};
use prost::Message as _;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// What the edge does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// Nothing.
    None,
    /// Accepts every 50th message and forgets it.
    Forget,
    /// Gives every 50th message a seq and shows it to nobody.
    Hide,
    /// Stores two accepted messages of a sender in the wrong order.
    Swap,
    /// Changes a letter of every 50th content.
    Change,
    /// Tells status 2 after status 3.
    LowerStatus,
    /// Does not answer every 50th send at first.
    Silence,
    /// Stores every 50th message twice.
    StoreTwice,
    /// Shows every 50th message to a third user as well.
    Mislead,
    /// Refuses every 50th message for good and delivers it.
    RefuseAndDeliver,
    /// Confirms recalls and shows them to the sender alone.
    HideRecalls,
    /// Sends a packet that no client can read.
    Babble,
    /// Shows a message that nobody sent.
    Invent,
    // What follows is allowed, so nothing may be found.
    /// Pushes everything twice.
    PushTwice,
    /// Pushes some messages after later ones.
    PushLate,
    /// Refuses every third attempt for now.
    Overload,
    /// The same, and does not say when to try again.
    OverloadForEver,
    /// Drops all connections every 200 messages, after storing and before answering.
    Crash,
}

/// A running edge. Its threads end with the test's process.
pub(crate) struct FakeEdge {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its keys are.
    pub(crate) data: tempfile::TempDir,
}

type Pair = (u64, u64);

#[derive(Clone)]
enum Row {
    Message(C2cMsgPush),
    Recall(C2cWithdrawReq),
}

struct World {
    mischief: Mischief,
    online: HashMap<u64, (u64, Sender<Bytes>)>,
    conversations: HashMap<Pair, Vec<Row>>,
    /// Acknowledged seqs by conversation and user.
    acked: HashMap<(Pair, u64), HashSet<u64>>,
    by_id: HashMap<Bytes, u64>,
    held: HashMap<Pair, C2cSendReq>,
    late: HashMap<u64, Bytes>,
    messages: u64,
    attempts: u64,
    connections: u64,
    crash: bool,
}

impl FakeEdge {
    /// Starts one.
    pub(crate) fn start(mischief: Mischief) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let keys = Keys::with_new_key("k1", [7; 32]);
        std::fs::write(data.path().join("keys.json"), keys.to_json()).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let world = Arc::new(Mutex::new(World {
            mischief,
            online: HashMap::new(),
            conversations: HashMap::new(),
            acked: HashMap::new(),
            by_id: HashMap::new(),
            held: HashMap::new(),
            late: HashMap::new(),
            messages: 0,
            attempts: 0,
            connections: 0,
            crash: false,
        }));
        let keys = Arc::new(keys);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (world, keys) = (Arc::clone(&world), Arc::clone(&keys));
                std::thread::spawn(move || connection(stream, &world, &keys));
            }
        });
        Self { address, data }
    }
}

fn connection(stream: TcpStream, world: &Mutex<World>, keys: &Keys) {
    let mut user = 0;
    #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
    let check = |request: &Request, response: Response| {
        let token = request.headers()["token"].to_str().expect("a token").to_owned();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        user = keys.verify(&token, now_s, Kind::Access).expect("a good token").user.0;
        Ok(response)
    };
    stream.set_nodelay(true).expect("an option");
    let Ok(mut socket) = tungstenite::accept_hdr(stream, check) else { return };
    // Short, so that what others push goes out soon.
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).expect("an option");
    let (outbox, inbox) = channel();
    let number = world.lock().expect("no panics").connect(user, outbox);
    let _ = serve(&mut socket, user, number, world, &inbox);
    let mut world = world.lock().expect("no panics");
    if world.online.get(&user).is_some_and(|(n, _)| *n == number) {
        world.online.remove(&user);
    }
}

fn serve(
    socket: &mut WebSocket<TcpStream>,
    user: u64,
    number: u64,
    world: &Mutex<World>,
    inbox: &Receiver<Bytes>,
) -> tungstenite::Result<()> {
    loop {
        while let Ok(packet) = inbox.try_recv() {
            socket.write(Message::Binary(packet))?;
        }
        socket.flush()?;
        match socket.read() {
            Ok(Message::Binary(packet)) => {
                let mut world = world.lock().expect("no panics");
                world.packet(user, &packet);
                if std::mem::take(&mut world.crash) {
                    world.online.clear();
                }
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(e))
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
        if world.lock().expect("no panics").online.get(&user).is_none_or(|(n, _)| *n != number) {
            // Replaced, or crashed: the connection just ends.
            return Ok(());
        }
    }
}

fn pair(one: u64, other: u64) -> Pair {
    (one.min(other), one.max(other))
}

impl World {
    /// Whether the mischief strikes at this message.
    fn strikes(&self, mischief: Mischief) -> bool {
        self.mischief == mischief && self.messages.is_multiple_of(50)
    }

    fn connect(&mut self, user: u64, outbox: Sender<Bytes>) -> u64 {
        self.connections += 1;
        self.online.insert(user, (self.connections, outbox));
        let pairs: Vec<Pair> =
            self.conversations.keys().filter(|(a, b)| *a == user || *b == user).copied().collect();
        for pair in pairs {
            let acked = self.acked.entry((pair, user)).or_default().clone();
            for (i, row) in self.conversations[&pair].clone().iter().enumerate() {
                if !acked.contains(&(i as u64 + 1)) {
                    self.show(user, row);
                }
            }
        }
        self.tell(user, MsgType::Ready, &Ready { user_id: user, server_time: 0 });
        self.connections
    }

    fn tell(&self, user: u64, kind: MsgType, payload: &impl prost::Message) {
        self.send(user, packets::response(kind, payload));
    }

    fn send(&self, user: u64, packet: Bytes) {
        if let Some((_, outbox)) = self.online.get(&user) {
            let _ = outbox.send(packet);
        }
    }

    /// Pushes a row to one of its users; own messages are not pushed to their sender.
    fn show(&mut self, user: u64, row: &Row) {
        match row {
            Row::Message(push) if push.from == user => {}
            Row::Message(push) => {
                let packet = packets::response(MsgType::C2cMsgPush, push);
                if self.mischief == Mischief::PushLate && push.seq % 3 == 1 {
                    if let Some(earlier) = self.late.insert(user, packet) {
                        self.send(user, earlier);
                    }
                    return;
                }
                self.send(user, packet.clone());
                if self.mischief == Mischief::PushTwice {
                    self.send(user, packet);
                }
                if let Some(late) = self.late.remove(&user) {
                    self.send(user, late);
                }
            }
            Row::Recall(recall) if self.mischief == Mischief::HideRecalls && recall.from != user => {}
            Row::Recall(recall) => self.tell(user, MsgType::C2cWithdraw, recall),
        }
    }

    fn packet(&mut self, user: u64, packet: &[u8]) {
        let request = ImProtoRequest::decode(packet).expect("a request");
        let payload = &request.payload[..];
        match MsgType::try_from(request.r#type).expect("a type") {
            MsgType::C2cSend => self.send_request(C2cSendReq::decode(payload).expect("a send")),
            MsgType::C2cAck => self.ack(&C2cAckReq::decode(payload).expect("an ack")),
            MsgType::C2cWithdraw => self.recall(C2cWithdrawReq::decode(payload).expect("a recall")),
            MsgType::Sync => self.sync(user, &SyncReq::decode(payload).expect("a request")),
            other => panic!("{other:?} of user {user}"),
        }
    }

    fn status(&self, push: &C2cMsgPush, status: i32, seq: u64) {
        let ack = C2cAckReq {
            client_msg_id: push.client_msg_id.clone(),
            msg_id: push.msg_id,
            from: 0,
            to: push.from,
            status,
            seq,
        };
        self.tell(push.from, MsgType::C2cAck, &ack);
    }

    fn nack(&self, send: &C2cSendReq, code: Code, retry_after_ms: u32) {
        let id = send.client_msg_id.clone();
        self.send(send.from, packets::nack(code, "because", retry_after_ms, MsgType::C2cSend, id, 0));
    }

    fn send_request(&mut self, send: C2cSendReq) {
        self.attempts += 1;
        for (mischief, retry_after_ms) in [(Mischief::Overload, 20), (Mischief::OverloadForEver, 0)] {
            if self.mischief == mischief && self.attempts.is_multiple_of(3) {
                return self.nack(&send, Code::Overloaded, retry_after_ms);
            }
        }
        if let Some(msg_id) = self.by_id.get(&send.client_msg_id) {
            // A resend: accepted already.
            return self.status(&as_push(&send, *msg_id, 0), 1, 0);
        }
        self.messages += 1;
        if self.strikes(Mischief::Silence) {
            return;
        }
        if self.mischief == Mischief::Crash && self.messages.is_multiple_of(200) {
            self.crash = true;
        }
        if self.strikes(Mischief::RefuseAndDeliver) {
            self.store(&send);
            return self.nack(&send, Code::TooLarge, 0);
        }
        let msg_id = self.messages;
        self.by_id.insert(send.client_msg_id.clone(), msg_id);
        if !self.crash {
            self.status(&as_push(&send, msg_id, 0), 1, 0);
        }
        let pair = pair(send.from, send.to);
        if self.strikes(Mischief::Forget) {
            return;
        }
        if self.mischief == Mischief::Swap {
            match self.held.remove(&pair) {
                Some(earlier) if earlier.from == send.from => {
                    self.store(&send);
                    return self.store(&earlier);
                }
                Some(earlier) => self.store(&earlier),
                None if self.messages.is_multiple_of(10) => {
                    self.held.insert(pair, send);
                    return;
                }
                None => {}
            }
        }
        self.store(&send);
        if self.strikes(Mischief::StoreTwice) {
            self.store(&send);
        }
    }

    fn store(&mut self, send: &C2cSendReq) {
        let pair = pair(send.from, send.to);
        let msg_id = self.by_id.get(&send.client_msg_id).copied().unwrap_or(self.messages);
        let rows = self.conversations.entry(pair).or_default();
        let mut push = as_push(send, msg_id, rows.len() as u64 + 1);
        if self.mischief == Mischief::Change && self.messages.is_multiple_of(50) {
            push.content.replace_range(60..61, "#");
        }
        rows.push(Row::Message(push.clone()));
        if self.strikes(Mischief::Hide) {
            self.acked.entry((pair, send.to)).or_default().insert(push.seq);
            return;
        }
        let row = Row::Message(push.clone());
        self.show(send.to, &row);
        if !self.online.contains_key(&send.to) {
            self.status(&push, 2, push.seq);
        }
        if self.strikes(Mischief::Mislead) {
            let third = self.online.keys().copied().find(|u| *u != send.from && *u != send.to);
            self.tell(third.expect("a third user"), MsgType::C2cMsgPush, &push);
        }
        if self.strikes(Mischief::Invent) {
            let invented = C2cMsgPush { client_msg_id: Bytes::from_static(&[9; 16]), ..push.clone() };
            let seq = push.seq + 1_000;
            self.tell(send.to, MsgType::C2cMsgPush, &C2cMsgPush { seq, ..invented });
        }
        if self.strikes(Mischief::Babble) {
            self.send(send.to, Bytes::from_static(&[0xff, 0xff, 0xff]));
        }
    }

    fn ack(&mut self, ack: &C2cAckReq) {
        let pair = pair(ack.from, ack.to);
        let Some(rows) = self.conversations.get(&pair) else { return };
        let push = rows.iter().find_map(|row| match row {
            Row::Message(push) if push.msg_id == ack.msg_id => Some(push.clone()),
            _ => None,
        });
        let Some(push) = push else { return };
        let is_new = self.acked.entry((pair, ack.from)).or_default().insert(push.seq);
        if is_new || ack.status == 4 {
            self.status(&push, ack.status, push.seq);
            if self.mischief == Mischief::LowerStatus && push.msg_id.is_multiple_of(50) {
                self.status(&push, 2, push.seq);
            }
        }
    }

    fn recall(&mut self, mut recall: C2cWithdrawReq) {
        let pair = pair(recall.from, recall.to);
        let Some(rows) = self.conversations.get_mut(&pair) else { return };
        let target = rows.iter_mut().find_map(|row| match row {
            Row::Message(push) if push.msg_id == recall.msg_id => Some(push),
            _ => None,
        });
        let Some(target) = target else { return };
        target.format = 10;
        target.content.clear();
        recall.target_seq = target.seq;
        recall.seq = rows.len() as u64 + 1;
        rows.push(Row::Recall(recall));
        for user in [recall.from, recall.to] {
            self.show(user, &Row::Recall(recall));
        }
    }

    fn sync(&self, user: u64, request: &SyncReq) {
        let rows = self.conversations.get(&pair(user, request.peer)).map_or(&[][..], Vec::as_slice);
        let to_seq = if request.to_seq == 0 { rows.len() as u64 } else { request.to_seq };
        let wanted = rows.iter().enumerate().filter(|(i, _)| {
            let seq = *i as u64 + 1;
            (request.from_seq..=to_seq).contains(&seq)
        });
        // What is hidden is hidden here too.
        let is_hidden = |row: &Row| match row {
            Row::Message(push) => {
                self.mischief == Mischief::Hide && push.from != user && push.msg_id.is_multiple_of(50)
            }
            Row::Recall(_) => false,
        };
        let rows = wanted.filter(|(_, row)| !is_hidden(row));
        let rows = rows.map(|(_, row)| SyncRow {
            row: Some(match row {
                Row::Message(push) => sync_row::Row::Message(push.clone()),
                Row::Recall(recall) => sync_row::Row::Recall(*recall),
            }),
        });
        let range = SyncRange {
            peer: request.peer,
            from_seq: request.from_seq,
            to_seq,
            head_seq: to_seq,
            rows: rows.collect(),
        };
        self.tell(user, MsgType::Sync, &range);
    }
}

fn as_push(send: &C2cSendReq, msg_id: u64, seq: u64) -> C2cMsgPush {
    C2cMsgPush {
        client_msg_id: send.client_msg_id.clone(),
        msg_id,
        from: send.from,
        to: send.to,
        format: send.format,
        content: send.content.clone(),
        time: send.time,
        seq,
    }
}
