//! A process of the stack: started, struck, started again, found ready.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::stack::Process;

/// Whether something is ready is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// One look takes no longer.
const LOOK_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Running<'a> {
    pub(crate) process: &'a Process,
    child: Child,
    dir: &'a Path,
}

impl<'a> Running<'a> {
    pub(crate) fn start(process: &'a Process, dir: &'a Path) -> Result<Self, String> {
        Ok(Self { process, child: spawn(process, dir)?, dir })
    }

    pub(crate) fn start_again(&mut self) -> Result<(), String> {
        self.child = spawn(self.process, self.dir)?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<(), String> {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
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
            if self.child.try_wait().map_err(|e| e.to_string())?.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("{} does not end", self.process.name))
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits until it is ready, so long at most.
    pub(crate) fn ready(&mut self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if is_ready(&self.process.ready) {
                return Ok(());
            }
            if self.has_ended() {
                return Err(format!("{} ended: its log is in {}", self.process.name, self.dir.display()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("{} is not ready after {} s", self.process.name, within.as_secs()))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(process: &Process, dir: &Path) -> Result<Child, String> {
    let log = dir.join(format!("{}.log", process.name));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(|e| format!("{}: {e}", log.display()))?;
    let output = log.try_clone().map_err(|e| e.to_string())?;
    let [program, arguments @ ..] = &process.command[..] else {
        return Err(format!("{} has no command", process.name));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(log);
    command.spawn().map_err(|e| format!("{} cannot be started ({program}): {e}", process.name))
}

fn is_ready(ready: &str) -> bool {
    let (address, path) =
        ready.split_once('/').map_or((ready, None), |(address, path)| (address, Some(path)));
    let Some(address) = address.to_socket_addrs().ok().and_then(|mut all| all.next()) else { return false };
    let Ok(mut stream) = TcpStream::connect_timeout(&address, LOOK_MAX) else { return false };
    let Some(path) = path else { return true };
    let _ = (stream.set_read_timeout(Some(LOOK_MAX)), stream.set_write_timeout(Some(LOOK_MAX)));
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut head = [0; 12];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head == *b"HTTP/1.1 200"
}
