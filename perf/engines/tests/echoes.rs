//! Every echo server does the same, so that what is compared is the engine.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

fn start(program: &str, arguments: &[&str]) -> (Server, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = free.local_addr().expect("an address");
    drop(free);
    let child = Command::new(program)
        .args(["--listen", &addr.to_string()])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("the server starts");
    let server = Server(child);
    let begun = Instant::now();
    while TcpStream::connect(addr).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{program} does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    (server, addr)
}

fn connect(addr: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    client(format!("ws://{addr}/"), stream).expect("an upgrade").0
}

fn echoes(program: &str) {
    let (_server, addr) = start(program, &[]);
    let mut socket = connect(addr);
    let mut other = connect(addr);
    for message in [
        Message::binary(vec![7; 20]),
        Message::text("grüße"),
        Message::binary(vec![9; 100_000]),
        Message::binary(Vec::new()),
    ] {
        socket.send(message.clone()).expect("sent");
        assert_eq!(socket.read().expect("an echo"), message, "{program}");
    }
    socket.send(Message::Ping(vec![1, 2].into())).expect("sent");
    assert_eq!(socket.read().expect("a pong"), Message::Pong(vec![1, 2].into()), "{program}");
    let part =
        |kind, fin, bytes: &[u8]| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), fin));
    socket.send(part(Data::Text, false, b"in ")).expect("sent");
    socket.send(part(Data::Continue, true, b"parts")).expect("sent");
    assert_eq!(socket.read().expect("an echo"), Message::text("in parts"), "{program}");
    other.send(Message::text("another")).expect("sent");
    assert_eq!(other.read().expect("an echo"), Message::text("another"), "{program}");
    socket.close(None).expect("sent");
    assert!(socket.read().expect("the close comes back").is_close(), "{program}");
}

#[test]
fn ring_echoes() {
    echoes(env!("CARGO_BIN_EXE_echo-ring"));
}

#[test]
fn monoio_echoes() {
    echoes(env!("CARGO_BIN_EXE_echo-monoio"));
}

#[cfg(feature = "glommio")]
#[test]
fn glommio_echoes() {
    echoes(env!("CARGO_BIN_EXE_echo-glommio"));
}

#[test]
fn fastwebsockets_echoes() {
    echoes(env!("CARGO_BIN_EXE_echo-fastwebsockets"));
}

#[test]
fn tungstenite_echoes() {
    echoes(env!("CARGO_BIN_EXE_echo-tungstenite"));
}

#[test]
fn ring_answers_everybody_and_several_times() {
    let (_server, addr) = start(env!("CARGO_BIN_EXE_echo-ring"), &["--broadcast"]);
    let mut all: Vec<_> = (0..5).map(|_| connect(addr)).collect();
    all[0].send(Message::text("to all")).expect("sent");
    for socket in &mut all {
        assert_eq!(socket.read().expect("a broadcast"), Message::text("to all"));
    }
    let (_server, addr) = start(env!("CARGO_BIN_EXE_echo-ring"), &["--answers=3"]);
    let mut socket = connect(addr);
    socket.send(Message::text("thrice")).expect("sent");
    for _ in 0..3 {
        assert_eq!(socket.read().expect("an answer"), Message::text("thrice"));
    }
}
