//! From a pack to events. What cannot be read becomes a dead letter, one for each event where they can be told apart.

use bytes::{Buf, Bytes};
use prost::Message;

use super::Config;
use super::rows::{DeadLetter, Fault, Key, KeyId};
use crate::events::{Send, Uplink, UplinkPack, uplink};
use crate::ids::{ConversationId, Position, UserId};
use crate::{limits, topics};

/// An event that can be decided about.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) position: Position,
    pub(super) conversation: ConversationId,
    pub(super) user: UserId,
    pub(super) uplink: Uplink,
}

impl Event {
    /// The keys of a send: the client's, where it chose one, and the message's.
    pub(super) fn keys(&self, send: &Send) -> (Option<KeyId>, KeyId) {
        let conversation = self.conversation;
        let id = <[u8; limits::CLIENT_MSG_ID_BYTES]>::try_from(&send.client_msg_id[..]).ok();
        let client = id.map(|id| KeyId { conversation, key: Key::Client { sender: self.user, id } });
        (client, KeyId { conversation, key: Key::Message(send.msg_id) })
    }
}

/// The tag of `UplinkPack.events`: field 1, length-delimited.
const EVENT_TAG: u8 = (1 << 3) | 2;

pub(super) fn events(position: Position, pack: Bytes, config: &Config) -> Vec<Result<Event, DeadLetter>> {
    let at = |index: usize| Position { index: position.index + index as u32, ..position };
    match UplinkPack::decode(pack.clone()) {
        Ok(pack) => {
            let events = pack.events.into_iter().enumerate();
            events.map(|(index, uplink)| checked(at(index), uplink, config)).collect()
        }
        Err(_) => one_by_one(pack, &at, config),
    }
}

/// One bad event must not take the others of its pack with it.
fn one_by_one(
    mut pack: Bytes,
    at: &dyn Fn(usize) -> Position,
    config: &Config,
) -> Vec<Result<Event, DeadLetter>> {
    let partition = config.partition;
    let mut events = Vec::new();
    while !pack.is_empty() {
        let position = at(events.len());
        let mut rest = pack.clone();
        let length =
            (rest.get_u8() == EVENT_TAG).then(|| prost::decode_length_delimiter(&mut rest).ok()).flatten();
        let Some(length) = length.filter(|length| *length <= rest.len()) else {
            // From here on, events cannot be told apart.
            events.push(Err(DeadLetter { partition, position, fault: Fault::Undecodable, bytes: pack }));
            break;
        };
        let bytes = rest.split_to(length);
        pack = rest;
        events.push(match Uplink::decode(bytes.clone()) {
            Ok(uplink) => checked(position, uplink, config),
            Err(_) => Err(DeadLetter { partition, position, fault: Fault::Undecodable, bytes }),
        });
    }
    events
}

fn checked(position: Position, uplink: Uplink, config: &Config) -> Result<Event, DeadLetter> {
    let (user, partition) = (UserId(uplink.user), config.partition);
    match conversation_of(user, &uplink, config) {
        Ok(conversation) => Ok(Event { position, conversation, user, uplink }),
        Err(fault) => Err(DeadLetter { partition, position, fault, bytes: uplink.encode_to_vec().into() }),
    }
}

fn conversation_of(user: UserId, uplink: &Uplink, config: &Config) -> Result<ConversationId, Fault> {
    let conversation = uplink.conversation.as_ref().and_then(|c| ConversationId::try_from(c).ok());
    let conversation = conversation.ok_or(Fault::Conversation)?;
    if topics::partition(conversation, config.partitions) != config.partition {
        return Err(Fault::Partition);
    }
    let is_member = match conversation {
        ConversationId::C2C(..) => conversation.peer_of(user).is_some(),
        ConversationId::Group(_) => user.0 != 0,
    };
    if !is_member {
        return Err(Fault::User);
    }
    match &uplink.body {
        None => Err(Fault::Body),
        Some(uplink::Body::Send(send)) => {
            let length = send.client_msg_id.len();
            let is_good = send.msg_id != 0 && (length == 0 || length == limits::CLIENT_MSG_ID_BYTES);
            if is_good { Ok(conversation) } else { Err(Fault::Ids) }
        }
        Some(uplink::Body::Recall(recall)) if recall.msg_id == 0 => Err(Fault::Ids),
        Some(uplink::Body::Recall(_)) => Ok(conversation),
    }
}
