//! Petrel: router.
