//! WebSocket (RFC 6455) without I/O: frames of both roles, and the upgrade.
//!
//! Bytes go in, events come out; the caller owns the socket. A whole frame is unmasked and lent where it lies in the
//! caller's buffer. Only what a read left incomplete is kept, in memory that a connection gives back as soon as the
//! message is complete. No extension is negotiated, so every reserved bit is a fault.

mod decode;
mod fault;
mod frame;
pub mod upgrade;

pub use decode::{Config, Decoder, Event, Role};
pub use fault::Fault;
pub use frame::{
    ClosePayload, HEADER_BYTES_MAX, Opcode, close_payload, encode_frame, encode_header, is_valid_close_code,
    mask,
};
