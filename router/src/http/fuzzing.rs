//! What every request's body, and every `Authorization` header, must lead to: an answer that is a value of the interface,
//! the right effect or none, and the same again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use petrel_bus::calls::{CallError, Link, PersistCall, Service};
use petrel_protocol::calls::{Account, Lease};
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::token::{Keys, Kind};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::{App, Attempts, PasswordCost, Passwords, Tokens, routes};
use crate::routes::Routes;
use crate::service::Directory;

const SECRET: [u8; 32] = [7; 32];
const ANNA: UserId = UserId(7);
/// A refusal says what is wrong, and gives nothing of the body back but its own words.
const PROBLEM_BYTES_MAX: usize = 1 << 10;

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// The first byte chooses the path and the headers; the rest is the body, or for a logout the header.
pub fn check(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let asked = Asked::new(*choice, body);
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let door = Door::open().await;
            let first = door.ask(&asked).await;
            door.judge(&asked, &first);
            let again = door.ask(&asked).await;
            door.judge(&asked, &again);
            let expected = match (asked.path, first.status) {
                ("register", StatusCode::CREATED) => "username_taken",
                // A refresh token was used up, an access token revoked.
                ("refresh", StatusCode::OK) | ("logout", StatusCode::NO_CONTENT) => "bad_token",
                ("login", StatusCode::OK) => return assert_eq!(again.status, StatusCode::OK),
                _ => return assert_eq!((again.status, &again.body), (first.status, &first.body)),
            };
            assert_eq!(again.json()["code"], expected, "{again:?}");
        });
    });
}

/// A request.
struct Asked<'a> {
    path: &'static str,
    content_type: Option<&'static str>,
    declared: Option<&'static str>,
    body: &'a [u8],
}

impl<'a> Asked<'a> {
    fn new(choice: u8, body: &'a [u8]) -> Self {
        let pick = |shift: u8| usize::from(choice >> shift & 3);
        Self {
            path: ["register", "login", "refresh", "logout"][pick(0)],
            content_type: [
                Some("application/json"),
                Some("Application/JSON; charset=utf-8"),
                Some("text/plain"),
                None,
            ][pick(2)],
            declared: [None, Some("16385"), Some("many"), Some("99999999999999999999")][pick(4)],
            body,
        }
    }

    fn request(&self) -> Option<Request<Body>> {
        let mut request = Request::post(format!("/api/v1/{}", self.path));
        if self.path == "logout" {
            return request
                .header(AUTHORIZATION, HeaderValue::from_bytes(self.body).ok()?)
                .body(Body::empty())
                .ok();
        }
        if let Some(kind) = self.content_type {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(bytes) = self.declared {
            request = request.header(CONTENT_LENGTH, bytes);
        }
        request.body(Body::from(self.body.to_vec())).ok()
    }

    /// A field of the body, read by another way than the handlers do.
    fn field(&self, name: &str) -> Value {
        serde_json::from_slice::<Value>(self.body).expect("what was accepted is JSON")[name].take()
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The front door with an edge to send clients to, and an account: anna, whose password is "secret".
struct Door {
    routes: axum::Router,
    accounts: Arc<Accounts>,
    keys: Keys,
}

impl Door {
    async fn open() -> Self {
        let keys = Keys::with_new_key("k1", SECRET);
        let passwords = Passwords::new(PasswordCost { memory_kib: 8, passes: 1 });
        let password_hash = passwords.hash("secret").await.expect("it can be hashed");
        let anna = Account { user: ANNA.0, username: "anna".to_owned(), password_hash, token_version: 1 };
        let accounts = Arc::new(Accounts(Mutex::new(HashMap::from([("anna".to_owned(), anna)]))));
        let directory = Arc::new(Directory::new(Routes::memory()));
        let (url, sessions_max) = ("ws://edge".to_owned(), 100);
        let lease = Lease { edge: 1, epoch: 1, url, sessions_max, ..Lease::default() };
        directory.routes.lease(directory.clock.now(), &lease).await.expect("a lease");
        let persist: Link<PersistCall> = accounts.clone();
        let app = App {
            directory,
            persist,
            fanout: Arc::default(),
            tokens: Tokens::new(Arc::new(keys.clone()), Duration::from_hours(1), Duration::from_hours(2)),
            passwords,
            attempts: Attempts::new(7),
            body_timeout: Duration::from_secs(1),
        };
        Self { routes: routes(Arc::new(app)), accounts, keys }
    }

    async fn ask(&self, asked: &Asked<'_>) -> Answer {
        let Some(request) = asked.request() else {
            // No header can be made of it, so hyper refuses it before it comes here.
            let content_type = "application/problem+json".to_owned();
            let body = r#"{"status":400,"code":"no_header","title":"-","detail":"-"}"#.to_owned();
            return Answer { status: StatusCode::BAD_REQUEST, content_type, body };
        };
        let service = TowerToHyperService::new(self.routes.clone());
        let (head, body) = service.call(request).await.expect("it answers everything").into_parts();
        let content_type = head.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().expect("text").to_owned());
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body").to_vec();
        let body = String::from_utf8(body).expect("text");
        Answer { status: head.status, content_type: content_type.unwrap_or_default(), body }
    }

    fn judge(&self, asked: &Asked<'_>, answer: &Answer) {
        match (asked.path, answer.status) {
            ("register", StatusCode::CREATED) => {
                let username = asked.field("username");
                let username = username.as_str().expect("a string");
                assert!((1..=limits::USERNAME_BYTES_MAX).contains(&username.len()));
                assert!(!username.contains(char::is_control) && username.trim() == username);
                let account = self.accounts.find(username).expect("it was made");
                assert_eq!(answer.json()["user_id"], account.user.to_string());
                assert!(account.password_hash.starts_with("$argon2id$"));
                let password = asked.field("password");
                assert!(
                    (1..=limits::PASSWORD_BYTES_MAX).contains(&password.as_str().expect("a string").len())
                );
            }
            ("login", StatusCode::OK) => {
                assert_eq!(
                    (asked.field("username"), asked.field("password")),
                    ("anna".into(), "secret".into())
                );
                self.judge_tokens(answer, Some(asked.field("device_type")));
            }
            ("refresh", StatusCode::OK) => self.judge_tokens(answer, None),
            ("logout", StatusCode::NO_CONTENT) => {
                let header = std::str::from_utf8(asked.body).expect("a token is text");
                let token = header.split_ascii_whitespace().last().expect("a token");
                assert!(self.keys.verify(token, self.now_s(), Kind::Access).is_ok_and(|c| c.user == ANNA));
            }
            _ => judge_problem(answer),
        }
    }

    fn judge_tokens(&self, answer: &Answer, device: Option<Value>) {
        let told = answer.json();
        let token = told["token"].as_str().expect("a string");
        let claims = self.keys.verify(token, self.now_s(), Kind::Access).expect("a good token");
        assert_eq!((claims.user, told["user_id"].as_str()), (ANNA, Some("7")));
        if let Some(device) = device {
            let number = device.as_u64().and_then(|number| u32::try_from(number).ok());
            assert_eq!(number.and_then(Device::from_number), Some(claims.device));
        }
        let (refresh, name) = told["refresh_token"].as_str().and_then(|t| t.split_once('~')).expect("both");
        let refresh = self.keys.verify(refresh, self.now_s(), Kind::Refresh).expect("a good token");
        assert_eq!((refresh.user, refresh.device, name), (ANNA, claims.device, "anna"));
        assert_eq!(told["edge"], "ws://edge");
    }

    #[expect(clippy::unused_self, reason = "it reads like the others")]
    fn now_s(&self) -> u64 {
        crate::clock::Clock::start().now().wall_ms / 1_000
    }
}

fn judge_problem(answer: &Answer) {
    assert!(answer.status.is_client_error(), "a client's bytes are never the server's fault: {answer:?}");
    assert_eq!(answer.content_type, "application/problem+json");
    assert!(answer.body.len() <= PROBLEM_BYTES_MAX, "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16());
    for field in ["code", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {answer:?}");
    }
}

/// Accounts in memory.
struct Accounts(Mutex<HashMap<String, Account>>);

impl Accounts {
    fn find(&self, username: &str) -> Option<Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(username).cloned()
    }
}

impl Service<PersistCall> for Accounts {
    fn call(&self, call: PersistCall) {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match call {
            PersistCall::CreateAccount(new, reply) if accounts.contains_key(&new.username) => {
                reply.send(Err(CallError::Taken));
            }
            PersistCall::CreateAccount(new, reply) => {
                let account = Account {
                    user: 100 + accounts.len() as u64,
                    username: new.username.clone(),
                    password_hash: new.password_hash,
                    token_version: 0,
                };
                accounts.insert(new.username, account.clone());
                reply.send(Ok(account));
            }
            PersistCall::FindAccount(username, reply) => reply.send(Ok(accounts.get(&username).cloned())),
            PersistCall::RevokeTokens(user, reply) => {
                let account = accounts.values_mut().find(|account| account.user == user);
                let account = account.expect("only who has a token is asked for");
                account.token_version += 1;
                reply.send(Ok(account.token_version));
            }
            other => panic!("the front door has no business with {other:?}"),
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn seeds() {
    replay::replay("http", check);
}
