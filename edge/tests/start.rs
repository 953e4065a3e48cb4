//! The program `petrel-edge` where it cannot start, or not yet.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use petrel_protocol::token::Keys;

const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody listens on.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petrel-edge"));
    command.arg("--keys").arg(dir.join("keys.json")).arg("--state").arg(dir.join("state"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The last line of a start that is refused.
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = command(dir, arguments).output().expect("it runs");
    let text = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(2), "{text}");
    text.lines().last().expect("a line").to_owned()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("keys.json"), Keys::with_new_key("k", [1; 32]).to_json())
        .expect("written");
    dir
}

fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// SIGTERM, then the exit code.
fn end(mut child: Child) -> Option<i32> {
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().expect("kill runs").success());
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("its state is known") {
            return status.code();
        }
        if Instant::now() > until {
            child.kill().expect("it runs");
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_cannot_work_is_named_with_its_mend_and_code_2() {
    let dir = folder();
    let file = dir.path().join("edge.toml");
    std::fs::write(&file, "[pulsar]\nbrokers = \"pulsar://127.0.0.1:1\"\n").expect("written");
    let health = free().to_string();
    let with = |more: &[&str]| {
        let mut arguments = vec!["--health", &health, "--calls", "127.0.0.1:0"];
        arguments.extend(more);
        refused(dir.path(), &arguments)
    };
    let unknown = with(&["--config", file.to_str().expect("text")]);
    assert!(unknown.contains("`pulsar.brokers`") && unknown.contains("deploy/config/edge.toml"), "{unknown}");
    assert!(with(&["--routers", "router"]).contains("host:port"));
    assert!(with(&["--worker", "2000"]).contains("1023"));
    let everywhere = refused(dir.path(), &["--health", &health, "--calls", "0.0.0.0:0"]);
    assert!(everywhere.contains("calls_at"), "{everywhere}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    assert!(refused(dir.path(), &["--health", &taken]).contains("--health"));
    std::fs::remove_file(dir.path().join("keys.json")).expect("removed");
    assert!(with(&[]).contains("petrel-router keys new"));
}

#[test]
fn with_nobody_there_it_waits_says_for_what_and_ends_in_order() {
    let dir = folder();
    let (health, broker, admin) = (free(), free(), free());
    let (broker, admin) = (format!("pulsar://{broker}"), format!("http://{admin}"));
    let mut command = command(dir.path(), &["--pulsar-broker", &broker, "--pulsar-admin", &admin]);
    command.args(["--listen", "127.0.0.1:0", "--calls", "127.0.0.1:0", "--health", &health.to_string()]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("it runs");
    let until = Instant::now() + PATIENCE;
    let waits = loop {
        assert!(Instant::now() < until && child.try_wait().expect("known").is_none(), "it does not wait");
        match get(health, "/readyz") {
            Some(answer) if answer.contains("\"pulsar\"") => break answer,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(waits.contains(" 503 "), "{waits}");
    assert!(get(health, "/healthz").expect("alive").contains(" 200 "));
    assert_eq!(end(child), Some(0));
}
