//! persist as a whole, on the embedded log and store.

mod accounts;
mod order;
mod start;
mod syncing;
mod world;
