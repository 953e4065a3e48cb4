//! The two threads of a log, each with a runtime and a client of its own.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use petrel_protocol::limits;
use pulsar::{Authentication, ConnectionRetryOptions, OperationRetryOptions, Pulsar, TokioExecutor};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::Config;
use super::waiting::Waiting;
use crate::OpenError;

/// A connection to the brokers.
pub(super) type Client = Pulsar<TokioExecutor>;

/// Both threads. They end when this is closed or dropped.
pub(super) struct Sides {
    closing: watch::Sender<bool>,
    publish: Side,
    read: Side,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where one thread's tasks are started.
#[derive(Clone)]
pub(super) struct Side {
    handle: Handle,
    /// Tasks that have to be waited for hold one of these.
    room: Arc<Semaphore>,
}

/// The most tasks of one side: two a partition and topic.
const TASKS_MAX: u32 = 1 << 16;

impl Sides {
    pub(super) fn start() -> Result<Self, OpenError> {
        let closing = watch::Sender::new(false);
        let failed = |error: io::Error| OpenError(format!("cannot start a thread of the log: {error}"));
        let (publish, publish_thread) = Side::start("petrel-bus-out", closing.subscribe()).map_err(failed)?;
        // Made first, so that a failure of the second ends the first.
        let mut sides = Self { closing, read: publish.clone(), publish, threads: Mutex::default() };
        sides.threads.get_mut().expect("nobody holds it").push(publish_thread);
        let (read, read_thread) = Side::start("petrel-bus-in", sides.closing.subscribe()).map_err(failed)?;
        sides.threads.get_mut().expect("nobody holds it").push(read_thread);
        sides.read = read;
        Ok(sides)
    }

    /// Runs something on the thread that publishes.
    pub(super) async fn publish<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, OpenError> {
        self.publish.run(task).await
    }

    /// Runs something on the thread that reads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, OpenError> {
        self.read.run(task).await
    }

    pub(super) fn publishing(&self) -> Side {
        self.publish.clone()
    }

    pub(super) fn reading(&self) -> Side {
        self.read.clone()
    }

    pub(super) fn closing(&self) -> watch::Sender<bool> {
        self.closing.clone()
    }

    /// Ends both threads and waits for them.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        for thread in self.threads.lock().expect("no holder panics").drain(..) {
            // A receipt may hold the last handle, and so close the log on its own thread, which then ends by itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!(
                    "a thread of the log panicked; what it had not receipted has an unknown outcome"
                );
            }
        }
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        self.close();
    }
}

impl Side {
    fn start(name: &str, mut closing: watch::Receiver<bool>) -> io::Result<(Self, JoinHandle<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let side =
            Self { handle: runtime.handle().clone(), room: Arc::new(Semaphore::new(TASKS_MAX as usize)) };
        let room = Arc::clone(&side.room);
        let run = move || {
            runtime.block_on(async {
                until_closed(&mut closing).await;
                // What was begun is finished, within a bound; what then remains is dropped.
                let finished = room.acquire_many(TASKS_MAX);
                let _ = timeout(Duration::from_millis(limits::BUS_CLOSE_MS_MAX), finished).await;
            });
            // The resolver of names may block for longer than anybody wants to wait.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok((side, thread))
    }

    async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, OpenError> {
        let done = self.handle.spawn(task).await;
        done.map_err(|_| OpenError("a thread of the log ended while the log was opened".to_owned()))
    }

    /// Starts a task that is waited for when the log is closed.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // There are fewer tasks than this by far; without a permit a task would only not be waited for.
        let permit: Option<OwnedSemaphorePermit> = Arc::clone(&self.room).try_acquire_owned().ok();
        self.handle.spawn(async move {
            task.await;
            drop(permit);
        });
    }
}

/// Returns when the log is closed.
pub(super) async fn until_closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone has closed the log too.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The longest pause before the brokers are tried again.
const BACKOFF: Duration = Duration::from_millis(limits::BUS_RECONNECT_MS_MAX);
/// The longest that a broker may take for an answer.
const ANSWER_MAX: Duration = Duration::from_millis(limits::BUS_PUBLISH_MS_MAX);
/// The longest that the client may try by itself before it is said that it does.
const CONNECT_MAX: Duration = ANSWER_MAX.saturating_mul(2);
/// The part that is reported while this waits for a connection.
const PART: &str = "connecting to the log";

/// Connects to the brokers. Waits for them where they are away: the client would by itself, but only for one that refuses
/// a connection or does not answer it. One that starts or ends, or a balancer before it, takes connections and closes them,
/// and its name may not be found yet. What is wrong with a token the administration has said before.
pub(super) async fn connect(config: Config) -> Client {
    let mut waiting = Waiting::new(&config.health, PART, "no connection to the log yet");
    loop {
        let problem = match timeout(CONNECT_MAX, Box::pin(build(&config))).await {
            Ok(Ok(client)) => {
                waiting.is_over();
                return client;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        waiting.goes_on(&format!("{}: {problem}; start it, or mend the way to it", config.broker));
        tokio::time::sleep(BACKOFF).await;
    }
}

async fn build(config: &Config) -> Result<Client, pulsar::Error> {
    let connection = ConnectionRetryOptions {
        max_backoff: BACKOFF,
        max_retries: u32::MAX,
        connection_timeout: ANSWER_MAX,
        // A peer that is gone without a word is noticed within this and one answer.
        keep_alive: ANSWER_MAX,
        ..ConnectionRetryOptions::default()
    };
    // What the broker answers is decided about here, not in the client.
    let operation =
        OperationRetryOptions { operation_timeout: ANSWER_MAX, retry_delay: BACKOFF, max_retries: Some(0) };
    let mut builder = Pulsar::builder(&config.broker, TokioExecutor)
        .with_connection_retry_options(connection)
        .with_operation_retry_options(operation);
    if let Some(token) = &config.token {
        let data = token.0.clone().into_bytes();
        builder = builder.with_auth(Authentication { name: "token".to_owned(), data });
    }
    builder.build().await
}
