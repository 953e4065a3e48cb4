//! Who the clients are, and what they log in with: minted tokens where the key is at hand, else real accounts.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::token::{Claims, Keys, KeysError, Kind};
use serde::Deserialize;
use serde_json::json;

use crate::http::{self, HttpError};
use crate::measure::Latency;
use crate::url::Target;

/// The users of a run.
#[derive(Debug)]
pub struct Accounts {
    /// By place.
    pub users: Vec<UserId>,
    /// The WebSocket URL that a login named.
    pub edge: Option<String>,
    /// How long the logins took.
    pub logins: Latency,
    tokens: Tokens,
}

#[derive(Debug)]
enum Tokens {
    /// Minted when they are needed.
    Minted(Box<Keys>),
    /// Issued by logins, by user and device.
    Issued(Vec<String>),
}

/// Why there are no accounts.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// `keys.json` cannot be read.
    #[error("cannot read {0}: {1}; give --data the server's data folder")]
    Keys(String, std::io::Error),
    /// `keys.json` holds no keys.
    #[error("{0}: {1}")]
    BadKeys(String, KeysError),
    /// A minted token needs the user's id.
    #[error("with --data, --as takes a user id, not {0:?}")]
    NotANumber(String),
    /// A name needs its password.
    #[error("give --password for this name, or --data DIR and a user id")]
    NoPassword,
    /// Neither way to log in was given.
    #[error("give --data DIR and a user id, or --http URL and a name with its password")]
    NoWay,
    /// The server's URL is not good.
    #[error("{0}")]
    Url(String),
    /// A call to the server failed.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A minted token is good for this long; each connection gets its own.
const MINTED_S: u64 = 3_600;

impl Accounts {
    /// Users from `first` on, whose tokens are minted with the keys of a data folder.
    pub fn minted(data: &Path, first: u64, count: u32) -> Result<Self, AccountsError> {
        let keys = read_keys(data)?;
        let users = (first..first + u64::from(count)).map(UserId).collect();
        Ok(Self { users, edge: None, logins: Latency::default(), tokens: Tokens::Minted(Box::new(keys)) })
    }

    /// New accounts whose names begin with `prefix`, registered and logged in, several at a time.
    pub fn registered(
        server: &Target,
        prefix: &str,
        count: u32,
        devices: u32,
    ) -> Result<Self, AccountsError> {
        const AT_ONCE: usize = 8;
        let next = AtomicUsize::new(0);
        let slots: Mutex<Vec<Option<Session>>> = Mutex::new((0..count).map(|_| None).collect());
        let work = || -> Result<(), HttpError> {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= count as usize {
                    return Ok(());
                }
                let name = format!("{prefix}-{place}");
                let session = register_and_log_in(server, &name, devices).inspect_err(|_| {
                    // The others need not go on.
                    next.store(count as usize, Ordering::Relaxed);
                })?;
                slots.lock().expect("no panics")[place] = Some(session);
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|t| t.join().expect("no panics"))
        })?;
        let sessions = slots.into_inner().expect("no panics");
        let mut accounts = Self {
            users: Vec::new(),
            edge: None,
            logins: Latency::default(),
            tokens: Tokens::Issued(Vec::new()),
        };
        let mut tokens = Vec::new();
        for session in sessions.into_iter().flatten() {
            accounts.users.push(session.user);
            accounts.edge.get_or_insert(session.edge);
            tokens.extend(session.tokens);
            session.login_us.iter().for_each(|us| accounts.logins.record(*us));
        }
        accounts.tokens = Tokens::Issued(tokens);
        Ok(accounts)
    }

    /// The token of a user's device.
    pub fn token(&self, place: u32, device: u32, devices: u32) -> String {
        match &self.tokens {
            Tokens::Minted(keys) => mint(keys, self.users[place as usize], Device::ALL[device as usize]),
            Tokens::Issued(tokens) => tokens[(place * devices + device) as usize].clone(),
        }
    }
}

/// The token of one user's device, minted with the key of a data folder.
pub fn mint_one(data: &Path, user: UserId, device: Device) -> Result<String, AccountsError> {
    Ok(Minter::read(data)?.token(user, device))
}

/// Mints tokens with the keys of a data folder.
#[derive(Debug)]
pub struct Minter(Keys);

impl Minter {
    /// Reads the keys.
    pub fn read(data: &Path) -> Result<Self, AccountsError> {
        read_keys(data).map(Self)
    }

    /// A fresh token of one user's device.
    pub fn token(&self, user: UserId, device: Device) -> String {
        mint(&self.0, user, device)
    }
}

/// Logs a name in, registering it where it is new. Returns the user, the token and the edge's URL.
pub fn log_in_by_name(
    server: &Target,
    name: &str,
    password: &str,
    device: Device,
) -> Result<(UserId, String, String), HttpError> {
    const TAKEN: u16 = 409;
    let registration = json!({ "username": name, "password": password });
    match http::post::<serde_json::Value>(server, "/api/v1/register", &registration) {
        Ok(_) | Err(HttpError::Status { status: TAKEN, .. }) => {}
        Err(e) => return Err(e),
    }
    log_in(server, name, password, device)
}

fn log_in(
    server: &Target,
    name: &str,
    password: &str,
    device: Device,
) -> Result<(UserId, String, String), HttpError> {
    let login = json!({ "username": name, "password": password, "device_type": device as u32 });
    let answer: LoginAnswer = http::post(server, "/api/v1/login", &login)?;
    let user = answer.user_id.parse().map_err(|_| {
        HttpError::Malformed(server.host.clone(), format!("user_id {:?} is no number", answer.user_id))
    })?;
    Ok((UserId(user), answer.token, answer.edge))
}

fn read_keys(data: &Path) -> Result<Keys, AccountsError> {
    let path = data.join("keys.json");
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|e| AccountsError::Keys(name.clone(), e))?;
    Keys::from_json(&text).map_err(|e| AccountsError::BadKeys(name, e))
}

fn mint(keys: &Keys, user: UserId, device: Device) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    keys.sign(&Claims {
        user,
        device,
        version: 0,
        issued_at_s: now_s,
        expires_at_s: now_s + MINTED_S,
        kind: Kind::Access,
    })
}

#[derive(Debug)]
struct Session {
    user: UserId,
    tokens: Vec<String>,
    edge: String,
    login_us: Vec<u64>,
}

#[derive(Deserialize)]
struct LoginAnswer {
    user_id: String,
    token: String,
    #[serde(default)]
    edge: String,
}

fn register_and_log_in(server: &Target, name: &str, devices: u32) -> Result<Session, HttpError> {
    // The password guards nothing: the account exists for this run.
    let password = format!("{name}-password");
    let registration = json!({ "username": name, "password": password });
    let _: serde_json::Value = http::post(server, "/api/v1/register", &registration)?;
    let mut session =
        Session { user: UserId(0), tokens: Vec::new(), edge: String::new(), login_us: Vec::new() };
    for device in &Device::ALL[..devices as usize] {
        let started = Instant::now();
        let (user, token, edge) = log_in(server, name, &password, *device)?;
        session.login_us.push(started.elapsed().as_micros() as u64);
        session.user = user;
        session.tokens.push(token);
        session.edge = edge;
    }
    Ok(session)
}
