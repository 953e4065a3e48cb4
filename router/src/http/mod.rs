//! The accounts' front door, and what operators ask: health, readiness, metrics.

mod accounts;
mod attempts;
mod body;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod passwords;
mod problem;
mod server;
mod status;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use petrel_bus::calls::{CallError, Link, PersistCall, Reply};
use petrel_protocol::limits;

use crate::driver::Mail;
use crate::service::Directory;
use problem::Problem;

pub(crate) use attempts::Attempts;
pub use passwords::PasswordCost;
pub(crate) use passwords::Passwords;
pub(crate) use server::Server;
pub(crate) use tokens::Tokens;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) directory: Arc<Directory>,
    pub(crate) persist: Link<PersistCall>,
    pub(crate) fanout: Arc<Mail>,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) attempts: Attempts,
    pub(crate) body_timeout: Duration,
}

impl App {
    /// Calls persist and waits for its answer, for a bounded time.
    async fn persist<T: Send + 'static>(
        &self,
        call: impl FnOnce(Reply<T>) -> PersistCall,
    ) -> Result<T, CallError> {
        let (reply, answer) = Reply::channel();
        self.persist.call(call(reply));
        let time = Duration::from_millis(limits::PERSIST_CALL_MS_MAX);
        tokio::time::timeout(time, answer).await.unwrap_or(Err(CallError::Unavailable))
    }
}

/// Every path, what it answers, and what others get.
pub(crate) fn routes(app: Arc<App>) -> axum::Router {
    axum::Router::new()
        .route("/", get(status::index))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/api/v1/register", post(accounts::register))
        .route("/api/v1/login", post(accounts::login))
        .route("/api/v1/refresh", post(accounts::refresh))
        .route("/api/v1/logout", post(accounts::logout))
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .fallback(|| async { Problem::not_found() })
        .layer(DefaultBodyLimit::max(limits::HTTP_BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(status::count))
        .with_state(app)
}
