//! Petrel: persist.
