//! A server as a process: started on its core, measured from outside, ended.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

/// A server that does not listen after this long has failed.
const START_MAX: Duration = Duration::from_secs(20);

/// How a server is started: `--listen ADDR` is added to the command.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name in the tables.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Messages that it sends back for each one (it takes `--answers`).
    pub answers: u32,
}

/// `NAME=PROGRAM [ARGUMENTS]`, separated by spaces.
impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("a server is NAME=PROGRAM [ARGUMENTS]")?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err(format!("the server {name} has no program"));
        }
        Ok(Self { name: name.to_owned(), command, answers: 1 })
    }
}

impl Server {
    /// The same server, which answers each message so many times.
    #[must_use]
    pub fn answering(&self, answers: u32) -> Self {
        let name = match answers {
            1 => self.name.clone(),
            _ => format!("{}, {answers} answers to each", self.name),
        };
        Self { name, answers, ..self.clone() }
    }
}

/// Time on cores.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// All threads, nanoseconds.
    pub(crate) all_ns: u64,
    /// In the program and in the kernel, clock ticks.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// Clock ticks of the server's whole core that were not idle, whoever ran.
    pub(crate) core_ticks: u64,
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all_ns: self.all_ns - before.all_ns,
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
            core_ticks: self.core_ticks.saturating_sub(before.core_ticks),
        }
    }
}

/// A server that runs.
pub(crate) struct Running {
    child: Child,
    core: usize,
    pub(crate) addr: SocketAddr,
}

impl Running {
    /// Starts a server on a core of its own and waits until it listens.
    pub(crate) fn start(
        server: &Server,
        extra: &[String],
        addr: SocketAddr,
        core: usize,
    ) -> io::Result<Self> {
        let own = rustix::thread::sched_getaffinity(None)?;
        // Threads are pinned from their start, since a process inherits this.
        pin(core)?;
        let spawned = Command::new(&server.command[0])
            .args(&server.command[1..])
            .args(["--listen", &addr.to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        sched_setaffinity(None, &own)?;
        let child = spawned.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", server.command[0])))?;
        let mut running = Self { child, core, addr };
        running.wait_until_it_listens(&server.name)?;
        Ok(running)
    }

    fn wait_until_it_listens(&mut self, name: &str) -> io::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.addr).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the server {name} ended with {status}")));
            }
            if begun.elapsed() > START_MAX {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    format!("the server {name} does not listen"),
                ));
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            cpu.all_ns += number(text.split(' ').next())?;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in brackets, may contain spaces; fields are counted behind it.
        let fields: Vec<&str> =
            stat.rsplit(')').next().map(|rest| rest.split_whitespace().collect()).unwrap_or_default();
        cpu.user_ticks = number(fields.get(11).copied())?;
        cpu.system_ticks = number(fields.get(12).copied())?;
        cpu.core_ticks = core_ticks(self.core)?;
        Ok(cpu)
    }

    /// Memory of its own that is resident, bytes.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        Ok(number(line.and_then(|line| line.split_whitespace().next()))? << 10)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pins the calling thread.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Memory in the kernel's slabs, bytes; none where only root may read it.
pub(crate) fn slabs() -> Option<u64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let slab = |line: &str| {
        let mut fields = line.split_whitespace().skip(2).map(|field| field.parse::<u64>().ok());
        let (objects, bytes) = (fields.next()??, fields.next()??);
        Some(objects * bytes)
    };
    Some(text.lines().skip(2).filter_map(slab).sum())
}

/// Busy time of a core: user, nice, system, irq, softirq and steal.
fn core_ticks(core: usize) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(&name));
    let fields = line.into_iter().flat_map(|line| line.split_whitespace().skip(1).take(8));
    let numbers = fields.map(|field| number(Some(field))).collect::<io::Result<Vec<_>>>()?;
    Ok(numbers.iter().enumerate().filter(|(field, _)| !matches!(field, 3 | 4)).map(|(_, ticks)| ticks).sum())
}

fn number(text: Option<&str>) -> io::Result<u64> {
    let number = text.and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "/proc has another format than expected"))
}
