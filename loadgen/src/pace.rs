//! When messages are to be sent: an open loop's intended times, whatever became of the messages before.

use crate::scenario::Phase;

/// The intended times of one thread, in seconds since the load's start, evenly spaced within a phase.
#[derive(Clone, Debug)]
pub struct Pace {
    phases: Vec<Phase>,
    threads: f64,
    /// The thread's place among the threads: their messages alternate.
    offset: f64,
    phase: usize,
    phase_start_s: f64,
    count: u64,
    left: u64,
}

impl Pace {
    /// For thread `thread` of `threads`; `messages` is the thread's share of them.
    pub fn new(phases: &[Phase], thread: u32, threads: u32, messages: u64) -> Self {
        Self {
            phases: phases.to_vec(),
            threads: f64::from(threads),
            offset: f64::from(thread) / f64::from(threads),
            phase: 0,
            phase_start_s: 0.0,
            count: 0,
            left: messages,
        }
    }

    /// The next time; none when the load is over.
    pub fn next_s(&mut self) -> Option<f64> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let phase = self.phases.get(self.phase)?;
            let at = (self.count as f64 + self.offset) * self.threads / phase.rate;
            if at < phase.duration_s {
                self.count += 1;
                return Some(self.phase_start_s + at);
            }
            self.phase_start_s += phase.duration_s;
            self.phase += 1;
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(duration_s: f64, rate: f64) -> Phase {
        Phase { name: String::new(), duration_s, rate }
    }

    #[test]
    fn the_threads_together_keep_the_rate_of_each_phase() {
        let phases = [phase(2.0, 100.0), phase(1.0, 1_000.0), phase(1.0, 50.0)];
        let mut times: Vec<f64> = (0..3)
            .flat_map(|thread| {
                let mut pace = Pace::new(&phases, thread, 3, u64::MAX);
                std::iter::from_fn(move || pace.next_s())
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let between = |from: f64, to: f64| times.iter().filter(|t| (from..to).contains(*t)).count();
        assert!(between(0.0, 2.0).abs_diff(200) <= 3);
        assert!(between(2.0, 3.0).abs_diff(1_000) <= 3);
        assert!(between(3.0, 4.0).abs_diff(50) <= 3);
        assert_eq!(between(4.0, f64::INFINITY), 0);
    }

    #[test]
    fn the_number_of_messages_ends_it_too() {
        let mut pace = Pace::new(&[phase(f64::INFINITY, 10.0)], 0, 1, 3);
        let times: Vec<f64> = std::iter::from_fn(|| pace.next_s()).collect();
        assert_eq!(times, [0.0, 0.1, 0.2]);
    }
}
