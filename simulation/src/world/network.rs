//! Connections between clients and edges: each direction keeps its order, and either end may learn late that they are
//! gone.

use bytes::Bytes;
use petrel_protocol::packets::MsgType;

use super::coverage::Met;
use super::shard::{SessionId, ShardId, State};
use super::wire::Wire;
use super::{Event, World};
use crate::world::clients::Link;

/// What travels on a connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// The upgrade succeeded.
    Upgraded,
    Packet(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

/// A connection of a device to a shard.
#[expect(clippy::struct_excessive_bools, reason = "both ends learn of things by themselves")]
pub(crate) struct Connection {
    pub(crate) device: usize,
    pub(crate) session: SessionId,
    /// Nothing arrives any more.
    is_cut: bool,
    is_client_open: bool,
    is_edge_open: bool,
    down_us: u64,
    up_us: u64,
    /// Bytes on their way to the client.
    unread: usize,
    /// Somebody else's with the device's account: it takes what comes and acknowledges nothing.
    is_guest: bool,
    /// Where frames travel as bytes: what each end has of an incomplete one.
    pub(crate) wire: Option<Box<Wire>>,
}

/// One way between a client and its edge.
const WAY_US: u64 = 300;

impl World {
    /// A device, or a guest in its name, reaches a shard.
    pub(crate) fn accept(&mut self, device: usize, shard_id: ShardId, is_guest: bool) {
        let connection = self.connections.len();
        let user = self.devices[device].user;
        let kind = self.devices[device].kind;
        let now = self.edge_now(shard_id.edge);
        let Some(shard) = self.shard(shard_id).filter(|s| !s.shared.is_draining) else {
            let delay = self.random.between(5_000, 500_000);
            if !is_guest {
                self.after(delay, Event::Connect(device));
            }
            return;
        };
        let session =
            shard.open(shard_id, connection, petrel_protocol::session::Session::new(now, user, kind, 0));
        self.connections.push(Connection {
            device,
            session,
            is_cut: false,
            is_client_open: true,
            is_edge_open: true,
            down_us: 0,
            up_us: 0,
            unread: 0,
            is_guest,
            wire: self.faults.are_pieces.then(Box::default),
        });
        if is_guest {
            let stay = self.random.between(100_000, 3_000_000);
            self.after(stay, Event::ClientLost(connection));
            self.after(stay, Event::EdgeLost(connection));
        } else {
            self.devices[device].link = Link::Connecting(connection);
        }
        let guest = if is_guest { "a guest as " } else { "" };
        self.note(super::About::all(), || format!("{guest}u{user}/{} reaches {session}", kind as u8));
        self.send_client(connection, Frame::Upgraded);
        self.input(session, petrel_protocol::session::Input::Start);
        self.turn_ended(shard_id);
    }

    /// The edge writes to the client.
    pub(crate) fn send_client(&mut self, connection: usize, frame: Frame) {
        if let Frame::Packet(packet) = &frame {
            self.note_packet(connection, "is sent", packet);
            self.activity += 1;
            self.connections[connection].unread += packet.len();
            if self.connections[connection].unread > self.faults.egress_max {
                // A slow reader: what it misses is stored.
                self.connections[connection].unread = 0;
                self.met(Met::SlowReaderCut);
                return self.cut(connection, 1_000, Some(0));
            }
        }
        let mut delay = self.delay(WAY_US);
        if self.strikes(self.faults.slow_reader) {
            self.met(Met::SlowReader);
            delay += self.random.between(10_000, 2_000_000);
        }
        let way = &mut self.connections[connection];
        way.down_us = way.down_us.max(self.now_us + delay);
        let at_us = way.down_us;
        if way.wire.is_some() && frame != Frame::Upgraded {
            self.connections[connection].down_us = self.send_pieces(connection, false, &frame, at_us);
        } else {
            self.schedule(at_us, Event::ToClient(connection, frame));
        }
        self.maybe_cut(connection);
    }

    /// The client writes to the edge.
    pub(crate) fn send_edge(&mut self, connection: usize, frame: Frame) {
        if let Frame::Packet(packet) = &frame {
            self.note_packet(connection, "sends", packet);
            self.activity += 1;
        }
        let delay = self.delay(WAY_US);
        let way = &mut self.connections[connection];
        way.up_us = way.up_us.max(self.now_us + delay);
        let at_us = way.up_us;
        if way.wire.is_some() {
            self.connections[connection].up_us = self.send_pieces(connection, true, &frame, at_us);
        } else {
            self.schedule(at_us, Event::ToEdge(connection, frame));
        }
        self.maybe_cut(connection);
    }

    /// Packets belong to the whole trace only: what they lead to is told elsewhere.
    fn note_packet(&mut self, connection: usize, verb: &str, packet: &Bytes) {
        let device = self.name(self.connections[connection].device);
        self.note(super::About::default(), || {
            let kind = packet.get(1).copied().map(i32::from).and_then(|kind| MsgType::try_from(kind).ok());
            format!("{device} {verb} {:?}", kind.unwrap_or_default())
        });
    }

    fn maybe_cut(&mut self, connection: usize) {
        if self.strikes(self.faults.cut) {
            let client_us = self.random.below(500_000);
            let edge_us = match (self.faults.is_half_open, self.random.coin()) {
                (true, true) => None,
                (true, false) => Some(self.random.below(5_000_000)),
                (false, _) => Some(self.random.below(500_000)),
            };
            if edge_us.is_none() {
                self.met(Met::HalfOpen);
            }
            self.cut(connection, client_us, edge_us);
        }
    }

    /// Nothing more arrives; the ends learn of it later, or never.
    pub(crate) fn cut(&mut self, connection: usize, client_us: u64, edge_us: Option<u64>) {
        if std::mem::replace(&mut self.connections[connection].is_cut, true) {
            return;
        }
        self.met(Met::Cut);
        let device = &self.devices[self.connections[connection].device];
        let (user, kind) = (device.user, device.kind as u8);
        self.note(super::About::all(), || format!("the connection of u{user}/{kind} is cut"));
        self.after(client_us, Event::ClientLost(connection));
        if let Some(edge_us) = edge_us {
            self.after(edge_us, Event::EdgeLost(connection));
        }
    }

    pub(crate) fn at_client(&mut self, connection: usize, frame: Frame) {
        let way = &mut self.connections[connection];
        if let Frame::Packet(packet) = &frame {
            way.unread = way.unread.saturating_sub(packet.len());
        }
        if way.is_cut || !way.is_client_open {
            return;
        }
        let device = way.device;
        let is_guest = way.is_guest;
        match frame {
            // A pong would say that a recall came, and what a login on this device type has got is not given again.
            Frame::Upgraded | Frame::Packet(_) | Frame::Ping(_) | Frame::Pong(_) if is_guest => {}
            Frame::Upgraded => self.upgraded(device, connection),
            Frame::Close => {
                self.client_lost(connection);
                self.after(WAY_US, Event::EdgeLost(connection));
            }
            frame => self.client_frame(device, &frame),
        }
    }

    pub(crate) fn at_edge(&mut self, connection: usize, frame: Frame) {
        let way = &self.connections[connection];
        if way.is_cut || !way.is_edge_open {
            return;
        }
        let session = way.session;
        match frame {
            Frame::Close => {
                self.close(session);
                self.turn_ended(session.shard);
            }
            frame => self.edge_frame(session, &frame),
        }
    }

    /// The client learns that its connection is gone.
    pub(crate) fn client_lost(&mut self, connection: usize) {
        let way = &mut self.connections[connection];
        if std::mem::replace(&mut way.is_client_open, false) {
            let device = way.device;
            if !way.is_guest {
                self.connection_lost(device, connection);
            }
        }
    }

    /// The edge learns that a connection is gone: its slot is free again.
    pub(crate) fn edge_lost(&mut self, connection: usize) {
        let way = &mut self.connections[connection];
        if !std::mem::replace(&mut way.is_edge_open, false) {
            return;
        }
        let session = way.session;
        self.end_session(session);
        if let Some(shard) = self.shard(session.shard) {
            shard.slots[session.slot as usize].state = State::Free;
            shard.free.push(session.slot);
        }
        self.turn_ended(session.shard);
    }

    /// All connections of an edge that is gone.
    pub(crate) fn cut_edge(&mut self, edge: usize, life: u32) {
        for connection in 0..self.connections.len() {
            let way = &mut self.connections[connection];
            if (way.session.shard.edge, way.session.shard.life) == (edge, life) && way.is_edge_open {
                way.is_edge_open = false;
                way.is_cut = true;
                let delay = self.random.below(300_000);
                self.after(delay, Event::ClientLost(connection));
            }
        }
    }

    /// Whether bytes that are sent to this end still arrive there.
    pub(crate) fn is_reached(&self, connection: usize, is_up: bool) -> bool {
        let way = &self.connections[connection];
        !way.is_cut && if is_up { way.is_edge_open } else { way.is_client_open }
    }

    /// Closes a connection that the client gives up.
    pub(crate) fn hang_up(&mut self, connection: usize) {
        self.met(Met::HungUp);
        if self.random.coin() {
            self.send_edge(connection, Frame::Close);
            self.client_lost(connection);
        } else {
            self.cut(connection, 0, Some(1_000));
            self.client_lost(connection);
        }
    }
}
