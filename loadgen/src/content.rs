//! What is sent: an id that says whose message it is, and a content that shows any change.

use petrel_protocol::client::ClientMsgId;
use petrel_protocol::ids::UserId;
use petrel_protocol::map::fingerprint;

use crate::stamp::Stamp;

/// The smallest content: the intended time, the message and a checksum, in hexadecimal.
pub const CONTENT_BYTES_MIN: usize = 8 + 4 + 8 + 16;

/// A message of this run: the thread that sent it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    /// The sending thread.
    pub station: u16,
    /// The message's place among those of the thread.
    pub index: u32,
}

/// What an id that came back turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A message of this run.
    Own(MessageRef),
    /// A message of another run, or of another kind of client.
    Foreign,
}

/// Writes and checks the ids and contents of one run.
#[derive(Clone, Debug)]
pub struct Contents {
    nonce: u32,
    filler: String,
}

impl Contents {
    /// For a run; `nonce` tells its messages from those of other runs, `bytes_max` is the largest content.
    pub fn new(nonce: u32, bytes_max: usize) -> Self {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .";
        // Twice the largest, so that each message's filler can start elsewhere.
        let mut rng = crate::random::Random::new(u64::from(nonce));
        let filler = (0..bytes_max * 2).map(|_| LETTERS[(rng.bits() % 64) as usize] as char).collect();
        Self { nonce, filler }
    }

    /// The idempotency key of a message.
    pub fn id(&self, message: MessageRef) -> ClientMsgId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.nonce.to_be_bytes());
        id[4..6].copy_from_slice(&message.station.to_be_bytes());
        id[8..12].copy_from_slice(&message.index.to_be_bytes());
        let check = fingerprint(0, &[&id[..12]]) as u32;
        id[12..].copy_from_slice(&check.to_be_bytes());
        id
    }

    /// Which message has this id.
    pub fn origin(&self, id: &[u8]) -> Origin {
        let Ok(id) = ClientMsgId::try_from(id) else { return Origin::Foreign };
        let station = u16::from_be_bytes([id[4], id[5]]);
        let index = u32::from_be_bytes([id[8], id[9], id[10], id[11]]);
        let message = MessageRef { station, index };
        if self.id(message) == id { Origin::Own(message) } else { Origin::Foreign }
    }

    /// Writes the content of a message to `out`, which is cleared first.
    pub fn write(
        &self,
        message: MessageRef,
        parties: (UserId, UserId),
        intended: Stamp,
        size: usize,
        out: &mut String,
    ) {
        use std::fmt::Write;
        let filler = self.filler(message, size);
        let check = self.check(message, parties, intended, filler);
        out.clear();
        let MessageRef { station, index } = message;
        write!(out, "{:08x}{station:04x}{index:08x}{check:016x}", intended.0).expect("a String grows");
        out.push_str(filler);
    }

    /// Checks a content that came: when the message was to be sent, or none where anything of it was changed.
    pub fn read(&self, message: MessageRef, parties: (UserId, UserId), content: &str) -> Option<Stamp> {
        let number = |range: std::ops::Range<usize>| u64::from_str_radix(content.get(range)?, 16).ok();
        let intended = Stamp(number(0..8)? as u32);
        let named = MessageRef { station: number(8..12)? as u16, index: number(12..20)? as u32 };
        let check = number(20..CONTENT_BYTES_MIN)?;
        let filler = content.get(CONTENT_BYTES_MIN..)?;
        let is_intact = named == message && check == self.check(message, parties, intended, filler);
        is_intact.then_some(intended)
    }

    fn filler(&self, message: MessageRef, size: usize) -> &str {
        let len = size.saturating_sub(CONTENT_BYTES_MIN).min(self.filler.len() / 2);
        let start = message.index as usize * 31 % (self.filler.len() / 2).max(1);
        &self.filler[start..start + len]
    }

    fn check(&self, message: MessageRef, (from, to): (UserId, UserId), intended: Stamp, filler: &str) -> u64 {
        let id = self.id(message);
        let parts: [&[u8]; 5] =
            [&id, &from.0.to_be_bytes(), &to.0.to_be_bytes(), &intended.0.to_be_bytes(), filler.as_bytes()];
        fingerprint(u64::from(self.nonce), &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: MessageRef = MessageRef { station: 3, index: 70_000 };
    const PARTIES: (UserId, UserId) = (UserId(10), UserId(20));

    #[test]
    fn what_was_written_is_read_and_any_change_shows() {
        let contents = Contents::new(9, 256);
        for size in [CONTENT_BYTES_MIN, 128, 256] {
            let mut content = String::new();
            contents.write(MESSAGE, PARTIES, Stamp(77), size, &mut content);
            assert_eq!(content.len(), size);
            assert_eq!(contents.read(MESSAGE, PARTIES, &content), Some(Stamp(77)));
            for at in 0..size {
                let mut changed = content.clone().into_bytes();
                changed[at] ^= 1;
                let changed = String::from_utf8(changed).expect("still ASCII");
                assert_eq!(contents.read(MESSAGE, PARTIES, &changed), None, "a change at {at} of {size}");
            }
            assert_eq!(contents.read(MESSAGE, PARTIES, &content[..size - 1]), None);
            assert_eq!(contents.read(MESSAGE, (UserId(20), UserId(10)), &content), None);
        }
        assert_eq!(contents.read(MESSAGE, PARTIES, "é"), None);
    }

    #[test]
    fn ids_of_other_runs_are_foreign() {
        let contents = Contents::new(9, 256);
        let id = contents.id(MESSAGE);
        assert_eq!(contents.origin(&id), Origin::Own(MESSAGE));
        assert_eq!(Contents::new(10, 256).origin(&id), Origin::Foreign);
        assert_eq!(contents.origin(&id[..15]), Origin::Foreign);
        let mut changed = id;
        changed[11] ^= 1;
        assert_eq!(contents.origin(&changed), Origin::Foreign);
    }
}
