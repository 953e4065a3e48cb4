//! What was measured, as tables for people. Ratios are to the first server, round by round.

use std::fmt::Write;

use super::{Idle, Kind, Measured, Outcome, Scene};

/// The middle of some values, and their ends.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, min, max })
    }

    fn ratio(self) -> String {
        format!("{:.2} ({:.2}–{:.2})", self.median, self.min, self.max)
    }
}

/// A scene's table.
pub fn markdown(scene: &Scene, outcomes: &[Outcome<Measured>]) -> String {
    let mut text = title(scene, outcomes);
    let first = outcomes.first().map_or("", |(server, _)| &server.name);
    let _ = writeln!(
        text,
        "| server | messages/s | ÷ {first} | CPU µs a message (user + kernel) | ÷ {first} | p50 µs | p99 µs | \
         p99.9 µs |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let reference = outcomes.first().and_then(|(_, outcome)| outcome.as_ref().ok());
    for (server, outcome) in outcomes {
        let _ = match outcome {
            Ok(measured) => writeln!(text, "| {} {}", server.name, row(measured, reference)),
            Err(error) => writeln!(text, "| {} | did not run: {error} | | | | | | |", server.name),
        };
    }
    for (server, outcome) in outcomes {
        let profiled = outcome.iter().flatten().filter_map(|m| m.outside_tcp_us);
        if let Some(outside) = Spread::of(profiled) {
            let _ = writeln!(
                text,
                "\n{}: {:.2} µs a message ({:.2}–{:.2}) outside tcp_sendmsg and tcp_recvmsg",
                server.name, outside.median, outside.min, outside.max
            );
        }
    }
    text
}

fn title(scene: &Scene, outcomes: &[Outcome<Measured>]) -> String {
    let rounds = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).map(Vec::len).max();
    let mut title = match scene.kind {
        Kind::Echo => format!("### Echo of {} B, {} connections", scene.payload_bytes, scene.connections),
        Kind::Broadcast => {
            format!("### Broadcast of {} B to {} connections", scene.payload_bytes, scene.connections)
        }
    };
    if let Some(per_second) = scene.per_second {
        let _ = write!(title, ", {per_second} messages/s");
    }
    let _ = write!(title, " ({} rounds)\n\n", rounds.unwrap_or(0));
    title
}

fn row(measured: &[Measured], reference: Option<&Vec<Measured>>) -> String {
    let median =
        |of: fn(&Measured) -> f64| Spread::of(measured.iter().map(of)).map_or(f64::NAN, |s| s.median);
    let ratio = |of: fn(&Measured) -> f64| {
        let pairs = reference.into_iter().flatten().zip(measured);
        Spread::of(pairs.map(|(first, own)| of(own) / of(first))).map_or_else(String::new, Spread::ratio)
    };
    let cpu_us = median(|m| m.cpu_us);
    let user_us = median(|m| m.user_us);
    format!(
        "| {:.0} | {} | {:.2} ({:.2} + {:.2}) | {} | {:.0} | {:.0} | {:.0} |",
        median(|m| m.per_second),
        ratio(|m| m.per_second),
        cpu_us,
        user_us,
        cpu_us - user_us,
        ratio(|m| m.cpu_us),
        median(|m| m.p50_us),
        median(|m| m.p99_us),
        median(|m| m.p999_us),
    )
}

/// The table of idle connections.
pub fn markdown_idle(connections: usize, outcomes: &[Outcome<Idle>]) -> String {
    let mut text = format!("### Memory of an idle connection, slope over {connections}\n\n");
    text +=
        "| server | bytes in the server | bytes in the kernel's slabs, both ends |\n| --- | ---: | ---: |\n";
    for (server, outcome) in outcomes {
        let _ = match outcome {
            Ok(measured) => {
                let user = Spread::of(measured.iter().map(|m| m.user_bytes));
                let kernel = Spread::of(measured.iter().filter_map(|m| m.kernel_bytes));
                let bytes = |spread: Option<Spread>| {
                    spread.map_or("not readable".to_owned(), |s| {
                        format!("{:.0} ({:.0}–{:.0})", s.median, s.min, s.max)
                    })
                };
                writeln!(text, "| {} | {} | {} |", server.name, bytes(user), bytes(kernel))
            }
            Err(error) => writeln!(text, "| {} | did not run: {error} | |", server.name),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_middle_and_its_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0].into_iter()).expect("values");
        assert_eq!(spread.ratio(), "2.50 (1.00–10.00)");
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).expect("values");
        assert_eq!(spread.ratio(), "2.00 (1.00–3.00)");
        assert!(Spread::of(std::iter::empty()).is_none());
    }
}
