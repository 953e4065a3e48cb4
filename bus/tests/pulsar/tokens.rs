//! A broker that asks for tokens.

use petrel_bus::Bus;
use petrel_bus::pulsar::{Config, Token};
use petrel_protocol::topics::{Subscription, Topic};

use crate::broker::Broker;
use crate::stack::{Stack, http_with};
use crate::support::{Publishing, next};

/// Of the role `admin`, which may do everything, and of `stranger`, which may do nothing at first; signed (HS256) by the key
/// below.
const ADMIN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.C5kKiuJft-q7A20ouICspBoDHtddh91QRLJjJc73_8Q";
const STRANGER: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzdHJhbmdlciJ9.P7810jJalLbGFWnbUZ7cNjL2cKiBWagHjw-5nE0a0wk";

#[tokio::test]
async fn a_broker_that_asks_for_tokens_is_given_ours_and_others_are_refused_with_the_mend() {
    let settings = format!(
        "authenticationEnabled=true\n\
         authorizationEnabled=true\n\
         authenticationProviders=org.apache.pulsar.broker.authentication.AuthenticationProviderToken\n\
         superUserRoles=admin\n\
         tokenSecretKey=data:;base64,cGV0cmVsLXRlc3RzLW9ubHktc2VjcmV0LWtleS0zMmI=\n\
         brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken\n\
         brokerClientAuthenticationParameters=token:{ADMIN}\n"
    );
    let broker = Broker::with(settings, ADMIN);
    broker.start();
    let stack = Stack::at(&broker.address(), &broker.admin(), 2);
    let open = async |token: Option<&str>, namespace: &str| {
        let token = token.map(|text| Token(text.to_owned()));
        Bus::pulsar(Config { token, namespace: namespace.to_owned(), ..stack.config.clone() }).await
    };
    let forged = format!("{}x", &ADMIN[..ADMIN.len() - 1]);
    let works = async |token, namespace| {
        let bus = open(Some(token), namespace).await.expect("it opens");
        let mut consumer = bus.subscribe(Topic::Uplink, Subscription::Persist, 0).unwrap();
        Publishing::new(&bus, Topic::Uplink).put(0, "x");
        let record = next(&mut consumer).await;
        consumer.ack(record.position);
        bus.close();
    };
    let namespace = &stack.config.namespace;
    // On a new namespace, and then on one that is there.
    for _ in 0..2 {
        for token in [None, Some("no token"), Some(&*forged), Some(STRANGER)] {
            let refused = open(token, namespace).await.expect_err("it is refused").to_string();
            assert!(refused.contains("give it a token that may"), "{token:?}: {refused}");
            assert!(token.is_none_or(|token| !refused.contains(token)), "it is not shown: {refused}");
        }
        works(ADMIN, namespace).await;
    }
    // Who administers the tenant need not administer the brokers, neither for a namespace that is there nor for a new one.
    let tenant = r#"{"adminRoles": ["stranger"], "allowedClusters": ["standalone"]}"#;
    let headers = format!("authorization: Bearer {ADMIN}\r\n");
    let path = format!("tenants/{}", stack.config.tenant);
    let (status, body) = http_with(&headers, &stack.config.admin, "POST", &path, tenant).unwrap();
    assert_eq!(status, 204, "{body}");
    works(STRANGER, namespace).await;
    works(STRANGER, &format!("{namespace}-new")).await;
}
