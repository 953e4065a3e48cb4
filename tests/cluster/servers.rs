//! The real servers under a test, without a client library: what a test asks of them is a line or two.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{PATIENCE, http};
use crate::until;

/// A call of Pulsar's administration; the status and the body.
pub(crate) fn pulsar(admin: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let host = admin.trim_start_matches("http://");
    let json = "content-type: application/json\r\n";
    http(host, method, &format!("/admin/v2/{path}"), json, body)
        .expect("the administration of Pulsar answers")
}

/// One statement for Cassandra, in version 4 of its protocol.
pub(crate) fn cassandra(node: &str, statement: &str) {
    const STARTUP: u8 = 1;
    const QUERY: u8 = 7;
    const ERROR: u8 = 0;
    let mut stream = TcpStream::connect(node).expect("Cassandra listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut ask = |opcode: u8, body: &[u8]| {
        let mut frame = vec![4, 0, 0, 0, opcode];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        stream.write_all(&frame).expect("sent");
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize];
        stream.read_exact(&mut answer).expect("an answer");
        assert_ne!(head[4], ERROR, "{statement}: {}", String::from_utf8_lossy(&answer));
    };
    ask(STARTUP, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0");
    let mut body = Vec::from((statement.len() as u32).to_be_bytes());
    body.extend(statement.as_bytes());
    // Consistency ONE, no flags.
    body.extend([0, 1, 0]);
    ask(QUERY, &body);
}

/// One command for Redis, as a line; the answer as it came. None where nobody answers.
pub(crate) fn redis(addr: &str, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "{line}\r\nQUIT\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A Pulsar of a test's own, which clients reach through whatever the test puts between.
pub(crate) struct Pulsar {
    dir: tempfile::TempDir,
    /// The broker's, its administration's and the bookie's.
    ports: [u16; 3],
}

impl Pulsar {
    /// Starts nothing yet.
    pub(crate) fn new() -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = listeners.map(|listener| listener.local_addr().expect("bound").port());
        Self { dir: tempfile::tempdir().expect("a folder"), ports }
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub(crate) fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[1])
    }

    /// Starts it. It says to its clients that it is at `advertised`.
    pub(crate) fn start(&self, advertised: SocketAddr) {
        let settings = self.dir.path().join("settings");
        let text = format!("advertisedAddress=\nadvertisedListeners=internal:pulsar://{advertised}\n");
        std::fs::write(&settings, text).expect("written");
        self.run("up", &settings);
    }

    fn run(&self, program: &str, settings: &Path) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local").join(program);
        let [port, admin, bookie] = self.ports.map(|port| port.to_string());
        let mut command = Command::new(program);
        command
            .args(["--only", "pulsar"])
            .env("PETREL_LOCAL_DIR", self.dir.path())
            .env("PULSAR_CONF", settings);
        command.env("PULSAR_PORT", port).env("PULSAR_ADMIN_PORT", admin).env("PULSAR_BOOKIE_PORT", bookie);
        let done = command.stdin(Stdio::null()).output().expect("it runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Pulsar {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.dir.path().join("pulsar/pid")).unwrap_or_default();
        if let Some(pid) = pid.split(' ').next().filter(|pid| !pid.is_empty()) {
            // Its data goes with it: there is nothing to end in order.
            let _ = Command::new("kill").args(["-KILL", pid]).status();
            self.run("down", Path::new(""));
        }
    }
}

/// A Redis of a test's own, which it may empty.
pub(crate) struct Redis {
    pub(crate) addr: String,
    child: Child,
}

impl Redis {
    pub(crate) fn start(ip: Ipv4Addr, dir: &Path) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--bind", &ip.to_string(), "--port", "6379", "--save", "", "--appendonly", "no"]);
        command.args(["--protected-mode", "no", "--dir"]).arg(dir);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child =
            child.expect("redis-server is needed: deploy/local/up --install --only redis installs it");
        let redis = Self { addr: format!("{ip}:6379"), child };
        until("Redis answers", || redis.command("PING").is_some());
        redis
    }

    pub(crate) fn command(&self, line: &str) -> Option<String> {
        redis(&self.addr, line)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
