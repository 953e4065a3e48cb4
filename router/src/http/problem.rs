//! Refusals, as RFC 9457 problem details with a `code` that programs can rely on.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use petrel_bus::calls::CallError;
use petrel_protocol::limits;
use serde_json::json;

use crate::metrics::METRICS;

/// Why a request was refused. `detail` says what to do.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<&'static str>,
    retry_after_s: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, retry_after_s: None }
    }

    fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    pub(crate) fn bad_json(error: &serde_json::Error) -> Self {
        // Of another kind of value the parser's words repeat the whole of it.
        let what = if error.is_data() { "it is another kind of value".to_owned() } else { error.to_string() };
        Self::new(StatusCode::BAD_REQUEST, "bad_json", format!("the body must be one JSON object: {what}"))
    }

    pub(crate) fn bad_field(field: &'static str, rule: &str) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "bad_field", format!("`{field}` must be {rule}"));
        Self { field: Some(field), ..problem }
    }

    pub(crate) fn broken_body() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "broken_body",
            "the body ended early or is malformed: send it again",
        )
    }

    pub(crate) fn not_json() -> Self {
        let detail = "send the body as JSON, with the header content-type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail)
    }

    pub(crate) fn body_too_large() -> Self {
        let detail = format!("the body may have {} bytes at most", limits::HTTP_BODY_BYTES_MAX);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    pub(crate) fn body_too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body did not arrive in time: send it again",
        )
    }

    pub(crate) fn username_taken() -> Self {
        Self::new(StatusCode::CONFLICT, "username_taken", "this username is taken: choose another")
    }

    pub(crate) fn wrong_credentials() -> Self {
        // The same for an unknown user and for a wrong password.
        let detail = "no account has this username and password";
        Self::new(StatusCode::UNAUTHORIZED, "wrong_credentials", detail)
    }

    pub(crate) fn bad_token() -> Self {
        let detail = "the token is missing, expired, revoked or not ours: log in again";
        Self::new(StatusCode::UNAUTHORIZED, "bad_token", detail)
    }

    pub(crate) fn too_many_failures(retry_after_ms: u64) -> Self {
        let detail = "too many failed logins for this account: wait before the next try";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail)
            .retry_after_s(retry_after_ms.div_ceil(1_000))
    }

    pub(crate) fn overloaded() -> Self {
        let detail = "too many logins are under way: try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after_s(2)
    }

    pub(crate) fn no_edge() -> Self {
        let detail = "no edge takes sessions now: try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_edge", detail).retry_after_s(2)
    }

    pub(crate) fn not_ready(parts: &[&str]) -> Self {
        let detail = format!("not ready: {}", parts.join(", "));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail).retry_after_s(1)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "nothing is here: GET / says where things are")
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path takes another method: see the header allow";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    pub(crate) fn internal() -> Self {
        let detail = "the server failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Full => Self::overloaded(),
            CallError::Taken => Self::username_taken(),
            CallError::Unavailable => {
                let detail = "accounts cannot be reached now: try again later";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after_s(1)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        METRICS.refusals.with_label_values(&[self.code]).inc();
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if let Some(field) = self.field {
            body["field"] = field.into();
        }
        if let Some(seconds) = self.retry_after_s {
            body["retry_after_ms"] = (seconds * 1_000).into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.code == "bad_token" {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
