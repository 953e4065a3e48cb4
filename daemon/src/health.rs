//! What operators and their tools ask a service, over HTTP: is it alive, is it ready, what does it count.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use petrel_protocol::limits;
use prometheus::TextEncoder;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::Readiness;

/// Where the process has no descriptor left, accepting is tried again after this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves `/healthz`, `/readyz` and `/metrics` at `addr` on `runtime`, for as long as the process lives. Where it serves.
pub(crate) fn serve(runtime: &Handle, addr: SocketAddr, readiness: Readiness) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let listener = {
        let _runtime = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let routes = axum::Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(readiness);
    runtime.spawn(accept(listener, routes));
    Ok(addr)
}

async fn accept(listener: tokio::net::TcpListener, routes: axum::Router) {
    let places = Arc::new(Semaphore::new(limits::HEALTH_CONNECTIONS_MAX));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_millis(limits::HTTP_HEAD_MS_MAX))
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
            // Its faults are hyper's to answer and nobody's news.
            let _ = timeout(Duration::from_millis(limits::HTTP_CONNECTION_MS_MAX), connection).await;
            drop(place);
        });
    }
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "is_ready": missing.is_empty(), "waits_for": missing }))).into_response()
}

async fn metrics() -> Response {
    let mut text = String::new();
    if let Err(e) = TextEncoder::new().encode_utf8(&prometheus::gather(), &mut text) {
        let _ = write!(text, "# the rest cannot be encoded: {e}");
    }
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn get(addr: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(addr).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    }

    #[test]
    fn a_service_that_waits_is_alive_and_says_for_what() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let readiness = Readiness::default();
        readiness.waits_for("pulsar", "nobody answers");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let addr = serve(runtime.handle(), anywhere, readiness.clone()).expect("serves");
        assert!(get(addr, "/healthz").starts_with("HTTP/1.1 200"));
        let waiting = get(addr, "/readyz");
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains("\"pulsar\":\"nobody answers\""),
            "{waiting}"
        );
        readiness.has("pulsar");
        let ready = get(addr, "/readyz");
        assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"is_ready\":true"), "{ready}");
        assert!(get(addr, "/metrics").contains("process_cpu_seconds_total"));
        assert!(get(addr, "/else").starts_with("HTTP/1.1 404"));
    }
}
