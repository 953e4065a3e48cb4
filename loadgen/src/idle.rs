//! The command `idle`: what one idle, logged-in connection costs the server in memory.
//!
//! Memory is read at many numbers of connections, and the least-squares slope is the cost of one: tables that double and
//! an allocator that takes pages in groups make steps, which two points would meet or miss by chance. The slope's
//! standard error says how much of that is left. The server should give freed pages back at once and use no huge pages
//! (`perf/idle.sh` sets that); else an earlier burst hides what connections take later.

use std::sync::Arc;
use std::time::Duration;

use petrel_protocol::ids::Device;

use crate::accounts::Minter;
use crate::crowd::{self, Crowd};
use crate::host::{self, Server};
use crate::run::{EDGE_DEFAULT, Options, RunError};
use crate::url::Target;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Idle {
    /// Connections at the first reading.
    pub from: u32,
    /// Connections at the last.
    pub to: u32,
    /// How many readings.
    pub readings: u32,
    /// The first user's id.
    pub first_user: u64,
    /// Connections opened a second.
    pub ramp_per_s: f64,
    /// How long the server is left alone before its memory is read.
    pub settle: Duration,
}

/// Memory at one number of connections.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Reading {
    /// Connections.
    pub connections: u32,
    /// The server's resident memory.
    pub resident_bytes: u64,
    /// Of that, what is its own.
    pub private_bytes: u64,
}

/// A straight line through the readings.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Slope {
    /// Bytes a connection.
    pub bytes: f64,
    /// The standard error of that.
    pub error: f64,
}

impl Slope {
    /// The least-squares line through the points.
    pub fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
        let spread: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        let bytes = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / spread;
        let left: f64 = points.iter().map(|p| (p.1 - mean_y - bytes * (p.0 - mean_x)).powi(2)).sum();
        Self { bytes, error: (left / (count - 2.0).max(1.0) / spread).sqrt() }
    }
}

/// The result.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// By the number of connections.
    pub readings: Vec<Reading>,
    /// Of the resident memory.
    pub resident: Slope,
    /// Of what is the process's own.
    pub private: Slope,
    /// The machine's kernel.
    pub kernel: String,
}

/// Measures.
pub fn measure(idle: &Idle, options: &Options) -> Result<Report, RunError> {
    /// A connection that is not there by then is missed.
    const PATIENCE: Duration = Duration::from_secs(20);
    if idle.from >= idle.to || idle.readings < 3 {
        return Err(RunError::Steps);
    }
    let config = crowd_config(options, idle.first_user, idle.to)?;
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    let server = Server::find(http, config.target.address);
    let mut crowd = Crowd::start(config).map_err(RunError::Ring)?;
    let mut readings = Vec::new();
    for number in 0..idle.readings {
        let connections = idle.from + (idle.to - idle.from) / (idle.readings - 1) * number;
        if !crowd.go_to(connections, idle.ramp_per_s, PATIENCE, |_| {}) {
            return Err(not_ready(&crowd, connections));
        }
        std::thread::sleep(idle.settle);
        if crowd.ready() != connections {
            return Err(not_ready(&crowd, connections));
        }
        let usage = server.usage().ok_or(RunError::NoMemory)?;
        let (resident_bytes, private_bytes) = (usage.resident_bytes, usage.private_bytes);
        readings.push(Reading { connections, resident_bytes, private_bytes });
    }
    let slope = |of: fn(&Reading) -> u64| {
        let points = readings.iter().map(|r| (f64::from(r.connections), of(r) as f64));
        Slope::through(&points.collect::<Vec<_>>())
    };
    let (resident, private) = (slope(|r| r.resident_bytes), slope(|r| r.private_bytes));
    Ok(Report { resident, private, readings, kernel: host::kernel() })
}

/// A crowd for the server that the options name.
pub(crate) fn crowd_config(
    options: &Options,
    first_user: u64,
    clients: u32,
) -> Result<crowd::Config, RunError> {
    let edge = options.edge.as_deref().unwrap_or(EDGE_DEFAULT);
    let minter = options.data.as_ref().map(|data| Minter::read(data)).transpose()?;
    Ok(crowd::Config {
        target: Target::parse(edge, "ws://")?,
        minter: minter.map(Arc::new),
        first_user,
        device: Device::Android,
        clients,
        sections: 0,
        network: 10,
        opening_max: 16,
    })
}

/// Why not everybody is there.
pub(crate) fn not_ready(crowd: &Crowd, wanted: u32) -> RunError {
    let last = crowd.take_times().last_fault.unwrap_or_else(|| "none".to_owned());
    RunError::Crowd { ready: crowd.ready(), wanted, last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_line_is_exact_and_steps_leave_an_error() {
        let line: Vec<_> = (0..21).map(|x| (f64::from(x), 5.0 + 3.0 * f64::from(x))).collect();
        let slope = Slope::through(&line);
        assert!((slope.bytes - 3.0).abs() < 1e-9 && slope.error < 1e-9, "{slope:?}");
        let steps: Vec<_> = (0..21).map(|x| (f64::from(x), f64::from(x / 4 * 4) * 3.0)).collect();
        let slope = Slope::through(&steps);
        assert!((slope.bytes - 3.0).abs() < 3.0 * slope.error, "{slope:?}");
        assert!(slope.error > 0.01, "{slope:?}");
    }
}
