//! How a log on Pulsar is opened.

use std::fmt;

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
        if !["pulsar://", "pulsar+ssl://"].iter().any(|scheme| self.broker.starts_with(scheme)) {
            return refuse(format!("{} is no broker: write pulsar://host:6650", self.broker));
        }
        if !self.admin.starts_with("http://") {
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

/// A bearer token. It is not shown where the configuration is.
#[derive(Clone)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
