//! The main function of a service: what it was told, signals, health, and the order of its end.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use petrel_protocol::token::Keys;
use sd_notify::NotifyState;
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Documented;
use crate::watchdog::{self, tell};
use crate::{BAD_START, Readiness, health, keys};

/// The part that is not ready until everything else is there.
const START: &str = "start";

/// What a service runs in. Signals are caught from its beginning on, so that an early one ends it in order too.
pub struct Daemon {
    runtime: Runtime,
    readiness: Readiness,
    stop: watch::Sender<bool>,
    /// How often somebody has asked to read again what can be.
    hangups: watch::Sender<u64>,
}

/// Reads the configuration and runs `serve` with it. `serve` returns when it was told to end and has, or with one line
/// that says why it cannot work and what to do.
pub fn run<T: DeserializeOwned>(
    documented: &Documented,
    told: &ArgMatches,
    health: impl FnOnce(&T) -> SocketAddr,
    serve: impl FnOnce(T, &Daemon) -> Result<(), String>,
) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,fjall=warn,lsm_tree=warn,pulsar=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = documented.read::<T>(told).and_then(|config| {
        let daemon = Daemon::start(health(&config))?;
        let done = serve(config, &daemon);
        tell(&[NotifyState::Stopping]);
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            tell(&[NotifyState::Status(&text)]);
            eprintln!("{}: {text}", documented.program());
            ExitCode::from(BAD_START)
        }
    }
}

impl Daemon {
    fn start(health: SocketAddr) -> Result<Self, String> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("petrel-links").enable_all().build();
        let runtime =
            runtime.map_err(|e| format!("cannot start a thread: {e}; check the limits on threads"))?;
        let readiness = Readiness::default();
        readiness.waits_for(START, "it starts, and does not serve yet");
        let (stop, hangups) = (watch::Sender::new(false), watch::Sender::new(0));
        {
            let _runtime = runtime.enter();
            for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
                let mut signal = signal(kind).map_err(|e| format!("cannot catch signals: {e}"))?;
                let stop = stop.clone();
                runtime.spawn(async move {
                    while signal.recv().await.is_some() {
                        stop.send_replace(true);
                    }
                });
            }
            let mut hangup =
                signal(SignalKind::hangup()).map_err(|e| format!("cannot catch signals: {e}"))?;
            let hangups = hangups.clone();
            runtime.spawn(async move {
                while hangup.recv().await.is_some() {
                    hangups.send_modify(|count| *count += 1);
                }
            });
        }
        let addr = health::serve(runtime.handle(), health, readiness.clone()).map_err(|e| {
            format!("health cannot be served at {health}: {e}; choose another address with --health")
        })?;
        tracing::info!("health, readiness and metrics at http://{addr}");
        Ok(Self { runtime, readiness, stop, hangups })
    }

    /// Where links and short work run. Nothing that blocks.
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// What `/readyz` shows.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Runs `future` to its end, unless the service is told to end first.
    pub fn until_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stopped = self.stop.subscribe();
        self.runtime.block_on(async {
            tokio::select! {
                done = future => Some(done),
                _ = stopped.wait_for(|stopped| *stopped) => None,
            }
        })
    }

    /// Waits for `future` as for a part that is named by `/readyz`, `status` and the log. None: told to end.
    pub fn wait_for<T>(&self, part: &'static str, why: &str, future: impl Future<Output = T>) -> Option<T> {
        self.readiness.waits_for(part, why);
        tell(&[NotifyState::Status(&format!("waits for {part}: {why}"))]);
        let done = self.until_stopped(future)?;
        self.readiness.has(part);
        Some(done)
    }

    /// The service works: says so, and watches it, until it is told to end. `is_turning` says whether every main loop has
    /// gone round since it was asked before.
    pub fn serve(&self, is_turning: impl Fn() -> bool + Send) {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let readiness = &self.readiness;
        std::thread::scope(|scope| {
            scope.spawn(move || watchdog::run(&ended, readiness, is_turning));
            readiness.has(START);
            tell(&[NotifyState::Ready, NotifyState::Status("serves")]);
            tracing::info!("ready");
            self.until_stopped(std::future::pending::<()>());
            readiness.waits_for("stop", "it was told to end, and drains");
            tell(&[NotifyState::Stopping, NotifyState::Status("drains")]);
            tracing::info!("stopping: nothing new is taken, what is under way settles");
            drop(end);
        });
    }

    /// Hands the token keys in `file` to `use_keys` when they were read again: at each SIGHUP, and once now where there was
    /// one before. Keys that cannot be read change nothing.
    pub fn reread_keys(&self, file: PathBuf, use_keys: impl Fn(Arc<Keys>) + Send + 'static) {
        let mut hangups = self.hangups.subscribe();
        self.runtime.spawn(async move {
            let mut seen = 0;
            while let Ok(count) = hangups.wait_for(|count| *count != seen).await.map(|count| *count) {
                seen = count;
                match keys::read(&file) {
                    Ok(keys) => {
                        tracing::info!("the token keys were read again: {keys:?}");
                        use_keys(Arc::new(keys));
                    }
                    Err(why) => tracing::error!("{why}; the token keys stay as they were"),
                }
            }
        });
    }

    /// Ends the service, as a signal does.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Tells whether the service is to end.
    #[cfg(feature = "bus")]
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Runs `future` to its end: for what is stopped in order.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_is_ready_only_while_it_serves() {
        let daemon = Daemon::start(SocketAddr::from(([127, 0, 0, 1], 0))).expect("it starts");
        let parts = || daemon.readiness().missing().into_keys().collect::<Vec<_>>();
        assert_eq!(parts(), [START], "before anything was asked for");
        std::thread::scope(|scope| {
            scope.spawn(|| daemon.serve(|| true));
            let until = Instant::now() + Duration::from_secs(30);
            while !parts().is_empty() {
                assert!(Instant::now() < until, "it serves");
                std::thread::sleep(Duration::from_millis(5));
            }
            daemon.stop();
        });
        assert_eq!(parts(), ["stop"]);
    }
}
