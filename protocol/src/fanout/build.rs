//! From events and routes to one batch for each edge.

use bytes::Bytes;

use super::answered::Answered;
use super::read::{Event, Origin, Reply, Row, RowBody};
use super::{Incarnation, Offline, Output, Round, Route};
use crate::calls::{DeliverBatch, Delivery, Kick, Own, Push, StatusUpdate, delivery::What};
use crate::codes::Code;
use crate::ids::{Address, Device, UserId};
use crate::limits;
use crate::map::Map;
use crate::packets::{C2cMsgPush, C2cWithdrawReq, FORMAT_RECALLED, MsgType, response};

/// The batches of a round, by edge and in order; what was pushed is noted in the round. Its events are used up.
pub(super) fn batches(
    round: &mut Round,
    routes: &[Route],
    answered: &Answered,
    out: &mut Vec<Output>,
) -> Vec<DeliverBatch> {
    let events = std::mem::take(&mut round.events);
    let count = events.len();
    let mut replays = 0;
    let mut edge_time_ms = u64::MAX;
    let mut builder = Builder { routes: Routes::new(routes, round.users), batches: Batches::default() };
    for event in events {
        match event {
            Event::Row(row) => {
                edge_time_ms = edge_time_ms.min(row.edge_time_ms);
                if answered.contains(row.conversation, row.seq) {
                    replays += 1;
                    continue;
                }
                round.pushed.push((row.conversation, row.seq));
                builder.row(row, out);
            }
            Event::Reply { user, id, origin, body } => builder.reply(user, id, origin, body),
            Event::Statuses { user, id, conversation, statuses } => {
                for status in statuses {
                    let update =
                        StatusUpdate { conversation: Some(conversation.into()), status: Some(status) };
                    for route in builder.routes.of(user) {
                        builder.batches.push(route, id, What::Status(update.clone()), 0);
                    }
                }
            }
        }
    }
    let edge_time_ms = if edge_time_ms == u64::MAX { 0 } else { edge_time_ms };
    out.push(Output::Forwarded { events: count, replays, edge_time_ms });
    builder.batches.all
}

/// The batch that tells one session to end: outside of all rounds, and nobody waits for its answer.
pub fn kick(user: UserId, device: Device, address: Address, code: Code, text: &str) -> DeliverBatch {
    let kick = Kick { code: code as i32, text: text.to_owned() };
    let delivery = Delivery {
        shard: address.shard.into(),
        slot: address.slot,
        generation: address.generation,
        user: user.0,
        device: device as u32,
        what: Some(What::Kick(kick)),
    };
    DeliverBatch { edge: address.edge.into(), epoch: address.epoch, deliveries: vec![delivery] }
}

struct Builder<'a> {
    routes: Routes<'a>,
    batches: Batches,
}

impl Builder<'_> {
    fn row(&mut self, row: Row, out: &mut Vec<Output>) {
        let receivers = self.routes.of(row.to);
        let senders = self.routes.of(row.from);
        let is_message = matches!(row.body, RowBody::Message(_));
        let is_offline = is_message && row.is_first && receivers.is_empty();
        let (msg_id, client_msg_id, target_seq) = match &row.body {
            RowBody::Message(m) => (m.msg_id, m.client_msg_id.clone(), 0),
            RowBody::Recalled(r) => (r.msg_id, Bytes::new(), r.target_seq),
        };
        if is_offline {
            let Row { conversation, seq, from_id, to_id, .. } = row;
            out.push(Output::Offline(Offline { user: to_id, from: from_id, conversation, seq, msg_id }));
        }
        let is_origin = |route: &&Route| row.origin.is_some_and(|origin| origin.is(route));
        if let Some(origin) = senders.iter().find(is_origin) {
            let own = Own {
                conversation: Some(row.conversation.into()),
                seq: row.seq,
                msg_id,
                client_msg_id: client_msg_id.clone(),
                is_offline,
                is_recall: !is_message,
                target_seq,
            };
            self.batches.push(origin, row.from_id, What::Own(own), 0);
        }
        let others = senders.iter().filter(|r| !is_origin(r)).map(|r| (r, row.from_id));
        let mut pushes = receivers.iter().map(|r| (r, row.to_id)).chain(others).peekable();
        if pushes.peek().is_none() {
            return;
        }
        let push = Push {
            conversation: Some(row.conversation.into()),
            seq: row.seq,
            msg_id,
            client_msg_id,
            from: row.from_id.0,
            packet: packet(row.from_id, row.to_id, row.seq, row.body),
            is_recall: !is_message,
        };
        for (route, user) in pushes {
            self.batches.push(route, user, What::Push(push.clone()), push.packet.len());
        }
    }

    /// Only the session that asked is told, and only where it is still there: whoever comes back asks again.
    fn reply(&mut self, user: u32, id: UserId, origin: Origin, body: Reply) {
        if let Some(route) = self.routes.of(user).iter().find(|r| origin.is(r)) {
            let what = match body {
                Reply::Refused(refused) => What::Refused(refused),
                Reply::Duplicate(duplicate) => What::Duplicate(duplicate),
            };
            self.batches.push(route, id, what, 0);
        }
    }
}

/// What all devices but the sending one are shown, encoded once.
fn packet(from: UserId, to: UserId, seq: u64, body: RowBody) -> Bytes {
    match body {
        RowBody::Message(m) => {
            let push = C2cMsgPush {
                client_msg_id: m.client_msg_id,
                msg_id: m.msg_id,
                from: from.0,
                to: to.0,
                // A replay of what was recalled meanwhile comes without its content.
                format: if m.is_recalled { FORMAT_RECALLED } else { m.format },
                content: m.content,
                time: m.time,
                seq,
            };
            response(MsgType::C2cMsgPush, &push)
        }
        RowBody::Recalled(r) => {
            let recall =
                C2cWithdrawReq { msg_id: r.msg_id, from: from.0, to: to.0, seq, target_seq: r.target_seq };
            response(MsgType::C2cWithdraw, &recall)
        }
    }
}

/// The routes of a round by the users' indices.
struct Routes<'a> {
    routes: &'a [Route],
    /// Where each user's routes start; one more at the end.
    starts: Vec<u32>,
}

impl<'a> Routes<'a> {
    fn new(routes: &'a [Route], users: usize) -> Self {
        let mut starts = vec![0; users + 1];
        for route in routes {
            starts[route.user as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        assert!(routes.is_sorted_by_key(|r| r.user), "routes come sorted by user");
        Self { routes, starts }
    }

    fn of(&self, user: u32) -> &'a [Route] {
        let user = user as usize;
        &self.routes[self.starts[user] as usize..self.starts[user + 1] as usize]
    }
}

#[derive(Default)]
struct Batches {
    all: Vec<DeliverBatch>,
    /// The batch of each edge that takes more, and the bytes of packets in it.
    open: Map<Incarnation, (usize, usize)>,
}

impl Batches {
    fn push(&mut self, route: &Route, user: UserId, what: What, bytes: usize) {
        let Route { address, device, .. } = *route;
        let incarnation = Incarnation { edge: address.edge, epoch: address.epoch };
        let new = |all: &mut Vec<DeliverBatch>| {
            all.push(DeliverBatch {
                edge: address.edge.into(),
                epoch: address.epoch,
                deliveries: Vec::new(),
            });
            (all.len() - 1, 0)
        };
        let (index, filled) = self.open.entry(incarnation).or_insert_with(|| new(&mut self.all));
        if self.all[*index].deliveries.len() >= limits::DELIVER_BATCH_MAX
            || *filled >= limits::DELIVER_BATCH_BYTES_MAX
        {
            (*index, *filled) = new(&mut self.all);
        }
        *filled += bytes;
        self.all[*index].deliveries.push(delivery(address, user, device, what));
    }
}

fn delivery(address: Address, user: UserId, device: Device, what: What) -> Delivery {
    Delivery {
        shard: address.shard.into(),
        slot: address.slot,
        generation: address.generation,
        user: user.0,
        device: device as u32,
        what: Some(what),
    }
}
