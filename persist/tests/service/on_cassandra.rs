//! persist as a whole, on the embedded log and a store on Apache Cassandra: the same behaviour as on the embedded one.
//! Needs the server that `deploy/local/up` starts, or the one that PETREL_TEST_CASSANDRA names; [`outages`] starts its own.

mod accounts;
mod nodes;
mod order;
mod outages;
mod passwords;
#[path = "places/cassandra.rs"]
mod place;
mod server;
mod start;
mod syncing;
mod world;
