//! Two edges, two routers and two persists, from registering to reading.

use petrel_protocol::ids::Device;
use petrel_protocol::packets::MsgType;
use serde_json::{Value, json};

use crate::harness::{Client, http};
use crate::stack::Stack;

const JSON: &str = "content-type: application/json\r\n";
const PASSWORD: &str = "correct horse";

fn ask(stack: &Stack, router: u16, path: &str, body: &Value) -> Value {
    let answer = http(&stack.http_addr(router), "POST", path, JSON, &body.to_string());
    let (status, body) = answer.expect("the router answers");
    assert!(status == 200 || status == 201, "{path}: {status} {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Registers with a router; the user's id.
pub(crate) fn register(stack: &Stack, router: u16, name: &str) -> u64 {
    let account = json!({ "username": name, "password": PASSWORD });
    let answer = ask(stack, router, "/api/v1/register", &account);
    answer["user_id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

/// Logs in with a router; the token, and the URL of the edge to connect to.
pub(crate) fn log_in(stack: &Stack, router: u16, name: &str, device: Device) -> (String, String) {
    let login = json!({ "username": name, "password": PASSWORD, "device_type": device as u8 });
    let answer = ask(stack, router, "/api/v1/login", &login);
    let text = |key: &str| answer[key].as_str().expect("text").to_owned();
    (text("token"), text("edge"))
}

fn ready(mut client: Client) -> Client {
    client.until(|p| p.r#type() == MsgType::Ready);
    client
}

#[test]
fn messages_cross_two_edges_with_their_acks_and_wait_for_who_is_away() {
    let stack = Stack::new();
    let mut all = vec![];
    for number in [1, 2] {
        all.extend([stack.persist(number, &[]), stack.router(number, &[]), stack.edge(number, &[])]);
    }
    all.iter_mut().for_each(crate::process::Process::until_ready);

    // Registered at one router, logged in at the other.
    let [ann, bob] = ["ann", "bob"].map(|name| register(&stack, 1, name));
    let (anns_token, anns_edge) = log_in(&stack, 2, "ann", Device::Web);
    let (bobs_token, _) = log_in(&stack, 2, "bob", Device::Android);
    let edges = [1, 2].map(|number| stack.edge_addr(number));
    assert!(edges.iter().any(|edge| anns_edge == format!("ws://{edge}/websocket")), "{anns_edge}");
    let connect = |edge: usize, token: &str, user| {
        Client::connect(&edges[edge], token, user).expect("the handshake is taken")
    };

    // The receiver is on the other edge, and so is another device of the sender's.
    let mut sender = ready(connect(0, &anns_token, ann));
    let mut desktop = stack.client(2, ann, Device::Desktop);
    let mut receiver = ready(connect(1, &bobs_token, bob));
    let id = sender.send(bob, "over there");
    assert_eq!(sender.until_status(1).client_msg_id, id);
    let push = receiver.until_push();
    assert_eq!((&*push.content, push.from, push.seq, &push.client_msg_id), ("over there", ann, 1, &id));
    let own = desktop.until_push();
    assert_eq!((&*own.content, own.to, own.seq), ("over there", bob, 1));
    receiver.ack(&push, 3);
    assert_eq!(sender.until_status(3).client_msg_id, id);
    receiver.ack(&push, 4);
    assert_eq!(sender.until_status(4).client_msg_id, id);

    // Whoever is away is told of everything at the next connect, on whichever edge that is.
    drop(receiver);
    for text in ["one", "two", "three"] {
        sender.send(bob, text);
        sender.until_status(2);
    }
    let mut later = connect(0, &bobs_token, bob);
    for (seq, text) in (2..).zip(["one", "two", "three"]) {
        let push = later.until_push();
        assert_eq!((push.seq, &*push.content), (seq, text));
        later.ack(&push, 3);
        sender.until_status(3);
    }
    ready(later);
    all.into_iter().rev().for_each(crate::process::Process::terminate);
}
