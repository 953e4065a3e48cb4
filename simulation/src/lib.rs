//! All of Petrel in one deterministic world, and the checker of what its devices saw.
//!
//! [`world`] puts the real machines of `petrel_protocol` (session, fan-out, client, sequencer) and the router's real route
//! table between a simulated network, log and store. Time is virtual, one seed decides everything, and each seed switches
//! on a random subset of the faults. [`check`] judges what the devices did and saw. It knows nothing of the world, so that
//! the histories of real runs are judged by the same code.

pub mod check;
pub mod history;
#[cfg(feature = "world")]
mod random;
#[cfg(feature = "world")]
pub mod world;

pub use check::{Checker, check};
