//! Maps with a fixed hasher: the same inputs give the same iteration order, which replays and the simulation rest on.
//!
//! A fixed hasher can be attacked by whoever chooses the keys. Where clients choose them (client message ids), key the
//! map by a [`fingerprint`] with a secret seed instead.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// A hash map whose hasher is fixed.
#[expect(clippy::disallowed_types, reason = "the hasher is what is disallowed elsewhere")]
pub type Map<K, V> = std::collections::HashMap<K, V, FixedState>;

/// A hash set whose hasher is fixed.
#[expect(clippy::disallowed_types, reason = "the hasher is what is disallowed elsewhere")]
pub type Set<K> = std::collections::HashSet<K, FixedState>;

/// 64 bits that stand for `parts`; `seed` is the process's secret.
pub fn fingerprint(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
    for part in parts {
        hasher.write(part);
        hasher.write_usize(part.len());
    }
    hasher.finish()
}
