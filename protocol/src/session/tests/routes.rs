//! How a session holds on to its route.

use super::*;
use crate::calls::claim_reply::Outcome as Route;
use crate::ids::Address;

const ME: UserId = UserId(7);
const ADDRESS: Address = Address { edge: 1, shard: 2, slot: 3, generation: 4, epoch: 5 };

struct World {
    session: Session,
    shared: Shared,
    now: Now,
}

impl World {
    fn live() -> Self {
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_800_000_000_000 };
        let mut world =
            Self { session: Session::new(now, ME, Device::Web, 3), shared: Shared::default(), now };
        world.give(Input::Start);
        world.claimed(Route::Taken);
        world.give(Input::Synced(Some(SyncReply::default())));
        assert!(world.session.is_live());
        world
    }

    fn give(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = Outputs::default();
        self.session.handle(self.now, input, &mut self.shared, &mut out);
        out.take()
    }

    fn claimed(&mut self, outcome: Route) -> Vec<Output> {
        self.give(Input::Claimed(Some(ClaimReply { outcome: outcome.into(), ..ClaimReply::default() })))
    }

    /// Lets time pass until the session asks for its route.
    fn assert_due(&mut self) {
        self.now.mono_ms += limits::ASSERT_MS;
        self.session.heard(self.now);
        assert!(self.session.is_due(self.now, &self.shared.config));
        assert!(matches!(self.give(Input::Sweep)[..], [Output::Assert]));
    }
}

fn is_closed_with(seen: &[Output], code: u16) -> bool {
    seen.iter().any(|output| matches!(output, Output::Close(c, _) if *c == code))
}

#[test]
fn a_route_is_asserted_from_time_to_time_and_nothing_follows_where_it_is_held() {
    let mut world = World::live();
    world.now.mono_ms += limits::ASSERT_MS / 2 - 1;
    world.session.heard(world.now);
    assert!(world.give(Input::Sweep).is_empty(), "not yet");
    world.assert_due();
    assert!(world.give(Input::Sweep).is_empty(), "asked once");
    assert!(world.claimed(Route::Held).is_empty());
    assert!(world.session.is_live());
    world.assert_due();
    assert!(world.give(Input::Claimed(None)).is_empty(), "nothing was learnt");
    assert!(world.session.is_live());
    world.assert_due();
}

#[test]
fn a_session_whose_route_is_lost_shows_no_push_until_it_has_claimed_and_was_synced() {
    let mut world = World::live();
    world.assert_due();
    assert!(matches!(world.claimed(Route::Lost)[..], [Output::Claim]));
    let push = crate::calls::Push {
        conversation: Some(ConversationId::of_users(ME, UserId(9)).into()),
        seq: 2,
        ..Default::default()
    };
    let push = crate::calls::delivery::What::Push(push);
    assert!(world.give(Input::Delivery(push)).is_empty(), "seq 1 may have been missed");
    assert!(matches!(world.claimed(Route::Taken)[..], [Output::Sync(_)]));
}

#[test]
fn a_later_session_of_the_same_device_type_ends_an_earlier_one() {
    for is_asked in [false, true] {
        let mut world = World::live();
        if is_asked {
            world.assert_due();
        } else {
            assert!(matches!(world.give(Input::ClaimAgain)[..], [Output::Claim]));
        }
        assert!(is_closed_with(&world.claimed(Route::Superseded), close::LOGGED_IN_ELSEWHERE));
    }
}

#[test]
fn an_assertion_finds_a_revoked_token() {
    let mut world = World::live();
    world.assert_due();
    let reply = |token_version| {
        Input::Claimed(Some(ClaimReply {
            outcome: Route::Held.into(),
            token_version,
            ..ClaimReply::default()
        }))
    };
    assert!(world.give(reply(3)).is_empty());
    assert!(is_closed_with(&world.give(reply(4)), close::BAD_TOKEN));
}

#[test]
fn a_claim_that_takes_a_route_late_leads_to_a_sync() {
    let mut world = World::live();
    assert!(matches!(world.claimed(Route::Taken)[..], [Output::Sync(_)]), "there was no route until now");
}

#[test]
fn a_claim_says_since_when_the_session_is_connected() {
    let mut world = World::live();
    assert_eq!(world.session.claim(world.now, ADDRESS, false).age_ms, 0);
    world.now.mono_ms += 100 * 24 * 3_600_000;
    let claim = world.session.claim(world.now, ADDRESS, true);
    assert!(claim.age_ms.abs_diff(100 * 24 * 3_600_000) < 16, "beyond 2^32 ms too");
    assert!(claim.is_assertion);
}

#[test]
fn sessions_that_connected_at_once_do_not_ask_at_once() {
    let now = Now { mono_ms: 1_000_000, wall_ms: 0 };
    let config = Config::default();
    let mut by_tenth = [0; 10];
    for user in 1..=10_000 {
        let session = Session::new(now, UserId(user), Device::Web, 0);
        let is_due = |ms: u64| session.is_assertion_due(Now { mono_ms: now.mono_ms + ms, ..now }, &config);
        let half = limits::ASSERT_MS / 2;
        let tenth = (0..10).find(|tenth| is_due(half + half / 10 * (tenth + 1))).expect("due in the end");
        by_tenth[tenth as usize] += 1;
    }
    assert!(by_tenth.iter().all(|count| (800..1_200).contains(count)), "{by_tenth:?}");
}
