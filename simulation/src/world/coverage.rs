//! What a run met: that a fault is switched on does not say that it ever struck, nor that it led anywhere.

macro_rules! met {
    ($($name:ident $text:literal,)+) => {
        /// A fault that struck, or a state worth reaching.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Met {
            $(#[doc = $text] $name,)+
        }

        impl Met {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it is, in a few words.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

met! {
    Cut "a connection is cut",
    HalfOpen "a cut that the edge learns of only by silence",
    CutInsideFrame "a cut inside of a frame",
    SlowReader "a client stops reading for a while",
    SlowReaderCut "a client is cut off because too much waits for it",
    Late "something is late, and others pass it",
    Resent "a send is sent again",
    HungUp "a client hangs up",
    PublishFull "the bus refuses a pack",
    PublishUnknownApplied "a pack of unknown outcome is in the log",
    PublishUnknownLost "a pack of unknown outcome is not in the log",
    PublishedAgain "a pack is in the log twice",
    PublishedAgainLate "a pack is in the log again, more than ten seconds later",
    ReceiptsLost "a pack of receipts is lost",
    StoreTimeoutApplied "a store operation times out and was applied",
    StoreTimeoutLate "a store operation times out and is applied later",
    StoreTimeoutLost "a store operation times out and was not applied",
    PartialBatch "a reader dies with part of a batch written",
    PersistCrashed "a reader dies between two effects",
    PersistKilled "a reader is killed",
    PersistReplaced "a reader is replaced and runs on",
    PersistReturned "a partition comes back to the reader that it was taken from",
    ZombieWrote "a reader that was replaced writes",
    UplinkAgain "records of uplink are delivered again",
    UplinkAgainUnderWay "records of uplink are delivered again while the first delivery is under way",
    ReceiptsAgain "receipts are read again",
    RouterCrashed "router dies between two effects",
    RouterKilled "router is killed",
    RouterReplaced "router is replaced and runs on",
    StoredAgain "records of stored are delivered again",
    RoutesLost "all routes are lost",
    RouteDropped "a route is lost while its lease lives",
    CallLost "a call is lost",
    AnswerLost "a call has its effect and its answer is lost",
    DeliverBroke "a stream of deliveries breaks",
    InboxFull "a shard's inbox is full",
    EdgeKilled "an edge is killed",
    EdgeIsolated "an edge and router do not reach each other",
    EdgeDrained "an edge drains",
    NewEpoch "an edge takes a new epoch",
    ClockBack "an edge's clock steps back",
    ClockForward "an edge's clock steps forward",
    NewerEvent "a process reads what the next version wrote",
    LoggedInElsewhere "somebody logs in on the same device type",
    BorrowedId "a send uses another's message id",
    NewGeneration "uplink begins a new generation",
    Sealed "a pack reaches a sealed partition",
    PowerCut "power is cut, and writes are lost",
    Replay "an event that was applied before is applied again",
    Duplicate "a resend is recognised",
    Alias "a resend under another message id is recognised",
    RefusedByLog "an accepted send is refused by what the log says",
    Recalled "a message is recalled",
    RecallRefused "a recall is refused",
    Dirty "a session is marked dirty",
    ManyPages "a sync takes several pages",
    Kicked "a session is ended by a login elsewhere",
    RefusedForNow "a send is refused for now",
    HeldBack "a send is held back behind one of unknown outcome",
    OutcomeUnknown "a sender is told that the outcome is unknown",
    GivenUp "a send is given up",
    StatusOffline "a sender is told that nobody is connected",
    StatusRead "a sender is told that it was read",
    IdsRefused "the id generator is ahead of the clock and refuses",
}

/// How often each was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage([u64; Met::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Met::ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn met(&mut self, what: Met) {
        self.0[what as usize] += 1;
    }

    /// Adds a number that was counted before.
    pub fn count(&mut self, what: Met, times: u64) {
        self.0[what as usize] += times;
    }

    /// How often this was met.
    pub fn of(&self, what: Met) -> u64 {
        self.0[what as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, more)| *mine += more);
    }

    /// What was never met.
    pub fn missing(&self) -> impl Iterator<Item = Met> {
        Met::ALL.iter().copied().filter(|met| self.of(*met) == 0)
    }

    /// A table for people: how often each was met in a thousand runs.
    pub fn table(&self, runs: u64) -> String {
        let line = |met: &Met| {
            let per_thousand = self.of(*met) as f64 * 1e3 / runs.max(1) as f64;
            format!("{per_thousand:>12.1}  {}\n", met.text())
        };
        let header = format!("{:>12}\n", "a 1000 seeds");
        Met::ALL.iter().map(line).fold(header, |table, line| table + &line)
    }
}
