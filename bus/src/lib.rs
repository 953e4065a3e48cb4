//! How the services meet: the log between them ([`Bus`]), and the calls between them ([`calls`]).
//!
//! The log is partitioned by conversation. Publishing is durable before its receipt; reading is at least once, in order
//! within a partition, by one active reader for each subscription; acknowledging comes after the effect.

pub mod calls;

use bytes::Bytes;
use petrel_protocol::ids::Position;

/// What a publisher is told about one pack.
#[derive(Debug)]
pub struct Receipt {
    /// What the publisher gave with the pack.
    pub tag: u64,
    /// The position of the pack's first event, or why it has none.
    pub outcome: Result<Position, PublishError>,
}

/// Why a pack has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Too much is under way. The pack is certainly not in the log.
    #[error("the bus takes no more for now")]
    Full,
    /// The log cannot be reached or written. The pack is certainly not in the log.
    #[error("the bus is unavailable")]
    Unavailable,
    /// The pack may or may not be in the log: publish the same events again, or tell who asked.
    #[error("whether the bus took it is unknown")]
    Unknown,
}

/// One record as a reader gets it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The partition it was read from.
    pub partition: u16,
    /// The position of the first event in the pack (index 0).
    pub position: Position,
    /// The encoded pack.
    pub pack: Bytes,
}
