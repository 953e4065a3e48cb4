//! A Cassandra of a test's own, which it may kill and stop.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Server {
    dir: TempDir,
    ports: [u16; 2],
    /// What its configuration has beside what `deploy/local` gives every server.
    settings: &'static str,
}

impl Server {
    /// Ports for a server, which does not run yet.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// The same for a server with these settings too.
    pub(crate) fn with(settings: &'static str) -> Self {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
        Self { dir: tempfile::tempdir().unwrap(), ports, settings }
    }

    pub(crate) fn node(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
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
        let pid = std::fs::read_to_string(self.dir.path().join("cassandra/pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }

    fn script(&self, name: &str) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/local").join(name);
        let settings = self.dir.path().join("settings");
        std::fs::write(&settings, self.settings).unwrap();
        let done = Command::new(script)
            .args(["--only", "cassandra"])
            .env("PETREL_LOCAL_DIR", self.dir.path())
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
            // A stopped process cannot end.
            self.go_on();
            self.script("down");
        }
    }
}
