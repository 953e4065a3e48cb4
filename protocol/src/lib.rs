//! What Petrel's services agree on, and what they decide.
//!
//! Everything here is pure: no I/O, no clock, no randomness (`clippy.toml` in this crate enforces it). The machines
//! share one contract: `handle(now, input, &mut outputs)`: it never blocks and never fails; a peer's fault is a value in
//! the outputs, our own fault is an assert. Time and randomness are arguments.

pub mod client;
pub mod codes;
pub mod fanout;
pub mod ids;
pub mod limits;
pub mod map;
pub mod packets;
pub mod sequencer;
pub mod session;
pub mod snowflake;
pub mod time;
pub mod token;
pub mod topics;
pub mod websocket;

/// What `build.rs` compiles from `proto/`; the documentation of each field stands there.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod compiled {
    pub mod bus {
        include!(concat!(env!("OUT_DIR"), "/petrel.bus.rs"));
    }
    pub mod calls {
        include!(concat!(env!("OUT_DIR"), "/petrel.calls.rs"));
    }
    pub(crate) mod v1 {
        include!(concat!(env!("OUT_DIR"), "/petrel.v1.rs"));
    }
}

/// The events of the bus (`proto/bus.proto`).
pub use compiled::bus as events;
/// The calls between the services (`proto/calls.proto`).
pub use compiled::calls;
