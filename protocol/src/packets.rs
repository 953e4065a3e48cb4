//! The packets between client and edge, as compiled from `proto/client.proto`, and how they are put in their envelopes.

use bytes::Bytes;
use prost::Message;

use crate::codes::Code;

pub use crate::compiled::v1::*;

/// `code` of an [`ImProtoResponse`] that carries what was asked for.
pub const SUCCESS: i32 = 1;

/// `format` of a message whose content was recalled; the content is empty then.
pub const FORMAT_RECALLED: i32 = 10;

/// A message's way, as its sender sees it. It only rises; −1 (failed) is apart.
pub mod status {
    /// Refused by what the log says, after it was accepted.
    pub const FAILED: i32 = -1;
    /// Accepted: durable on the bus.
    pub const ACCEPTED: i32 = 1;
    /// Stored, and no device of the receiver is connected.
    pub const OFFLINE: i32 = 2;
    /// A device of the receiver said that it has it.
    pub const DELIVERED: i32 = 3;
    /// The receiver has read it.
    pub const READ: i32 = 4;
}

/// Encodes a successful response.
pub fn response(kind: MsgType, payload: &impl Message) -> Bytes {
    let envelope = ImProtoResponse {
        r#type: kind.into(),
        payload: payload.encode_to_vec().into(),
        code: SUCCESS,
        ..Default::default()
    };
    envelope.encode_to_vec().into()
}

/// Encodes a request, as a client sends it.
pub fn request(kind: MsgType, payload: &impl Message) -> Bytes {
    let envelope = ImProtoRequest { r#type: kind.into(), payload: payload.encode_to_vec().into() };
    envelope.encode_to_vec().into()
}

/// Encodes a refusal of one request. `text` is for people and says what to do; `client_msg_id` and `msg_id` are the
/// refused request's, where it had them (else empty and 0).
pub fn nack(
    code: Code,
    text: &str,
    retry_after_ms: u32,
    refused: MsgType,
    client_msg_id: Bytes,
    msg_id: u64,
) -> Bytes {
    let envelope = ImProtoResponse {
        r#type: MsgType::Nack.into(),
        payload: client_msg_id,
        code: code as i32,
        msg: text.to_owned(),
        retry_after_ms,
        refused_type: refused.into(),
        refused_msg_id: msg_id,
    };
    envelope.encode_to_vec().into()
}
