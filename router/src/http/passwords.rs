//! Passwords: argon2id with OWASP's parameters, few at a time, on a thread that may block.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use petrel_protocol::limits;
use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::metrics::METRICS;

/// What a hash costs whoever computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, KiB; at least 8.
    pub memory_kib: u32,
    /// Passes over it; at least 1.
    pub passes: u32,
}

impl Default for PasswordCost {
    /// OWASP's first choice for argon2id with one lane: 19 MiB, two passes.
    fn default() -> Self {
        Self { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST }
    }
}

/// Hashes and checks passwords, in turn.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// What an unknown user's password is checked against, so that it takes as long as a known one's.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new(cost: PasswordCost) -> Self {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)
            .expect("Config::password_cost: at least 8 KiB and one pass");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = hash(&argon2, "").expect("an empty password can be hashed");
        let places = Arc::new(Semaphore::new(limits::HASHES_AT_ONCE));
        Self { argon2, places, waiting: AtomicUsize::new(0), nobody }
    }

    /// The hash to store.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Problem> {
        let password = password.to_owned();
        let hashed = self.run(move |argon2| hash(argon2, &password)).await?;
        hashed.map_err(|e| {
            tracing::error!("a password cannot be hashed: {e}");
            Problem::internal()
        })
    }

    /// Whether `password` is the one of `stored`; where there is no account, it takes as long and is not.
    pub(crate) async fn is_right(&self, password: &str, stored: Option<&str>) -> Result<bool, Problem> {
        let is_known = stored.is_some();
        let stored = stored.unwrap_or(&self.nobody).to_owned();
        let password = password.to_owned();
        let outcome = self
            .run(move |argon2| {
                let stored = PasswordHash::new(&stored).map_err(|_| Error::EncodingInvalid)?;
                argon2.verify_password(password.as_bytes(), &stored)
            })
            .await?;
        match outcome {
            Ok(()) => Ok(is_known),
            Err(Error::PasswordInvalid) => Ok(false),
            Err(e) => {
                tracing::error!(
                    "a stored password hash cannot be used: {e}; that account has to be registered anew"
                );
                Err(Problem::internal())
            }
        }
    }

    /// Runs `work` when it is its turn, or refuses where too many wait.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let since = Instant::now();
        let turn = Turn::take(&self.waiting)?;
        let place = self.places.clone().acquire_owned().await.map_err(|_| Problem::internal())?;
        let argon2 = self.argon2.clone();
        // A client that goes away while its hash is computed leaves the place taken until it is done.
        let work = tokio::task::spawn_blocking(move || {
            let done = work(&argon2);
            drop(place);
            done
        });
        let done = work.await.map_err(|_| Problem::internal())?;
        drop(turn);
        METRICS.hash_seconds.observe(since.elapsed().as_secs_f64());
        Ok(done)
    }
}

/// Given back when it is dropped, also where the client goes away first.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Problem> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= limits::HASHES_AT_ONCE + limits::HASHES_WAITING_MAX {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::overloaded());
        }
        Ok(Self(waiting))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String, Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| Error::Crypto)?;
    let hash: PasswordHash = argon2.hash_password_with_salt(password.as_bytes(), &salt)?;
    Ok(hash.to_string())
}
