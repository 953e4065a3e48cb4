//! A session from its connect to its end, and what it costs meanwhile.

use super::*;

#[test]
fn a_silent_client_is_pinged_then_closed() {
    let mut world = World::live();
    world.now.mono_ms += limits::PING_AFTER_MS;
    assert!(world.session.is_due(world.now, &world.shared.config));
    assert!(matches!(&world.give(Input::Sweep)[..], [Seen::Other(Output::Ping(_))]));
    assert!(world.give(Input::Sweep).is_empty(), "pinged once");
    world.now.mono_ms += limits::EVICT_AFTER_MS - limits::PING_AFTER_MS - 250;
    assert!(world.give(Input::Sweep).is_empty(), "not yet");
    world.now.mono_ms += 250;
    let seen = world.give(Input::Sweep);
    assert!(matches!(&seen[..], [Seen::Other(Output::Close(close::SILENT, _))]), "{seen:?}");
}

#[test]
fn a_client_that_was_pinged_late_has_its_time_to_answer() {
    let mut world = World::live();
    world.now.mono_ms += 3 * limits::EVICT_AFTER_MS;
    assert!(world.session.is_due(world.now, &world.shared.config));
    let seen = world.give(Input::Sweep);
    assert!(matches!(&seen[..], [Seen::Other(Output::Ping(_))]), "nobody asked it: {seen:?}");
    world.now.mono_ms += limits::EVICT_AFTER_MS - limits::PING_AFTER_MS - 250;
    assert!(!world.session.is_due(world.now, &world.shared.config));
    assert!(world.give(Input::Sweep).is_empty(), "it has its time");
    world.now.mono_ms += 250;
    assert!(matches!(&world.give(Input::Sweep)[..], [Seen::Other(Output::Close(close::SILENT, _))]));
}

#[test]
fn a_session_that_lacked_nothing_holds_no_memory_once_it_is_ready() {
    assert!(World::live().session.work.is_none());
    // What was sent before READY is remembered.
    let mut world = World::new();
    world.give(Input::Start);
    world.give(Input::Claimed(Some(ClaimReply::default())));
    assert_eq!(kinds(&world.send(1)), []);
    assert_eq!(kinds(&world.give(Input::Synced(Some(SyncReply::default())))), [MsgType::Ready]);
    assert!(world.session.work.is_some());
}

#[test]
fn an_idle_session_holds_no_memory_of_what_is_done() {
    let mut world = World::live();
    world.push(1);
    world.ack(1, status::DELIVERED);
    world.flush();
    world.now.mono_ms += 10_000;
    world.give(Input::Sweep);
    assert!(world.session.work.is_none());
    assert!(!world.session.is_due(world.now, &world.shared.config));
}

#[test]
fn a_kick_is_shown_and_ends_the_session() {
    let mut world = World::live();
    let kick = crate::calls::Kick { code: Code::LoggedInElsewhere as i32, text: "elsewhere".to_owned() };
    let seen = world.give(Input::Delivery(What::Kick(kick)));
    assert_eq!(kinds(&seen), [MsgType::Kick]);
    assert!(matches!(seen[1], Seen::Other(Output::Close(close::LOGGED_IN_ELSEWHERE, _))));
}

#[test]
fn a_token_that_was_revoked_before_this_connect_ends_the_session() {
    for (version, is_revoked) in [(3, false), (4, true)] {
        let mut world = World::new();
        world.give(Input::Start);
        world.give(Input::Claimed(Some(ClaimReply::default())));
        let reply = SyncReply { token_version: version, ..Default::default() };
        let seen = world.give(Input::Synced(Some(reply)));
        let is_closed = seen.iter().any(|s| matches!(s, Seen::Other(Output::Close(close::BAD_TOKEN, _))));
        assert_eq!(is_closed, is_revoked);
    }
}

#[test]
fn a_draining_edge_takes_no_sends_but_settles_what_it_took() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.shared.is_draining = true;
    assert_eq!(kinds(&world.give(Input::Drain)), [MsgType::Drain]);
    assert_eq!(code(&world.send(2)), Code::Draining as i32);
    assert!(world.session.is_busy());
    assert_eq!(statuses(&world.give(Input::Published(ticket, Outcome::Accepted))), [status::ACCEPTED]);
    assert!(!world.session.is_busy());
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 40, "{}", size_of::<Session>());
}
