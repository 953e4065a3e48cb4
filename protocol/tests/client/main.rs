//! The client machine against packets that an edge would send, and some that it would not.

mod connection;
mod pushes;
mod sends;

use std::sync::Arc;

use bytes::Bytes;
use petrel_protocol::client::{Client, ClientMsgId, Config, Draft, Input, Output, Outputs, Refusal, Row};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::UserId;
use petrel_protocol::limits;
use petrel_protocol::packets::{
    self, C2cAckReq, C2cMsgPush, C2cSendReq, C2cWithdrawReq, Drain, ImProtoRequest, ImProtoResponse, MsgType,
    Ready, SyncRange, SyncReq, SyncRow, sync_row,
};
use petrel_protocol::time::Now;
use prost::Message;

const ME: UserId = UserId(1);
const PEER: UserId = UserId(2);
const OTHER: UserId = UserId(3);

/// A client with a clock that the test moves.
struct World {
    client: Client,
    now_ms: u64,
}

impl World {
    fn new(config: Config) -> Self {
        Self { client: Client::new(ME, Arc::new(config)), now_ms: 1_000 }
    }

    fn connected() -> Self {
        let mut world = Self::new(Config { starts_at_one: true, ..Config::default() });
        world.handle(Input::Connected);
        world
    }

    /// What the input led to, and the packets that were sent, decoded.
    fn handle(&mut self, input: Input<'_>) -> (Vec<Output>, Vec<(MsgType, Bytes)>) {
        let mut out = Outputs::default();
        let now = Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms };
        self.client.handle(now, input, &mut out);
        let outputs = out.take();
        let sent = outputs.iter().filter_map(|o| match o {
            Output::Transmit(packet) => {
                let request = ImProtoRequest::decode(out.bytes(packet)).expect("a request");
                Some((MsgType::try_from(request.r#type).expect("a type"), request.payload))
            }
            _ => None,
        });
        let sent = sent.collect();
        (outputs.into_iter().filter(|o| !matches!(o, Output::Transmit(_))).collect(), sent)
    }

    fn sends(&mut self, input: Input<'_>) -> Vec<(u8, u32)> {
        let (_, sent) = self.handle(input);
        let sends = sent.iter().filter(|(kind, _)| *kind == MsgType::C2cSend);
        let decoded = sends.map(|(_, payload)| {
            let packet = C2cSendReq::decode(&payload[..]).expect("a send");
            (packet.client_msg_id[0], packet.attempt.expect("an attempt"))
        });
        decoded.collect()
    }

    fn send(&mut self, n: u8, to: UserId) -> Vec<(u8, u32)> {
        self.sends(Input::Send(draft(n, to)))
    }

    fn receive(&mut self, kind: MsgType, payload: &impl Message) -> (Vec<Output>, Vec<(MsgType, Bytes)>) {
        self.handle(Input::Packet(&packets::response(kind, payload)))
    }

    fn tick_at(&mut self, now_ms: u64, input: Input<'_>) -> Vec<(u8, u32)> {
        self.now_ms = now_ms;
        self.sends(input)
    }
}

fn id(n: u8) -> ClientMsgId {
    [n; 16]
}

fn draft(n: u8, to: UserId) -> Draft<'static> {
    Draft { id: id(n), msg_id: 0, to, format: 1, content: "hello" }
}

fn ack(n: u8, status: i32, seq: u64) -> Bytes {
    let ack = C2cAckReq {
        client_msg_id: Bytes::copy_from_slice(&id(n)),
        msg_id: 100 + u64::from(n),
        from: 0,
        to: ME.0,
        status,
        seq,
    };
    packets::response(MsgType::C2cAck, &ack)
}

fn nack(n: u8, code: Code, retry_after_ms: u32) -> Bytes {
    packets::nack(code, "a text", retry_after_ms, MsgType::C2cSend, Bytes::copy_from_slice(&id(n)), 0)
}

fn push(from: UserId, seq: u64) -> C2cMsgPush {
    C2cMsgPush {
        client_msg_id: Bytes::copy_from_slice(&[seq as u8; 16]),
        msg_id: seq.wrapping_add(1_000),
        from: from.0,
        to: if from == ME { PEER.0 } else { ME.0 },
        format: 1,
        content: format!("message {seq}"),
        time: 5,
        seq,
    }
}

fn shown(outputs: &[Output]) -> Vec<u64> {
    let rows =
        outputs.iter().filter_map(|o| if let Output::Shown(_, row) = o { Some(row.seq()) } else { None });
    rows.collect()
}

fn arrived(outputs: &[Output]) -> Vec<u64> {
    let pushes =
        outputs.iter().filter_map(|o| if let Output::Arrived(push) = o { Some(push.seq) } else { None });
    pushes.collect()
}
