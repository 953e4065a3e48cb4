//! Whatever packets a client sends, its session answers in valid packets, publishes nothing in another's name, and ends
//! without debts to its shard; whatever packets an edge sends, a client does not panic.

use std::sync::Arc;

use petrel_protocol::calls::{ClaimReply, SyncReply};
use petrel_protocol::client::{self, Client};
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::packets::{ImProtoRequest, ImProtoResponse};
use petrel_protocol::session::{Input, Outcome, Output, Outputs, Session, Shared};
use petrel_protocol::time::Now;
use prost::Message;

const ME: UserId = UserId(1);

/// Packets, each after two bytes: what becomes of its publications, and its length.
pub(crate) fn check(bytes: &[u8]) {
    let mut now = Now { mono_ms: 1_000_000, wall_ms: 1_800_000_000_000 };
    let mut shared = Shared { spare_ids: (1..200).collect(), ..Shared::default() };
    let mut out = Outputs::default();
    let mut session = Session::new(now, ME, Device::Web, 0);
    let start = [
        Input::Start,
        Input::Claimed(Some(ClaimReply::default())),
        Input::Synced(Some(SyncReply::default())),
    ];
    for input in start {
        session.handle(now, input, &mut shared, &mut out);
    }
    carry_out(&mut session, now, Outcome::Accepted, &mut shared, &mut out);
    let mut client = Client::new(ME, Arc::new(client::Config::default()));
    let mut shown = client::Outputs::default();
    client.handle(now, client::Input::Connected, &mut shown);
    let mut rest = bytes;
    while let [choice, len, next @ ..] = rest {
        let (packet, next) = next.split_at(next.len().min(usize::from(*len)));
        rest = next;
        now.mono_ms += u64::from(choice >> 2);
        again::<ImProtoRequest>(packet);
        again::<ImProtoResponse>(packet);
        session.handle(now, Input::Packet(packet), &mut shared, &mut out);
        let outcome = [Outcome::Accepted, Outcome::Full, Outcome::Unavailable, Outcome::Unknown];
        carry_out(&mut session, now, outcome[usize::from(choice & 3)], &mut shared, &mut out);
        client.handle(now, client::Input::Packet(packet), &mut shown);
    }
    session.end(&mut shared, &mut out);
    assert_eq!(shared.unstored, 0, "a session that ended gives its credit back");
}

/// What is decoded is the same after it was encoded again.
fn again<M: Message + Default + PartialEq>(packet: &[u8]) {
    if let Ok(message) = M::decode(packet) {
        assert!(M::decode(message.encode_to_vec().as_slice()).as_ref() == Ok(&message));
    }
}

fn carry_out(session: &mut Session, now: Now, outcome: Outcome, shared: &mut Shared, out: &mut Outputs) {
    // An answer to an output leads to more; a few rounds are all that a packet can lead to.
    for _ in 0..8 {
        let outputs = out.take();
        for output in &outputs {
            match output {
                Output::Send(sent) => {
                    assert!(ImProtoResponse::decode(out.bytes(sent)).is_ok());
                }
                Output::Publish(conversation, ..) | Output::Receipt(conversation, _) => {
                    assert!(conversation.peer_of(ME).is_some());
                }
                _ => {}
            }
        }
        let tickets: Vec<u32> = outputs
            .iter()
            .filter_map(
                |output| if let Output::Publish(_, _, ticket) = output { Some(*ticket) } else { None },
            )
            .collect();
        let lookups = outputs.iter().fold((0, 0), |(resolve, history), output| match output {
            Output::Resolve(_) => (resolve + 1, history),
            Output::History(_) => (resolve, history + 1),
            _ => (resolve, history),
        });
        out.clear(outputs);
        for ticket in tickets {
            session.handle(now, Input::Published(ticket, outcome), shared, out);
        }
        for _ in 0..lookups.0 {
            session.handle(now, Input::Resolved(None), shared, out);
        }
        for _ in 0..lookups.1 {
            session.handle(now, Input::History(None), shared, out);
        }
        if out.is_empty() {
            return;
        }
    }
    panic!("a packet keeps the session busy for ever");
}
