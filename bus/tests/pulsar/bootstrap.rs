//! What is made at the start, and what is refused there.

use std::collections::BTreeSet;
use std::time::Duration;

use petrel_bus::pulsar::Config;
use petrel_bus::{Bus, PublishError};
use petrel_protocol::topics::{Subscription, Topic};

use crate::stack::Stack;
use crate::support::Publishing;

async fn refusal(config: Config) -> String {
    Bus::pulsar(config).await.expect_err("it is refused").to_string()
}

#[tokio::test]
async fn everything_is_made_once_and_found_again() {
    let stack = Stack::new(3);
    let config = stack.config.clone();
    // Several processes at once, on nothing.
    let (one, other) = tokio::join!(Bus::pulsar(config.clone()), Bus::pulsar(config));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.generation_id(), other.generation_id());
    assert_ne!(one.generation_id(), [0; 16]);
    assert_eq!((one.generation(), one.partitions()), (1, 3));
    for topic in Topic::ALL {
        for partition in 0..3 {
            let path = format!("{}-partition-{partition}/subscriptions", stack.path(topic));
            let (status, body) = stack.admin("GET", &path, "");
            assert_eq!(status, 200, "{body}");
            for subscription in topic.subscriptions() {
                assert!(body.contains(subscription.name()), "{path}: {body}");
            }
        }
    }
    let namespace = format!("namespaces/{}/{}", stack.config.tenant, stack.config.namespace);
    let (_, policies) = stack.admin("GET", &namespace, "");
    for policy in [
        r#""message_ttl_in_seconds":0"#,
        r#""subscription_expiration_time_minutes":0"#,
        r#""policy":"producer_exception""#,
        r#""allowAutoSubscriptionCreation":false"#,
        r#""allowAutoTopicCreation":false"#,
        r#""deduplicationEnabled":false"#,
    ] {
        assert!(policies.contains(policy), "{policy} in {policies}");
    }
    // The policies are put right where somebody has changed them.
    let (status, body) = stack.admin("POST", &format!("{namespace}/messageTTL"), "60");
    assert_eq!(status, 204, "{body}");
    one.close();
    let again = stack.open().await;
    assert_eq!(again.generation_id(), other.generation_id());
    let (_, policies) = stack.admin("GET", &namespace, "");
    assert!(policies.contains(r#""message_ttl_in_seconds":0"#), "{policies}");
}

/// Each step of one meets another step of the others: what one of them makes, the next may find half made.
#[tokio::test]
async fn as_many_processes_as_a_cluster_has_start_at_once_on_nothing() {
    for apart_ms in [0, 3, 11, 40] {
        let stack = Stack::new(4);
        let opening = (0..7).map(|process| {
            let config = stack.config.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(process * apart_ms)).await;
                Bus::pulsar(config).await
            })
        });
        let mut ids = BTreeSet::new();
        for opened in opening.collect::<Vec<_>>() {
            ids.insert(opened.await.unwrap().expect("it opens").generation_id());
        }
        assert_eq!(ids.len(), 1, "one log");
    }
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let stack = Stack::new(2);
    stack.open().await.close();
    let text = refusal(Config { partitions: 4, ..stack.config.clone() }).await;
    assert!(text.contains("has 2 partitions and 4 were asked for: start with 2"), "{text}");
    assert!(refusal(Config { partitions: 0, ..stack.config.clone() }).await.contains("choose 1 to 1024"));
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let stack = Stack::new(1);
    let config = |change: fn(&mut Config)| {
        let mut config = stack.config.clone();
        change(&mut config);
        config
    };
    for address in ["127.0.0.1", "pulsar://", "pulsar://:6650", "pulsar://a:port", "pulsar://a:6650,b:6650"] {
        let config = Config { broker: address.into(), ..stack.config.clone() };
        assert!(refusal(config).await.contains("write pulsar://"), "{address}");
    }
    for address in ["127.0.0.1", "http://", "https://a:8443", "http://a:8080,b:8080"] {
        let config = Config { admin: address.into(), ..stack.config.clone() };
        assert!(refusal(config).await.contains("write http://"), "{address}");
    }
    assert!(refusal(config(|c| c.namespace = "a/b".into())).await.contains("use letters"));
}

#[tokio::test]
async fn a_topic_that_has_lost_its_subscription_is_refused() {
    let stack = Stack::new(2);
    stack.open().await.close();
    let path = format!("{}-partition-1/subscription/router", stack.path(Topic::Stored));
    let (status, body) = stack.admin("DELETE", &path, "");
    assert_eq!(status, 204, "{body}");
    let text = refusal(stack.config.clone()).await;
    assert!(
        text.contains("has lost its subscription router") && text.contains("--messageId earliest"),
        "{text}"
    );
    // As the text says.
    let (status, body) = stack.admin("PUT", &path, r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#);
    assert_eq!(status, 204, "{body}");
    stack.open().await.close();
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_finished() {
    let stack = Stack::new(2);
    stack.open().await.close();
    // As it was before the last step.
    let properties = format!("{}/properties", stack.path(Topic::Uplink));
    let (status, body) = stack.admin("DELETE", &format!("{properties}?key=petrel-subscriptions"), "");
    assert_eq!(status, 204, "{body}");
    let path = format!("{}-partition-0/subscription/persist", stack.path(Topic::Uplink));
    assert_eq!(stack.admin("DELETE", &path, "").0, 204);
    let bus = stack.open().await;
    let position = Publishing::new(&bus, Topic::Uplink).put(0, "x");
    let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
    assert_eq!(crate::support::next(&mut consumer).await.position, position);
}

#[tokio::test]
async fn a_log_of_which_a_part_was_deleted_is_refused() {
    let stack = Stack::new(1);
    stack.open().await.close();
    let delete = |topic| stack.admin("DELETE", &format!("{}/partitions?force=true", stack.path(topic)), "");
    assert_eq!(delete(Topic::Uplink).0, 204);
    let text = refusal(stack.config.clone()).await;
    assert!(text.contains("uplink-1 is not: it was deleted"), "{text}");
    // A log that was deleted whole is a new one, which its store tells by its id.
    assert_eq!((delete(Topic::Stored).0, delete(Topic::Receipts).0), (204, 204));
    stack.open().await.close();
}

#[tokio::test]
async fn a_wiped_log_has_another_id() {
    let stack = Stack::new(1);
    let first = stack.open().await;
    let id = first.generation_id();
    first.close();
    for topic in Topic::ALL {
        assert_eq!(stack.admin("DELETE", &format!("{}/partitions?force=true", stack.path(topic)), "").0, 204);
    }
    assert_ne!(stack.open().await.generation_id(), id);
}

#[tokio::test]
async fn a_sealed_generation_takes_nothing_and_the_next_one_does() {
    let stack = Stack::new(1);
    let bus = stack.open().await;
    let publishing = Publishing::new(&bus, Topic::Uplink);
    let last = publishing.put(0, "last");
    let path = format!("{}-partition-0/terminate", stack.path(Topic::Uplink));
    assert_eq!(stack.admin("POST", &path, "").0, 200);
    // Late sends fail: at first as unknown or unavailable, then at once.
    crate::support::wait_until("the refusal", || {
        if publishing.publish(0, 1, "late").is_ok() {
            assert!(publishing.receipts(1)[0].outcome.is_err());
        }
        publishing.publish(0, 1, "late") == Err(PublishError::Unavailable)
    });
    let problem = stack.config.health.problem().expect("it is told");
    assert!(problem.contains("sealed"), "{problem}");
    bus.close();

    let mut config = stack.config.clone();
    config.generation = 2;
    let bus = Bus::pulsar(config).await.unwrap();
    let first = Publishing::new(&bus, Topic::Uplink).put(0, "first");
    assert!(first > last && first.generation == 2);
    bus.close();
    for topic in Topic::ALL {
        let path = format!("{}2", stack.path(topic).trim_end_matches('1'));
        stack.admin("DELETE", &format!("{path}/partitions?force=true"), "");
    }
}
