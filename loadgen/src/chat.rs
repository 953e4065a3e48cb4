//! The command `chat`: a client for hands. Lines that are typed are sent; what comes is printed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;
use petrel_protocol::client::{Client, Config, Draft, Input, Output, Outputs, Row};
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::packets::status;
use petrel_protocol::websocket::{self, Decoder, Event, Opcode, Role, encode_frame};

use crate::accounts::{self, AccountsError};
use crate::random::Random;
use crate::run::{EDGE_DEFAULT, Options, RunError};
use crate::socket;
use crate::stamp::Clock;
use crate::url::Target;

/// Who chats with whom.
#[derive(Clone, Debug)]
pub struct Chat {
    /// A user id where tokens are minted, else a name that is registered if it is new.
    pub user: String,
    /// For a name.
    pub password: Option<String>,
    /// The other's user id.
    pub to: u64,
    /// The device type.
    pub device: Device,
}

const HELP: &str =
    "a line is sent; /read: the last message is read; /recall: take the last own message back; /quit";

/// Chats until `/quit` or the end of the input.
pub fn run(chat: &Chat, options: &Options) -> Result<(), RunError> {
    let (user, token, named) = log_in(chat, options)?;
    let edge = options.edge.clone().or(named).unwrap_or_else(|| EDGE_DEFAULT.to_owned());
    let target = Target::parse(&edge, "ws://")?;
    println!("you are user {user}, writing to user {}; {HELP}", chat.to);
    let (here, mut there) = UnixStream::pair().map_err(crate::crew::CrewError::Ring)?;
    // The keyboard blocks, so it has its own thread; its lines come through a socket that the ring can wait for.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if there.write_all(format!("{line}\n").as_bytes()).is_err() {
                return;
            }
        }
        let _ = there.shutdown(Shutdown::Both);
    });
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .enable_timer()
        .build()
        .map_err(crate::crew::CrewError::Ring)?;
    let desk = Rc::new(Desk {
        clock: Clock::start(),
        to: UserId(chat.to),
        state: RefCell::new(State {
            client: Client::new(user, Arc::new(Config::default())),
            out: Outputs::default(),
            egress: Vec::new(),
            random: Random::new(std::process::id().into()),
            last_own: None,
            last_received: None,
            texts: HashMap::new(),
            is_over: false,
        }),
    });
    runtime.block_on(async {
        monoio::spawn(type_lines(Rc::clone(&desk), here));
        desk.converse(&target, &token).await;
    });
    Ok(())
}

fn log_in(chat: &Chat, options: &Options) -> Result<(UserId, String, Option<String>), AccountsError> {
    if let Some(data) = &options.data {
        let user = chat.user.parse().map_err(|_| AccountsError::NotANumber(chat.user.clone()))?;
        let token = accounts::mint_one(Path::new(data), UserId(user), chat.device)?;
        return Ok((UserId(user), token, None));
    }
    let Some(http) = &options.http else { return Err(AccountsError::NoWay) };
    let server = Target::parse(http, "http://").map_err(|e| AccountsError::Url(e.to_string()))?;
    let password = chat.password.clone().ok_or(AccountsError::NoPassword)?;
    let (user, token, edge) = accounts::log_in_by_name(&server, &chat.user, &password, chat.device)?;
    Ok((user, token, Some(edge).filter(|e| !e.is_empty())))
}

struct Desk {
    clock: Clock,
    to: UserId,
    state: RefCell<State>,
}

struct State {
    client: Client,
    out: Outputs,
    egress: Vec<u8>,
    random: Random,
    /// The server's id of the last own message.
    last_own: Option<u64>,
    /// The sender and the server's id of the last message that came.
    last_received: Option<(UserId, u64)>,
    /// What was typed, for the statuses.
    texts: HashMap<[u8; 16], String>,
    is_over: bool,
}

const TURN: Duration = Duration::from_millis(20);
const RECONNECT: Duration = Duration::from_secs(1);
const WEBSOCKET: websocket::Config =
    websocket::Config { role: Role::Client, message_bytes_max: limits::EGRESS_BYTES_MAX, take_text: false };

async fn type_lines(desk: Rc<Desk>, keyboard: UnixStream) {
    let mut keyboard = monoio::net::UnixStream::from_std(keyboard).expect("a socket of this process");
    let mut typed = Vec::new();
    let mut buffer = Vec::with_capacity(4 << 10);
    loop {
        let (len, filled) = keyboard.read(buffer).await;
        buffer = filled;
        if matches!(len, Ok(0) | Err(_)) {
            break;
        }
        typed.extend_from_slice(&buffer);
        while let Some(end) = typed.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = typed.drain(..=end).collect();
            desk.line(String::from_utf8_lossy(&line).trim());
        }
    }
    desk.state.borrow_mut().is_over = true;
}

impl Desk {
    /// Connects again and again until the end.
    async fn converse(self: &Rc<Self>, target: &Target, token: &str) {
        while !self.state.borrow().is_over {
            let nonce = {
                let random = &mut self.state.borrow_mut().random;
                (u128::from(random.bits()) << 64 | u128::from(random.bits())).to_be_bytes()
            };
            match socket::open(target, None, token, nonce).await {
                Ok(opened) => self.connected(opened).await,
                Err(e) => {
                    println!("! {e}; trying again");
                    monoio::time::sleep(RECONNECT).await;
                }
            }
        }
    }

    async fn connected(self: &Rc<Self>, opened: socket::Opened) {
        self.handle(Input::Connected);
        let (mut read, mut write) = opened.stream.into_split();
        let ended = Rc::new(std::cell::Cell::new(false));
        let (desk, is_ended, mut early) = (Rc::clone(self), Rc::clone(&ended), opened.early);
        monoio::spawn(async move {
            let mut decoder = Decoder::new();
            let mut goes_on = desk.feed(&mut decoder, &mut early);
            let mut buffer = Vec::with_capacity(16 << 10);
            while goes_on {
                let (len, filled) = read.read(buffer).await;
                buffer = filled;
                goes_on = !matches!(len, Ok(0) | Err(_)) && desk.feed(&mut decoder, &mut buffer);
            }
            is_ended.set(true);
        });
        while !ended.get() {
            if !self.write(&mut write).await {
                break;
            }
            if self.state.borrow().is_over && self.state.borrow().client.pending() == 0 {
                return;
            }
            monoio::time::sleep(TURN).await;
            let now = self.clock.now().mono_ms;
            if self.state.borrow().client.due_ms().is_some_and(|due| due <= now) {
                self.handle(Input::Tick);
            }
        }
        println!("! the connection ended");
        self.handle(Input::Disconnected);
        self.state.borrow_mut().egress.clear();
    }

    async fn write(&self, write: &mut OwnedWriteHalf<TcpStream>) -> bool {
        let bytes = std::mem::take(&mut self.state.borrow_mut().egress);
        bytes.is_empty() || write.write_all(bytes).await.0.is_ok()
    }

    fn feed(&self, decoder: &mut Decoder, bytes: &mut [u8]) -> bool {
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Binary(packet) => self.handle(Input::Packet(packet)),
                Event::Ping(payload) => self.handle(Input::Ping(payload)),
                Event::Pong(_) => self.handle(Input::Pong),
                Event::Text(_) => {}
                Event::Close(code, reason) => println!("! closed: {} {reason}", code.unwrap_or_default()),
            }
            ControlFlow::Continue(())
        };
        matches!(decoder.feed(&WEBSOCKET, bytes, &mut on_event), Ok(ControlFlow::Continue(())))
    }

    fn line(&self, line: &str) {
        let (last_own, last_received) = {
            let state = self.state.borrow();
            (state.last_own, state.last_received)
        };
        match line {
            "" => {}
            "/quit" => self.state.borrow_mut().is_over = true,
            "/recall" => match last_own {
                Some(msg_id) => self.handle(Input::Recall(self.to, msg_id)),
                None => println!("! no own message was accepted yet"),
            },
            "/read" => match last_received {
                Some((sender, msg_id)) => self.handle(Input::Read(sender, msg_id)),
                None => println!("! no message came yet"),
            },
            command if command.starts_with('/') => println!("{HELP}"),
            text => {
                let id = {
                    let mut state = self.state.borrow_mut();
                    let half = u128::from(self.clock.now().wall_ms) << 64;
                    let id = (half | u128::from(state.random.bits())).to_be_bytes();
                    state.texts.insert(id, text.to_owned());
                    id
                };
                self.handle(Input::Send(Draft { id, msg_id: 0, to: self.to, format: 1, content: text }));
            }
        }
    }

    fn handle(&self, input: Input<'_>) {
        let state = &mut *self.state.borrow_mut();
        state.client.handle(self.clock.now(), input, &mut state.out);
        let actions = state.out.take();
        for output in &actions {
            let (opcode, packet) = match output {
                Output::Transmit(packet) => (Opcode::Binary, Some(packet)),
                Output::Pong(packet) => (Opcode::Pong, Some(packet)),
                Output::Ping => (Opcode::Ping, None),
                learnt => {
                    state.learn(learnt);
                    continue;
                }
            };
            let key = (state.random.bits() as u32).to_ne_bytes();
            let payload = packet.map_or(&[][..], |packet| state.out.bytes(packet));
            encode_frame(&mut state.egress, opcode, payload, Some(key));
        }
        state.out.clear(actions);
    }
}

impl State {
    fn learn(&mut self, output: &Output) {
        match output {
            Output::Shown(_, Row::Message(push)) => {
                self.last_received = Some((UserId(push.from), push.msg_id));
                println!("{}: {} (seq {})", push.from, push.content, push.seq);
            }
            Output::Shown(_, Row::Recall(recall)) => {
                println!("* user {} took back seq {}", recall.from, recall.target_seq);
            }
            Output::Accepted { msg_id, .. } => self.last_own = Some(*msg_id),
            Output::Status { id, status, seq, before, .. } if before.is_none_or(|b| b < *status) => {
                let text = self.texts.get(id).map_or("", String::as_str);
                println!("  [{}, seq {seq}] {text}", status_name(*status));
            }
            Output::Refused { refusal, .. } => println!("! refused: {refusal:?}"),
            Output::Postponed { code, retry_after_ms, .. } => {
                println!("! refused for now ({code}): sent again in {retry_after_ms} ms");
            }
            Output::RecallRefused(_, code, _) => println!("! the recall was refused ({code})"),
            Output::OtherRefused(kind, code, text) => println!("! {}: {text} ({code})", kind.as_str_name()),
            Output::Ready => println!("* connected"),
            Output::Drain(after_ms) => println!("* the edge stops; reconnect in {after_ms} ms"),
            Output::Kicked(code, text) => {
                println!("! logged out: {text} ({code})");
                self.is_over = true;
            }
            Output::Fault(text) => println!("! {text}"),
            Output::Close(reason) => println!("! {reason}"),
            _ => {}
        }
    }
}

fn status_name(status: i32) -> &'static str {
    match status {
        status::FAILED => "failed",
        status::ACCEPTED => "accepted",
        status::OFFLINE => "stored; nobody there",
        status::DELIVERED => "delivered",
        status::READ => "read",
        _ => "?",
    }
}
