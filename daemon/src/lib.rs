//! What makes a service a daemon: configuration, token keys, readiness, watchdog, health over HTTP, signals.
//!
//! The programs `petrel-edge`, `petrel-router` and `petrel-persist` are a few lines each around this crate and the
//! service's library. Nothing here knows what the services do.

#[cfg(feature = "bus")]
pub mod bus;
pub mod config;
mod health;
pub mod keys;
mod readiness;
mod run;
mod watchdog;

pub use readiness::Readiness;
pub use run::{Daemon, run};

/// Exit code of a start that cannot succeed as it was asked for, by waiting either.
pub const BAD_START: u8 = 2;
