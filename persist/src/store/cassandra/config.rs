//! How the store on Cassandra is reached and kept.

use std::fmt;
use std::time::Duration;

use crate::StartError;

/// The cluster, the keyspace in it, and how certain a write has to be.
#[derive(Clone)]
pub struct Config {
    /// Some nodes of the cluster, `host:port`; the others are learnt from them.
    pub nodes: Vec<String>,
    /// Petrel's keyspace: lower-case letters, digits and `_`, at most 48. Created where it is missing.
    pub keyspace: String,
    /// With what replication the keyspace is created. One that is there keeps its own.
    pub replication: Replication,
    /// The data centre of this process. Requests go to its nodes alone, and `LOCAL_QUORUM` is a quorum there. None: that
    /// of any node; right where there is one data centre.
    pub datacenter: Option<String>,
    /// How many replicas have answered before a read or a write counts.
    pub consistency: Consistency,
    /// A request that is not answered after this long is tried again. Default 2 s, as long as a server tries by itself.
    pub request_timeout: Duration,
    /// User name and password, where the cluster wants them.
    pub credentials: Option<(String, String)>,
}

impl Config {
    /// These nodes and this keyspace, with three replicas and LOCAL_QUORUM.
    pub fn new(nodes: Vec<String>, keyspace: impl Into<String>) -> Self {
        Self {
            nodes,
            keyspace: keyspace.into(),
            replication: Replication::Everywhere(3),
            datacenter: None,
            consistency: Consistency::default(),
            request_timeout: Duration::from_secs(2),
            credentials: None,
        }
    }

    /// The keyspace and the data centres become part of statements, so they are checked first.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let is_name = |name: &str| {
            let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            name.len() <= 48
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(is_inner)
        };
        if !is_name(&self.keyspace) {
            return Err(StartError(format!(
                "`{}` is not a name for a keyspace: use lower-case letters, digits and `_`, a letter first, at most 48",
                self.keyspace
            )));
        }
        if self.nodes.is_empty() {
            return Err(StartError(
                "no node of Cassandra is configured: name at least one, host:port".to_owned(),
            ));
        }
        let factors = match &self.replication {
            Replication::Everywhere(factor) => vec![("replication_factor", *factor)],
            Replication::In(centers) => {
                centers.iter().map(|(name, factor)| (name.as_str(), *factor)).collect()
            }
        };
        let is_center = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && c != '\'' && c != '"')
        };
        if factors.is_empty() || factors.iter().any(|(name, factor)| *factor == 0 || !is_center(name)) {
            return Err(StartError(format!(
                "{:?} is not a replication: name data centres, and a number of replicas above 0 for each",
                self.replication
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("replication", &self.replication)
            .field("datacenter", &self.datacenter)
            .field("consistency", &self.consistency)
            .field("request_timeout", &self.request_timeout)
            .field("credentials", &self.credentials.as_ref().map(|(user, _)| user))
            .finish()
    }
}

/// How many copies of each row there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// So many in each data centre.
    Everywhere(u32),
    /// So many in each of these data centres.
    In(Vec<(String, u32)>),
}

impl Replication {
    /// The map that `CREATE KEYSPACE` takes.
    pub(super) fn as_cql(&self) -> String {
        let factors = match self {
            Self::Everywhere(factor) => format!("'replication_factor': {factor}"),
            Self::In(centers) => {
                let centers: Vec<_> =
                    centers.iter().map(|(name, factor)| format!("'{name}': {factor}")).collect();
                centers.join(", ")
            }
        };
        format!("{{'class': 'NetworkTopologyStrategy', {factors}}}")
    }
}

/// How many replicas have answered before a read or a write counts. What is read must be among what was written, so
/// reads and writes use the same one, and `One` is refused where there is more than one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// A majority in the data centre of this process.
    #[default]
    LocalQuorum,
    /// A majority of all replicas: survives the loss of a data centre, at the price of the way to the others.
    Quorum,
    /// Every replica. One that is down stops Petrel.
    All,
    /// One replica.
    One,
}

impl Consistency {
    pub(super) fn of_driver(self) -> scylla::statement::Consistency {
        use scylla::statement::Consistency as Driver;
        match self {
            Self::LocalQuorum => Driver::LocalQuorum,
            Self::Quorum => Driver::Quorum,
            Self::All => Driver::All,
            Self::One => Driver::One,
        }
    }

    /// That of lightweight transactions: as wide as the rest.
    pub(super) fn serial(self) -> scylla::statement::SerialConsistency {
        match self {
            Self::LocalQuorum | Self::One => scylla::statement::SerialConsistency::LocalSerial,
            Self::Quorum | Self::All => scylla::statement::SerialConsistency::Serial,
        }
    }

    /// The name that CQL and configuration files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalQuorum => "LOCAL_QUORUM",
            Self::Quorum => "QUORUM",
            Self::All => "ALL",
            Self::One => "ONE",
        }
    }

    /// The inverse of [`Self::name`], in any case of letters.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::LocalQuorum, Self::Quorum, Self::All, Self::One]
            .into_iter()
            .find(|consistency| consistency.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_part_of_a_statement_is_checked() {
        let config = |keyspace: &str| Config::new(vec!["127.0.0.1:9042".into()], keyspace);
        assert!(config("petrel_2").check().is_ok());
        for keyspace in ["", "2petrel", "Petrel", "petrel;", "petrel.x", "pe trel", &"p".repeat(49)] {
            assert!(config(keyspace).check().is_err(), "{keyspace}");
        }
        let replicated = |replication| Config { replication, ..config("petrel") }.check().is_ok();
        assert!(replicated(Replication::In(vec![("dc-1".into(), 3)])));
        for (name, factor) in [("dc1", 0), ("", 3), ("dc'1", 3)] {
            assert!(!replicated(Replication::In(vec![(name.into(), factor)])), "{name} {factor}");
        }
        assert!(!replicated(Replication::In(Vec::new())));
        assert!(Config { nodes: Vec::new(), ..config("petrel") }.check().is_err());
    }

    #[test]
    fn passwords_stay_out_of_logs() {
        let mut config = Config::new(vec!["a:1".into()], "petrel");
        config.credentials = Some(("petrel".into(), "secret".into()));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn replication_is_a_map_of_cql() {
        let centers = Replication::In(vec![("dc1".into(), 3), ("dc2".into(), 2)]);
        assert_eq!(centers.as_cql(), "{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc2': 2}");
        let everywhere = Replication::Everywhere(1).as_cql();
        assert_eq!(everywhere, "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}");
    }

    #[test]
    fn consistencies_have_names() {
        for consistency in [Consistency::LocalQuorum, Consistency::Quorum, Consistency::All, Consistency::One]
        {
            assert_eq!(Consistency::from_name(&consistency.name().to_lowercase()), Some(consistency));
        }
        assert_eq!(Consistency::from_name("ANY"), None);
    }
}
