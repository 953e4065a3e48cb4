//! From packs to events, and to the users whose routes they need.

use prost::Message as _;

use super::{Fault, Output, Record, Round, Route};
use crate::events::{self, ReceiptPack, Status, Stored, StoredPack, stored::Body};
use crate::ids::{Address, ConversationId, Position, UserId};
use crate::map::Map;
use crate::topics::Topic;

/// One event, with the indices of the users that it concerns in the round's look-up.
#[derive(Debug)]
pub(super) enum Event {
    /// For both users' devices.
    Row(Row),
    /// For the session that caused it, alone.
    Reply {
        /// Its user's index.
        user: u32,
        id: UserId,
        origin: Origin,
        body: Reply,
    },
    /// For all devices of a message's sender.
    Statuses {
        /// The sender's index.
        user: u32,
        id: UserId,
        conversation: ConversationId,
        statuses: Vec<Status>,
    },
}

/// What has a seq.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) from: u32,
    pub(super) from_id: UserId,
    pub(super) to: u32,
    pub(super) to_id: UserId,
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
    pub(super) origin: Option<Origin>,
    pub(super) is_first: bool,
    pub(super) edge_time_ms: u64,
    pub(super) body: RowBody,
}

/// The session that caused an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    address: Address,
    device: u32,
}

impl Origin {
    /// Whether this route leads to it. The epoch does not count: where the edge's lease lapsed meanwhile, the session
    /// lives on under a new one, and the log still has the old.
    pub(super) fn is(&self, route: &Route) -> bool {
        let held = Address { epoch: route.address.epoch, ..self.address };
        held == route.address && self.device == route.device as u32
    }
}

#[derive(Debug)]
pub(super) enum RowBody {
    Message(events::Message),
    Recalled(events::Recalled),
}

#[derive(Debug)]
pub(super) enum Reply {
    Refused(events::Refused),
    Duplicate(events::Duplicate),
}

/// Reads a round's records. What cannot be read goes to `out` as dead letters and never stops the rest.
pub(super) fn round(records: Vec<Record>, out: &mut Vec<Output>) -> (Round, Vec<UserId>) {
    let mut reader = Reader::default();
    let mut acks: Vec<(Topic, u16, Position)> = Vec::new();
    let mut bytes = 0;
    for record in records {
        bytes += record.pack.len();
        match acks
            .iter_mut()
            .find(|(topic, partition, _)| (*topic, *partition) == (record.topic, record.partition))
        {
            Some((_, _, position)) => *position = record.position,
            None => acks.push((record.topic, record.partition, record.position)),
        }
        let (topic, partition, position) = (record.topic, record.partition, record.position);
        let mut dead = |index: usize, fault| {
            let position = Position { index: position.index + index as u32, ..position };
            out.push(Output::DeadLetter { topic, partition, position, fault });
        };
        match topic {
            Topic::Stored => match StoredPack::decode(record.pack) {
                Ok(pack) => {
                    for (index, event) in pack.events.into_iter().enumerate() {
                        reader.stored(event).unwrap_or_else(|fault| dead(index, fault));
                    }
                }
                Err(_) => dead(0, Fault::Undecodable),
            },
            Topic::Receipts => match ReceiptPack::decode(record.pack) {
                Ok(pack) => {
                    for (index, event) in pack.events.into_iter().enumerate() {
                        reader.receipt(event).unwrap_or_else(|fault| dead(index, fault));
                    }
                }
                Err(_) => dead(0, Fault::Undecodable),
            },
            Topic::Uplink => unreachable!("router does not read uplink"),
        }
    }
    let round = Round {
        acks,
        bytes,
        users: reader.users.len(),
        events: reader.events,
        routes: None,
        unanswered: 0,
        pushed: Vec::new(),
        is_lost: false,
    };
    (round, reader.users)
}

#[derive(Default)]
struct Reader {
    events: Vec<Event>,
    users: Vec<UserId>,
    indices: Map<UserId, u32>,
}

impl Reader {
    fn stored(&mut self, event: Stored) -> Result<(), Fault> {
        let conversation = conversation_of(event.conversation.as_ref())?;
        let user = UserId(event.user);
        let peer = peer_of(conversation, user)?;
        let device = event.device;
        let origin = event.origin.as_ref().map(|a| Origin { address: Address::from(a), device });
        let body = match event.body.ok_or(Fault::Body)? {
            Body::Message(message) => RowBody::Message(message),
            Body::Recalled(recalled) => RowBody::Recalled(recalled),
            Body::Refused(refused) => {
                self.reply(user, origin, Reply::Refused(refused));
                return Ok(());
            }
            Body::Duplicate(duplicate) => {
                self.reply(user, origin, Reply::Duplicate(duplicate));
                return Ok(());
            }
        };
        if event.seq == 0 {
            return Err(Fault::Seq);
        }
        let row = Row {
            from: self.index(user),
            from_id: user,
            to: self.index(peer),
            to_id: peer,
            conversation,
            seq: event.seq,
            origin,
            is_first: !event.again,
            edge_time_ms: event.edge_time_ms,
            body,
        };
        self.events.push(Event::Row(row));
        Ok(())
    }

    /// Without an origin there is nobody to tell.
    fn reply(&mut self, id: UserId, origin: Option<Origin>, body: Reply) {
        if let Some(origin) = origin {
            let user = self.index(id);
            self.events.push(Event::Reply { user, id, origin, body });
        }
    }

    fn receipt(&mut self, event: events::Receipt) -> Result<(), Fault> {
        if event.statuses.is_empty() {
            // Cursors are persist's.
            return Ok(());
        }
        let conversation = conversation_of(event.conversation.as_ref())?;
        let id = peer_of(conversation, UserId(event.user))?;
        let user = self.index(id);
        self.events.push(Event::Statuses { user, id, conversation, statuses: event.statuses });
        Ok(())
    }

    fn index(&mut self, user: UserId) -> u32 {
        *self.indices.entry(user).or_insert_with(|| {
            self.users.push(user);
            self.users.len() as u32 - 1
        })
    }
}

fn conversation_of(conversation: Option<&events::Conversation>) -> Result<ConversationId, Fault> {
    conversation.and_then(|c| ConversationId::try_from(c).ok()).ok_or(Fault::Conversation)
}

fn peer_of(conversation: ConversationId, user: UserId) -> Result<UserId, Fault> {
    match conversation {
        ConversationId::Group(_) => Err(Fault::Group),
        ConversationId::C2C(..) => conversation.peer_of(user).ok_or(Fault::User),
    }
}
