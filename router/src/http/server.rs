//! HTTP/1.1 on a thread of its own: how many connections, how long they may take, how they end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use petrel_protocol::limits;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::metrics::METRICS;

/// A connection that is told to end gets this long for the request that is under way.
const LAST_REQUEST_MS: u64 = 2_000;
/// Where the process has no descriptor left, accepting is tried again after this long.
const ACCEPT_AGAIN_MS: u64 = 100;

/// A running server.
pub(crate) struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves `routes` on a thread of its own, where `beside` runs too.
    pub(crate) fn start(
        listener: TcpListener,
        routes: Router,
        head_timeout: Duration,
        beside: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(limits::HASHES_AT_ONCE)
            .build()?;
        let listener = {
            let _runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let acceptor = Acceptor { listener, routes, head_timeout, stopped };
        let thread = std::thread::Builder::new().name("petrel-http".into()).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(beside);
                acceptor.run().await;
            });
            // A hash that is being computed is not waited for: nobody wants its answer any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { addr, stop, thread })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests, gives those under way a while, and joins the thread.
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the HTTP thread had panicked");
        }
    }
}

struct Acceptor {
    listener: tokio::net::TcpListener,
    routes: Router,
    head_timeout: Duration,
    stopped: watch::Receiver<bool>,
}

impl Acceptor {
    /// Until the server stops and every connection has ended.
    async fn run(mut self) {
        let places = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("HTTP cannot accept: {e}; raise LimitNOFILE where descriptors ran out");
                    sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await;
                    continue;
                }
            };
            let (routes, stopped, head_timeout) =
                (self.routes.clone(), self.stopped.clone(), self.head_timeout);
            tokio::spawn(async move {
                METRICS.connections.inc();
                serve(stream, routes, head_timeout, stopped).await;
                METRICS.connections.dec();
                drop(place);
            });
        }
        drop(self.listener);
        // All places are free when all connections have ended.
        let all = places.acquire_many(limits::HTTP_CONNECTIONS_MAX as u32);
        let _ = timeout(Duration::from_millis(2 * LAST_REQUEST_MS), all).await;
    }
}

/// A connection, where there is a place for it.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, place))
}

/// One connection, to its end. Its own faults (broken heads, resets, time-outs) are hyper's to answer and nobody's news.
async fn serve(
    stream: TcpStream,
    routes: Router,
    head_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(limits::HTTP_BODY_BYTES_MAX.max(8 << 10))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => (),
        () = sleep(Duration::from_millis(limits::HTTP_CONNECTION_MS_MAX)) => (),
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(Duration::from_millis(LAST_REQUEST_MS), connection).await;
}
