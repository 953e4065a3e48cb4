//! The tokens that login gives. A refresh token is one JWT and the account's name, by which the account is found again.
//!
//! What is durable is the account's token version. Beside it, this process remembers (bounded) which versions it saw
//! revoked, and for each user and device which refresh tokens were used up: a stolen one is good until its owner has
//! refreshed, and no longer.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use petrel_protocol::calls::Account;
use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::limits;
use petrel_protocol::map::Map;
use petrel_protocol::time::Now;
use petrel_protocol::token::{Claims, Keys, Kind};

/// Issues and checks tokens.
pub(crate) struct Tokens {
    keys: RwLock<Arc<Keys>>,
    ttl_s: u64,
    refresh_ttl_s: u64,
    /// The lowest version of a user's tokens that was not revoked.
    versions: Mutex<Recent<UserId, u32>>,
    /// The earliest stamp of a refresh token that is still good.
    refreshed: Mutex<Recent<(UserId, Device), u64>>,
}

/// What a login or a refresh gives.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) refresh_token: String,
    /// The token's end.
    pub(crate) expires_at_ms: u64,
}

/// A refresh token that was signed here, is in time and was not used up.
pub(crate) struct Refresh {
    claims: Claims,
    pub(crate) username: String,
}

impl Refresh {
    /// Whether it is this account's, and not revoked.
    pub(crate) fn is_of(&self, account: &Account) -> bool {
        self.claims.user.0 == account.user && self.claims.version >= account.token_version
    }

    pub(crate) fn user(&self) -> UserId {
        self.claims.user
    }

    pub(crate) fn device(&self) -> Device {
        self.claims.device
    }

    /// When it was issued, and the earliest stamp that is good once it is used up; seconds.
    pub(crate) fn stamps(&self, now: Now) -> (u64, u64) {
        let issued_at_s = self.claims.issued_at_s;
        (issued_at_s, seconds(now).max(issued_at_s + 1))
    }
}

impl Tokens {
    pub(crate) fn new(keys: Arc<Keys>, ttl: Duration, refresh_ttl: Duration) -> Self {
        Self {
            keys: RwLock::new(keys),
            ttl_s: ttl.as_secs(),
            refresh_ttl_s: refresh_ttl.as_secs(),
            versions: Mutex::default(),
            refreshed: Mutex::default(),
        }
    }

    /// Signs and verifies with these from now on.
    pub(crate) fn use_keys(&self, keys: Arc<Keys>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn issue(&self, now: Now, account: &Account, device: Device) -> Issued {
        let user = UserId(account.user);
        // Never earlier than what the latest refresh used up.
        let used_up = lock(&self.refreshed).get(&(user, device)).unwrap_or(0);
        let issued_at_s = seconds(now).max(used_up);
        let access = Claims {
            user,
            device,
            version: account.token_version,
            issued_at_s,
            expires_at_s: issued_at_s + self.ttl_s,
            kind: Kind::Access,
        };
        let refresh =
            Claims { expires_at_s: issued_at_s + self.refresh_ttl_s, kind: Kind::Refresh, ..access };
        let keys = self.keys();
        Issued {
            token: keys.sign(&access),
            refresh_token: format!("{}~{}", keys.sign(&refresh), account.username),
            expires_at_ms: access.expires_at_s * 1_000,
        }
    }

    /// How long an access token is good.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_s)
    }

    /// How long a refresh token is good.
    pub(crate) fn refresh_ttl(&self) -> Duration {
        Duration::from_secs(self.refresh_ttl_s)
    }

    /// What an access token says, if it is good as far as this router knows.
    pub(crate) fn access(&self, now: Now, token: &str) -> Option<Claims> {
        let claims = self.keys().verify(token, seconds(now), Kind::Access).ok()?;
        let lowest = lock(&self.versions).get(&claims.user).unwrap_or(0);
        (claims.version >= lowest).then_some(claims)
    }

    /// Reads a refresh token.
    pub(crate) fn refresh(&self, now: Now, token: &str) -> Option<Refresh> {
        let (token, username) = token.split_once('~')?;
        let claims = self.keys().verify(token, seconds(now), Kind::Refresh).ok()?;
        Some(Refresh { claims, username: username.to_owned() })
    }

    /// Uses a refresh token up; whether it was not used up before.
    pub(crate) fn use_up(&self, now: Now, refresh: &Refresh) -> bool {
        let Claims { user, device, .. } = refresh.claims;
        let (issued_at_s, earliest_s) = refresh.stamps(now);
        let mut refreshed = lock(&self.refreshed);
        if refreshed.get(&(user, device)).is_some_and(|earliest| issued_at_s < earliest) {
            return false;
        }
        refreshed.set((user, device), earliest_s);
        true
    }

    /// Tokens of this user below `version` are good for nothing from now on.
    pub(crate) fn revoked(&self, user: UserId, version: u32) {
        lock(&self.versions).set(user, version);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(now: Now) -> u64 {
    now.wall_ms / 1_000
}

/// What was set lately, in two generations of [`limits::REVOCATIONS_MAX`] each.
#[derive(Debug)]
struct Recent<K, V> {
    young: Map<K, V>,
    old: Map<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: Map::default(), old: Map::default() }
    }
}

impl<K: Eq + Hash, V: Copy> Recent<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn set(&mut self, key: K, value: V) {
        if self.young.len() >= limits::REVOCATIONS_MAX {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }
}
