//! Which incarnations of edges live. A lease has a small number, its place here, by which the routes name it.

use std::collections::VecDeque;

use petrel_protocol::calls::Lease;
use petrel_protocol::fanout::Incarnation;
use petrel_protocol::limits;
use petrel_protocol::map::Map;
use petrel_protocol::time::Now;

/// What became of a lease's renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It holds for another while.
    Held,
    /// It is new; the edge's earlier incarnation, if one was alive, is over.
    New {
        /// The one that is over.
        replaced: Option<Incarnation>,
    },
    /// This incarnation is over for good, is renewed and not known, or cannot be taken: the edge needs a new epoch.
    Over,
}

/// A lease that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub incarnation: Incarnation,
    /// Where clients connect.
    pub url: String,
    /// Sessions held, as the edge last said.
    pub sessions: u32,
    /// Sessions that it can hold; 0 where it did not say.
    pub sessions_max: u32,
    /// It is about to stop.
    pub is_draining: bool,
    /// The worker as which it generates message ids, where it says so.
    pub worker: Option<u32>,
    /// host:port of its gRPC; empty where all is one process.
    pub calls: String,
    /// Since the last renewal.
    pub age_ms: u64,
}

impl Held {
    /// How many sessions it can hold: without its word, as many as fit.
    pub fn places(&self) -> u32 {
        if self.sessions_max == 0 { u32::MAX } else { self.sessions_max }
    }
}

/// The leases, live and dead. A dead one keeps its number until no route names it.
#[derive(Debug, Default)]
pub(super) struct Leases {
    places: Vec<Option<Place>>,
    numbers: Map<Incarnation, u16>,
    /// The latest incarnations of each edge that are over.
    over: Map<u16, VecDeque<u64>>,
}

#[derive(Debug)]
struct Place {
    incarnation: Incarnation,
    url: String,
    sessions: u32,
    sessions_max: u32,
    is_draining: bool,
    worker: Option<u32>,
    calls: String,
    renewed_ms: u64,
    is_over: bool,
}

impl Place {
    fn is_live(&self, now: Now) -> bool {
        !self.is_over && now.mono_ms < self.renewed_ms + limits::LEASE_MS
    }
}

impl Leases {
    pub(super) fn renew(&mut self, now: Now, lease: &Lease) -> Renewal {
        let Ok(edge) = u16::try_from(lease.edge) else { return Renewal::Over };
        let incarnation = Incarnation { edge, epoch: lease.epoch };
        if let Some(number) = self.numbers.get(&incarnation) {
            let place = self.places[usize::from(*number)].as_mut().expect("a numbered lease has its place");
            if !place.is_live(now) {
                self.end(incarnation);
                return Renewal::Over;
            }
            place.set(now, lease);
            return Renewal::Held;
        }
        if lease.is_renewal || self.over.get(&edge).is_some_and(|over| over.contains(&lease.epoch)) {
            return Renewal::Over;
        }
        let Some(number) = self.free_number() else { return Renewal::Over };
        let is_other = |p: &&Place| p.incarnation.edge == edge && p.is_live(now);
        let replaced = self.places.iter().flatten().find(is_other).map(|p| p.incarnation);
        if let Some(replaced) = replaced {
            self.end(replaced);
        }
        let mut place = Place {
            incarnation,
            url: String::new(),
            sessions: 0,
            sessions_max: 0,
            is_draining: false,
            worker: None,
            calls: String::new(),
            renewed_ms: 0,
            is_over: false,
        };
        place.set(now, lease);
        self.places[usize::from(number)] = Some(place);
        self.numbers.insert(incarnation, number);
        Renewal::New { replaced }
    }

    /// The number of a live lease.
    pub(super) fn live_number(&self, now: Now, incarnation: Incarnation) -> Option<u16> {
        self.numbers.get(&incarnation).copied().filter(|number| self.is_live(now, *number))
    }

    /// The number of a lease, live or not.
    pub(super) fn number(&self, incarnation: Incarnation) -> Option<u16> {
        self.numbers.get(&incarnation).copied()
    }

    pub(super) fn is_live(&self, now: Now, number: u16) -> bool {
        self.place(number).is_some_and(|p| p.is_live(now))
    }

    /// Whose number this is.
    pub(super) fn incarnation(&self, number: u16) -> Incarnation {
        self.place(number).expect("a route's lease has its place").incarnation
    }

    /// Ends a lease for good.
    pub(super) fn end(&mut self, incarnation: Incarnation) {
        let Some(number) = self.numbers.get(&incarnation) else { return };
        let place = self.places[usize::from(*number)].as_mut().expect("a numbered lease has its place");
        if std::mem::replace(&mut place.is_over, true) {
            return;
        }
        let over = self.over.entry(incarnation.edge).or_default();
        if over.len() == limits::LEASES_DEAD_MAX {
            over.pop_front();
        }
        over.push_back(incarnation.epoch);
    }

    /// Ends what has lapsed; the numbers of all that are over.
    pub(super) fn over(&mut self, now: Now) -> Vec<u16> {
        let lapsed: Vec<Incarnation> =
            self.places.iter().flatten().filter(|p| !p.is_live(now)).map(|p| p.incarnation).collect();
        for incarnation in &lapsed {
            self.end(*incarnation);
        }
        lapsed.iter().map(|incarnation| self.numbers[incarnation]).collect()
    }

    /// No route names these any more: their numbers may be given again.
    pub(super) fn free(&mut self, numbers: &[u16]) {
        for number in numbers {
            let place = self.places[usize::from(*number)].take().expect("freed once");
            assert!(place.is_over, "only what is over is freed");
            self.numbers.remove(&place.incarnation);
        }
    }

    pub(super) fn held(&self, now: Now) -> Vec<Held> {
        let live = self.places.iter().flatten().filter(|p| p.is_live(now));
        live.map(|p| Held {
            incarnation: p.incarnation,
            url: p.url.clone(),
            sessions: p.sessions,
            sessions_max: p.sessions_max,
            is_draining: p.is_draining,
            worker: p.worker,
            calls: p.calls.clone(),
            age_ms: now.mono_ms.saturating_sub(p.renewed_ms),
        })
        .collect()
    }

    fn place(&self, number: u16) -> Option<&Place> {
        self.places.get(usize::from(number))?.as_ref()
    }

    fn free_number(&mut self) -> Option<u16> {
        if let Some(free) = self.places.iter().position(Option::is_none) {
            return Some(free as u16);
        }
        if self.places.len() == limits::LEASES_MAX {
            return None;
        }
        self.places.push(None);
        Some(self.places.len() as u16 - 1)
    }
}

impl Place {
    fn set(&mut self, now: Now, lease: &Lease) {
        if self.url != lease.url {
            self.url.clone_from(&lease.url);
        }
        if self.calls != lease.calls {
            self.calls.clone_from(&lease.calls);
        }
        self.sessions = lease.sessions;
        self.sessions_max = lease.sessions_max;
        self.is_draining = lease.is_draining;
        self.worker = lease.worker;
        self.renewed_ms = now.mono_ms;
    }
}
