//! persist as a whole, on the embedded log and store.

mod accounts;
mod embedded_start;
mod order;
#[path = "places/embedded.rs"]
mod place;
mod start;
mod syncing;
mod world;
