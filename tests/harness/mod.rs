//! A Petrel process on a data folder of its own, and clients of it that share no code with its engine (tungstenite).
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod talk;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::packets::{
    C2cAckReq, C2cMsgPush, C2cSendReq, ImProtoResponse, MsgType, SUCCESS, SyncRange, SyncReq, request,
    sync_row,
};
use petrel_protocol::token::{Claims, Keys, Kind};
use prost::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::WebSocket;

/// Longer than anything takes on a busy machine; only failures wait this long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A running process.
pub(crate) struct Petrel {
    child: Child,
    pub(crate) dir: PathBuf,
    /// Host and port of the edge.
    pub(crate) edge: String,
    /// Host and port of HTTP.
    pub(crate) http: String,
}

impl Petrel {
    /// Starts on `dir` with free ports.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shards", "2"])
    }

    /// Starts again where another one ran: same folder, same ports, as clients expect.
    pub(crate) fn start_again(dir: &Path, edge: &str, http: &str) -> Self {
        Self::start_with(dir, &["--listen", edge, "--http", http, "--shards", "2"])
    }

    pub(crate) fn start_with(dir: &Path, args: &[&str]) -> Self {
        let mut child = command(dir, args).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut edge, mut http) = (String::new(), String::new());
        while edge.is_empty() || http.is_empty() {
            let line = lines.next().expect("it says where to connect before it ends").expect("text");
            if let Some(url) = line.trim().strip_prefix("clients   ws://") {
                edge = String::from(url.trim_end_matches("/websocket"));
            } else if let Some(url) = line.trim().strip_prefix("HTTP      http://") {
                http = String::from(url);
            }
        }
        Self { child, dir: dir.to_owned(), edge, http }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9));
    }

    /// SIGTERM, then the exit status.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state is known") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// A token of this user, signed with the folder's key.
    pub(crate) fn token(&self, user: u64, device: Device) -> String {
        token_now(&self.dir.join("keys.json"), user, device)
    }

    /// A logged-in client whose device is ready for pushes.
    pub(crate) fn client(&self, user: u64, device: Device) -> Client {
        let mut client = self.connect(user, device);
        client.until(|p| p.r#type() == MsgType::Ready);
        client
    }

    /// A logged-in client, as soon as the handshake is done.
    pub(crate) fn connect(&self, user: u64, device: Device) -> Client {
        Client::connect(&self.edge, &self.token(user, device), user).expect("the handshake is taken")
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("it runs");
        text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a number") * 4_096
    }

    /// One HTTP request; the status and the body.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        http(&self.http, method, path, headers, body).expect("an answer")
    }

    pub(crate) fn post(&self, path: &str, json: &str) -> (u16, String) {
        self.http("POST", path, "Content-Type: application/json\r\n", json)
    }
}

impl Drop for Petrel {
    fn drop(&mut self) {
        // Already dead in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with a data folder.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petrel"));
    command.arg("--data").arg(dir).args(args).stdin(Stdio::null());
    command
}

/// One HTTP request to host and port; the status and the body. None where nobody answers.
pub(crate) fn http(host: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let status = response.split(' ').nth(1)?.parse().ok()?;
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Some((status, body))
}

/// A token that is valid for an hour, signed with the keys of this file.
pub(crate) fn token_now(keys: &Path, user: u64, device: Device) -> String {
    let keys = std::fs::read_to_string(keys).expect("made at the start");
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    token(&Keys::from_json(&keys).expect("valid"), user, device, now_s + 3_600)
}

pub(crate) fn token(keys: &Keys, user: u64, device: Device, expires_at_s: u64) -> String {
    keys.sign(&Claims {
        user: UserId(user),
        device,
        version: 0,
        issued_at_s: expires_at_s.saturating_sub(3_600),
        expires_at_s,
        kind: Kind::Access,
    })
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A client on a thread of the test.
pub(crate) struct Client {
    pub(crate) socket: WebSocket<TcpStream>,
    pub(crate) user: u64,
}

impl Client {
    /// Connects and logs in; none where nobody answers.
    pub(crate) fn connect(edge: &str, token: &str, user: u64) -> Option<Self> {
        let mut request = format!("ws://{edge}/websocket").into_client_request().expect("a valid URL");
        request.headers_mut().insert("token", token.parse().expect("a header"));
        let stream = TcpStream::connect(edge).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        let (socket, _) = tungstenite::client(request, stream).ok()?;
        Some(Self { socket, user })
    }

    pub(crate) fn send_packet(&mut self, kind: MsgType, payload: &impl Message) {
        self.socket.send(tungstenite::Message::Binary(request(kind, payload))).expect("sent");
    }

    /// Sends a text; returns its `client_msg_id`.
    pub(crate) fn send(&mut self, to: u64, content: &str) -> Bytes {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.user.to_be_bytes());
        // Unique in the whole test, so that a second client of the same user sends nothing twice.
        id[8..].copy_from_slice(&NEXT_ID.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let id = Bytes::copy_from_slice(&id);
        self.send_as(id.clone(), to, content, 0);
        id
    }

    pub(crate) fn send_as(&mut self, client_msg_id: Bytes, to: u64, content: &str, attempt: u32) {
        let send = C2cSendReq {
            client_msg_id,
            from: self.user,
            to,
            format: 1,
            content: content.to_owned(),
            attempt: Some(attempt),
            ..Default::default()
        };
        self.send_packet(MsgType::C2cSend, &send);
    }

    /// The next packet; none where the server closed (the close code is then kept by the caller through `closed`).
    pub(crate) fn next(&mut self) -> Result<ImProtoResponse, Option<u16>> {
        loop {
            match self.socket.read() {
                Ok(tungstenite::Message::Binary(bytes)) => {
                    return Ok(ImProtoResponse::decode(bytes).expect("a valid packet"));
                }
                Ok(tungstenite::Message::Close(frame)) => return Err(frame.map(|f| f.code.into())),
                Ok(_) => {}
                Err(_) => return Err(None),
            }
        }
    }

    /// Skips packets up to one of this kind.
    pub(crate) fn until(&mut self, is_it: impl Fn(&ImProtoResponse) -> bool) -> ImProtoResponse {
        loop {
            let packet = self.next().unwrap_or_else(|code| panic!("closed with {code:?}"));
            if is_it(&packet) {
                return packet;
            }
        }
    }

    pub(crate) fn until_status(&mut self, status: i32) -> C2cAckReq {
        let packet = self.until(|p| {
            p.r#type() == MsgType::C2cAck
                && C2cAckReq::decode(p.payload.clone()).is_ok_and(|a| a.status == status)
        });
        C2cAckReq::decode(packet.payload).expect("valid")
    }

    pub(crate) fn until_push(&mut self) -> C2cMsgPush {
        let packet = self.until(|p| p.r#type() == MsgType::C2cMsgPush);
        C2cMsgPush::decode(packet.payload).expect("valid")
    }

    pub(crate) fn until_nack(&mut self) -> ImProtoResponse {
        let nack = self.until(|p| p.r#type() == MsgType::Nack);
        assert!(nack.code < 0 && !nack.msg.is_empty(), "{nack:?}");
        nack
    }

    pub(crate) fn ack(&mut self, push: &C2cMsgPush, status: i32) {
        let ack = C2cAckReq {
            client_msg_id: push.client_msg_id.clone(),
            msg_id: push.msg_id,
            from: self.user,
            to: push.from,
            status,
            seq: 0,
        };
        self.send_packet(MsgType::C2cAck, &ack);
    }

    /// What the store has of the conversation with `peer`, as this user's device sees it: seq and content, in order.
    pub(crate) fn history(&mut self, peer: u64) -> Vec<(u64, String)> {
        let mut rows = Vec::new();
        let mut from_seq = 1;
        loop {
            self.send_packet(MsgType::Sync, &SyncReq { peer, from_seq, to_seq: 0 });
            let range = self.until(|p| p.r#type() == MsgType::Sync || p.r#type() == MsgType::Nack);
            assert_eq!(range.code, SUCCESS, "{}", range.msg);
            let range = SyncRange::decode(range.payload).expect("valid");
            rows.extend(range.rows.into_iter().filter_map(|row| match row.row {
                Some(sync_row::Row::Message(push)) => Some((push.seq, push.content)),
                _ => None,
            }));
            if range.to_seq >= range.head_seq {
                return rows;
            }
            from_seq = range.to_seq + 1;
        }
    }

    /// The close code that ends the connection.
    pub(crate) fn until_closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next() {
                return code;
            }
        }
    }
}
