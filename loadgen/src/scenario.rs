//! What a run does, as its TOML file says. Every key is described in `perf/scenarios/README.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::content::CONTENT_BYTES_MIN;
use crate::random::Random;

/// A run. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Users, each connected on each of its devices.
    pub users: u32,
    /// Devices of each user, 1 to 6.
    pub devices: u32,
    /// The id of the first user, where tokens are minted; 0: ids that no earlier run used.
    pub first_user: u64,
    /// Connections opened a second.
    pub ramp_per_s: f64,
    /// Connections from one source address at most.
    pub connections_per_source: u32,
    /// Messages offered a second, all senders together; 0: closed loop, see `window`.
    pub rate: f64,
    /// In a closed loop: sends of each user that wait for their ack 1.
    pub window: u32,
    /// Messages in all; 0: see `duration_s`.
    pub messages: u64,
    /// Seconds of load; 0: see `messages`.
    pub duration_s: f64,
    /// Load in phases of their own rates, instead of `rate`, `messages` and `duration_s`.
    pub phases: Vec<Phase>,
    /// Bytes of a content: one number, or sizes with weights.
    pub payload_bytes: Payload,
    /// Who sends to whom.
    pub pairs: Pairs,
    /// Share of users that are offline at any time, 0 to 0.9.
    pub offline_share: f64,
    /// Seconds that a user stays offline.
    pub offline_s: f64,
    /// Devices a second that disconnect and connect again at once.
    pub churn_per_s: f64,
    /// Share of accepted messages that their sender recalls.
    pub recall_share: f64,
    /// Share of shown messages that are acknowledged as read.
    pub read_share: f64,
    /// What all random choices follow from.
    pub seed: u64,
    /// A send that was refused this often is given up; 0: never.
    pub refusals_max: u32,
    /// Whether a client that meets an overload holds everything back for the time that the edge names.
    pub backs_off: bool,
    /// Sends of one conversation under way at once.
    pub pipeline: u16,
    /// Seconds that a send may stay without any answer on an open connection.
    pub answer_s: f64,
    /// Seconds at most for each step after the load: answers, everybody back, the final sync.
    pub settle_s: f64,
    /// Seconds after the final sync at which everybody connects once more: what was acknowledged must not come again. 0: not
    /// tried.
    pub forgotten_s: f64,
    /// Milliseconds without news after which a step after the load is over; longer where a delivery took longer.
    pub quiet_ms: u64,
    /// The run is invalid where the generator's 99th percentile of lag is above this, in ms.
    pub lag_p99_ms_max: f64,
    /// The run is invalid where the generator's largest lag is above this, in ms.
    pub lag_max_ms_max: f64,
    /// A second whose 99th percentile of delivery is at most this, in ms, and that saw no refusal, is a normal one: the
    /// measure of recovery after a phase.
    pub normal_p99_ms: f64,
}

/// A part of the load.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// For the report.
    pub name: String,
    /// Seconds.
    pub duration_s: f64,
    /// Messages offered a second.
    pub rate: f64,
}

/// Sizes of contents.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Payload {
    /// All the same.
    Fixed(usize),
    /// Drawn by weight.
    Weighted(Vec<Weighted>),
}

/// One size of several.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The content's size.
    pub bytes: usize,
    /// How often, in proportion to the others.
    pub weight: u32,
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairs {
    /// Anybody to anybody else.
    Random,
    /// Users 0 and 1, 2 and 3 and so on, both ways.
    Fixed,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            users: 100,
            devices: 1,
            first_user: 0,
            ramp_per_s: 1_000.0,
            connections_per_source: 12_000,
            rate: 0.0,
            window: 1,
            messages: 0,
            duration_s: 0.0,
            phases: Vec::new(),
            payload_bytes: Payload::Fixed(128),
            pairs: Pairs::Random,
            offline_share: 0.0,
            offline_s: 5.0,
            churn_per_s: 0.0,
            recall_share: 0.0,
            read_share: 0.0,
            seed: 1,
            refusals_max: 0,
            backs_off: true,
            pipeline: 1,
            answer_s: 30.0,
            settle_s: 60.0,
            forgotten_s: 0.0,
            quiet_ms: 1_000,
            lag_p99_ms_max: 10.0,
            lag_max_ms_max: 1_000.0,
            normal_p99_ms: 50.0,
        }
    }
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It is not TOML, or has an unknown key or a value of the wrong type.
    #[error("scenario {0}: {1}")]
    Malformed(String, String),
    /// A value makes no sense.
    #[error("scenario {0}: {1}")]
    Senseless(String, &'static str),
}

impl Scenario {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ScenarioError::Unreadable(name.clone(), e))?;
        Self::parse(&name, &text)
    }

    /// Checks the text of a file; `name` is for errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let message = e.message().replace('\n', " ");
            ScenarioError::Malformed(name.to_owned(), format!("line {line}: {message}"))
        })?;
        match scenario.fault() {
            Some(fault) => Err(ScenarioError::Senseless(name.to_owned(), fault)),
            None => Ok(scenario),
        }
    }

    /// Connections in all.
    pub fn connections(&self) -> u32 {
        self.users * self.devices
    }

    /// The load as phases, whichever way the file says it. A phase of unlimited time ends with its messages.
    pub fn schedule(&self) -> Vec<Phase> {
        if !self.phases.is_empty() {
            return self.phases.clone();
        }
        let is_timed = self.duration_s > 0.0 || self.messages == 0;
        let duration_s = if is_timed { self.duration_s } else { f64::INFINITY };
        vec![Phase { name: "load".to_owned(), duration_s, rate: self.rate }]
    }

    /// The size of the next content.
    pub fn payload(&self, random: &mut Random) -> usize {
        match &self.payload_bytes {
            Payload::Fixed(bytes) => *bytes,
            Payload::Weighted(sizes) => {
                let total = sizes.iter().map(|s| u64::from(s.weight)).sum();
                let mut at = random.below(total);
                for size in sizes {
                    match at.checked_sub(u64::from(size.weight)) {
                        Some(rest) => at = rest,
                        None => return size.bytes,
                    }
                }
                unreachable!("the draw is below the sum of the weights")
            }
        }
    }

    /// The largest content.
    pub fn payload_max(&self) -> usize {
        self.payload_sizes().into_iter().max().unwrap_or(CONTENT_BYTES_MIN)
    }

    fn payload_sizes(&self) -> Vec<usize> {
        match &self.payload_bytes {
            Payload::Fixed(bytes) => vec![*bytes],
            Payload::Weighted(sizes) => sizes.iter().map(|s| s.bytes).collect(),
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        // Not a number is none of these.
        let is_positive = |value: f64| value > 0.0;
        let is_natural = |value: f64| value >= 0.0;
        let has_load = self.messages > 0 || self.duration_s > 0.0 || !self.phases.is_empty();
        let largest = petrel_protocol::limits::CONTENT_BYTES_MAX;
        let sizes = self.payload_sizes();
        let is_weightless =
            matches!(&self.payload_bytes, Payload::Weighted(sizes) if sizes.iter().all(|s| s.weight == 0));
        let checks = [
            (self.users < 2, "`users` must be at least 2"),
            (self.users > 10_000_000, "`users` must be at most 10000000"),
            (!(1..=6).contains(&self.devices), "`devices` must be 1 to 6"),
            (!is_natural(self.ramp_per_s - 1.0), "`ramp_per_s` must be at least 1"),
            (self.connections_per_source == 0, "`connections_per_source` must be at least 1"),
            (!is_natural(self.rate), "`rate` must not be negative"),
            (!has_load && self.rate > 0.0, "a `rate` needs `duration_s` or `messages`"),
            (
                has_load && self.phases.is_empty() && self.rate == 0.0 && self.window == 0,
                "give `rate` or `window`",
            ),
            (
                !self.phases.is_empty() && (self.rate > 0.0 || self.messages > 0 || self.duration_s > 0.0),
                "`phases` stands instead of `rate`, `messages` and `duration_s`",
            ),
            (
                self.phases.iter().any(|p| !(p.duration_s > 0.0 && p.duration_s.is_finite() && p.rate > 0.0)),
                "each phase needs a `duration_s` and a `rate` above 0",
            ),
            (self.phases.len() > 16, "at most 16 phases"),
            (sizes.is_empty() || is_weightless, "`payload_bytes` needs a size with a weight above 0"),
            (
                sizes.iter().any(|s| *s < CONTENT_BYTES_MIN),
                "`payload_bytes` must be at least 36: id and checksum",
            ),
            (sizes.iter().any(|s| *s > largest), "`payload_bytes` must be at most 32768, the edge's limit"),
            (
                self.pairs == Pairs::Fixed && !self.users.is_multiple_of(2),
                "fixed pairs need an even number of users",
            ),
            (!(0.0..=0.9).contains(&self.offline_share), "`offline_share` must be 0 to 0.9"),
            (!is_positive(self.offline_s), "`offline_s` must be above 0"),
            (!is_natural(self.churn_per_s), "`churn_per_s` must not be negative"),
            (!is_share(self.recall_share), "`recall_share` must be 0 to 1"),
            (!is_share(self.read_share), "`read_share` must be 0 to 1"),
            (self.pipeline == 0, "`pipeline` must be at least 1"),
            (!is_positive(self.answer_s), "`answer_s` must be above 0"),
            (!is_natural(self.forgotten_s), "`forgotten_s` must not be negative"),
            (!is_positive(self.settle_s), "`settle_s` must be above 0"),
        ];
        checks.into_iter().find(|(is_fault, _)| *is_fault).map(|(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Scenario::parse("x.toml", text).expect_err(text).to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_in_one_line_that_names_it() {
        let text = refusal("users = 10\nuser_count = 3\n");
        assert!(text.starts_with("scenario x.toml: line 2: unknown field `user_count`"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn senseless_values_are_refused() {
        for (text, word) in [
            ("users = 1", "users"),
            ("devices = 7", "devices"),
            ("payload_bytes = 8", "payload_bytes"),
            ("payload_bytes = 40000", "payload_bytes"),
            ("payload_bytes = []", "payload_bytes"),
            ("offline_share = 0.95", "offline_share"),
            ("rate = -1.0", "rate"),
            ("rate = nan", "rate"),
            ("rate = 5.0", "duration_s"),
            ("messages = 5\nwindow = 0", "window"),
            ("rate = 5.0\nphases = [{ name = 'a', duration_s = 1.0, rate = 1.0 }]", "phases"),
            ("phases = [{ name = 'a', duration_s = 0.0, rate = 1.0 }]", "phase"),
            ("pairs = 'fixed'\nusers = 3", "pairs"),
        ] {
            assert!(refusal(text).contains(word), "{text}: {}", refusal(text));
        }
        assert!(refusal("users = 'many'").contains("line 1"));
    }

    #[test]
    fn weighted_sizes_are_drawn_by_their_weights() {
        let text = "payload_bytes = [{ bytes = 64, weight = 3 }, { bytes = 4096, weight = 1 }]";
        let scenario = Scenario::parse("x.toml", text).expect("a good scenario");
        let mut random = Random::new(1);
        let draws: Vec<usize> = (0..4_000).map(|_| scenario.payload(&mut random)).collect();
        let large = draws.iter().filter(|b| **b == 4_096).count();
        assert_eq!(draws.iter().filter(|b| **b == 64).count() + large, 4_000);
        assert!((800..1_200).contains(&large), "{large}");
        assert_eq!(scenario.payload_max(), 4_096);
    }
}
