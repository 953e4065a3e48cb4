//! The brokers' administration over HTTP: the few calls that topics need.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Config;

/// The longest that one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A broker that does not own a topic names the one that does.
const REDIRECTS_MAX: usize = 5;

/// Where calls go.
pub(super) struct Admin<'a> {
    config: &'a Config,
}

/// An answer, of whatever status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What the broker says, for people.
    pub(super) fn reason(&self) -> String {
        let json = self.json();
        let reason = json.get("reason").and_then(Value::as_str);
        reason.map_or_else(|| self.status.to_string(), |reason| format!("{} ({reason})", self.status))
    }
}

impl<'a> Admin<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self { config }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.call(Method::GET, path, "application/json", Bytes::new()).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.call(Method::PUT, path, "application/json", body.to_string().into()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.call(Method::POST, path, "application/json", body.to_string().into()).await
    }

    /// `path` is below `/admin/v2/`. An error is text: nobody answered.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let mut address = format!("{}/admin/v2/{path}", self.config.admin.trim_end_matches('/'));
        for _ in 0..=REDIRECTS_MAX {
            let asked = self.ask(&address, &method, content_type, body.clone());
            let answer = timeout(PATIENCE, asked)
                .await
                .map_err(|_| format!("{address} did not answer: start Pulsar, or correct its address"))?;
            match answer.map_err(|error| {
                format!("{address} cannot be reached ({error}): start Pulsar, or correct its address")
            })? {
                Reply::Answer(answer) => return Ok(answer),
                Reply::Elsewhere(other) => address = other,
            }
        }
        Err(format!("{address} sends from one broker to another without end"))
    }

    async fn ask(
        &self,
        address: &str,
        method: &Method,
        content_type: &str,
        body: Bytes,
    ) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
        let uri: Uri = address.parse()?;
        let authority = uri.authority().ok_or("it names no host")?;
        let port = authority.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((authority.host(), port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, content_type);
        if let Some(token) = &self.config.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.0));
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(LOCATION)
        {
            return Ok(Reply::Elsewhere(location.to_str()?.to_owned()));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Reply::Answer(Answer { status, body }))
    }
}

enum Reply {
    Answer(Answer),
    Elsewhere(String),
}
