//! What the services say while clients wait: a stall has a cause in some log.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// A line of a log that tells of trouble, or of a start.
#[derive(Debug)]
pub(crate) struct Line {
    /// Microseconds since 1970.
    at_us: u64,
    text: String,
}

/// The lines of all logs that may be a cause, in the order of time.
pub(crate) fn causes(logs: &[PathBuf]) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for path in logs {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let mut words = line.split_ascii_whitespace();
            let (Some(time), Some(level)) = (words.next(), words.next()) else { continue };
            if matches!(level, "WARN" | "ERROR" | "INFO")
                && let Some(at_us) = micros_of(time)
            {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                lines.push(Line { at_us, text: format!("{name}: {line}") });
            }
        }
    }
    lines.sort_by_key(|line| line.at_us);
    Ok(lines)
}

/// The first of the lines within a time.
pub(crate) fn first_within(lines: &[Line], from_us: u64, to_us: u64) -> Option<&str> {
    let first = lines.get(lines.partition_point(|line| line.at_us < from_us))?;
    (first.at_us <= to_us).then_some(first.text.as_str())
}

/// Of a time like 2026-11-26T00:10:11.123456Z.
fn micros_of(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970 of the proleptic Gregorian calendar, by years that begin in March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years.div_euclid(4) - years.div_euclid(100)
        + years.div_euclid(400)
        + (153 * months + 2) / 5
        + day
        - 719_469;
    let seconds = u64::try_from(((days * 24 + hours) * 60 + minutes) * 60 + seconds).ok()?;
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(seconds * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(micros_of("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(micros_of("2024-02-29T12:00:00.5Z"), Some(1_709_208_000_500_000));
        assert_eq!(micros_of("2026-11-26T00:10:11.123456Z"), Some(1_795_651_811_123_456));
        assert_eq!(micros_of("yesterday"), None);
    }

    #[test]
    fn a_cause_lies_within_the_time() {
        let lines = [10, 20].map(|at_us| Line { at_us, text: at_us.to_string() });
        assert_eq!(first_within(&lines, 11, 20), Some("20"));
        assert_eq!(first_within(&lines, 11, 19), None);
        assert_eq!(first_within(&lines, 21, 90), None);
    }
}
