//! What the topics are called on Pulsar.

use petrel_protocol::topics::Topic;

/// The names within one namespace and generation.
#[derive(Clone, Debug)]
pub(super) struct Names {
    namespace: String,
    generation: u32,
}

impl Names {
    pub(super) fn new(tenant: &str, namespace: &str, generation: u32) -> Self {
        Self { namespace: format!("{tenant}/{namespace}"), generation }
    }

    /// `tenant/namespace`.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where the administration has a topic: `persistent/tenant/namespace/uplink-1`.
    pub(super) fn path(&self, topic: Topic) -> String {
        format!("persistent/{}/{}-{}", self.namespace, topic.name(), self.generation)
    }

    /// Where the administration has a partition.
    pub(super) fn partition_path(&self, topic: Topic, partition: u16) -> String {
        format!("{}-partition-{partition}", self.path(topic))
    }

    /// A partition's own topic, which producers and consumers name.
    pub(super) fn partition(&self, topic: Topic, partition: u16) -> String {
        let (namespace, name, generation) = (&self.namespace, topic.name(), self.generation);
        format!("persistent://{namespace}/{name}-{generation}-partition-{partition}")
    }
}
