//! One client of a crowd: where it stands and what it answers. A few dozen bytes.

use std::ops::ControlFlow::{Break, Continue};

use petrel_protocol::packets::{
    C2cAckReq, C2cMsgPush, C2cSendReq, ImProtoResponse, MsgType, SUCCESS, request, status,
};
use petrel_protocol::websocket::{self, Decoder, Event, Opcode, encode_frame};
use prost::Message;

use crate::stamp::Stamp;

/// Where a client stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has this slot.
    #[default]
    Free,
    /// The TCP connection is being made.
    Connecting,
    /// The upgrade was asked for.
    Upgrading,
    /// Upgraded; READY has not come.
    LoggingIn,
    /// Logged in and up to date.
    Ready,
    /// It was told to go.
    Leaving,
}

/// One client.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its number in the section.
    pub(super) number: u32,
    pub(super) stage: Stage,
    /// When it began to connect.
    pub(super) began: Stamp,
    pub(super) decoder: Decoder,
}

/// What a read said.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) is_ready: bool,
    pub(super) pings: u64,
    /// Intended times of messages that arrived, in µs.
    pub(super) arrived: Vec<u64>,
    /// Intended times of messages that were accepted, in µs.
    pub(super) accepted: Vec<u64>,
    pub(super) refused: u64,
    /// The server ends the connection.
    pub(super) fault: Option<String>,
}

const TAKES: websocket::Config = websocket::Config {
    role: websocket::Role::Client,
    message_bytes_max: petrel_protocol::limits::EGRESS_BYTES_MAX,
    take_text: true,
};
/// Clients must mask; nothing here is worth a secret key.
const MASK: [u8; 4] = [7; 4];

impl Member {
    /// Takes the bytes of one read; appends the answers to `out`.
    pub(super) fn read(&mut self, user: u64, bytes: &mut [u8], out: &mut Vec<u8>) -> News {
        let mut news = News::default();
        let fed = self.decoder.feed(&TAKES, bytes, &mut |event| {
            match event {
                Event::Binary(packet) => take_packet(user, packet, &mut news, out),
                Event::Ping(payload) => {
                    news.pings += 1;
                    encode_frame(out, Opcode::Pong, payload, Some(MASK));
                }
                Event::Pong(_) | Event::Text(_) => {}
                Event::Close(code, reason) => {
                    news.fault = Some(format!("closed by the server: {} {reason}", code.unwrap_or_default()));
                    return Break(());
                }
            }
            Continue(())
        });
        if let Err(fault) = fed {
            news.fault = Some(format!("not WebSocket: {fault}"));
        }
        news
    }
}

/// Appends a message to another user, intended at `at_us`.
pub(super) fn encode_send(out: &mut Vec<u8>, from: u64, to: u64, at_us: u64, nonce: u64) {
    let mut client_msg_id = at_us.to_be_bytes().to_vec();
    client_msg_id.extend_from_slice(&nonce.to_be_bytes());
    let send = C2cSendReq {
        client_msg_id: client_msg_id.into(),
        from,
        to,
        format: 1,
        content: "a message of about the length that people write to each other by hand, give or take a word or two"
            .to_owned(),
        attempt: Some(0),
        ..Default::default()
    };
    encode_frame(out, Opcode::Binary, &request(MsgType::C2cSend, &send), Some(MASK));
}

fn take_packet(user: u64, packet: &[u8], news: &mut News, out: &mut Vec<u8>) {
    let Ok(envelope) = ImProtoResponse::decode(packet) else {
        news.fault = Some("a packet that cannot be decoded".to_owned());
        return;
    };
    match MsgType::try_from(envelope.r#type) {
        Ok(MsgType::Ready) => news.is_ready = true,
        Ok(MsgType::C2cMsgPush) => {
            let Ok(push) = C2cMsgPush::decode(envelope.payload) else { return };
            news.arrived.extend(intended(&push.client_msg_id));
            let ack = C2cAckReq {
                client_msg_id: push.client_msg_id,
                msg_id: push.msg_id,
                from: user,
                to: push.from,
                status: status::DELIVERED,
                seq: 0,
            };
            encode_frame(out, Opcode::Binary, &request(MsgType::C2cAck, &ack), Some(MASK));
        }
        Ok(MsgType::C2cAck) => {
            let Ok(ack) = C2cAckReq::decode(envelope.payload) else { return };
            if ack.status == status::ACCEPTED && envelope.code == SUCCESS {
                news.accepted.extend(intended(&ack.client_msg_id));
            }
        }
        Ok(MsgType::Nack) => news.refused += 1,
        Ok(MsgType::Kick) => news.fault = Some(format!("kicked: {}", envelope.msg)),
        _ => {}
    }
}

/// The intended time that [`encode_send`] put into a message's id.
fn intended(client_msg_id: &[u8]) -> Option<u64> {
    client_msg_id.first_chunk().map(|at| u64::from_be_bytes(*at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use petrel_protocol::packets::{Ready, response};

    #[test]
    fn a_client_of_a_crowd_takes_few_bytes() {
        assert!(size_of::<Member>() <= 32, "{}", size_of::<Member>());
    }

    #[test]
    fn it_answers_pings_and_acknowledges_pushes() {
        let push = C2cMsgPush { client_msg_id: vec![0; 16].into(), msg_id: 5, from: 9, ..Default::default() };
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, Opcode::Binary, &response(MsgType::Ready, &Ready::default()), None);
        encode_frame(&mut bytes, Opcode::Ping, b"1234", None);
        encode_frame(&mut bytes, Opcode::Binary, &response(MsgType::C2cMsgPush, &push), None);
        let (mut member, mut out) = (Member::default(), Vec::new());
        let news = member.read(7, &mut bytes, &mut out);
        assert!(news.is_ready && news.fault.is_none());
        assert_eq!((news.pings, &news.arrived[..]), (1, &[0][..]));
        let server = websocket::Config { role: websocket::Role::Server, ..TAKES };
        let mut kinds = Vec::new();
        let fed = Decoder::new().feed(&server, &mut out, &mut |event| {
            kinds.push(matches!(event, Event::Pong(b"1234") | Event::Binary(_)));
            Continue(())
        });
        assert!(fed.is_ok());
        assert_eq!(kinds, [true, true]);
    }
}
