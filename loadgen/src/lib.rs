//! Many clients that measure Petrel and prove that nothing was lost.
//!
//! A run connects its devices, offers a load, and judges at the end: every accepted message arrived at every device of
//! its conversation, once, in seq order, unchanged. Clients run on monoio, another engine than the server's, so that a
//! bug cannot hide in both ends. A [`crowd`] only holds connections and takes times, and runs on `ring`: a process holds
//! more of them than it may have files open.

pub mod accounts;
pub mod chat;
pub mod check;
pub mod cli;
pub mod content;
pub mod crew;
pub mod crowd;
pub mod history;
pub mod host;
pub mod http;
pub mod idle;
pub mod measure;
pub mod million;
pub mod pace;
pub mod plan;
pub mod processes;
pub mod random;
pub mod records;
pub mod report;
pub mod run;
pub mod scenario;
pub mod socket;
pub mod stamp;
pub mod station;
pub mod storm;
pub mod table;
pub mod url;
pub mod verify;
pub mod workers;
