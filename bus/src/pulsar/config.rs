//! How a log on Pulsar is opened.

use std::fmt;

use hyper::Uri;
use petrel_protocol::limits::BUS_BACKLOG_BYTES_MAX;

use super::names::Names;
use crate::{Health, OpenError};

/// How a log is opened. What concerns topics has to be the same in all processes of a deployment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The brokers' address: `pulsar://host:6650`, or `pulsar+ssl://host:6651`.
    pub broker: String,
    /// The address of their administration: `http://host:8080`. Topics are made and verified over it.
    pub admin: String,
    /// What proves to both who this is, where they ask.
    pub token: Option<Token>,
    /// The tenant, which is made where it is missing.
    pub tenant: String,
    /// The namespace within it, which is this deployment's alone: its policies are set.
    pub namespace: String,
    /// The partitions of each topic, 1 to 1,024. Fixed for a generation.
    pub partitions: u16,
    /// The generation of the topics, from 1. A new one has other topics.
    pub generation: u32,
    /// This process's name among the consumers. The broker spreads the partitions over them in the order of their names.
    pub name: String,
    /// The bytes of one partition that may wait for acknowledgements. Beyond it, publishers are refused as full; the
    /// broker looks each `backlogQuotaCheckIntervalInSeconds`. Costs as much disk.
    pub backlog_bytes_max: u64,
    /// What was acknowledged is kept for so long, so that a subscription which was lost can be made again before its
    /// records are gone. Costs disk.
    pub retention_minutes: u32,
    /// Where problems are told while the log is opened, and later.
    pub health: Health,
}

impl Config {
    /// The defaults, on a broker and its administration.
    pub fn new(broker: &str, admin: &str, tenant: &str, namespace: &str, partitions: u16) -> Self {
        Self {
            broker: broker.to_owned(),
            admin: admin.to_owned(),
            token: None,
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            partitions,
            generation: 1,
            name: format!("petrel-{}", std::process::id()),
            backlog_bytes_max: BUS_BACKLOG_BYTES_MAX,
            retention_minutes: 10,
            health: Health::default(),
        }
    }

    /// The topics' names, where all of this can be meant.
    pub(super) fn verified(&self) -> Result<Names, OpenError> {
        let refuse = |what: String| Err(OpenError(what));
        if !is_address(&self.broker, &["pulsar", "pulsar+ssl"]) {
            return refuse(format!("{} is no broker: write pulsar://host:6650", self.broker));
        }
        if !is_address(&self.admin, &["http"]) {
            return refuse(format!("{} is no administration: write http://host:8080", self.admin));
        }
        if self.partitions == 0 || self.partitions > 1_024 {
            return refuse(format!("a log cannot have {} partitions: choose 1 to 1024", self.partitions));
        }
        for name in [&self.tenant, &self.namespace] {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_=:.".contains(c);
            if name.is_empty() || !name.chars().all(is_allowed) {
                return refuse(format!(
                    "'{name}' cannot be a tenant or namespace of Pulsar: use letters, digits and -_=:."
                ));
            }
        }
        Ok(Names::new(&self.tenant, &self.namespace, self.generation))
    }
}

/// Whether it names one host, by one of these schemes.
fn is_address(text: &str, schemes: &[&str]) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let host = authority.host();
    // A port that is none is passed over by the parser.
    let port = authority.as_str().strip_prefix(host);
    let has_port = port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some());
    schemes.contains(&scheme) && !host.is_empty() && !host.contains(',') && has_port
}

/// A bearer token. It is not shown where the configuration is.
#[derive(Clone)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_host() {
        for text in ["pulsar://a", "pulsar://a:6650", "pulsar+ssl://a.example:6651/", "pulsar://[::1]:6650"] {
            assert!(is_address(text, &["pulsar", "pulsar+ssl"]), "{text}");
        }
        for text in [
            "a",
            "a:6650",
            "http://a",
            "pulsar://",
            "pulsar://:6650",
            "pulsar://a:port",
            "pulsar://a:",
            "pulsar://a:99999",
            "pulsar://a:6650,b:6650",
        ] {
            assert!(!is_address(text, &["pulsar", "pulsar+ssl"]), "{text}");
        }
    }
}
