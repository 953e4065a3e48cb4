//! What the machine says: processes' CPU and memory, the kernel's name; and the server's own word where it runs elsewhere.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::http;
use crate::url::Target;

/// CPU seconds and memory of a process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU seconds in user space; all of them where the parts are unknown.
    pub user_s: f64,
    /// CPU seconds in the kernel.
    pub system_s: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Of that, what is the process's own: written to, and shared with nobody. 0 where it is unknown.
    pub private_bytes: u64,
}

impl Usage {
    /// All CPU seconds.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was used since `before`; the memory is that of now.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
            resident_bytes: self.resident_bytes,
            private_bytes: self.private_bytes,
        }
    }
}

/// The server under test: its process where that is on this machine, else its metrics.
#[derive(Clone, Debug)]
pub struct Server {
    http: Option<Target>,
    pid: Option<u32>,
}

impl Server {
    /// The server that listens at `http`, or at `edge` where it serves no HTTP.
    pub fn find(http: Option<Target>, edge: SocketAddr) -> Self {
        let address = http.as_ref().map_or(edge, |t| t.address);
        Self { http, pid: listener(address) }
    }

    /// Its process, where it is on this machine.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What it has used so far; none where neither its process nor its metrics can be read.
    pub fn usage(&self) -> Option<Usage> {
        if let Some(usage) = self.pid.and_then(usage_of) {
            return Some(usage);
        }
        let text = http::get(self.http.as_ref()?, "/metrics").ok()?;
        let value = |name: &str| {
            let line =
                text.lines().find(|l| l.starts_with(name) && l[name.len()..].starts_with([' ', '{']))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        Some(Usage {
            user_s: value("process_cpu_seconds_total")?,
            system_s: 0.0,
            resident_bytes: value("process_resident_memory_bytes").unwrap_or_default() as u64,
            private_bytes: 0,
        })
    }
}

/// What a process has used so far.
pub fn usage_of(pid: u32) -> Option<Usage> {
    /// Linux's unit in `/proc/PID/stat`, the same on all its architectures.
    const TICKS_PER_S: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
    // The sum over all mappings is exact; the counters in `statm` may lag by some pages a thread.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(Usage {
        user_s: ticks(11)? / TICKS_PER_S,
        system_s: ticks(12)? / TICKS_PER_S,
        resident_bytes: kilobytes(&rollup, "Rss:")?,
        private_bytes: kilobytes(&rollup, "Private_Dirty:")?,
    })
}

/// Memory that the kernel holds for itself, bytes: slabs (sockets and what belongs to them) and page tables. None where
/// the machine does not say.
pub fn kernel_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    Some(kilobytes(&meminfo, "Slab:")? + kilobytes(&meminfo, "PageTables:")?)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The process that listens at this address on this machine.
fn listener(address: SocketAddr) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, port) = fields.get(1)?.rsplit_once(':')?;
            let is_listening = *fields.get(3)? == "0A";
            let is_it = is_listening && u16::from_str_radix(port, 16).ok()? == address.port();
            is_it.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
    })?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let is_it = files.any(|f| fs::read_link(f.path()).is_ok_and(|link| link == Path::new(&inode)));
        is_it.then_some(pid)
    })
}

/// The kernel's version.
pub fn kernel() -> String {
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", version.trim())
}

/// How many files this process may have open.
pub fn open_files_max() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_listener_and_has_used_something() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        let server = Server::find(None, address);
        assert_eq!(server.pid(), Some(std::process::id()));
        assert!(server.usage().expect("a usage").resident_bytes > 0);
        drop(socket);
        assert!(open_files_max() > 0);
        assert!(kernel().len() > "Linux ".len());
    }
}
