//! Petrel: edge.
