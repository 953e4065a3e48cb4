//! Requests' bodies: one JSON object, bounded in size and time, read field by field so that a refusal names the field.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use petrel_protocol::ids::Device;
use petrel_protocol::limits;
use serde_json::{Map, Value};

use super::problem::Problem;

/// A request's fields.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the body, in `time` at most.
    pub(crate) async fn read(request: Request, time: Duration) -> Result<Self, Problem> {
        if !is_json(&request) {
            return Err(Problem::not_json());
        }
        if declared_bytes(&request).is_some_and(|bytes| bytes > limits::HTTP_BODY_BYTES_MAX as u64) {
            return Err(Problem::body_too_large());
        }
        let body = tokio::time::timeout(time, Bytes::from_request(request, &()))
            .await
            .map_err(|_| Problem::body_too_slow())?
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(),
                _ => Problem::broken_body(),
            })?;
        serde_json::from_slice(&body).map(Self).map_err(|e| Problem::bad_json(&e))
    }

    pub(crate) fn username(&self) -> Result<&str, Problem> {
        let rule = "a string of 1 to 64 bytes without control characters or spaces at its ends";
        let fault = || Problem::bad_field("username", rule);
        let username = self.text("username").ok_or_else(fault)?;
        let is_good = (1..=limits::USERNAME_BYTES_MAX).contains(&username.len())
            && username.trim() == username
            && !username.chars().any(char::is_control);
        if is_good { Ok(username) } else { Err(fault()) }
    }

    pub(crate) fn password(&self) -> Result<&str, Problem> {
        let good = self.text("password").filter(|p| (1..=limits::PASSWORD_BYTES_MAX).contains(&p.len()));
        good.ok_or_else(|| Problem::bad_field("password", "a string of 1 to 128 bytes"))
    }

    pub(crate) fn device(&self) -> Result<Device, Problem> {
        let number = self.0.get("device_type").and_then(Value::as_u64);
        let device = number.and_then(|n| u32::try_from(n).ok()).and_then(Device::from_number);
        let rule = "a number: 1 android, 2 ios, 3 mini-program, 4 web, 5 desktop, 6 bot";
        device.ok_or_else(|| Problem::bad_field("device_type", rule))
    }

    pub(crate) fn refresh_token(&self) -> Result<&str, Problem> {
        let rule = "the string that login or the latest refresh gave";
        self.text("refresh_token").ok_or_else(|| Problem::bad_field("refresh_token", rule))
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field).and_then(Value::as_str)
    }
}

const _: () =
    assert!(limits::USERNAME_BYTES_MAX == 64 && limits::PASSWORD_BYTES_MAX == 128, "the texts above");

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn declared_bytes(request: &Request) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
