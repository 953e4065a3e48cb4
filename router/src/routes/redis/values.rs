//! How leases, services and routes stand in Redis.

use std::fmt::Write as _;

use petrel_protocol::calls::{Lease, ServiceAt};
use petrel_protocol::fanout::Incarnation;
use petrel_protocol::ids::{Address, UserId};
use petrel_protocol::limits;

use crate::routes::Held;

/// The names of Petrel's keys, under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    /// A hash of leases and services: few, and read together with every look-up.
    pub(super) members: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), members: format!("{prefix}members") }
    }

    /// A hash of a user's routes by device type: one key, so one slot of a Cluster.
    pub(super) fn routes(&self, user: UserId) -> String {
        format!("{}route:{user}", self.prefix)
    }

    pub(super) fn version(&self, user: UserId) -> String {
        format!("{}version:{user}", self.prefix)
    }

    pub(super) fn tries(&self, username: &str) -> String {
        format!("{}tries:{username}", self.prefix)
    }

    pub(super) fn used_up(&self, user: UserId, device: u8) -> String {
        format!("{}used:{user}:{device}", self.prefix)
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

pub(super) fn lease_field(edge: u16) -> String {
    format!("edge:{edge}")
}

pub(super) fn service_field(kind: i32, id: u32) -> String {
    format!("service:{kind}:{id}")
}

/// What follows epoch, time, state and server in a lease's value.
pub(super) fn lease_rest(lease: &Lease) -> String {
    let Lease { sessions, sessions_max, is_draining, calls, url, .. } = lease;
    format!("{sessions}|{sessions_max}|{}|{calls}|{url}", u8::from(*is_draining))
}

/// A lease's value, judged at the server's time; none where it is over.
pub(super) fn read_lease(field: &str, value: &str, now_ms: u64) -> Option<Held> {
    let edge = field.strip_prefix("edge:")?.parse().ok()?;
    let mut parts = value.splitn(9, '|');
    let epoch = parts.next()?.parse().ok()?;
    let renewed_ms: u64 = parts.next()?.parse().ok()?;
    let is_live = parts.next()? == "live" && now_ms < renewed_ms.saturating_add(limits::LEASE_MS);
    // Its run, by which only scripts judge it, and the worker: before there was one, nothing followed the run.
    let server = parts.next()?;
    let held = Held {
        incarnation: Incarnation { edge, epoch },
        sessions: parts.next()?.parse().ok()?,
        sessions_max: parts.next()?.parse().ok()?,
        is_draining: parts.next()? == "1",
        worker: server.split_once('-').and_then(|(_, worker)| worker.parse().ok()),
        calls: parts.next()?.to_owned(),
        url: parts.next()?.to_owned(),
        age_ms: now_ms.saturating_sub(renewed_ms),
    };
    is_live.then_some(held)
}

/// A service's value, judged at the server's time; none where it lapsed.
pub(super) fn read_service(field: &str, value: &str, now_ms: u64) -> Option<ServiceAt> {
    let (kind, id) = field.strip_prefix("service:")?.split_once(':')?;
    let (renewed_ms, calls) = value.split_once('|')?;
    let until_ms = renewed_ms.parse::<u64>().ok()?.saturating_add(limits::LEASE_MS);
    let at = ServiceAt { kind: kind.parse().ok()?, id: id.parse().ok()?, calls: calls.to_owned() };
    (now_ms < until_ms).then_some(at)
}

/// An address as scripts compare it.
pub(super) fn write_address(address: Address) -> String {
    let Address { edge, shard, slot, generation, epoch } = address;
    let mut text = String::with_capacity(48);
    write!(text, "{edge}|{shard}|{slot}|{generation}|{epoch}").expect("a String grows");
    text
}

/// A route's value: since when its session is connected, by the server's time, and its address.
pub(super) fn read_route(value: &str) -> Option<(u64, Address)> {
    let mut parts = value.split('|');
    let connected_ms = parts.next()?.parse().ok()?;
    let address = Address {
        edge: parts.next()?.parse().ok()?,
        shard: parts.next()?.parse().ok()?,
        slot: parts.next()?.parse().ok()?,
        generation: parts.next()?.parse().ok()?,
        epoch: parts.next()?.parse().ok()?,
    };
    Some((connected_ms, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let address = Address { edge: 1, shard: 2, slot: 3, generation: u32::MAX, epoch: 1 << 52 };
        let value = format!("1700000000000|{}", write_address(address));
        assert_eq!(read_route(&value), Some((1_700_000_000_000, address)));
        let lease = Lease {
            url: "wss://a/b|c".into(),
            calls: "h:1".into(),
            sessions: 5,
            sessions_max: 9,
            is_draining: true,
            ..Lease::default()
        };
        let value = format!("77|1000|live|abc-8|{}", lease_rest(&lease));
        let held = read_lease("edge:12", &value, 1_500).expect("it lives");
        assert_eq!(held.incarnation, Incarnation { edge: 12, epoch: 77 });
        assert_eq!((held.url.as_str(), held.calls.as_str(), held.age_ms), ("wss://a/b|c", "h:1", 500));
        assert!(held.is_draining);
        assert_eq!(held.worker, Some(8));
        let before =
            read_lease("edge:12", &value.replace("-8", ""), 1_500).expect("of a router without workers");
        assert_eq!((before.worker, before.calls.as_str()), (None, "h:1"));
        assert_eq!(read_lease("edge:12", &value, 1_000 + limits::LEASE_MS), None);
        assert_eq!(read_lease("edge:12", &value.replace("live", "over"), 1_500), None);
    }

    #[test]
    fn what_is_not_petrels_is_not_read() {
        for value in ["", "1", "a|b|c|d|e|f", "1|2|3|4|5", "1|99999999|3|4|5|6"] {
            assert_eq!(read_route(value), None, "{value}");
            assert_eq!(read_lease("edge:1", value, 0), None, "{value}");
            assert_eq!(read_lease("edge:70000", value, 0), None, "{value}");
        }
        assert_eq!(read_service("service:1", "1|x", 0), None);
        let never = u64::MAX;
        assert!(read_lease("edge:1", &format!("1|{never}|live|s|0|9|0|c|u"), 0).is_some());
        assert!(read_service("service:1:1", &format!("{never}|c"), 0).is_some());
    }
}
