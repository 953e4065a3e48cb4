//! The sequencer against a store with write timestamps: order, duplicates, recalls, replays and zombies.

mod crashes;
mod decisions;
mod memory;
mod random;
mod world;
