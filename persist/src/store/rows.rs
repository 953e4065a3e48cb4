//! The encodings of the rows: a version byte, then numbers as varints (7 bits a byte, lowest first), texts last.
//!
//! A decoder takes any bytes: what is torn or foreign is an error, never a panic.

use bytes::Bytes;
use petrel_protocol::calls::Account;
use petrel_protocol::events::{Message, Recalled};
use petrel_protocol::ids::{ConversationId, Position, UserId};
use petrel_protocol::limits::CLIENT_MSG_ID_BYTES;
use petrel_protocol::sequencer::{Head, KeyRow, MessageRow, Outcome, Recall, RowBody};

/// What is wrong with a row.
pub(super) type Damage = &'static str;

const VERSION: u8 = 1;

/// A row under construction. Its buffer is used again for the next one.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn head(&mut self, head: &Head) -> &[u8] {
        let Head { position, seq, applied, visible, edge_time_ms } = *head;
        self.start().numbers(&[applied, seq, visible, edge_time_ms]).position(position);
        &self.0
    }

    pub(super) fn key(&mut self, row: &KeyRow) -> &[u8] {
        let (kind, value) = match row.outcome {
            Outcome::Seq(seq) => (0, seq),
            Outcome::Alias(seq) => (1, seq),
            Outcome::Refused(code) => (2, zigzag(code)),
        };
        self.start()
            .numbers(&[kind, value, row.applied, row.edge_time_ms, row.sender.0])
            .position(row.position);
        &self.0
    }

    pub(super) fn message(&mut self, row: &MessageRow) -> &[u8] {
        let kind = match row.body {
            RowBody::Message(_) => 0,
            RowBody::Recall(_) => 1,
        };
        let shared = [kind, row.applied, row.sender.0, u64::from(row.device), row.edge_time_ms, row.visible];
        self.start().numbers(&shared);
        match &row.body {
            RowBody::Recall(recall) => {
                self.numbers(&[recall.msg_id, recall.target_seq]);
            }
            RowBody::Message(m) => {
                self.numbers(&[m.msg_id, zigzag(m.format), m.time, m.client_msg_id.len() as u64]);
                self.0.extend_from_slice(&m.client_msg_id);
                self.0.extend_from_slice(m.content.as_bytes());
            }
        }
        &self.0
    }

    pub(super) fn recall(&mut self, recall: &Recall) -> &[u8] {
        self.start().numbers(&[recall.applied, recall.seq]).position(recall.position);
        &self.0
    }

    pub(super) fn number(&mut self, number: u64) -> &[u8] {
        self.start().numbers(&[number]);
        &self.0
    }

    pub(super) fn account(&mut self, account: &Account, time_ms: u64) -> &[u8] {
        self.start().numbers(&[time_ms, account.username.len() as u64]);
        self.0.extend_from_slice(account.username.as_bytes());
        self.0.extend_from_slice(account.password_hash.as_bytes());
        &self.0
    }

    /// A row that says nothing but that it is there.
    pub(super) fn empty(&mut self) -> &[u8] {
        self.start();
        &self.0
    }

    fn start(&mut self) -> &mut Self {
        self.0.clear();
        self.0.push(VERSION);
        self
    }

    fn numbers(&mut self, numbers: &[u64]) -> &mut Self {
        for number in numbers {
            let mut rest = *number;
            while rest >= 0x80 {
                self.0.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            self.0.push(rest as u8);
        }
        self
    }

    fn position(&mut self, position: Position) -> &mut Self {
        let Position { generation, ledger, entry, index } = position;
        self.numbers(&[u64::from(generation), ledger, entry, u64::from(index)])
    }
}

fn zigzag(number: i32) -> u64 {
    u64::from((number.wrapping_shl(1) ^ (number >> 31)) as u32)
}

/// Reads one row from its start.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn start(row: &'a [u8]) -> Result<Self, Damage> {
        match row.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some(_) => Err("its version is unknown"),
            None => Err("it is empty"),
        }
    }

    fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or("it is torn")?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number is too large")
    }

    fn small(&mut self) -> Result<u32, Damage> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    fn signed(&mut self) -> Result<i32, Damage> {
        let number = self.small()?;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    fn position(&mut self) -> Result<Position, Damage> {
        let (generation, ledger) = (self.small()?, self.number()?);
        Ok(Position { generation, ledger, entry: self.number()?, index: self.small()? })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it is torn")?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(bytes: &[u8]) -> Result<String, Damage> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "its text is not UTF-8")
    }

    fn end(self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err("it is longer than it should be") }
    }
}

pub(super) fn head(row: &[u8]) -> Result<Head, Damage> {
    let mut decoder = Decoder::start(row)?;
    let (applied, seq) = (decoder.number()?, decoder.number()?);
    let (visible, edge_time_ms) = (decoder.number()?, decoder.number()?);
    let position = decoder.position()?;
    decoder.end()?;
    Ok(Head { position, seq, applied, visible, edge_time_ms })
}

pub(super) fn key(row: &[u8]) -> Result<KeyRow, Damage> {
    let mut decoder = Decoder::start(row)?;
    let outcome = match decoder.number()? {
        0 => Outcome::Seq(decoder.number()?),
        1 => Outcome::Alias(decoder.number()?),
        2 => Outcome::Refused(decoder.signed()?),
        _ => return Err("its kind is unknown"),
    };
    let (applied, edge_time_ms) = (decoder.number()?, decoder.number()?);
    let sender = UserId(decoder.number()?);
    let position = decoder.position()?;
    decoder.end()?;
    Ok(KeyRow { applied, position, edge_time_ms, sender, outcome })
}

/// `is_content_wanted` false spares the copy of a content that nobody will see.
pub(super) fn message(
    conversation: ConversationId,
    seq: u64,
    row: &[u8],
    is_content_wanted: bool,
) -> Result<MessageRow, Damage> {
    let mut decoder = Decoder::start(row)?;
    let kind = decoder.number()?;
    let (applied, sender) = (decoder.number()?, UserId(decoder.number()?));
    let (device, edge_time_ms, visible) = (decoder.small()?, decoder.number()?, decoder.number()?);
    let body = match kind {
        0 => {
            let (msg_id, format, time) = (decoder.number()?, decoder.signed()?, decoder.number()?);
            let length = decoder.number()? as usize;
            if length != 0 && length != CLIENT_MSG_ID_BYTES {
                return Err("its client_msg_id has a wrong size");
            }
            let client_msg_id = Bytes::copy_from_slice(decoder.take(length)?);
            let content = if is_content_wanted { Decoder::text(decoder.0)? } else { String::new() };
            RowBody::Message(Message { client_msg_id, msg_id, format, content, time, is_recalled: false })
        }
        1 => {
            let recalled = Recalled { msg_id: decoder.number()?, target_seq: decoder.number()? };
            decoder.end()?;
            RowBody::Recall(recalled)
        }
        _ => return Err("its kind is unknown"),
    };
    Ok(MessageRow { conversation, seq, applied, sender, device, edge_time_ms, visible, body })
}

/// The seq and position of a recall.
pub(super) fn recall(row: &[u8]) -> Result<(u64, Position), Damage> {
    let mut decoder = Decoder::start(row)?;
    let (_applied, seq) = (decoder.number()?, decoder.number()?);
    let position = decoder.position()?;
    decoder.end()?;
    Ok((seq, position))
}

pub(super) fn number(row: &[u8]) -> Result<u64, Damage> {
    let mut decoder = Decoder::start(row)?;
    let number = decoder.number()?;
    decoder.end()?;
    Ok(number)
}

/// The account, without its token version.
pub(super) fn account(user: UserId, row: &[u8]) -> Result<Account, Damage> {
    let mut decoder = Decoder::start(row)?;
    let _time_ms = decoder.number()?;
    let length = decoder.number()? as usize;
    let username = Decoder::text(decoder.take(length)?)?;
    let password_hash = Decoder::text(decoder.0)?;
    Ok(Account { user: user.0, username, password_hash, token_version: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position { generation: 3, ledger: u64::MAX, entry: 300, index: 1_023 }
    }

    fn message_row(content: &str) -> MessageRow {
        let client_msg_id = Bytes::from_static(&[7; 16]);
        let body =
            Message { client_msg_id, msg_id: 9, format: -2, content: content.into(), ..Default::default() };
        let conversation = ConversationId::of_users(UserId(1), UserId(u64::MAX));
        MessageRow {
            conversation,
            seq: 5,
            applied: 6,
            sender: UserId(u64::MAX),
            device: 6,
            edge_time_ms: 1 << 41,
            visible: 4,
            body: RowBody::Message(body),
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let mut encoder = Encoder::default();
        let a = Head { position: position(), seq: u64::MAX, applied: 127, visible: 128, edge_time_ms: 0 };
        assert_eq!(head(encoder.head(&a)), Ok(a));
        for outcome in
            [Outcome::Seq(1), Outcome::Alias(u64::MAX), Outcome::Refused(-113), Outcome::Refused(i32::MIN)]
        {
            let row =
                KeyRow { applied: 1, position: position(), edge_time_ms: 2, sender: UserId(3), outcome };
            assert_eq!(key(encoder.key(&row)), Ok(row));
        }
        let row = message_row("grüße");
        assert_eq!(message(row.conversation, row.seq, encoder.message(&row), true), Ok(row.clone()));
        let body = RowBody::Recall(Recalled { msg_id: 9, target_seq: 2 });
        let row = MessageRow { body, ..row };
        assert_eq!(message(row.conversation, row.seq, encoder.message(&row), true), Ok(row));
        assert_eq!(number(encoder.number(u64::MAX)), Ok(u64::MAX));
    }

    #[test]
    fn no_torn_or_flipped_row_is_a_panic() {
        let mut encoder = Encoder::default();
        let row = message_row("text");
        let mut all = vec![encoder.message(&row).to_vec()];
        all.push(encoder.head(&Head { position: position(), ..Head::default() }).to_vec());
        let outcome = Outcome::Refused(-1);
        let key_row =
            KeyRow { applied: 1, position: position(), edge_time_ms: 2, sender: UserId(3), outcome };
        all.push(encoder.key(&key_row).to_vec());
        for bytes in all {
            for length in 0..bytes.len() {
                for flip in 0..=255_u8 {
                    let mut bytes = bytes[..=length].to_vec();
                    bytes[length] ^= flip;
                    let _ = head(&bytes);
                    let _ = key(&bytes);
                    let _ = recall(&bytes);
                    let _ = number(&bytes);
                    let _ = account(UserId(1), &bytes);
                    let _ = message(row.conversation, 1, &bytes, true);
                }
            }
        }
        let torn = encoder.head(&Head { position: position(), ..Head::default() }).to_vec();
        for length in 0..torn.len() {
            assert!(head(&torn[..length]).is_err());
        }
        assert_eq!(head(&[9, 9]), Err("its version is unknown"));
    }
}
