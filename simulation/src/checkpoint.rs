//! How far many seeds have come, in a file, so that a long run can be stopped and go on.

use std::fmt::Write as _;
use std::path::Path;

use petrel_simulation::world::{Coverage, Met};

/// What came of the seeds so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) virtual_ms: u64,
    /// Time that it took, over all starts.
    pub(crate) seconds: f64,
    pub(crate) coverage: Coverage,
    /// Seeds that broke something, and what.
    pub(crate) failures: Vec<(u64, String)>,
}

impl Tally {
    /// The file's text: one value a line.
    fn to_text(&self, first: u64) -> String {
        let Self { seeds, events, virtual_ms, seconds, .. } = self;
        let mut text = format!(
            "first {first}\nseeds {seeds}\nevents {events}\nvirtual_ms {virtual_ms}\nseconds {seconds:.1}\n"
        );
        for met in Met::ALL {
            writeln!(text, "met {met:?} {}", self.coverage.of(*met)).expect("a String grows");
        }
        for (seed, failure) in &self.failures {
            writeln!(text, "failure {seed} {}", failure.replace('\n', " ")).expect("a String grows");
        }
        text
    }

    fn from_text(text: &str, first: u64) -> Option<Self> {
        let mut tally = Self::default();
        for line in text.lines() {
            let (name, value) = line.split_once(' ')?;
            match name {
                "first" => (value.parse::<u64>().ok()? == first).then_some(())?,
                "seeds" => tally.seeds = value.parse().ok()?,
                "events" => tally.events = value.parse().ok()?,
                "virtual_ms" => tally.virtual_ms = value.parse().ok()?,
                "seconds" => tally.seconds = value.parse().ok()?,
                "met" => {
                    let (name, count) = value.split_once(' ')?;
                    let met = Met::ALL.iter().find(|met| format!("{met:?}") == name)?;
                    tally.coverage.count(*met, count.parse().ok()?);
                }
                "failure" => {
                    let (seed, failure) = value.split_once(' ')?;
                    tally.failures.push((seed.parse().ok()?, failure.to_owned()));
                }
                _ => return None,
            }
        }
        Some(tally)
    }

    /// What a file says, where there is one; it must be of a run that began with the same seed.
    pub(crate) fn load(path: &Path, first: u64) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_text(&text, first).ok_or_else(|| {
                format!("{} is not of this run: give another file, or delete it", path.display())
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(format!("cannot read {}: {e}", path.display())),
        }
    }

    /// Replaces the file at once, so that a kill leaves the old one or the new one.
    pub(crate) fn save(&self, path: &Path, first: u64) -> Result<(), String> {
        let next = path.with_extension("next");
        std::fs::write(&next, self.to_text(first))
            .and_then(|()| std::fs::rename(&next, path))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_read_back_as_it_was_written() {
        let mut tally = Tally { seeds: 5, events: 70, virtual_ms: 8, seconds: 1.5, ..Tally::default() };
        tally.coverage.count(Met::Cut, 3);
        tally.failures.push((2, "in-order: row 3".into()));
        assert_eq!(Tally::from_text(&tally.to_text(10), 10), Some(tally.clone()));
        assert_eq!(Tally::from_text(&tally.to_text(10), 11), None, "it began elsewhere");
    }
}
