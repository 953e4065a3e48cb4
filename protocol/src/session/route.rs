//! A session's hold on its route: claimed at connect and after the edge's lease was lost, asserted from time to time.
//!
//! A route appears by a claim alone, and a session claims only while it shows no pushes and is about to be synced. So
//! whatever made a route vanish (an empty Redis, a failover that lost the last writes, an eviction), no push reaches a
//! session behind one that it missed.

use super::{Config, Output, Outputs, Phase, Session, Shared, silent_ms};
use crate::calls::{ClaimReply, claim_reply::Outcome};
use crate::codes::Code;
use crate::time::Now;

impl Session {
    pub(super) fn claimed(
        &mut self,
        now: Now,
        reply: Option<ClaimReply>,
        shared: &mut Shared,
        out: &mut Outputs,
    ) {
        // A claim that failed is tried again by the next sweep; an assertion that failed has changed nothing.
        let Some(reply) = reply else { return };
        if reply.token_version > self.token_version {
            return self.kick(Code::BadToken as i32, "this token was revoked: log in again".to_owned(), out);
        }
        self.asserted = super::quarters(now);
        match reply.outcome() {
            Outcome::Superseded => {
                let text = "this account was logged in on another device of this type";
                self.kick(Code::LoggedInElsewhere as i32, text.to_owned(), out);
            }
            Outcome::Lost => self.claim_again(shared, out),
            Outcome::Taken | Outcome::Held if self.phase == Phase::Claiming => self.start_sync(out),
            // An answer that was overtaken: there was no route until now.
            Outcome::Taken => self.dirty(shared, out),
            Outcome::Held => {}
        }
    }

    /// The route is lost: what was pushed meanwhile is missed, so nothing is shown until the sync that follows. What this
    /// session has published comes back to the address that is over.
    pub(super) fn claim_again(&mut self, shared: &mut Shared, out: &mut Outputs) {
        self.forgo_credit(shared);
        self.phase = Phase::Claiming;
        out.push(Output::Claim);
    }

    /// Each session asks at a time of its own, so that those that connected at once do not ask at once.
    pub(super) fn is_assertion_due(&self, now: Now, config: &Config) -> bool {
        let early_ms = self.user.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (config.assert_ms / 2).max(1);
        silent_ms(now, self.asserted) >= config.assert_ms - early_ms
    }
}
