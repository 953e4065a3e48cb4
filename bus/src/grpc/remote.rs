//! The callers' side: a service in another process.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use petrel_protocol::limits;
use petrel_protocol::map::Map;
use prometheus::IntGauge;
use prost::Message;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tonic::Streaming;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::Endpoint;

use super::compiled::links_client::LinksClient;
use super::compiled::{Replies, Request, Requests};
use super::metrics::METRICS;
use super::outbox::{ITEM_BYTES_MAX, Outbox};
use super::wire::{Outgoing, Waiting};
use crate::calls::{CallError, EdgeCall, PersistCall, RouterCall, Service};

/// How often calls are looked at that may be overdue.
const OVERDUE_EVERY: Duration = Duration::from_millis(100);

/// A service in another process. It opens its link by itself, and opens it again whenever it ends; until then calls are
/// answered as unavailable at once. Dropped, it answers what is under way as unavailable.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// An address that cannot be one of a service.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address of a service: give host:port")]
pub struct BadAddress(String);

impl Remote {
    /// A link to `address` (host:port), which runs on `runtime`. It need not be there yet.
    pub fn new(runtime: &Handle, address: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(address.to_owned());
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port || address.contains('/') {
            return Err(bad());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| bad())?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_millis(limits::LINK_OPEN_MS_MAX))
            .http2_keep_alive_interval(Duration::from_millis(limits::LINK_PING_MS))
            .keep_alive_timeout(Duration::from_millis(limits::LINK_PONG_MS_MAX))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(limits::LINK_WINDOW_BYTES)
            .initial_connection_window_size(limits::LINK_WINDOW_BYTES);
        let gauge = |family: &prometheus::IntGaugeVec| family.with_label_values(&[address]);
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            state: Mutex::default(),
            outstanding: gauge(&METRICS.outstanding),
            is_open: gauge(&METRICS.is_open),
        });
        let task = runtime.spawn(keep_open(Arc::clone(&shared), endpoint)).abort_handle();
        Ok(Self { shared, task })
    }

    /// The peer's address, as it was given.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether calls can be made now.
    pub fn is_open(&self) -> bool {
        self.shared.state().is_open
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.end();
    }
}

impl Service<PersistCall> for Remote {
    fn call(&self, call: PersistCall) {
        self.shared.call(call.into());
    }
}

impl Service<RouterCall> for Remote {
    fn call(&self, call: RouterCall) {
        self.shared.call(call.into());
    }
}

impl Service<EdgeCall> for Remote {
    fn call(&self, call: EdgeCall) {
        self.shared.call(call.into());
    }
}

#[derive(Debug)]
struct Shared {
    address: String,
    state: Mutex<State>,
    outstanding: IntGauge,
    is_open: IntGauge,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    /// Which of the links, one after the other, this is about. What belongs to an earlier one is over.
    link: u64,
    last_id: u64,
    waiting: Map<u64, (Instant, Waiting)>,
    outbox: Outbox<Request>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done here: what runs under the lock is ours and asserts nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, (call, waiting): Outgoing) {
        let mut request = Request { id: 0, call: Some(call) };
        let bytes = request.encoded_len();
        if bytes > ITEM_BYTES_MAX {
            let kind = waiting.kind();
            tracing::error!("a call ({kind}) of {bytes} bytes is larger than any may be and was not sent");
            return refuse(waiting, "too_large", CallError::Unavailable);
        }
        let mut state = self.state();
        if !state.is_open {
            drop(state);
            return refuse(waiting, "not_open", CallError::Unavailable);
        }
        if state.waiting.len() >= limits::LINK_CALLS_MAX || !state.outbox.has_room(bytes) {
            drop(state);
            return refuse(waiting, "full", CallError::Full);
        }
        state.last_id += 1;
        request.id = state.last_id;
        state.waiting.insert(request.id, (Instant::now(), waiting));
        let sender = state.outbox.push(bytes, request);
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    /// Begins a link; its number.
    fn begin(&self) -> u64 {
        let mut state = self.state();
        state.link += 1;
        state.outbox = Outbox::default();
        state.link
    }

    fn open(&self) {
        self.state().is_open = true;
        self.is_open.set(1);
    }

    /// The link is over: nothing of it is answered any more.
    fn end(&self) {
        let mut state = self.state();
        state.is_open = false;
        state.link += 1;
        let waiting = std::mem::take(&mut state.waiting);
        let mut outbox = std::mem::take(&mut state.outbox);
        drop(state);
        self.is_open.set(0);
        self.outstanding.set(0);
        if let Some(sender) = outbox.take_sender() {
            sender.wake();
        }
        for (_, waiting) in waiting.into_values() {
            refuse(waiting, "link_ended", CallError::Unavailable);
        }
    }

    fn answered(&self, replies: Replies) {
        METRICS.messages.with_label_values(&["replies_in"]).inc();
        METRICS.calls.with_label_values(&["replies_in"]).inc_by(replies.replies.len() as u64);
        let mut answered = Vec::with_capacity(replies.replies.len());
        let mut state = self.state();
        for reply in replies.replies {
            // One that nobody waits for was given up.
            if let Some((since, waiting)) = state.waiting.remove(&reply.id) {
                answered.push((since, waiting, reply.answer));
            }
        }
        self.outstanding.set(state.waiting.len() as i64);
        drop(state);
        let now = Instant::now();
        for (since, waiting, answer) in answered {
            let kind = waiting.kind();
            METRICS.seconds.with_label_values(&[kind]).observe((now - since).as_secs_f64());
            if !waiting.answer(answer) {
                METRICS.refused.with_label_values(&["misfit"]).inc();
                let address = &self.address;
                tracing::error!(
                    "{address} answered a call ({kind}) with something else: is it of this version?"
                );
            }
        }
    }

    /// Gives up what was not answered in time.
    fn give_up(&self) {
        let now = Instant::now();
        let mut state = self.state();
        self.outstanding.set(state.waiting.len() as i64);
        let is_overdue = |(since, waiting): &mut (Instant, Waiting)| {
            now - *since >= Duration::from_millis(waiting.answer_ms_max())
        };
        let overdue: Vec<_> = state.waiting.extract_if(|_, waiting| is_overdue(waiting)).collect();
        drop(state);
        for (_, (_, waiting)) in overdue {
            refuse(waiting, "overdue", CallError::Unavailable);
        }
    }
}

fn refuse(waiting: Waiting, reason: &str, error: CallError) {
    METRICS.refused.with_label_values(&[reason]).inc();
    waiting.fail(error);
}

/// What is sent on one link; ends with it.
struct Sending {
    shared: Arc<Shared>,
    link: u64,
}

impl Stream for Sending {
    type Item = Requests;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Requests>> {
        let mut state = self.shared.state();
        if state.link != self.link {
            return Poll::Ready(None);
        }
        state.outbox.poll_message(context).map(|requests| {
            METRICS.messages.with_label_values(&["requests_out"]).inc();
            METRICS.calls.with_label_values(&["requests_out"]).inc_by(requests.len() as u64);
            Some(Requests { requests })
        })
    }
}

/// Opens the link again and again, until this future is dropped.
async fn keep_open(shared: Arc<Shared>, endpoint: Endpoint) {
    let mut failures = 0;
    loop {
        let link = shared.begin();
        let limit = Duration::from_millis(2 * limits::LINK_OPEN_MS_MAX);
        let opened = tokio::time::timeout(limit, open(&shared, link, &endpoint)).await;
        let why = match opened {
            Ok(Ok(replies)) => {
                shared.open();
                tracing::info!("the link to {} is open", shared.address);
                failures = 0;
                receive(&shared, replies).await
            }
            Ok(Err(e)) => e,
            Err(_) => "it does not answer".to_owned(),
        };
        shared.end();
        METRICS.ends.with_label_values(&[&shared.address]).inc();
        if failures == 0 {
            let address = &shared.address;
            tracing::warn!(
                "no link to {address}: {why}; trying until it is there: does it run, at that address?"
            );
        }
        tokio::time::sleep(backoff(failures)).await;
        failures += 1;
    }
}

async fn open(shared: &Arc<Shared>, link: u64, endpoint: &Endpoint) -> Result<Streaming<Replies>, String> {
    let channel = endpoint.connect().await.map_err(|e| reason(&e))?;
    let mut client = LinksClient::new(channel)
        .max_decoding_message_size(limits::LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::LINK_MESSAGE_BYTES_MAX);
    let sending = Sending { shared: Arc::clone(shared), link };
    client.open(sending).await.map(tonic::Response::into_inner).map_err(|e| reason(&e))
}

/// Takes answers until the link ends; why it did.
async fn receive(shared: &Shared, mut replies: Streaming<Replies>) -> String {
    let mut overdue = tokio::time::interval(OVERDUE_EVERY);
    overdue.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = replies.message() => match message {
                Ok(Some(message)) => shared.answered(message),
                Ok(None) => return "it closed the link".to_owned(),
                Err(e) => return reason(&e),
            },
            _ = overdue.tick() => shared.give_up(),
        }
    }
}

/// The innermost cause: the layers above it say no more than that something failed.
fn reason(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Doubled with each failure, up to a bound, and spread by half of it, so that many callers do not come back at once.
fn backoff(failures: u32) -> Duration {
    let ms = (limits::LINK_BACKOFF_MS_MIN << failures.min(10)).min(limits::LINK_BACKOFF_MS_MAX);
    let random = RandomState::new().hash_one(failures);
    Duration::from_millis(ms / 2 + random % ms)
}
