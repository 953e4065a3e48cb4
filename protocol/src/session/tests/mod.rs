//! What a session decides, one behaviour a test.

mod life;
mod recalls;
mod routes;
mod sends;
mod statuses;
mod syncs;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::calls::{Own, Push, StatusUpdate, delivery::What};
use crate::events::{self, Status, Stored, stored, uplink::Body};
use crate::packets::{
    C2cAckReq, C2cMsgPush, C2cSendReq, C2cWithdrawReq, GetBatchMsgIdsReq, ImProtoResponse, SyncReq, request,
    status,
};

const ME: UserId = UserId(7);
const PEER: UserId = UserId(9);

struct World {
    session: Session,
    shared: Shared,
    out: Outputs,
    now: Now,
}

/// What came out, with packets decoded.
#[derive(Debug)]
enum Seen {
    Packet(ImProtoResponse),
    Other(Output),
}

impl World {
    fn new() -> Self {
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_800_000_000_000 };
        let shared = Shared { spare_ids: (1_000..2_000).collect(), ..Shared::default() };
        Self { session: Session::new(now, ME, Device::Web, 3), shared, out: Outputs::default(), now }
    }

    /// Connected, synced, live.
    fn live() -> Self {
        let mut world = Self::new();
        assert!(matches!(&world.give(Input::Start)[..], [Seen::Other(Output::Claim)]));
        let seen = world.give(Input::Claimed(Some(ClaimReply::default())));
        assert!(matches!(&seen[..], [Seen::Other(Output::Sync(_))]), "{seen:?}");
        let seen = world.give(Input::Synced(Some(SyncReply::default())));
        assert_eq!(kinds(&seen), [MsgType::Ready]);
        world
    }

    fn give(&mut self, input: Input<'_>) -> Vec<Seen> {
        self.session.handle(self.now, input, &mut self.shared, &mut self.out);
        let actions = self.out.take();
        let seen = actions
            .into_iter()
            .map(|action| match action {
                Output::Send(sent) => {
                    Seen::Packet(ImProtoResponse::decode(self.out.bytes(&sent)).expect("valid"))
                }
                Output::SendShared(bytes) => Seen::Packet(ImProtoResponse::decode(bytes).expect("valid")),
                other => Seen::Other(other),
            })
            .collect();
        self.out.clear(Vec::new());
        seen
    }

    fn packet(&mut self, kind: MsgType, payload: &impl Message) -> Vec<Seen> {
        self.give(Input::Packet(&request(kind, payload)))
    }

    fn send(&mut self, n: u8) -> Vec<Seen> {
        self.packet(MsgType::C2cSend, &message(n))
    }

    fn nack_of(&mut self, kind: MsgType, payload: &impl Message) -> i32 {
        code(&self.packet(kind, payload))
    }

    fn push(&mut self, seq: u64) -> Vec<Seen> {
        self.give(Input::Delivery(What::Push(Push {
            conversation: Some(ConversationId::of_users(ME, PEER).into()),
            seq,
            msg_id: 100 + seq,
            client_msg_id: Bytes::from(vec![seq as u8; 16]),
            from: PEER.0,
            packet: crate::packets::response(MsgType::C2cMsgPush, &C2cMsgPush { seq, ..Default::default() }),
            is_recall: false,
        })))
    }

    fn ack(&mut self, seq: u64, status: i32) -> Vec<Seen> {
        let ack = C2cAckReq { msg_id: 100 + seq, from: ME.0, to: PEER.0, status, ..Default::default() };
        self.packet(MsgType::C2cAck, &ack)
    }

    fn flush(&mut self) -> Vec<Receipt> {
        let seen = self.give(Input::FlushReceipts);
        seen.into_iter()
            .filter_map(|s| match s {
                Seen::Other(Output::Receipt(_, receipt)) => Some(receipt),
                _ => None,
            })
            .collect()
    }
}

fn message(n: u8) -> C2cSendReq {
    C2cSendReq {
        client_msg_id: Bytes::from(vec![n; 16]),
        from: ME.0,
        to: PEER.0,
        format: 1,
        content: format!("message {n}"),
        attempt: Some(0),
        ..Default::default()
    }
}

fn kinds(seen: &[Seen]) -> Vec<MsgType> {
    seen.iter()
        .filter_map(|s| match s {
            Seen::Packet(p) => Some(p.r#type()),
            Seen::Other(_) => None,
        })
        .collect()
}

fn code(seen: &[Seen]) -> i32 {
    match seen {
        [Seen::Packet(p), ..] if p.r#type() == MsgType::Nack => {
            assert!(!p.msg.is_empty(), "a nack says what to do");
            p.code
        }
        other => panic!("not a nack: {other:?}"),
    }
}

fn statuses(seen: &[Seen]) -> Vec<i32> {
    seen.iter()
        .filter_map(|s| match s {
            Seen::Packet(p) if p.r#type() == MsgType::C2cAck => {
                Some(C2cAckReq::decode(p.payload.clone()).expect("valid").status)
            }
            _ => None,
        })
        .collect()
}

fn published(seen: &[Seen]) -> (&Uplink, u32) {
    match seen {
        [Seen::Other(Output::Publish(_, event, ticket))] => (event, *ticket),
        other => panic!("not a publication: {other:?}"),
    }
}

fn own(world: &mut World, seq: u64, msg_id: u64, is_offline: bool) -> Vec<Seen> {
    world.give(Input::Delivery(What::Own(Own {
        conversation: Some(ConversationId::of_users(ME, PEER).into()),
        seq,
        msg_id,
        client_msg_id: message(1).client_msg_id,
        is_offline,
        ..Default::default()
    })))
}

fn status_of(world: &mut World, msg_id: u64, status: i32) -> Vec<Seen> {
    let told = Status { msg_id, client_msg_id: message(1).client_msg_id, status, seq: 1 };
    world.give(Input::Delivery(What::Status(StatusUpdate { conversation: None, status: Some(told) })))
}

fn range(seqs: std::ops::RangeInclusive<u64>) -> Range {
    let row = |seq| Stored {
        seq,
        user: PEER.0,
        device: 1,
        body: Some(stored::Body::Message(events::Message { msg_id: 100 + seq, ..Default::default() })),
        ..Default::default()
    };
    Range {
        conversation: Some(ConversationId::of_users(ME, PEER).into()),
        from_seq: *seqs.start(),
        to_seq: *seqs.end(),
        head_seq: *seqs.end(),
        rows: seqs.map(row).collect(),
    }
}
