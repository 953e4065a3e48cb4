//! Petrel: ring.
