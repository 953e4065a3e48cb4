//! Redis servers that a test owns: on a free port, without persistence, and killed with it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_on(free_port(), arguments)
    }

    pub(crate) fn start_on(port: u16, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let child = spawn(port, &arguments, dir.path());
        let server = Self { child, port, arguments, dir };
        server.wait();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn is_up(url: &str) -> bool {
        let ping = || redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(2));
        ping().is_ok_and(|mut c| redis::cmd("PING").query::<String>(&mut c).is_ok())
    }

    fn wait(&self) {
        let end = Instant::now() + SOON;
        while !Self::is_up(&self.url()) {
            assert!(Instant::now() < end, "redis-server does not start on port {}", self.port);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.arguments, self.dir.path());
        self.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    pub(crate) fn command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut connection)
    }

    pub(crate) fn text(&self, words: &[&str]) -> String {
        match self.command(words).unwrap() {
            redis::Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
            other => format!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, arguments: &[String], dir: &Path) -> Child {
    let own = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--protected-mode", "no"];
    let log = dir.join("log");
    let mut command = Command::new("redis-server");
    if let Some(config) = arguments.first().filter(|a| !a.starts_with('-')) {
        command.arg(config).args(&arguments[1..]);
    } else {
        command.args(own).args(arguments);
    }
    command.args(["--port", &port.to_string()]).arg("--dir").arg(dir).arg("--logfile").arg(log);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("redis-server is needed: deploy/local/up --install redis installs it")
}

/// A port that is free now, and whose Cluster bus port is free too.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// A port where nobody listens.
pub(crate) fn silent_port() -> u16 {
    let port = free_port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    port
}

pub(crate) fn remove_keys(url: &str, prefix: &str) {
    let Ok(mut connection) = redis::Client::open(url).and_then(|client| client.get_connection()) else {
        return;
    };
    let mut cursor = 0_u64;
    loop {
        let pattern = format!("{prefix}*");
        let scanned: redis::RedisResult<(u64, Vec<String>)> = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(1_000)
            .query(&mut connection);
        let Ok((next, keys)) = scanned else { return };
        if !keys.is_empty() {
            let _ = redis::cmd("DEL").arg(keys).query::<u64>(&mut connection);
        }
        cursor = next;
        if cursor == 0 {
            return;
        }
    }
}
