//! The command `hold`: very many connections held at once, what they cost, and whether messages still flow between them.

use std::fmt::Write;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::crowd::Crowd;
use crate::host::{self, Server, Usage};
use crate::idle::{crowd_config, not_ready};
use crate::measure::Percentiles;
use crate::random::Random;
use crate::run::{Options, RunError};
use crate::url::Target;

/// What to do.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Connections.
    pub connections: u32,
    /// The first user's id.
    pub first_user: u64,
    /// Connections opened a second, at most.
    pub ramp_per_s: f64,
    /// Messages a second between two clients drawn at random, while all are held.
    pub rate: f64,
    /// For how long.
    pub messages: Duration,
    /// For how long the heartbeats are watched, with nothing else going on.
    pub quiet: Duration,
    /// Connections closed a second, at most.
    pub leave_per_s: f64,
    /// A bound of the server's resident memory with all connections, bytes.
    pub resident_bytes_max: u64,
    /// A bound of the 99th percentile of the delivery.
    pub delivery_p99_ms_max: f64,
}

/// What was seen. Memory of the kernel is of both ends, which are on one machine.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Report {
    pub connections: u32,
    pub sections: u32,
    pub ramp_s: f64,
    pub connects_per_s: f64,
    pub connects_failed: u32,
    pub login_ms: Percentiles,
    pub server_us_a_login: (f64, f64),
    pub resident_before_bytes: u64,
    pub resident_bytes: u64,
    pub user_bytes_a_connection: f64,
    pub kernel_bytes_a_connection_both_ends: f64,
    pub messages_sent: u64,
    pub messages_accepted: u64,
    pub messages_arrived: u64,
    pub accept_ms: Percentiles,
    pub delivery_ms: Percentiles,
    pub quiet_s: f64,
    pub pings_per_s: f64,
    pub server_cpu_percent: (f64, f64),
    pub dropped: u32,
    pub stages: Vec<Stage>,
    pub kernel: String,
    pub faults: Vec<String>,
}

/// After a part of the connections was closed.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Stage {
    pub connections: u32,
    pub seconds: f64,
    pub resident_bytes: u64,
    pub dropped: u32,
}

/// A connection that is not there so long after it was asked for is missed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Does it. `say` is told how far it is.
pub fn run(hold: &Hold, options: &Options, say: impl FnMut(String)) -> Result<Report, RunError> {
    let config = crowd_config(options, hold.first_user, hold.connections)?;
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    let server = Server::find(http, config.target.address);
    let crowd = Crowd::start(config).map_err(RunError::Ring)?;
    let mut run = Run { hold, server, crowd, say, report: Report::default() };
    run.report.kernel = host::kernel();
    run.report.connections = hold.connections;
    run.ramp()?;
    run.messages();
    run.quiet()?;
    run.leave()?;
    Ok(run.judged())
}

struct Run<'a, S> {
    hold: &'a Hold,
    server: Server,
    crowd: Crowd,
    say: S,
    report: Report,
}

impl<S: FnMut(String)> Run<'_, S> {
    fn usage(&self) -> Result<Usage, RunError> {
        self.server.usage().ok_or(RunError::NoMemory)
    }

    fn dropped(&self) -> u32 {
        self.crowd.counts().dropped.load(Acquire)
    }

    fn ramp(&mut self) -> Result<(), RunError> {
        let before = self.usage()?;
        let kernel_before = host::kernel_bytes().unwrap_or_default();
        let (started, mut said) = (Instant::now(), Instant::now());
        let wanted = self.hold.connections;
        let (crowd, say) = (&mut self.crowd, &mut self.say);
        let is_there = crowd.go_to(wanted, self.hold.ramp_per_s, PATIENCE, |ready| {
            if said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                say(format!("{:>6.0} s  {ready} of {wanted} ready", started.elapsed().as_secs_f64()));
            }
        });
        if !is_there {
            return Err(not_ready(&self.crowd, wanted));
        }
        let seconds = started.elapsed().as_secs_f64();
        let used = self.usage()?.since(&before);
        let kernel_bytes = host::kernel_bytes().unwrap_or_default().saturating_sub(kernel_before);
        let each = |sum: f64| sum / f64::from(wanted);
        let report = &mut self.report;
        report.ramp_s = seconds;
        report.connects_per_s = f64::from(wanted) / seconds;
        report.connects_failed = self.crowd.counts().failed.load(Acquire);
        report.login_ms = self.crowd.take_times().login.percentiles();
        report.server_us_a_login = (each(used.user_s * 1e6), each(used.system_s * 1e6));
        report.resident_before_bytes = before.resident_bytes;
        report.resident_bytes = used.resident_bytes;
        report.user_bytes_a_connection = each(used.resident_bytes as f64 - before.resident_bytes as f64);
        report.kernel_bytes_a_connection_both_ends = each(kernel_bytes as f64);
        (self.say)(format!("{seconds:>6.0} s  all {wanted} ready"));
        Ok(())
    }

    fn messages(&mut self) {
        let mut random = Random::new(self.hold.first_user);
        let clients = u64::from(self.hold.connections);
        let (start, count) =
            (self.crowd.elapsed(), (self.hold.rate * self.hold.messages.as_secs_f64()) as u64);
        for number in 0..count {
            let at = start + Duration::from_secs_f64(number as f64 / self.hold.rate);
            std::thread::sleep(at.saturating_sub(self.crowd.elapsed()));
            let from = random.below(clients);
            let to = (from + 1 + random.below(clients - 1)) % clients;
            self.crowd.send(from as u32, to as u32, at);
        }
        let arrived = |crowd: &Crowd| crowd.counts().arrived.load(Acquire);
        let sent_at = Instant::now();
        while arrived(&self.crowd) < count && sent_at.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let times = self.crowd.take_times();
        let report = &mut self.report;
        report.messages_sent = count;
        report.messages_accepted = self.crowd.counts().accepted.load(Acquire);
        report.messages_arrived = arrived(&self.crowd);
        report.accept_ms = times.accept.percentiles();
        report.delivery_ms = times.delivery.percentiles();
        report.faults.extend(times.last_fault);
        (self.say)(format!("{count} messages sent, {} arrived", report.messages_arrived));
    }

    fn quiet(&mut self) -> Result<(), RunError> {
        let pings = |crowd: &Crowd| crowd.counts().pings.load(Acquire);
        let (before, pings_before, started) = (self.usage()?, pings(&self.crowd), Instant::now());
        std::thread::sleep(self.hold.quiet);
        let (used, seconds) = (self.usage()?.since(&before), started.elapsed().as_secs_f64());
        let dropped = self.dropped();
        let report = &mut self.report;
        report.quiet_s = seconds;
        report.pings_per_s = (pings(&self.crowd) - pings_before) as f64 / seconds;
        report.server_cpu_percent = (used.user_s / seconds * 100.0, used.system_s / seconds * 100.0);
        report.resident_bytes = report.resident_bytes.max(used.resident_bytes);
        report.dropped = dropped;
        Ok(())
    }

    /// Everybody goes, a quarter at a time: closing very many at once would pin the kernel's memory.
    fn leave(&mut self) -> Result<(), RunError> {
        for quarter in (0..4).rev() {
            let rest = self.hold.connections / 4 * quarter;
            let started = Instant::now();
            if !self.crowd.go_to(rest, self.hold.leave_per_s, PATIENCE, |_| {}) {
                return Err(not_ready(&self.crowd, rest));
            }
            let stage = Stage {
                connections: rest,
                seconds: started.elapsed().as_secs_f64(),
                resident_bytes: self.usage()?.resident_bytes,
                dropped: self.dropped(),
            };
            (self.say)(format!("{rest} left, {} dropped", stage.dropped));
            self.report.stages.push(stage);
        }
        Ok(())
    }

    fn judged(mut self) -> Report {
        let last_fault = self.crowd.take_times().last_fault;
        let (hold, report) = (self.hold, &mut self.report);
        report.faults.extend(last_fault);
        let mut fault = |is: bool, text: String| {
            if is {
                report.faults.push(text);
            }
        };
        let (sent, arrived) = (report.messages_sent, report.messages_arrived);
        fault(arrived != sent, format!("{sent} messages were sent, and {arrived} arrived"));
        let dropped = self.crowd.counts().dropped.load(Acquire);
        fault(dropped > 0, format!("{dropped} connections were dropped"));
        let failed = report.connects_failed;
        fault(failed > 0, format!("{failed} connects failed, and were tried again"));
        let resident_mb = report.resident_bytes as f64 / 1e6;
        let max_mb = hold.resident_bytes_max as f64 / 1e6;
        fault(resident_mb > max_mb, format!("{resident_mb:.0} MB resident, above {max_mb:.0} MB"));
        let (p99, max) = (report.delivery_ms.p99, hold.delivery_p99_ms_max);
        fault(p99 > max, format!("p99 of the delivery {p99:.1} ms, above {max:.1} ms"));
        self.report
    }
}

impl Report {
    /// One screen of it.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<34}{value}").expect("a string takes everything");
        };
        let percentiles = |p: &Percentiles| {
            format!("p50 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms", p.p50, p.p99, p.p999, p.max)
        };
        line("connections", format!("{} logged in, one server process", self.connections));
        let (rate, seconds, failed) = (self.connects_per_s, self.ramp_s, self.connects_failed);
        line("connects with login", format!("{rate:.0}/s for {seconds:.0} s, {failed} failed"));
        line("time to READY", percentiles(&self.login_ms));
        let (user, system) = self.server_us_a_login;
        line("server CPU a login", format!("{:.1} µs ({user:.1} user + {system:.1} system)", user + system));
        line(
            "server resident",
            format!(
                "{:.1} MB, {:.1} MB of it without connections",
                self.resident_bytes as f64 / 1e6,
                self.resident_before_bytes as f64 / 1e6
            ),
        );
        line("user memory a connection", format!("{:.0} B", self.user_bytes_a_connection));
        let kernel = self.kernel_bytes_a_connection_both_ends;
        line("kernel memory a connection", format!("{kernel:.0} B, both ends (slabs and page tables)"));
        let (sent, arrived) = (self.messages_sent, self.messages_arrived);
        line("messages between random clients", format!("{sent} sent, {arrived} arrived"));
        line("  accepted after", percentiles(&self.accept_ms));
        line("  delivered after", percentiles(&self.delivery_ms));
        let (user, system) = self.server_cpu_percent;
        line(
            "heartbeats",
            format!(
                "{:.0}/s; server CPU {:.1} % of a core ({user:.1} user + {system:.1} system) over {:.0} s",
                self.pings_per_s,
                user + system,
                self.quiet_s
            ),
        );
        line("dropped while held", self.dropped.to_string());
        for stage in &self.stages {
            let (rest, seconds) = (stage.connections, stage.seconds);
            let resident = stage.resident_bytes as f64 / 1e6;
            line(
                &format!("closed down to {rest}"),
                format!("{seconds:.1} s, {resident:.1} MB resident, {} dropped", stage.dropped),
            );
        }
        for fault in &self.faults {
            line("NOT AS IT SHOULD BE", fault.clone());
        }
        text
    }
}
