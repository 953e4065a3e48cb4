//! Which writes go to the server as one request.
//!
//! A request costs a server several times what a small row in it costs, so rows of one table whose first replica is the
//! same node go together, a few partitions at a time. Each row has its own write timestamp, and what fails is written
//! again as a whole, so nothing rests on their being one request.

use std::collections::HashMap;
use std::sync::Arc;

use petrel_protocol::limits;
use scylla::cluster::ClusterState;
use scylla::serialize::row::SerializeRow;

use super::statements::Statement;

/// Rows of one partition.
#[derive(Debug)]
pub(super) struct Group<T> {
    /// The node to ask, as [`Replicas::first`] says.
    pub(super) node: usize,
    /// About what the server counts for it.
    pub(super) bytes: usize,
    pub(super) rows: T,
}

/// Groups of one node, as many as go in one request. What is larger goes alone.
pub(super) fn bundles<T>(groups: impl IntoIterator<Item = Group<T>>) -> Vec<Vec<T>> {
    let mut open: HashMap<usize, (Vec<T>, usize)> = HashMap::new();
    let mut full = Vec::new();
    for group in groups {
        if group.bytes > limits::STORE_BUNDLE_BYTES {
            full.push(vec![group.rows]);
            continue;
        }
        let (bundle, bytes) = open.entry(group.node).or_default();
        if bundle.len() == limits::STORE_BUNDLE_PARTITIONS
            || *bytes + group.bytes > limits::STORE_BUNDLE_BYTES
        {
            full.push(std::mem::take(bundle));
            *bytes = 0;
        }
        *bytes += group.bytes;
        bundle.push(group.rows);
    }
    full.extend(open.into_values().map(|(bundle, _)| bundle));
    full
}

/// Where partitions are, at one moment. A partition that has moved since costs the server a hop.
pub(super) struct Replicas {
    cluster: Arc<ClusterState>,
    keyspace: String,
}

impl Replicas {
    pub(super) fn new(cluster: Arc<ClusterState>, keyspace: &str) -> Self {
        Self { cluster, keyspace: keyspace.to_owned() }
    }

    /// A number for the first replica of a partition, which `statement` names by `values`. All alike where that is unknown.
    pub(super) fn first(&self, statement: &Statement, values: impl SerializeRow) -> usize {
        let token = statement.prepared.calculate_token(&values).ok().flatten();
        let replicas = token.map(|token| self.cluster.get_token_endpoints(&self.keyspace, "", token));
        replicas
            .and_then(|replicas| replicas.first().map(|(node, _)| Arc::as_ptr(node) as usize))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(node: usize, bytes: usize, rows: u32) -> Group<u32> {
        Group { node, bytes, rows }
    }

    #[test]
    fn a_bundle_is_of_one_node_and_has_few_partitions() {
        let many = 2 * limits::STORE_BUNDLE_PARTITIONS as u32 + 1;
        let bundles = bundles((0..many).flat_map(|row| [group(7, 1, row), group(9, 1, 1_000 + row)]));
        let mut lengths: Vec<_> = bundles.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        let most = limits::STORE_BUNDLE_PARTITIONS;
        assert_eq!(lengths, [1, 1, most, most, most, most]);
        for bundle in &bundles {
            assert!(bundle.windows(2).all(|rows| rows[0] + 1 == rows[1]), "{bundle:?}");
        }
    }

    #[test]
    fn a_bundle_is_within_its_bytes_and_what_is_larger_goes_alone() {
        let half = limits::STORE_BUNDLE_BYTES / 2;
        let bundles =
            bundles([group(1, half, 1), group(1, half, 2), group(1, 2 * half + 1, 3), group(1, half, 4)]);
        // The larger one is not held up by the bundle that is open.
        assert_eq!(bundles, [vec![3], vec![1, 2], vec![4]]);
    }
}
