//! The main job, end to end: a message from one client to another, its acks, its recall, and what happens when
//! somebody was away.

mod harness;

use std::time::Instant;

use harness::{PATIENCE, Petrel};
use petrel_protocol::codes::{Code, close};
use petrel_protocol::ids::Device;
use petrel_protocol::packets::{
    BatchMsgIdsPush, C2cWithdrawReq, GetBatchMsgIdsReq, MsgType, SyncRange, SyncReq, sync_row,
};
use prost::Message;

fn start() -> (tempfile::TempDir, Petrel) {
    let dir = tempfile::tempdir().expect("a folder");
    let petrel = Petrel::start(dir.path());
    (dir, petrel)
}

#[test]
fn a_message_and_its_three_acks() {
    let (_dir, petrel) = start();
    let (mut alice, mut bob) = (petrel.client(1, Device::Web), petrel.client(2, Device::Android));
    let id = alice.send(2, "hello");
    let accepted = alice.until_status(1);
    assert_eq!((accepted.client_msg_id.clone(), accepted.from, accepted.to), (id.clone(), 0, 1));
    let push = bob.until_push();
    assert_eq!((push.from, push.to, push.content.as_str(), push.seq), (1, 2, "hello", 1));
    assert_eq!((push.client_msg_id.clone(), push.msg_id), (id, accepted.msg_id));
    bob.ack(&push, 3);
    let delivered = alice.until_status(3);
    assert_eq!((delivered.msg_id, delivered.seq), (accepted.msg_id, 1));
    bob.ack(&push, 4);
    assert_eq!(alice.until_status(4).msg_id, accepted.msg_id);
}

#[test]
fn what_was_sent_to_somebody_away_is_there_at_the_next_connect_until_it_is_acknowledged() {
    let (_dir, petrel) = start();
    let mut alice = petrel.client(1, Device::Web);
    for text in ["one", "two", "three"] {
        alice.send(2, text);
        alice.until_status(2);
    }
    for round in 0..2 {
        let mut bob = petrel.connect(2, Device::Ios);
        for (seq, text) in (1..).zip(["one", "two", "three"]) {
            let push = bob.until_push();
            assert_eq!((push.seq, push.content.as_str()), (seq, text), "round {round}");
            if round == 1 {
                bob.ack(&push, 3);
            }
        }
        if round == 1 {
            assert_eq!(alice.until_status(3).seq, 1);
            alice.until_status(3);
            assert_eq!(alice.until_status(3).seq, 3);
        }
    }
    // The cursor moves a moment after the sender was told; then nothing is left.
    let until = Instant::now() + PATIENCE;
    while petrel.connect(2, Device::Ios).next().expect("a packet").r#type() != MsgType::Ready {
        assert!(Instant::now() < until, "what was acknowledged comes again and again");
    }
}

#[test]
fn every_device_of_both_users_sees_a_message_and_a_new_login_ends_the_old_one() {
    let (_dir, petrel) = start();
    let mut alice = petrel.client(1, Device::Web);
    let mut alice_phone = petrel.client(1, Device::Ios);
    let mut bob = petrel.client(2, Device::Web);
    let mut bob_phone = petrel.client(2, Device::Android);
    alice.send(2, "to all");
    for device in [&mut alice_phone, &mut bob, &mut bob_phone] {
        assert_eq!(device.until_push().content, "to all");
    }
    let _bob_again = petrel.client(2, Device::Web);
    let kick = bob.until(|p| p.r#type() == MsgType::Kick);
    assert_eq!(kick.code, Code::LoggedInElsewhere as i32);
    assert!(!kick.msg.is_empty());
    assert_eq!(bob.until_closed(), Some(close::LOGGED_IN_ELSEWHERE));
}

#[test]
fn a_resend_is_the_same_message() {
    let (_dir, petrel) = start();
    let (mut alice, mut bob) = (petrel.client(1, Device::Web), petrel.client(2, Device::Web));
    let id = alice.send(2, "once");
    let first = alice.until_status(1);
    assert_eq!(bob.until_push().seq, 1);
    alice.send_as(id.clone(), 2, "once", 1);
    // The resend is accepted too, then told under which ids the message stands.
    let canonical = alice.until(|p| {
        use petrel_protocol::packets::C2cAckReq;
        p.r#type() == MsgType::C2cAck && C2cAckReq::decode(p.payload.clone()).is_ok_and(|a| a.seq == 1)
    });
    let canonical = petrel_protocol::packets::C2cAckReq::decode(canonical.payload).expect("valid");
    assert_eq!((canonical.client_msg_id, canonical.msg_id), (id, first.msg_id));
    alice.send(2, "twice");
    let push = bob.until_push();
    assert_eq!((push.seq, push.content.as_str()), (2, "twice"), "the resend took no seq");
}

#[test]
fn a_recall_reaches_everybody_and_its_content_is_gone() {
    let (_dir, petrel) = start();
    let (mut alice, mut bob) = (petrel.client(1, Device::Web), petrel.client(2, Device::Web));
    alice.send(2, "regretted");
    let sent = alice.until_status(1);
    let push = bob.until_push();
    bob.ack(&push, 3);
    alice.until_status(3);

    let recall = C2cWithdrawReq { msg_id: sent.msg_id, from: 2, to: 1, ..Default::default() };
    bob.send_packet(MsgType::C2cWithdraw, &recall);
    assert_eq!(bob.until_nack().code, Code::NotYours as i32, "only its sender recalls a message");
    let unknown = C2cWithdrawReq { msg_id: 12_345, from: 1, to: 2, ..Default::default() };
    alice.send_packet(MsgType::C2cWithdraw, &unknown);
    assert_eq!(alice.until_nack().code, Code::NotFound as i32);

    let recall = C2cWithdrawReq { msg_id: sent.msg_id, from: 1, to: 2, ..Default::default() };
    alice.send_packet(MsgType::C2cWithdraw, &recall);
    for device in [&mut alice, &mut bob] {
        let packet = device.until(|p| p.r#type() == MsgType::C2cWithdraw);
        let told = C2cWithdrawReq::decode(packet.payload).expect("valid");
        assert_eq!((told.msg_id, told.target_seq, told.seq), (sent.msg_id, 1, 2));
    }
    bob.send_packet(MsgType::Sync, &SyncReq { peer: 1, from_seq: 1, to_seq: 0 });
    let range = bob.until(|p| p.r#type() == MsgType::Sync);
    let range = SyncRange::decode(range.payload).expect("valid");
    assert_eq!((range.from_seq, range.to_seq, range.head_seq), (1, 2, 2));
    let Some(sync_row::Row::Message(first)) = &range.rows[0].row else { panic!("{range:?}") };
    assert_eq!((first.content.as_str(), first.format), ("", 10));
}

#[test]
fn message_ids_come_in_batches_and_are_never_given_twice() {
    let (dir, petrel) = start();
    let mut seen = std::collections::BTreeSet::new();
    let ask = |petrel: &Petrel, seen: &mut std::collections::BTreeSet<u64>| {
        let mut alice = petrel.client(1, Device::Web);
        for _ in 0..3 {
            alice.send_packet(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: 1 });
            let batch = alice.until(|p| p.r#type() == MsgType::PushBatchMsgIds);
            let batch = BatchMsgIdsPush::decode(batch.payload).expect("valid").msg_ids;
            assert_eq!(batch.len(), 1_000);
            assert!(batch.into_iter().all(|id| id != 0 && seen.insert(id)));
        }
    };
    ask(&petrel, &mut seen);
    petrel.kill();
    ask(&Petrel::start(dir.path()), &mut seen);
}

#[test]
fn register_login_and_out() {
    let (_dir, petrel) = start();
    let body = r#"{"username":"ann","password":"correct horse"}"#;
    let (status, answer) = petrel.post("/api/v1/register", body);
    assert_eq!(status, 201, "{answer}");
    let user: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(petrel.post("/api/v1/register", body).0, 409);
    let login = r#"{"username":"ann","password":"correct horse","device_type":4}"#;
    let (status, answer) = petrel.post("/api/v1/login", login);
    assert_eq!(status, 200, "{answer}");
    let session: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(session["user_id"], user["user_id"]);
    assert_eq!(session["edge"], format!("ws://{}/websocket", petrel.edge));
    assert_eq!(petrel.post("/api/v1/login", &login.replace("correct", "wrong")).0, 401);
    assert_eq!(petrel.http("GET", "/healthz", "", "").0, 200);
    assert_eq!(petrel.http("GET", "/readyz", "", "").0, 200);
    let (status, metrics) = petrel.http("GET", "/metrics", "", "");
    assert!(status == 200 && metrics.contains("petrel_edge_sessions"), "{metrics}");
}

#[test]
fn sigterm_tells_the_clients_and_ends_with_exit_code_0() {
    let (_dir, petrel) = start();
    let mut alice = petrel.client(1, Device::Web);
    let ended = std::thread::spawn(move || petrel.terminate());
    alice.until(|p| p.r#type() == MsgType::Drain);
    assert_eq!(alice.until_closed(), Some(close::GOING_AWAY));
    assert_eq!(ended.join().expect("ends").code(), Some(0));
}
