//! A Cassandra of a test's own, which it may kill and stop.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Server {
    dir: TempDir,
    address: String,
    ports: [u16; 2],
    /// What its configuration has beside what `deploy/local` gives every server.
    settings: &'static str,
    /// The node by which it finds the others, and its place among them.
    seed: String,
    token: &'static str,
}

/// A third of all rows each.
const TOKENS: [&str; 3] = ["-6148914691236517206", "0", "6148914691236517205"];

impl Server {
    /// Ports for a server, which does not run yet.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// The same for a server with these settings too.
    pub(crate) fn with(settings: &'static str) -> Self {
        let (dir, address) = (tempfile::tempdir().unwrap(), "127.0.0.1".to_owned());
        Self { dir, seed: address.clone(), address, ports: free_ports(), settings, token: "0" }
    }

    /// The nodes of one cluster, to be started one after the other. None runs yet.
    pub(crate) fn three() -> [Self; 3] {
        let (ports, seed) = (free_ports(), "127.0.7.1".to_owned());
        [1, 2, 3].map(|number| Self {
            dir: tempfile::tempdir().unwrap(),
            address: format!("127.0.7.{number}"),
            ports,
            settings: "",
            seed: seed.clone(),
            token: TOKENS[number - 1],
        })
    }

    pub(crate) fn node(&self) -> String {
        format!("{}:{}", self.address, self.ports[0])
    }

    /// Starts it, or starts it again on what it has written, and waits until it is ready.
    pub(crate) fn start(&self) {
        self.script("up");
    }

    /// As a power cut of the process alone.
    pub(crate) fn kill(&self) {
        self.signal("-KILL");
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(self.try_signal(signal));
    }

    /// Whether it is there to be signalled.
    fn try_signal(&self, signal: &str) -> bool {
        let pid = std::fs::read_to_string(self.dir.path().join("cassandra/pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        Command::new("kill").args([signal, pid]).output().unwrap().status.success()
    }

    fn script(&self, name: &str) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/local").join(name);
        let settings = self.dir.path().join("settings");
        std::fs::write(&settings, self.settings).unwrap();
        let done = Command::new(script)
            .args(["--only", "cassandra"])
            .env("PETREL_LOCAL_DIR", self.dir.path())
            .env("CASSANDRA_ADDRESS", &self.address)
            .env("CASSANDRA_SEED", &self.seed)
            .env("CASSANDRA_TOKEN", self.token)
            .env("CASSANDRA_PORT", self.ports[0].to_string())
            .env("CASSANDRA_STORAGE_PORT", self.ports[1].to_string())
            .env("CASSANDRA_CONF", settings)
            .env("CASSANDRA_HEAP", "320m")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.dir.path().join("cassandra/pid").exists() {
            // Nobody needs what it has; one that was killed has ended.
            let _ = self.try_signal("-KILL");
            self.script("down");
        }
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
