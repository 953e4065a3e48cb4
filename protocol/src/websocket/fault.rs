//! What a peer can do wrong in its frames.

use crate::codes::close;

/// A violation by the peer. It is final: the connection closes with [`Self::close_code`] and [`Self::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.text())]
pub enum Fault {
    /// A reserved bit is set, and no extension was negotiated.
    ReservedBits,
    /// Opcode 3 to 7, or 11 to 15.
    UnknownOpcode,
    /// A client's frame without a mask.
    Unmasked,
    /// A server's frame with a mask.
    Masked,
    /// A length that is not encoded in the fewest bytes, or that has its highest bit set.
    BadLength,
    /// A control frame with more than 125 bytes.
    ControlTooLarge,
    /// A control frame in fragments.
    ControlFragmented,
    /// A continuation frame without a message to continue.
    NothingToContinue,
    /// A new message inside a fragmented one.
    MessageInMessage,
    /// A close frame of one byte, or with a code that may not be sent.
    BadClose,
    /// Text, or the reason of a close, that is not UTF-8.
    NotUtf8,
    /// A text message where only binary ones are taken.
    TextNotTaken,
    /// A message larger than the limit.
    TooLarge,
}

impl Fault {
    /// The close code (RFC 6455, section 7.4.1) that tells the peer.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => close::NOT_UTF8,
            Self::TextNotTaken => close::UNSUPPORTED,
            Self::TooLarge => close::TOO_LARGE,
            _ => close::PROTOCOL,
        }
    }

    /// What happened and what to do, short enough for a close frame.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ReservedBits => "a reserved bit is set: send frames without extensions",
            Self::UnknownOpcode => "unknown opcode: send 0, 1, 2, 8, 9 or 10",
            Self::Unmasked => "unmasked frame: a client must mask its frames",
            Self::Masked => "masked frame: a server must not mask its frames",
            Self::BadLength => "bad frame length: encode it in the fewest bytes",
            Self::ControlTooLarge => "control frame too large: send at most 125 bytes",
            Self::ControlFragmented => "fragmented control frame: send it whole",
            Self::NothingToContinue => "continuation without a message: begin one with opcode 1 or 2",
            Self::MessageInMessage => "new message inside a fragmented one: finish that one first",
            Self::BadClose => "bad close frame: send no payload, or a valid code and a reason",
            Self::NotUtf8 => "text that is not UTF-8",
            Self::TextNotTaken => "text message: send binary messages",
            Self::TooLarge => "message too large: send smaller ones",
        }
    }
}
