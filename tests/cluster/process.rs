//! One of Petrel's services as a process, as an operator and a supervisor see it.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::harness::http;
use crate::until;

pub(crate) struct Process {
    name: String,
    /// Host and port of /healthz, /readyz and /metrics.
    health: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `program`; its log is `dir/name.log`, which goes on where a process of this name was before.
    pub(crate) fn start(name: &str, program: &str, arguments: &[String], health: &str, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("its log can be written");
        let mut command = Command::new(programs().join(program));
        command.args(arguments).args(["--health", health]).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("another handle")).stderr(file);
        let child = command.spawn().expect("it starts");
        Self { name: name.to_owned(), health: health.to_owned(), log, child }
    }

    /// What `/readyz` answers: whether it is ready, and for what it waits. None where nobody answers.
    pub(crate) fn readiness(&self) -> Option<(bool, serde_json::Value)> {
        let (status, body) = http(&self.health, "GET", "/readyz", "", "")?;
        let body: serde_json::Value = serde_json::from_str(&body).ok()?;
        Some((status == 200, body["waits_for"].clone()))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness().is_some_and(|(is_ready, _)| is_ready)
    }

    pub(crate) fn until_ready(&mut self) {
        until(&format!("{} is ready", self.name), || {
            assert!(!self.has_ended(), "{} ended: {}", self.name, self.log());
            self.is_ready()
        });
    }

    /// Waits until it is alive, not ready, and says that it waits for `part`, in words that have all of `words`.
    pub(crate) fn until_it_waits(&mut self, part: &str, words: &[&str]) {
        until(&format!("{} waits for {part} and says {words:?}", self.name), || {
            assert!(!self.has_ended(), "it waits: {}", self.log());
            let Some((is_ready, waits_for)) = self.readiness() else { return false };
            let why = waits_for[part].as_str().unwrap_or_default();
            !is_ready && words.iter().all(|word| why.contains(word))
        });
        assert!(self.is_alive());
    }

    pub(crate) fn is_alive(&self) -> bool {
        http(&self.health, "GET", "/healthz", "", "").is_some_and(|(status, _)| status == 200)
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = http(&self.health, "GET", "/metrics", "", "").unwrap_or_default();
        let its = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        text.lines().filter(its).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it has a log")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "{} takes {signal}", self.name);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state is known").is_some()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9), "{} did not end before", self.name);
    }

    /// SIGTERM; it drains and ends with exit code 0.
    pub(crate) fn terminate(mut self) {
        self.signal("-TERM");
        assert_eq!(self.ended(), Some(0), "{}", self.log());
    }

    /// The exit code, once it ends by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        until(&format!("{} ends", self.name), || self.has_ended());
        self.child.wait().expect("it has ended").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            println!("-- the end of the log of {}:", self.name);
            println!("{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}

/// Runs a program of the services to its end, and answers with what it prints.
pub(crate) fn print(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(programs().join(program)).args(arguments).output().expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// The folder with the services, which are built by the same cargo command as this test.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_petrel")).parent().expect("a folder").to_owned();
        for (service, of) in SERVICES {
            let built = folder.join(service).metadata().and_then(|file| file.modified());
            assert!(
                built.is_ok_and(|built| built >= newest_source(of)),
                "{service} is missing, or older than its source: run the tests by `just cluster` or `./check backends`"
            );
        }
        folder
    })
}

/// The services, and what each is built of: cargo leaves one alone of which nothing has changed.
const SERVICES: [(&str, &[&str]); 3] = [
    ("petrel-edge", &["bus", "daemon", "edge", "protocol", "ring"]),
    ("petrel-router", &["bus", "daemon", "protocol", "router"]),
    ("petrel-persist", &["bus", "daemon", "persist", "protocol"]),
];

fn newest_source(of: &[&str]) -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = of.iter().map(|name| root.join(name).join("src")).collect();
    let mut newest = SystemTime::UNIX_EPOCH;
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder of the source").map(|entry| entry.expect("readable"))
        {
            let about = entry.metadata().expect("readable");
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                newest = newest.max(about.modified().expect("a time"));
            }
        }
    }
    newest
}
