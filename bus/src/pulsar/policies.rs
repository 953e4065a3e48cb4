//! The policies of Pulsar's namespace, and whether it has them.

use serde_json::{Value, json};

use super::Config;

/// A policy of the namespace.
pub(super) struct Policy {
    /// Where it is set.
    pub(super) path: &'static str,
    /// Where it is shown.
    pub(super) pointer: &'static str,
    pub(super) value: Value,
    shown: Value,
}

impl Policy {
    /// Whether the namespace, as the administration shows it, has this policy.
    pub(super) fn is_shown_in(&self, namespace: &Value) -> bool {
        contains(namespace.pointer(self.pointer), &self.shown)
    }
}

/// What keeps records until they are acknowledged, and refuses rather than forgets.
pub(super) fn policies(config: &Config) -> Vec<Policy> {
    let policy = |path, pointer, value: Value| Policy { path, pointer, shown: value.clone(), value };
    let megabytes = config.backlog_bytes_max.div_ceil(1 << 20);
    let backlog = json!({
        "limitSize": config.backlog_bytes_max,
        "limitTime": -1,
        "policy": "producer_exception",
    });
    vec![
        // Larger than the backlog's limit, which Pulsar asks for.
        policy(
            "retention",
            "/retention_policies",
            json!({ "retentionTimeInMinutes": config.retention_minutes, "retentionSizeInMB": megabytes + 1 }),
        ),
        policy("messageTTL", "/message_ttl_in_seconds", json!(0)),
        policy("subscriptionExpirationTime", "/subscription_expiration_time_minutes", json!(0)),
        policy(
            "backlogQuota?backlogQuotaType=destination_storage",
            "/backlog_quota_map/destination_storage",
            backlog,
        ),
        policy("autoTopicCreation", "/autoTopicCreationOverride", json!({ "allowAutoTopicCreation": false })),
        policy(
            "autoSubscriptionCreation",
            "/autoSubscriptionCreationOverride",
            json!({ "allowAutoSubscriptionCreation": false }),
        ),
        policy("deduplication", "/deduplicationEnabled", json!(false)),
        policy(
            "inactiveTopicPolicies",
            "/inactive_topic_policies",
            json!({
                "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
                "maxInactiveDurationSeconds": 60,
                "deleteWhileInactive": false,
            }),
        ),
    ]
}

/// Whether a value has all the fields of another.
fn contains(present: Option<&Value>, wanted: &Value) -> bool {
    match (present, wanted) {
        (Some(Value::Object(present)), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| contains(present.get(key), value))
        }
        (present, wanted) => present == Some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_may_have_more_fields_than_are_wanted() {
        let present = json!({ "a": { "b": 1, "c": 2 } });
        assert!(contains(present.pointer("/a"), &json!({ "b": 1 })));
        assert!(!contains(present.pointer("/a"), &json!({ "b": 2 })));
        assert!(!contains(present.pointer("/a"), &json!({ "d": 1 })));
        assert!(!contains(present.pointer("/x"), &json!({ "b": 1 })));
        assert!(contains(Some(&json!(0)), &json!(0)) && !contains(None, &json!(0)));
    }
}
