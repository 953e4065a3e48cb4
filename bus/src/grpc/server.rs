//! The services' side: takes the links of callers and gives their calls to the services of this process.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use petrel_protocol::limits;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status, Streaming};

use super::compiled::links_server::{Links, LinksServer};
use super::compiled::reply::Answer;
use super::compiled::{Replies, Reply, Request, Requests};
use super::metrics::METRICS;
use super::outbox::{ITEM_BYTES_MAX, Outbox};
use super::wire;
use crate::calls::{CallError, EdgeCall, Link, PersistCall, RouterCall};

/// What was begun gets this long to be answered when a server stops.
const STOP: Duration = Duration::from_secs(2);

/// The services of this process that others may call.
#[derive(Clone, Default)]
pub struct Services {
    /// The edge, where there is one.
    pub edge: Option<Link<EdgeCall>>,
    /// The router, where there is one.
    pub router: Option<Link<RouterCall>>,
    /// The persist, where there is one.
    pub persist: Option<Link<PersistCall>>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `services` to whoever connects to `listener`, on `runtime`.
    pub fn start(runtime: &Handle, listener: std::net::TcpListener, services: Services) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(false);
        let links = LinksServer::new(Serving { services: Arc::new(services), stopped: stopped.clone() })
            .max_decoding_message_size(limits::LINK_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::LINK_MESSAGE_BYTES_MAX);
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_millis(limits::LINK_PING_MS)))
            .http2_keepalive_timeout(Some(Duration::from_millis(limits::LINK_PONG_MS_MAX)))
            .initial_stream_window_size(limits::LINK_WINDOW_BYTES)
            .initial_connection_window_size(limits::LINK_WINDOW_BYTES)
            .max_concurrent_streams(1)
            .add_service(links);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let task = runtime.spawn(async move {
            let stopping = is_stopped(stopped);
            if let Err(e) = server.serve_with_incoming_shutdown(incoming, stopping).await {
                tracing::error!("calls from other processes are served no more: {e}; restart this one");
            }
        });
        Ok(Self { addr, stop, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more calls, answers those that were begun (bounded in time), and closes the links.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(STOP, &mut self.task).await.is_err() {
            tracing::warn!("calls of other processes were not answered in time when this one stopped");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn is_stopped(mut stopped: watch::Receiver<bool>) {
    // A server that is gone has stopped too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

struct Serving {
    services: Arc<Services>,
    stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Links for Serving {
    type OpenStream = Answering;

    async fn open(
        &self,
        requests: tonic::Request<Streaming<Requests>>,
    ) -> Result<Response<Answering>, Status> {
        let caller = Arc::new(Caller::default());
        let reading = Reading { caller: Arc::clone(&caller), services: Arc::clone(&self.services) };
        tokio::spawn(reading.run(requests.into_inner(), self.stopped.clone()));
        Ok(Response::new(Answering(caller)))
    }
}

/// One caller's link.
#[derive(Default)]
struct Caller {
    state: Mutex<State>,
    /// Told when there is room for more, or the caller is gone.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Calls that were begun and whose answer has not left.
    open: usize,
    outbox: Outbox<Reply>,
    /// No more calls come: when all are answered, the link ends.
    is_read: bool,
    /// Nobody takes answers any more.
    is_gone: bool,
}

impl State {
    fn has_room(&self) -> bool {
        self.open < limits::LINK_CALLS_MAX && self.outbox.bytes() < limits::LINK_QUEUE_BYTES_MAX / 2
    }
}

impl Caller {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done here: what runs under the lock is ours and asserts nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, id: u64, answer: Answer) {
        let mut reply = Reply { id, answer: Some(answer) };
        let mut bytes = reply.encoded_len();
        if bytes > ITEM_BYTES_MAX {
            tracing::error!("an answer of {bytes} bytes is larger than any may be and was not sent");
            reply.answer = Some(wire::error(CallError::Unavailable));
            bytes = reply.encoded_len();
        }
        let mut state = self.state();
        if state.is_gone {
            return;
        }
        if !state.outbox.has_room(bytes) {
            reply.answer = Some(wire::error(CallError::Full));
            bytes = reply.encoded_len();
        }
        let sender = state.outbox.push(bytes, reply);
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    /// Waits until more calls may be read. False: the caller is gone.
    async fn has_room(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state();
                if state.is_gone || state.has_room() {
                    return !state.is_gone;
                }
            }
            changed.await;
        }
    }

    async fn is_gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().is_gone {
                return;
            }
            changed.await;
        }
    }
}

/// Reads one caller's calls.
struct Reading {
    caller: Arc<Caller>,
    services: Arc<Services>,
}

impl Reading {
    async fn run(self, mut requests: Streaming<Requests>, stopped: watch::Receiver<bool>) {
        let mut stopped = std::pin::pin!(is_stopped(stopped));
        while self.caller.has_room().await {
            let message = tokio::select! {
                message = requests.message() => message,
                () = self.caller.is_gone() => break,
                () = &mut stopped => break,
            };
            match message {
                Ok(Some(message)) => self.begin(message),
                Ok(None) => break,
                Err(status) => {
                    tracing::warn!("a caller's link ended: {}", status.message());
                    break;
                }
            }
        }
        let mut state = self.caller.state();
        state.is_read = true;
        let sender = state.outbox.take_sender();
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    fn begin(&self, message: Requests) {
        METRICS.messages.with_label_values(&["requests_in"]).inc();
        METRICS.calls.with_label_values(&["requests_in"]).inc_by(message.requests.len() as u64);
        self.caller.state().open += message.requests.len();
        for Request { id, call } in message.requests {
            let caller = Arc::clone(&self.caller);
            if !wire::serve(&self.services, call, move |answer| caller.answer(id, answer)) {
                tracing::error!(
                    "a caller asked for what this process does not serve: is an address in its configuration that of another service, or its version newer?"
                );
            }
        }
    }
}

/// The answers to one caller. Dropped when the caller is gone.
struct Answering(Arc<Caller>);

impl Stream for Answering {
    type Item = Result<Replies, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        if state.is_read && state.open == 0 {
            return Poll::Ready(None);
        }
        let Poll::Ready(replies) = state.outbox.poll_message(context) else { return Poll::Pending };
        let was_full = !state.has_room();
        state.open -= replies.len();
        drop(state);
        if was_full {
            self.0.changed.notify_waiters();
        }
        METRICS.messages.with_label_values(&["replies_out"]).inc();
        METRICS.calls.with_label_values(&["replies_out"]).inc_by(replies.len() as u64);
        Poll::Ready(Some(Ok(Replies { replies })))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_gone = true;
        state.outbox = Outbox::default();
        drop(state);
        self.0.changed.notify_waiters();
    }
}
