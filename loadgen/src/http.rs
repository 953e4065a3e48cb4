//! As much of an HTTP client as registering, logging in and reading metrics take: one request a connection, HTTP/1.0 so
//! that the answer ends with the connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::url::Target;

/// Answers are at most this large.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, std::io::Error),
    /// Not HTTP, or not the JSON that was expected.
    #[error("{0} gave an answer that cannot be read: {1}")]
    Malformed(String, String),
    /// An error status, with the server's own words.
    #[error("{url}: {status}: {detail}")]
    Status {
        /// What was called.
        url: String,
        /// The status.
        status: u16,
        /// What the server says.
        detail: String,
    },
}

/// Gets a text.
pub fn get(server: &Target, path: &str) -> Result<String, HttpError> {
    exchange(server, path, &format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", server.host))
}

/// Posts JSON and reads the JSON of the answer.
pub fn post<T: DeserializeOwned>(
    server: &Target,
    path: &str,
    body: &serde_json::Value,
) -> Result<T, HttpError> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.host,
        body.len(),
    );
    let answer = exchange(server, path, &request)?;
    serde_json::from_str(&answer).map_err(|e| HttpError::Malformed(url(server, path), e.to_string()))
}

/// The part of RFC 9457 that people read.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

fn url(server: &Target, path: &str) -> String {
    format!("http://{}{path}", server.host)
}

fn exchange(server: &Target, path: &str, request: &str) -> Result<String, HttpError> {
    let bytes = talk(server, request).map_err(|e| HttpError::Unreachable(url(server, path), e))?;
    let text = String::from_utf8_lossy(&bytes);
    let malformed = || HttpError::Malformed(url(server, path), "not an HTTP response".to_owned());
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(malformed)?;
    if (200..300).contains(&status) {
        return Ok(body.to_owned());
    }
    let detail = match serde_json::from_str::<Problem>(body) {
        Ok(problem) if problem.detail.is_empty() => problem.title,
        Ok(problem) => problem.detail,
        Err(_) => body.chars().take(200).collect(),
    };
    Err(HttpError::Status { url: url(server, path), status, detail })
}

fn talk(server: &Target, request: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server.address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
