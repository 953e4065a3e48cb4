//! What a run is about: processes, the links between them, the load. A TOML file of `stacks/`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// The whole file. In every text `{bin}`, `{dir}`, `{seed}` and the names of `ports` stand for their values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stack {
    /// Names for ports that are free at the start; each is taken once.
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    pub(crate) process: Vec<Process>,
    #[serde(default)]
    pub(crate) link: Vec<Link>,
    /// The verified load. Its exit code is the run's verdict.
    pub(crate) load: Vec<String>,
}

/// A process that is started in this order, and struck.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) name: String,
    /// What is counted together in the table: edge, router, …
    pub(crate) kind: String,
    pub(crate) command: Vec<String>,
    /// host:port and path of an HTTP page that answers 200 when it is ready; without a path, it is ready when the port
    /// can be connected to.
    pub(crate) ready: String,
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

/// A TCP link that goes through this program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) listen: String,
    pub(crate) to: String,
}

impl Stack {
    /// Reads a file, and puts the values in.
    pub(crate) fn read(path: &Path, mut values: BTreeMap<String, String>) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let wrong = |e: toml::de::Error| format!("{} is not a stack: {e}", path.display());
        let ports = toml::from_str::<Self>(&text).map_err(wrong)?.ports;
        let mut listeners = Vec::new();
        for name in ports {
            let listener =
                std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
            values.insert(name, listener.local_addr().map_err(|e| e.to_string())?.port().to_string());
            // Held until all are taken, so that they differ.
            listeners.push(listener);
        }
        let text =
            values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        toml::from_str(&text).map_err(wrong)
    }
}
