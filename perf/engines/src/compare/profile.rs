//! How much of a server's time is TCP itself, which no engine can avoid: by perf(1), by sample.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Samples a second.
const SAMPLES_PER_SECOND: u32 = 1_999;
/// Kernel functions that move the bytes, and everything below them.
const TCP: [&str; 2] = ["tcp_sendmsg", "tcp_recvmsg"];

/// A profile that is being taken.
pub(crate) struct Profile {
    perf: Child,
    file: PathBuf,
}

impl Profile {
    /// Samples a process for a while. Needs perf and the right to use it.
    pub(crate) fn start(pid: u32, time: Duration) -> io::Result<Self> {
        let file = std::env::temp_dir().join(format!("petrel-engines-{pid}.data"));
        let perf = Command::new("perf")
            .args(["record", "-q", "-g", "-e", "cpu-clock", "-F", &SAMPLES_PER_SECOND.to_string()])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&file)
            .args(["--", "sleep", &time.as_secs_f64().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("perf record: {error}")))?;
        Ok(Self { perf, file })
    }

    /// The share of samples that were not below one of [`TCP`], 0 to 1.
    pub(crate) fn share_outside_tcp(mut self) -> io::Result<f64> {
        self.perf.wait()?;
        let script = Command::new("perf")
            .args(["script", "-F", "ip,sym", "-i"])
            .arg(&self.file)
            .stderr(Stdio::null())
            .output()?;
        std::fs::remove_file(&self.file)?;
        let text = String::from_utf8_lossy(&script.stdout);
        let (mut all, mut outside) = (0_u32, 0_u32);
        for stack in text.split("\n\n").filter(|stack| !stack.trim().is_empty()) {
            all += 1;
            let is_tcp = |line: &str| line.split_whitespace().nth(1).is_some_and(|name| TCP.contains(&name));
            outside += u32::from(!stack.lines().any(is_tcp));
        }
        if all == 0 {
            return Err(io::Error::other("perf saw no samples of the server"));
        }
        Ok(f64::from(outside) / f64::from(all))
    }
}
