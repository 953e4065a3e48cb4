//! The process's clock, for everything that takes time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use petrel_protocol::time::Now;

/// Tells the time since it was made, and the wall's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.0.elapsed().as_millis() as u64, wall_ms: wall.as_millis() as u64 }
    }
}
