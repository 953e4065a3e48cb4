//! When messages are to be sent: an open loop's intended times, whatever became of the messages before.
//!
//! The runtime's timer has steps of a millisecond and wakes up to one late. So each sending thread has a metronome, a
//! thread that sleeps until the next time and tells it through a socket.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::scenario::Phase;
use crate::stamp::{Clock, Stamp};

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

/// One beat: a time, and how many messages are intended at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The intended time.
    pub at: Stamp,
    /// Messages.
    pub count: u32,
}

/// Bytes of a beat on its socket.
pub const BEAT_BYTES: usize = 8;

impl Beat {
    /// The inverse of what the metronome writes.
    pub fn from_bytes(bytes: [u8; BEAT_BYTES]) -> Self {
        let beat = u64::from_le_bytes(bytes);
        Self { at: Stamp(beat as u32), count: (beat >> 32) as u32 }
    }

    fn to_bytes(self) -> [u8; BEAT_BYTES] {
        (u64::from(self.count) << 32 | u64::from(self.at.0)).to_le_bytes()
    }
}

/// Above this many messages a second their times are rounded up to whole milliseconds, so that waking up costs less than
/// sending.
const EXACT_PER_S_MAX: f64 = 500.0;
const STEP_S: f64 = 0.001;

/// Starts a metronome; its beats come out of the socket, whose end is the end of the load. It ends when the socket is
/// dropped.
pub fn metronome(pace: Pace, clock: Clock, load_start: Stamp) -> std::io::Result<UnixStream> {
    let (here, mut there) = UnixStream::pair()?;
    std::thread::Builder::new().name("metronome".to_owned()).spawn(move || {
        let beats = Beats { pace, next: None };
        for (at_s, count) in beats {
            let at = load_start.after(Duration::from_secs_f64(at_s));
            std::thread::sleep(clock.until(at));
            if there.write_all(&Beat { at, count }.to_bytes()).is_err() {
                return;
            }
        }
    })?;
    Ok(here)
}

/// The times of a pace, those that are rounded to the same one together.
struct Beats {
    pace: Pace,
    next: Option<f64>,
}

impl Iterator for Beats {
    type Item = (f64, u32);

    fn next(&mut self) -> Option<(f64, u32)> {
        let at_s = self.next.take().or_else(|| self.pace.next_rounded_s())?;
        let mut count = 1;
        loop {
            self.next = self.pace.next_rounded_s();
            if self.next != Some(at_s) {
                return Some((at_s, count));
            }
            count += 1;
        }
    }
}

impl Pace {
    fn next_rounded_s(&mut self) -> Option<f64> {
        let at_s = self.next_s()?;
        let rate = self.phases[self.phase].rate / self.threads;
        Some(if rate > EXACT_PER_S_MAX { (at_s / STEP_S).ceil() * STEP_S } else { at_s })
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
    fn high_rates_beat_in_whole_milliseconds_and_none_is_lost() {
        let beats = |rate: f64| -> Vec<(f64, u32)> {
            Beats { pace: Pace::new(&[phase(1.0, rate)], 0, 1, u64::MAX), next: None }.collect()
        };
        let exact = beats(100.0);
        assert!(exact.len() == 100 && exact.iter().all(|(_, count)| *count == 1), "{exact:?}");
        let rounded = beats(5_000.0);
        assert_eq!(rounded.iter().map(|(_, count)| count).sum::<u32>(), 5_000);
        assert!(rounded.len() <= 1_001, "{}", rounded.len());
        let beat = Beat { at: Stamp(77), count: 5 };
        assert_eq!(Beat::from_bytes(beat.to_bytes()), beat);
    }

    #[test]
    fn the_number_of_messages_ends_it_too() {
        let mut pace = Pace::new(&[phase(f64::INFINITY, 10.0)], 0, 1, 3);
        let times: Vec<f64> = std::iter::from_fn(|| pace.next_s()).collect();
        assert_eq!(times, [0.0, 0.1, 0.2]);
    }
}
