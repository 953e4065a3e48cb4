//! The calls between processes: one batched stream of gRPC for each pair.
//!
//! A [`Remote`] is a [`Service`](crate::calls::Service) whose calls travel to a [`Server`] in another process, which
//! gives them to its own local links. Whatever waits when the connection can take more goes in one message, so batches
//! grow with the load and nothing waits for a timer. Contents are not copied on their way out of a message.
//!
//! Every call is answered exactly once: by the service, as full beyond the bounds (`LINK_*` in
//! `petrel_protocol::limits`), or as unavailable where the connection ends or the time is up. After those two the call may
//! have had its effect. The stream is neither encrypted nor authenticated: it belongs on a private network.

mod discovery;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod metrics;
mod outbox;
mod pool;
mod remote;
mod server;
mod wire;

pub use discovery::Discovery;
pub use pool::Pool;
pub use remote::{BadAddress, Remote};
pub use server::{Server, Services};

/// What `build.rs` compiles from `protocol/proto/links.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod compiled {
    include!(concat!(env!("OUT_DIR"), "/petrel.links.rs"));
}
