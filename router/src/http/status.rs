//! What operators and their tools ask.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use petrel_bus::calls::PersistCall;
use prometheus::TextEncoder;
use serde_json::json;

use super::App;
use super::problem::Problem;
use crate::metrics::METRICS;

/// Readiness does not wait for persist longer than this.
const READY_MS: u64 = 1_000;

pub(crate) async fn index() -> &'static str {
    "Petrel. Accounts: POST /api/v1/register, /login, /refresh, /logout; operators: GET /healthz, /readyz, /metrics.\n"
}

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether clients can log in and get their messages; else which parts are not ready.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut missing = Vec::new();
    if !app.fanout.is_running() {
        missing.push("fan-out");
    }
    if !app.directory.routes.is_ready() {
        missing.push("routes");
    }
    if app.edge_url().is_none() {
        missing.push("edge");
    }
    // A name that nobody can have: the answer is quick and says that the store can be read.
    let asked = app.persist(|reply| PersistCall::FindAccount(String::new(), reply));
    if !matches!(tokio::time::timeout(Duration::from_millis(READY_MS), asked).await, Ok(Ok(_))) {
        missing.push("persist");
    }
    if missing.is_empty() {
        Ok(axum::Json(json!({ "is_ready": true })).into_response())
    } else {
        Err(Problem::not_ready(&missing))
    }
}

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let now = app.directory.clock.now();
    METRICS.routes.set(app.directory.routes.len() as i64);
    METRICS.lease_age_ms.reset();
    for lease in app.directory.routes.leases(now) {
        let edge = lease.incarnation.edge.to_string();
        METRICS.lease_age_ms.with_label_values(&[&edge]).set(lease.age_ms as i64);
    }
    let mut text = String::new();
    if let Err(e) = TextEncoder::new().encode_utf8(&prometheus::gather(), &mut text) {
        let _ = write!(text, "# the rest cannot be encoded: {e}");
    }
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

/// Counts every request by its path, where it is one of ours, and by its status.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let path = match request.uri().path() {
        "/" => "/",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/metrics" => "/metrics",
        "/api/v1/register" => "/api/v1/register",
        "/api/v1/login" => "/api/v1/login",
        "/api/v1/refresh" => "/api/v1/refresh",
        "/api/v1/logout" => "/api/v1/logout",
        _ => "other",
    };
    let response = next.run(request).await;
    METRICS.requests.with_label_values(&[path, response.status().as_str()]).inc();
    response
}
