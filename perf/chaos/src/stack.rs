//! What a run is about: processes, the links between them, the load. A TOML file of `stacks/`.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use serde::Deserialize;

/// Ports are taken from here on: below those that the kernel gives to outgoing connections, one of which would otherwise
/// take the port of a process that is down for a moment.
const FIRST_PORT: u16 = 14_000;
/// Runs at the same time begin at different ones: what is free now may be that of a process of another run that is down.
const PORTS_APART: u16 = 50;
const RUNS_APART: u32 = 40;

/// The whole file. In every text `{bin}`, `{dir}`, `{seed}`, `{run}` (a name that no other run has), `{load_s}` (the load's
/// seconds) and the names of `ports` stand for their values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stack {
    /// Names for ports that are free at the start; each is taken once.
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    /// Environment of all commands.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Commands that are run to their ends before anything else.
    #[serde(default)]
    pub(crate) before: Vec<Vec<String>>,
    /// A disk of its own.
    pub(crate) disk: Option<Disk>,
    pub(crate) process: Vec<Process>,
    #[serde(default)]
    pub(crate) link: Vec<Link>,
    /// The verified load; it writes `{dir}/load.json` and `{dir}/history`. Its exit code is part of the verdict.
    pub(crate) load: Vec<String>,
    /// Its scenario, which is written to `{dir}/scenario.toml`.
    pub(crate) scenario: toml::Table,
}

/// A process that is started in this order, and struck.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) name: String,
    /// What is counted together in the table: edge, router, …
    pub(crate) kind: String,
    pub(crate) command: Vec<String>,
    /// For a command that starts a server and ends: the file with the server's pid as its first word. Such a server goes on
    /// when the run is over, for the next one.
    pub(crate) pid: Option<String>,
    /// host:port and path of an HTTP page that answers 200 when it is ready; without a path, it is ready when the port
    /// can be connected to.
    pub(crate) ready: String,
    /// One that is named twice is twice as likely.
    pub(crate) faults: Vec<Strike>,
}

/// What befalls a process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strike {
    /// SIGKILL, and a start again.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Stop,
    /// SIGTERM, and a start again once it has ended.
    Restart,
}

/// What befalls a link.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trouble {
    /// All connections end, and new ones are closed, for a while.
    Cut,
    /// Each connection ends or stays, as chance has it; new ones pass.
    Snap,
    /// Everything takes longer for a while.
    Delay,
    /// Nothing passes for a while, and no connection ends.
    Hold,
}

/// A TCP link that goes through this program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) listen: String,
    pub(crate) to: String,
    /// One that is named twice is twice as likely.
    pub(crate) faults: Vec<Trouble>,
}

/// A file system in memory that is filled now and then. Making it needs root, or a kernel that lets users have namespaces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disk {
    /// Where it is mounted.
    pub(crate) at: String,
    pub(crate) megabytes: u64,
}

impl Stack {
    /// Reads a file, and puts the values in.
    pub(crate) fn read(path: &Path, values: &BTreeMap<String, String>) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let wrong = |e: toml::de::Error| format!("{} is not a stack: {e}", path.display());
        let text = with_values(text, values);
        let first_port = FIRST_PORT + (std::process::id() % RUNS_APART) as u16 * PORTS_APART;
        let mut candidates = first_port..first_port + PORTS_APART;
        let mut ports = BTreeMap::new();
        for name in toml::from_str::<Self>(&text).map_err(wrong)?.ports {
            let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
            let port = candidates.find(is_free).ok_or("too few free ports from 14000 to 15999")?;
            ports.insert(name, port.to_string());
        }
        let text = with_values(text, &ports);
        toml::from_str(&text).map_err(wrong)
    }
}

fn with_values(text: String, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}
