//! Register, login, refresh, logout.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use petrel_bus::calls::{CallError, PersistCall};
use petrel_protocol::calls::{Account, CreateAccount};
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::time::Now;
use serde_json::{Value, json};

use super::App;
use super::body::Fields;
use super::problem::Problem;
use super::tokens::Refresh;

/// `{"username","password"}` → 201 `{"user_id"}`.
pub(crate) async fn register(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let fields = Fields::read(request, app.body_timeout).await?;
    let (username, password) = (fields.username()?, fields.password()?);
    let account = CreateAccount {
        username: username.to_owned(),
        password_hash: app.passwords.hash(password).await?,
        time_ms: app.directory.clock.now().wall_ms,
    };
    let account = app.persist(|reply| PersistCall::CreateAccount(account, reply)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "user_id": account.user.to_string() }))).into_response())
}

/// `{"username","password","device_type"}` → 200 with tokens and the edge to connect to.
pub(crate) async fn login(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Problem> {
    let fields = Fields::read(request, app.body_timeout).await?;
    let (username, password, device) = (fields.username()?, fields.password()?, fields.device()?);
    let now = app.directory.clock.now();
    let begun = match app.directory.routes.begin_try(username).await {
        Some(begun) => begun,
        None => app.attempts.begin(now, username),
    };
    begun.map_err(Problem::too_many_failures)?;
    match app.check(username, password).await {
        Ok(Some(account)) => {
            app.attempts.succeeded(username);
            app.directory.routes.end_try(username, true).await;
            let edge = app.edge_url().ok_or_else(Problem::no_edge)?;
            Ok(app.admit(&account, device, &edge))
        }
        Ok(None) => Err(Problem::wrong_credentials()),
        Err(problem) => {
            app.attempts.give_back(username);
            app.directory.routes.end_try(username, false).await;
            Err(problem)
        }
    }
}

/// `{"refresh_token"}` → the same as login; the refresh token is a new one, and the old one is of no more use.
pub(crate) async fn refresh(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Problem> {
    let fields = Fields::read(request, app.body_timeout).await?;
    let now = app.directory.clock.now();
    let refresh = app.tokens.refresh(now, fields.refresh_token()?).ok_or_else(Problem::bad_token)?;
    let account = app.account(&refresh.username).await?.filter(|a| refresh.is_of(a));
    let account = account.ok_or_else(Problem::bad_token)?;
    // Before the old token is used up: else a client would be left with none.
    let edge = app.edge_url().ok_or_else(Problem::no_edge)?;
    if !app.tokens.use_up(now, &refresh) || !app.use_up_for_all(now, &refresh).await? {
        return Err(Problem::bad_token());
    }
    Ok(app.admit(&account, refresh.device(), &edge))
}

/// With the token as Bearer → 204. All tokens of the user are revoked and all live sessions end.
pub(crate) async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let now = app.directory.clock.now();
    let token = bearer(&headers).ok_or_else(Problem::bad_token)?;
    let claims = app.tokens.access(now, token).ok_or_else(Problem::bad_token)?;
    let user = claims.user;
    // Other routers may know of a later revocation; where they cannot be asked, revoking once more does no harm.
    if app.directory.routes.token_version(user).await.is_ok_and(|lowest| claims.version < lowest) {
        return Err(Problem::bad_token());
    }
    let version = app.persist(|reply| PersistCall::RevokeTokens(user.0, reply)).await?;
    app.tokens.revoked(user, version);
    if app.directory.revoked(user, version, app.tokens.ttl()) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(CallError::Full.into())
    }
}

impl App {
    /// Where a new session should connect: the edge with the largest share of its places free.
    pub(crate) fn edge_url(&self) -> Option<String> {
        let mut leases = self.directory.routes.leases(self.directory.clock.now());
        leases.retain(|l| !l.is_draining && !l.url.is_empty() && l.sessions < l.places());
        // Compared as fractions, without rounding.
        let share = |of: &crate::routes::Held, by: &crate::routes::Held| {
            u64::from(of.sessions) * u64::from(by.places())
        };
        let best = leases.into_iter().min_by(|a, b| share(a, b).cmp(&share(b, a)));
        best.map(|lease| lease.url)
    }

    /// Uses a refresh token up for every router.
    async fn use_up_for_all(&self, now: Now, refresh: &Refresh) -> Result<bool, Problem> {
        let (issued_at_s, earliest_s) = refresh.stamps(now);
        let its = (refresh.user(), refresh.device());
        let used =
            self.directory.routes.use_up(its, issued_at_s, earliest_s, self.tokens.refresh_ttl()).await;
        used.map_err(|_| CallError::Unavailable.into())
    }

    /// The account of this username, where the password is its own.
    async fn check(&self, username: &str, password: &str) -> Result<Option<Account>, Problem> {
        let account = self.account(username).await?;
        let stored = account.as_ref().map(|a| a.password_hash.as_str());
        Ok(if self.passwords.is_right(password, stored).await? { account } else { None })
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, Problem> {
        Ok(self.persist(|reply| PersistCall::FindAccount(username.to_owned(), reply)).await?)
    }

    /// What a user who may connect is told.
    fn admit(&self, account: &Account, device: Device, edge: &str) -> Json<Value> {
        let issued = self.tokens.issue(self.directory.clock.now(), account, device);
        Json(json!({
            "user_id": UserId(account.user).to_string(),
            "token": issued.token,
            "refresh_token": issued.refresh_token,
            "expires_at": issued.expires_at_ms,
            "edge": edge,
        }))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(axum::http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
