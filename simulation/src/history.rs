//! What the devices of a run did and saw, in the order of time: all that the checker knows of a run.
//!
//! A history has one entry a line: microseconds, user, device type, a verb and its fields, separated by spaces. Ids are 32
//! hexadecimal digits, fingerprints of contents 16, or `recalled`.
//!
//! | verb and fields | meaning |
//! | --- | --- |
//! | `opened in-order\|as-it-comes one-by-one\|pipelined` | the device exists from here on, before any message; whether it shows rows in order; whether it awaits each send's outcome before it sends the next into that conversation |
//! | `connecting`, `connected`, `disconnected` | it begins to connect; a connection is up, or gone |
//! | `away` | from now on it is not connected on purpose, until it begins to connect |
//! | `send TO ID CONTENT` | it was asked to send a message |
//! | `contested ID` | that send uses a message id of somebody else's: it may be refused after it was accepted |
//! | `resent ID` | it went out once more, so that each attempt may be answered |
//! | `accepted ID` | the send was accepted |
//! | `postponed ID certain\|uncertain` | refused for now; whether that attempt certainly left nothing behind |
//! | `refused ID absent\|unknown` | given up for good; whether it is certain that no attempt left anything behind |
//! | `status ID STATUS` | the edge told a status of a message of its user |
//! | `arrived PEER SEQ FROM ID CONTENT` | a message came for the first time, in whatever order |
//! | `message PEER SEQ FROM ID CONTENT` | it is shown, as the next row |
//! | `own PEER SEQ`, `recall PEER SEQ FROM TARGET`, `absent PEER SEQ` | the other kinds of the next row |
//! | `served PEER SEQ CONTENT` | a row of the past that was asked for |
//! | `rested` | the end: it was connected, had nothing under way, and nothing was to come |

use std::fmt;
use std::str::FromStr;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In the order of time.
    pub entries: Vec<Entry>,
}

/// One thing that a device did or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
    /// Who.
    pub device: Device,
    /// What.
    pub what: What,
}

/// A device: there is one of each type for each user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Its user.
    pub user: u64,
    /// Its type.
    pub kind: u8,
}

/// The id that a sender gave to a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

/// What was in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Something of this [`fingerprint`].
    Is(u64),
    /// Nothing, since it was recalled.
    Recalled,
}

/// See the module for the meaning of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's table documents the variants and their fields")]
pub enum What {
    Opened { shows_in_order: bool, sends_one_by_one: bool },
    Connecting,
    Connected,
    Disconnected,
    Away,
    Send { to: u64, id: Id, content: u64 },
    Contested { id: Id },
    Resent { id: Id },
    Accepted { id: Id },
    Postponed { id: Id, is_certain: bool },
    Refused { id: Id, may_exist: bool },
    Status { id: Id, status: i32 },
    Arrived { peer: u64, seq: u64, from: u64, id: Id, content: Content },
    Message { peer: u64, seq: u64, from: u64, id: Id, content: Content },
    Own { peer: u64, seq: u64 },
    Recall { peer: u64, seq: u64, from: u64, target: u64 },
    Absent { peer: u64, seq: u64 },
    Served { peer: u64, seq: u64, content: Content },
    Rested,
}

/// 64 bits that stand for a content (FNV-1a).
pub fn fingerprint(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}/{}", self.user, self.kind)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(fingerprint) => write!(f, "{fingerprint:016x}"),
            Self::Recalled => f.write_str("recalled"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
        match *self {
            Self::Opened { shows_in_order, sends_one_by_one } => {
                let shows = word(shows_in_order, "in-order", "as-it-comes");
                write!(f, "opened {shows} {}", word(sends_one_by_one, "one-by-one", "pipelined"))
            }
            Self::Connecting => f.write_str("connecting"),
            Self::Connected => f.write_str("connected"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Away => f.write_str("away"),
            Self::Send { to, id, content } => write!(f, "send {to} {id} {content:016x}"),
            Self::Contested { id } => write!(f, "contested {id}"),
            Self::Resent { id } => write!(f, "resent {id}"),
            Self::Accepted { id } => write!(f, "accepted {id}"),
            Self::Postponed { id, is_certain } => {
                write!(f, "postponed {id} {}", word(is_certain, "certain", "uncertain"))
            }
            Self::Refused { id, may_exist } => {
                write!(f, "refused {id} {}", word(may_exist, "unknown", "absent"))
            }
            Self::Status { id, status } => write!(f, "status {id} {status}"),
            Self::Arrived { peer, seq, from, id, content } => {
                write!(f, "arrived {peer} {seq} {from} {id} {content}")
            }
            Self::Message { peer, seq, from, id, content } => {
                write!(f, "message {peer} {seq} {from} {id} {content}")
            }
            Self::Own { peer, seq } => write!(f, "own {peer} {seq}"),
            Self::Recall { peer, seq, from, target } => write!(f, "recall {peer} {seq} {from} {target}"),
            Self::Absent { peer, seq } => write!(f, "absent {peer} {seq}"),
            Self::Served { peer, seq, content } => write!(f, "served {peer} {seq} {content}"),
            Self::Rested => f.write_str("rested"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.at_us, self.device.user, self.device.kind, self.what)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// A line that is not an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not an entry of a history: {:?}", self.line, self.text)
    }
}

impl std::error::Error for BadLine {}

impl FromStr for History {
    type Err = BadLine;

    fn from_str(text: &str) -> Result<Self, BadLine> {
        let entry = |(index, line): (usize, &str)| {
            parse(line).ok_or_else(|| BadLine { line: index + 1, text: line.to_owned() })
        };
        Ok(Self { entries: text.lines().enumerate().map(entry).collect::<Result<_, _>>()? })
    }
}

impl FromStr for Entry {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        parse(line).ok_or(())
    }
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = Words(line.split_ascii_whitespace());
    let at_us = words.number()?;
    let device = Device { user: words.number()?, kind: words.number()?.try_into().ok()? };
    let what = match words.0.next()? {
        "opened" => What::Opened {
            shows_in_order: words.either("in-order", "as-it-comes")?,
            sends_one_by_one: words.either("one-by-one", "pipelined")?,
        },
        "connecting" => What::Connecting,
        "connected" => What::Connected,
        "disconnected" => What::Disconnected,
        "away" => What::Away,
        "send" => What::Send { to: words.number()?, id: words.id()?, content: words.hex()? },
        "contested" => What::Contested { id: words.id()? },
        "resent" => What::Resent { id: words.id()? },
        "accepted" => What::Accepted { id: words.id()? },
        "postponed" => What::Postponed { id: words.id()?, is_certain: words.either("certain", "uncertain")? },
        "refused" => What::Refused { id: words.id()?, may_exist: words.either("unknown", "absent")? },
        "status" => What::Status { id: words.id()?, status: words.0.next()?.parse().ok()? },
        kind @ ("arrived" | "message") => {
            let (peer, seq, from) = (words.number()?, words.number()?, words.number()?);
            let (id, content) = (words.id()?, words.content()?);
            if kind == "arrived" {
                What::Arrived { peer, seq, from, id, content }
            } else {
                What::Message { peer, seq, from, id, content }
            }
        }
        "own" => What::Own { peer: words.number()?, seq: words.number()? },
        "recall" => What::Recall {
            peer: words.number()?,
            seq: words.number()?,
            from: words.number()?,
            target: words.number()?,
        },
        "absent" => What::Absent { peer: words.number()?, seq: words.number()? },
        "served" => What::Served { peer: words.number()?, seq: words.number()?, content: words.content()? },
        "rested" => What::Rested,
        _ => return None,
    };
    words.0.next().is_none().then_some(Entry { at_us, device, what })
}

struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl Words<'_> {
    fn number(&mut self) -> Option<u64> {
        self.0.next()?.parse().ok()
    }

    fn hex(&mut self) -> Option<u64> {
        u64::from_str_radix(self.0.next()?, 16).ok()
    }

    fn id(&mut self) -> Option<Id> {
        u128::from_str_radix(self.0.next()?, 16).ok().map(|id| Id(id.to_be_bytes()))
    }

    fn content(&mut self) -> Option<Content> {
        match self.0.next()? {
            "recalled" => Some(Content::Recalled),
            word => u64::from_str_radix(word, 16).ok().map(Content::Is),
        }
    }

    fn either(&mut self, yes: &str, no: &str) -> Option<bool> {
        let word = self.0.next()?;
        (word == yes || word == no).then_some(word == yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_back_as_it_was_written() {
        let id = Id([7; 16]);
        let (peer, seq, from) = (3, 9, 2);
        let whats = [
            What::Opened { shows_in_order: true, sends_one_by_one: false },
            What::Connecting,
            What::Connected,
            What::Send { to: 3, id, content: fingerprint(b"hello") },
            What::Contested { id },
            What::Resent { id },
            What::Accepted { id },
            What::Postponed { id, is_certain: false },
            What::Refused { id, may_exist: true },
            What::Status { id, status: -1 },
            What::Arrived { peer, seq, from, id, content: Content::Is(1) },
            What::Message { peer, seq, from, id, content: Content::Recalled },
            What::Own { peer, seq },
            What::Recall { peer, seq, from, target: 4 },
            What::Absent { peer, seq },
            What::Served { peer, seq, content: Content::Is(5) },
            What::Away,
            What::Rested,
            What::Disconnected,
        ];
        let entry = |what| Entry { at_us: 12, device: Device { user: 2, kind: 4 }, what };
        let history = History { entries: whats.map(entry).to_vec() };
        assert_eq!(history.to_string().parse(), Ok(history));
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        let error = "1 2 3 connected\n1 2 3 flew away\n".parse::<History>().expect_err("refused");
        assert_eq!(error.line, 2);
    }
}
