//! What routers share beside routes: revoked tokens, refresh tokens that were used up, failed logins. Where the routes are
//! in memory there is one router, which knows all of it by itself.
#![cfg_attr(not(feature = "redis"), expect(clippy::unused_async, reason = "only Redis has to be waited for"))]

use std::time::Duration;

use petrel_protocol::ids::{Device, UserId};

use super::{Refusal, Routes};

impl Routes {
    /// The version below which this user's tokens are revoked, where others noted one; else 0.
    pub(crate) async fn token_version(&self, user: UserId) -> Result<u32, Refusal> {
        match self {
            Self::Memory(_) => {
                let _ = user;
                Ok(0)
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.version(user).await,
        }
    }

    /// Notes it for other routers, for as long as a token of an earlier version may be in time.
    pub(crate) async fn set_token_version(
        &self,
        user: UserId,
        version: u32,
        token_ttl: Duration,
    ) -> Result<(), Refusal> {
        match self {
            Self::Memory(_) => {
                let _ = (user, version, token_ttl);
                Ok(())
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.set_version(user, version, token_ttl).await,
        }
    }

    /// Counts a login of an account for all routers, before it is tried; where there were too many, how long to wait, ms.
    /// None where each router counts for itself, as it does while Redis is out of reach.
    pub(crate) async fn begin_try(&self, username: &str) -> Option<Result<(), u64>> {
        match self {
            Self::Memory(_) => {
                let _ = username;
                None
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.begin_try(username).await.ok(),
        }
    }

    /// What became of that try: the account starts afresh, or the try could not be made.
    pub(crate) async fn end_try(&self, username: &str, was_right: bool) {
        match self {
            Self::Memory(_) => {
                let _ = (username, was_right);
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => {
                // The count ends with its window in any case.
                let _ = redis.end_try(username, was_right).await;
            }
        }
    }

    /// Uses up the refresh tokens of a user's device up to the one that was issued at `issued_at_s`, for all routers;
    /// whether that one was good until now. Tokens are good from `earliest_s` on, and for `ttl` at most.
    pub(crate) async fn use_up(
        &self,
        session: (UserId, Device),
        issued_at_s: u64,
        earliest_s: u64,
        ttl: Duration,
    ) -> Result<bool, Refusal> {
        match self {
            Self::Memory(_) => {
                let _ = (session, issued_at_s, earliest_s, ttl);
                Ok(true)
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.use_up(session, issued_at_s, earliest_s, ttl).await,
        }
    }
}
