//! Which parts of a service are not ready, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a service waits for. A clone is another handle.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Parts>>);

#[derive(Default)]
struct Parts {
    waiting: BTreeMap<&'static str, String>,
    probes: Vec<Probe>,
}

/// Tells why a part is not ready, or nothing where it is.
type Probe = Box<dyn Fn() -> Option<(&'static str, String)> + Send>;

impl Readiness {
    /// A part is not ready.
    pub fn waits_for(&self, part: &'static str, why: impl Into<String>) {
        self.parts().waiting.insert(part, why.into());
    }

    /// A part that was waited for is ready.
    pub fn has(&self, part: &'static str) {
        self.parts().waiting.remove(part);
    }

    /// Asks `probe` each time that somebody wants to know. It must not block.
    pub fn probe(&self, probe: impl Fn() -> Option<(&'static str, String)> + Send + 'static) {
        self.parts().probes.push(Box::new(probe));
    }

    /// The parts that are not ready, and why.
    pub fn missing(&self) -> BTreeMap<&'static str, String> {
        let parts = self.parts();
        let mut missing = parts.waiting.clone();
        missing.extend(parts.probes.iter().filter_map(|probe| probe()));
        missing
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let readiness = Readiness::default();
        assert!(readiness.missing().is_empty());
        readiness.waits_for("pulsar", "nobody answers at pulsar://a:1");
        readiness.probe(|| Some(("router", "0 of 2 can be reached".to_owned())));
        readiness.probe(|| None);
        let missing = readiness.missing();
        assert_eq!(missing.keys().copied().collect::<Vec<_>>(), ["pulsar", "router"]);
        assert!(missing["pulsar"].contains("pulsar://a:1"));
        readiness.has("pulsar");
        assert_eq!(readiness.missing().len(), 1);
    }
}
