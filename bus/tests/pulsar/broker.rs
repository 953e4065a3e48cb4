//! A broker of a test's own, which it may kill.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::stack::http;

/// Started with `deploy/local/up`, in a folder of its own; stopped and removed when this is dropped.
pub(crate) struct Broker {
    dir: tempfile::TempDir,
    port: u16,
    admin_port: u16,
    bookie_port: u16,
    /// What it has in its configuration beside what `deploy/local` gives every broker.
    settings: String,
    /// With which it may be asked whether it is ready.
    token: &'static str,
}

impl Broker {
    /// Starts nothing yet.
    pub(crate) fn new() -> Self {
        Self::with(String::new(), "")
    }

    /// With these settings too. Starts nothing yet.
    pub(crate) fn with(settings: String, token: &'static str) -> Self {
        let [port, admin_port, bookie_port] = free_ports();
        Self { dir: tempfile::tempdir().unwrap(), port, admin_port, bookie_port, settings, token }
    }

    pub(crate) fn started() -> Self {
        let broker = Self::new();
        broker.start();
        broker
    }

    pub(crate) fn address(&self) -> String {
        format!("pulsar://127.0.0.1:{}", self.port)
    }

    pub(crate) fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// Starts it, on the data that it has, and waits until it is ready.
    pub(crate) fn start(&self) {
        self.run("up");
        assert!(http(&self.admin(), "GET", "clusters", "").is_some());
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        self.signal("-KILL");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join("pulsar/pid")).expect("it was started");
        let pid = pid.split(' ').next().unwrap().to_owned();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn run(&self, program: &str) {
        let path = repository().join("deploy/local").join(program);
        let settings = self.dir.path().join("settings");
        std::fs::write(&settings, &self.settings).unwrap();
        let status = Command::new(&path)
            .args(["--only", "pulsar"])
            .env("PETREL_LOCAL_DIR", self.dir.path())
            .env("PULSAR_CONF", settings)
            .env("PULSAR_TOKEN", self.token)
            .env("PULSAR_PORT", self.port.to_string())
            .env("PULSAR_ADMIN_PORT", self.admin_port.to_string())
            .env("PULSAR_BOOKIE_PORT", self.bookie_port.to_string())
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{} failed: see above", path.display());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.dir.path().join("pulsar/pid").exists() {
            // One that a test has stopped does not end otherwise.
            self.signal("-CONT");
            self.signal("-KILL");
            self.run("down");
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Ports that nobody listens on at present.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
