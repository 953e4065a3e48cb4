//! Time as an argument.

/// A moment, as the caller's clock tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Monotonic milliseconds since an arbitrary start: for timers.
    pub mono_ms: u64,
    /// Milliseconds since 1970: for stamps and ids. May step.
    pub wall_ms: u64,
}
