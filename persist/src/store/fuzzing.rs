//! What any bytes must lead to where a row or a key of the embedded store is read: a row that reads the same when it is
//! written again, or an error; and no beginning of a row passes for a whole one.

use std::fmt::Debug;

use petrel_protocol::calls::Account;
use petrel_protocol::ids::{ConversationId, UserId};
use petrel_protocol::sequencer::Recall;

use super::rows::{self, Damage, Encoder};
use super::{CursorId, keys};

pub use super::embedded::torn::check as check_torn;

/// A row of any table, and a key of any table.
pub fn check(bytes: &[u8]) {
    again(bytes, rows::head, |encoder, head| encoder.head(head).to_vec());
    again(bytes, rows::key, |encoder, key| encoder.key(key).to_vec());
    again(bytes, rows::number, |encoder, number| encoder.number(*number).to_vec());
    let conversation = ConversationId::of_users(UserId(1), UserId(2));
    again(bytes, rows::recall, |encoder, (seq, position)| {
        let (target_seq, applied) = (0, 0);
        let recall = Recall { conversation, target_seq, seq: *seq, applied, position: *position };
        encoder.recall(&recall).to_vec()
    });
    // The last part of these has no length: fjall keeps a row whole or not at all.
    if let Ok(row) = rows::message(conversation, 5, bytes, true) {
        let written = Encoder::default().message(&row).to_vec();
        assert_eq!(rows::message(conversation, 5, &written, true), Ok(row));
    }
    if let Ok(account) = rows::account(UserId(5), bytes) {
        let written = Encoder::default().account(&account, 0).to_vec();
        assert_eq!(rows::account(UserId(5), &written), Ok::<Account, Damage>(account));
    }
    check_key(bytes);
}

fn again<T: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Damage>,
    write: impl Fn(&mut Encoder, &T) -> Vec<u8>,
) {
    let Ok(row) = read(bytes) else { return };
    let written = write(&mut Encoder::default(), &row);
    assert!((0..written.len()).all(|length| read(&written[..length]).is_err()), "a torn row is noticed");
    assert_eq!(read(&written), Ok(row));
}

fn check_key(bytes: &[u8]) {
    if let Some(conversation) = keys::conversation_of(bytes) {
        assert_eq!(keys::conversation_of(&keys::conversation(conversation)), Some(conversation));
        if let Some((seq, part)) = keys::message_seq(bytes) {
            assert_eq!(keys::message_seq(&keys::message(conversation, seq, part)), Some((seq, part)));
        }
    }
    let user = UserId(9);
    if let Some(device) = keys::device_of(bytes) {
        assert_eq!(keys::device_of(&keys::device(user, device)), Some(device));
    }
    if let Some(conversation) = keys::last_conversation(bytes) {
        let cursor = keys::cursor(&CursorId { user, device: None, conversation });
        assert_eq!(keys::last_conversation(&cursor), Some(conversation));
        assert_eq!(keys::last_conversation(&keys::member(user, conversation)), Some(conversation));
    }
}

#[cfg(test)]
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn seeds() {
    replay::replay("rows", check);
    replay::replay("torn", check_torn);
}
