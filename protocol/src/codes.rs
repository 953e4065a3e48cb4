//! The negative codes that clients see in [`crate::packets::ImProtoResponse`], and the WebSocket close codes.

/// Why a request was refused or a session ended. The numbers are part of the wire format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// The packet is not valid protobuf, or a field has a value that it may not have.
    BadPacket = -100,
    /// A packet type that this edge does not know or that only a server may send.
    UnknownType = -101,
    /// `from` (or `user_id`) is not the session's user.
    NotYourUser = -102,
    /// The content is larger than allowed.
    TooLarge = -103,
    /// Neither `client_msg_id` (16 bytes) nor `msg_id` was given, so a resend could not be recognised.
    MissingId = -104,
    /// `to` is nobody: 0, or the sender.
    BadRecipient = -105,
    /// No such message.
    NotFound = -110,
    /// The message belongs to somebody else.
    NotYours = -111,
    /// The recall window is over.
    RecallTooLate = -112,
    /// This msg_id was used by another sender.
    IdTaken = -113,
    /// Too much is under way; send it again after `retry_after_ms`.
    Overloaded = -120,
    /// This session sends faster than it may; send it again after `retry_after_ms`.
    RateLimited = -121,
    /// Whether the message was accepted is unknown; send it again with the same id.
    OutcomeUnknown = -122,
    /// An earlier message of this session in this conversation has an unknown outcome; send that one again first.
    HeldBack = -123,
    /// This edge is about to stop; reconnect and send it again.
    Draining = -124,
    /// A service behind the edge is out of reach; send it again after `retry_after_ms`.
    Unavailable = -125,
    /// The same user logged in on the same device type elsewhere.
    LoggedInElsewhere = -130,
    /// The token is missing, expired, forged or revoked; log in again.
    BadToken = -131,
}

/// WebSocket close codes (RFC 6455, section 7.4; 4000 and up are Petrel's own).
pub mod close {
    /// Done.
    pub const NORMAL: u16 = 1000;
    /// The server is about to stop.
    pub const GOING_AWAY: u16 = 1001;
    /// A violation of the WebSocket protocol.
    pub const PROTOCOL: u16 = 1002;
    /// A text message: only binary ones are taken.
    pub const UNSUPPORTED: u16 = 1003;
    /// Text that is not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// A message larger than the limit.
    pub const TOO_LARGE: u16 = 1009;
    /// The server cannot go on with this session.
    pub const INTERNAL: u16 = 1011;
    /// Try again later.
    pub const TRY_AGAIN: u16 = 1013;
    /// Logged in elsewhere on the same device type.
    pub const LOGGED_IN_ELSEWHERE: u16 = 4001;
    /// The token was revoked or ran out.
    pub const BAD_TOKEN: u16 = 4002;
    /// The client does not read, and its queue is at its bound.
    pub const SLOW_READER: u16 = 4003;
    /// Too many bad packets.
    pub const TOO_MANY_FAULTS: u16 = 4004;
    /// No sign of life within the heartbeat's time.
    pub const SILENT: u16 = 4005;
}
