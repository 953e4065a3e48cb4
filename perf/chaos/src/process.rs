//! A process of the stack: started, struck, started again, found ready.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::stack::{Process, Stack};

/// Whether something is ready is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// One look takes no longer.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// So many lines of a log are shown where a process does not do what it should.
const LAST_LINES: usize = 12;

pub(crate) struct Running<'a> {
    pub(crate) process: &'a Process,
    env: &'a BTreeMap<String, String>,
    life: Life,
    dir: &'a Path,
}

/// Whose child it is.
enum Life {
    /// Ours.
    Child(Child),
    /// Nobody's: it is known by its pid and the kernel's time of its start.
    Server { pid: u32, started: u64 },
}

impl<'a> Running<'a> {
    pub(crate) fn start(stack: &'a Stack, process: &'a Process, dir: &'a Path) -> Result<Self, String> {
        Ok(Self { process, env: &stack.env, life: start(process, &stack.env, dir)?, dir })
    }

    pub(crate) fn start_again(&mut self) -> Result<(), String> {
        self.life = start(self.process, self.env, self.dir)?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<(), String> {
        let pid = match &self.life {
            Life::Child(child) => child.id(),
            Life::Server { pid, .. } => *pid,
        };
        let sent = Command::new("kill").arg(signal).arg(pid.to_string()).status();
        let name = &self.process.name;
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => {
                Err(format!("{name} cannot be given the signal {signal}: {other:?}; did it end by itself?"))
            }
        }
    }

    /// Waits until it has ended, so long at most.
    pub(crate) fn ended(&mut self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if self.has_ended() {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("{} does not end within {} s", self.process.name, within.as_secs()))
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.life {
            Life::Child(child) => child.try_wait().is_ok_and(|status| status.is_some()),
            Life::Server { pid, started } => started_at(*pid) != Some(*started),
        }
    }

    /// Waits until it is ready, so long at most.
    pub(crate) fn ready(&mut self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if is_ready(&self.process.ready) {
                return Ok(());
            }
            if self.has_ended() {
                return Err(format!("{} ended by itself; {}", self.process.name, self.said_last()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("{} is not ready after {} s; {}", self.process.name, within.as_secs(), self.said_last()))
    }

    /// The end of its log, for whoever sees no more of the run than this.
    fn said_last(&self) -> String {
        let log = log_of(self.process, self.dir);
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        format!("the end of {}:\n  {last}", log.display())
    }

    /// Keeps what it says of itself now, where it is one of ours: for whoever looks into a run that went wrong.
    pub(crate) fn keep_metrics(&self) {
        if let (Life::Child(_), Some((address, _))) = (&self.life, self.process.ready.split_once('/')) {
            let page = get(address, "metrics").unwrap_or_else(|e| format!("not to be had: {e}\n"));
            // A folder that cannot be written has failed the run before.
            let _ = std::fs::write(self.dir.join(format!("{}.metrics", self.process.name)), page);
        }
    }

    /// Where it says what it does, where it is one of ours.
    pub(crate) fn log(&self) -> Option<PathBuf> {
        matches!(self.life, Life::Child(_)).then(|| log_of(self.process, self.dir))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        match &mut self.life {
            Life::Child(child) => {
                let _ = (child.kill(), child.wait());
            }
            // One that stays stopped could not even be told to end.
            Life::Server { .. } => {
                let _ = self.signal("-CONT");
            }
        }
    }
}

/// Runs a command to its end; what it says goes to a file.
pub(crate) fn run(command: &[String], env: &BTreeMap<String, String>, log: &Path) -> Result<(), String> {
    let text = command.join(" ");
    let status = spawn(command, env, log)?.wait().map_err(|e| format!("{text}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{text}: {status}; see {}", log.display())) }
}

/// Starts a command; what it says is added to a file.
pub(crate) fn spawn(command: &[String], env: &BTreeMap<String, String>, log: &Path) -> Result<Child, String> {
    let [program, arguments @ ..] = command else { return Err("a command of the stack is empty".to_owned()) };
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    let errors = output.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.args(arguments).envs(env).stdin(Stdio::null()).stdout(output).stderr(errors);
    command.spawn().map_err(|e| format!("{program} cannot be started: {e}"))
}

fn start(process: &Process, env: &BTreeMap<String, String>, dir: &Path) -> Result<Life, String> {
    let log = log_of(process, dir);
    let Some(file) = &process.pid else { return spawn(&process.command, env, &log).map(Life::Child) };
    run(&process.command, env, &log)?;
    let text =
        std::fs::read_to_string(file).map_err(|e| format!("the pid of {}: {file}: {e}", process.name))?;
    let pid = text.split_whitespace().next().and_then(|word| word.parse().ok());
    let alive = pid.and_then(|pid| Some(Life::Server { pid, started: started_at(pid)? }));
    alive.ok_or_else(|| format!("{file} names no process that lives"))
}

fn log_of(process: &Process, dir: &Path) -> PathBuf {
    dir.join(format!("{}.log", process.name))
}

/// When a process began, in the kernel's ticks. None where it has ended, even if nobody has waited for it.
fn started_at(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces; the state is the first word after it.
    let (_, words) = stat.rsplit_once(')')?;
    let mut words = words.split_whitespace();
    let state = words.next()?;
    if matches!(state, "Z" | "X") { None } else { words.nth(18)?.parse().ok() }
}

fn is_ready(ready: &str) -> bool {
    match ready.split_once('/') {
        Some((address, path)) => get(address, path).is_ok_and(|page| page.starts_with("HTTP/1.1 200")),
        None => connect(ready).is_ok(),
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect_timeout(&address, LOOK_MAX)?;
    stream.set_read_timeout(Some(LOOK_MAX))?;
    stream.set_write_timeout(Some(LOOK_MAX))?;
    Ok(stream)
}

/// A page with its head.
fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
