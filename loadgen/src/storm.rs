//! The command `storm`: everybody reconnects at once, while others go on talking. It shows what a connect costs the
//! server, that nobody is refused, and what the live ones feel of it. Without a key it only connects, to any WebSocket
//! server: for comparing engines.

use std::fmt::Write;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Times};
use crate::host::{self, Server};
use crate::idle::{crowd_config, not_ready};
use crate::measure::{Latency, Percentiles};
use crate::random::Random;
use crate::run::{Options, RunError};
use crate::url::Target;

/// What to do.
#[derive(Clone, Debug)]
pub struct Storm {
    /// Clients that reconnect.
    pub connections: u32,
    /// How often all of them do.
    pub rounds: u32,
    /// Clients that talk all the while; 0 where the server is not Petrel.
    pub live: u32,
    /// Messages a second among them.
    pub rate: f64,
    /// For how long they talk before the storm, for comparison.
    pub before: Duration,
    /// The first user's id.
    pub first_user: u64,
    /// Connects that are under way at a time in each of the generator's threads; 0: all of them.
    pub opening_max: u32,
}

/// What was seen.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Report {
    pub connections: u32,
    pub rounds: Vec<Round>,
    /// From the middle of the rounds by their rate.
    pub connects_per_s: f64,
    pub server_us_a_connect: f64,
    pub connects_per_s_and_core: f64,
    pub failed: u32,
    pub dropped: u32,
    pub live_before_ms: Percentiles,
    pub live_in_storm_ms: Percentiles,
    pub messages_sent: u64,
    pub messages_arrived: u64,
    pub kernel: String,
    pub last_fault: Option<String>,
}

/// Everybody connected once.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Round {
    pub seconds: f64,
    pub connects_per_s: f64,
    pub login_ms: Percentiles,
    pub server_us_user: f64,
    pub server_us_system: f64,
}

/// Everybody must be there by then.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two rounds, and before the first.
const REST: Duration = Duration::from_millis(500);

/// Does it.
pub fn run(storm: &Storm, options: &Options) -> Result<Report, RunError> {
    let opening_max = if storm.opening_max == 0 { storm.connections } else { storm.opening_max };
    let mut config = crowd_config(options, storm.first_user, storm.connections)?;
    config.opening_max = opening_max;
    let http = options.http.as_ref().map(|url| Target::parse(url, "http://")).transpose()?;
    let server = Server::find(http, config.target.address);
    let live_count = if config.minter.is_some() { storm.live } else { 0 };
    let mut live_config = config.clone();
    live_config.first_user += u64::from(storm.connections);
    live_config.clients = live_count;
    live_config.network += 1;
    let crowd = Crowd::start(config).map_err(RunError::Ring)?;
    let mut live = Crowd::start(live_config).map_err(RunError::Ring)?;
    if !live.go_to(live_count, 1e9, PATIENCE, |_| {}) {
        return Err(not_ready(&live, live_count));
    }
    let mut run = Run { storm, server, crowd, live, live_count, sent: 0, random: Random::new(1) };
    let mut report = Report { connections: storm.connections, kernel: host::kernel(), ..Report::default() };
    run.talk_until(|_, elapsed| elapsed >= storm.before);
    report.live_before_ms = run.live.take_times().delivery.percentiles();
    let mut in_storm = Latency::default();
    for _ in 0..storm.rounds {
        report.rounds.push(run.round(&mut in_storm)?);
    }
    run.talk_until(|_, elapsed| elapsed >= REST);
    report.live_in_storm_ms = in_storm.percentiles();
    report.messages_sent = run.sent;
    report.messages_arrived = run.live.counts().arrived.load(Acquire);
    let (counts, live_counts) = (run.crowd.counts(), run.live.counts());
    report.failed = counts.failed.load(Acquire) + live_counts.failed.load(Acquire);
    report.dropped = counts.dropped.load(Acquire) + live_counts.dropped.load(Acquire);
    report.last_fault = run.crowd.take_times().last_fault.or(run.live.take_times().last_fault);
    let mut by_rate: Vec<&Round> = report.rounds.iter().collect();
    by_rate.sort_by(|a, b| a.connects_per_s.total_cmp(&b.connects_per_s));
    if let Some(middle) = by_rate.get(by_rate.len() / 2) {
        report.connects_per_s = middle.connects_per_s;
        report.server_us_a_connect = middle.server_us_user + middle.server_us_system;
        report.connects_per_s_and_core = 1e6 / report.server_us_a_connect;
    }
    Ok(report)
}

struct Run<'a> {
    storm: &'a Storm,
    server: Server,
    crowd: Crowd,
    live: Crowd,
    live_count: u32,
    sent: u64,
    random: Random,
}

impl Run<'_> {
    /// Everybody leaves, and comes back at once.
    fn round(&mut self, in_storm: &mut Latency) -> Result<Round, RunError> {
        self.crowd.want(0);
        if !self.talk_until(|run, _| run.crowd.counts().sockets.load(Acquire) == 0) {
            return Err(not_ready(&self.crowd, 0));
        }
        self.talk_until(|_, elapsed| elapsed >= REST);
        self.live.take_times();
        self.crowd.take_times();
        let before = self.server.usage().ok_or(RunError::NoMemory)?;
        let (wanted, started) = (self.storm.connections, Instant::now());
        self.crowd.want(wanted);
        if !self.talk_until(|run, _| run.crowd.ready() == wanted) {
            return Err(not_ready(&self.crowd, wanted));
        }
        let seconds = started.elapsed().as_secs_f64();
        let used = self.server.usage().ok_or(RunError::NoMemory)?.since(&before);
        let Times { delivery, .. } = self.live.take_times();
        in_storm.merge(&delivery);
        Ok(Round {
            seconds,
            connects_per_s: f64::from(wanted) / seconds,
            login_ms: self.crowd.take_times().login.percentiles(),
            server_us_user: used.user_s * 1e6 / f64::from(wanted),
            server_us_system: used.system_s * 1e6 / f64::from(wanted),
        })
    }

    /// The live ones talk, at their rate, until it `is_over`; whether that came in time.
    fn talk_until(&mut self, is_over: impl Fn(&Self, Duration) -> bool) -> bool {
        const LOOK: Duration = Duration::from_micros(500);
        let (started, from) = (Instant::now(), self.live.elapsed());
        let mut here = 0_u64;
        while !is_over(self, started.elapsed()) {
            if started.elapsed() > PATIENCE {
                return false;
            }
            let due = (started.elapsed().as_secs_f64() * self.storm.rate) as u64 + 1;
            while self.live_count > 1 && here < due {
                let at = from + Duration::from_secs_f64(here as f64 / self.storm.rate);
                let clients = u64::from(self.live_count);
                let sender = self.random.below(clients);
                let to = (sender + 1 + self.random.below(clients - 1)) % clients;
                self.live.send(sender as u32, to as u32, at);
                (here, self.sent) = (here + 1, self.sent + 1);
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

impl Report {
    /// Whether everybody was served.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.dropped == 0 && self.messages_arrived == self.messages_sent
    }

    /// One screen of it.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<34}{value}").expect("a string takes everything");
        };
        for round in &self.rounds {
            let (rate, login) = (round.connects_per_s, round.login_ms);
            line(
                &format!("{} connects at once", self.connections),
                format!(
                    "{:.2} s, {rate:.0}/s, server {:.1} µs each ({:.1} user + {:.1} system), ready after p50 {:.0} p99 {:.0} ms",
                    round.seconds,
                    round.server_us_user + round.server_us_system,
                    round.server_us_user,
                    round.server_us_system,
                    login.p50,
                    login.p99,
                ),
            );
        }
        line("connects a second of server CPU", format!("{:.0}", self.connects_per_s_and_core));
        line("failed, dropped", format!("{}, {}", self.failed, self.dropped));
        if self.messages_sent > 0 {
            let percentiles = |p: &Percentiles| {
                format!("p50 {:.2}  p99 {:.2}  max {:.2} ms ({})", p.p50, p.p99, p.max, p.count)
            };
            line("live messages before the storm", percentiles(&self.live_before_ms));
            line("live messages in the storm", percentiles(&self.live_in_storm_ms));
            line("live messages", format!("{} sent, {} arrived", self.messages_sent, self.messages_arrived));
        }
        if let Some(fault) = &self.last_fault {
            line("last fault", fault.clone());
        }
        text
    }
}
