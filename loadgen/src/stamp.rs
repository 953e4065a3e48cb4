//! Times of a run: compact, and the same for all threads of the process.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use petrel_protocol::time::Now;

/// A moment of the run, in steps of 10 µs since its start: eleven hours in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u32);

/// Microseconds of one step.
const STEP_US: u64 = 10;

impl Stamp {
    /// It has not happened. The clock starts at 1.
    pub const NEVER: Self = Self(0);

    /// This many microseconds after the run's start.
    pub fn from_us(us: u64) -> Self {
        Self((us / STEP_US) as u32)
    }

    /// Microseconds since the run's start.
    pub fn us(self) -> u64 {
        u64::from(self.0) * STEP_US
    }

    /// Whether it has happened.
    pub fn is_set(self) -> bool {
        self.0 != 0
    }

    /// Microseconds from `earlier` until this, 0 where that is later.
    pub fn us_since(self, earlier: Self) -> u64 {
        u64::from(self.0.saturating_sub(earlier.0)) * STEP_US
    }

    /// This, so much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add((time.as_micros() as u64 / STEP_US) as u32))
    }
}

/// Milliseconds with two decimals; a dash for what never happened.
impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_set() { write!(f, "{:.2}", self.us() as f64 / 1_000.0) } else { f.write_str("-") }
    }
}

/// The run's clock. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_wall_ms: u64,
}

impl Clock {
    /// A clock that starts now, a millisecond after 0 so that no moment is [`Stamp::NEVER`].
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_wall_ms: wall.as_millis() as u64 }
    }

    /// When it began, in milliseconds since 1970.
    pub fn began_ms(&self) -> u64 {
        self.started_wall_ms
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed() + Duration::from_millis(1)
    }

    /// Now.
    pub fn stamp(&self) -> Stamp {
        Stamp::from_us(self.elapsed().as_micros() as u64)
    }

    /// How long it is until `stamp`; zero where it is past.
    pub fn until(&self, stamp: Stamp) -> Duration {
        Duration::from_micros(stamp.us()).saturating_sub(self.elapsed())
    }

    /// The time as the client machine takes it.
    pub fn now(&self) -> Now {
        let mono_ms = self.elapsed().as_millis() as u64;
        Now { mono_ms, wall_ms: self.started_wall_ms + mono_ms }
    }
}
