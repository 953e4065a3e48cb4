//! Sends: what is published, refused, or of unknown outcome.

use super::*;

#[test]
fn a_send_is_published_with_what_the_server_knows_and_acked_once_it_is_durable() {
    let mut world = World::live();
    let seen = world.send(1);
    let (event, ticket) = published(&seen);
    assert_eq!((event.user, event.device, event.edge_time_ms), (7, 4, world.now.wall_ms));
    let Some(Body::Send(send)) = &event.body else { panic!("{event:?}") };
    assert!(send.msg_id != 0 && !send.look_up);
    let seen = world.give(Input::Published(ticket, Outcome::Accepted));
    assert_eq!(statuses(&seen), [status::ACCEPTED]);
    assert!(world.give(Input::Published(ticket, Outcome::Accepted)).is_empty(), "settled once");
}

#[test]
fn a_client_that_cannot_say_whether_it_resends_is_looked_up() {
    let mut world = World::live();
    for attempt in [None, Some(1)] {
        let seen = world.packet(MsgType::C2cSend, &C2cSendReq { attempt, ..message(1) });
        let Some(Body::Send(send)) = &published(&seen).0.body else { panic!("{seen:?}") };
        assert!(send.look_up);
    }
}

#[test]
fn faults_of_a_send_are_refused_with_a_code() {
    let mut world = World::live();
    let bad = [
        (Code::NotYourUser, C2cSendReq { from: 8, ..message(1) }),
        (Code::BadRecipient, C2cSendReq { to: 0, ..message(1) }),
        (Code::BadRecipient, C2cSendReq { to: ME.0, ..message(1) }),
        (Code::BadPacket, C2cSendReq { client_msg_id: Bytes::from_static(b"short"), ..message(1) }),
        (Code::MissingId, C2cSendReq { client_msg_id: Bytes::new(), ..message(1) }),
        (Code::TooLarge, C2cSendReq { content: "x".repeat(limits::CONTENT_BYTES_MAX + 1), ..message(1) }),
    ];
    for (expected, send) in bad {
        let seen = world.packet(MsgType::C2cSend, &send);
        assert_eq!(code(&seen), expected as i32, "{send:?}");
        let [Seen::Packet(nack)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(nack.payload, send.client_msg_id, "a nack echoes the id");
    }
}

#[test]
fn what_is_no_packet_is_refused_and_too_much_of_it_ends_the_session() {
    let mut world = World::live();
    assert_eq!(code(&world.give(Input::Packet(&[0xff; 9]))), Code::BadPacket as i32);
    let bad_utf8 = {
        // Field 6 of C2CSendReq is a string.
        let payload = [&[0x32, 2][..], &[0xc3, 0x28]].concat();
        let envelope =
            crate::packets::ImProtoRequest { r#type: MsgType::C2cSend.into(), payload: payload.into() };
        envelope.encode_to_vec()
    };
    assert_eq!(code(&world.give(Input::Packet(&bad_utf8))), Code::BadPacket as i32);
    assert_eq!(world.nack_of(MsgType::Ready, &SyncReq::default()), Code::UnknownType as i32);
    assert_eq!(world.nack_of(MsgType::GroupSend, &SyncReq::default()), Code::UnknownType as i32);
    let closed = (0..limits::SESSION_FAULTS_MAX).any(|_| {
        let seen = world.give(Input::Packet(&[0xff; 9]));
        seen.iter().any(|s| matches!(s, Seen::Other(Output::Close(close::TOO_MANY_FAULTS, _))))
    });
    assert!(closed);
    assert!(world.send(1).is_empty(), "nothing is taken after that");
}

#[test]
fn beyond_the_credit_sends_are_refused_with_a_time_to_retry_and_credit_comes_back() {
    let mut world = World::live();
    world.shared.config.shard_unstored_max = 2;
    let first = published(&world.send(1)).1;
    world.send(2);
    let seen = world.send(3);
    assert_eq!(code(&seen), Code::Overloaded as i32);
    let [Seen::Packet(nack)] = &seen[..] else { panic!("{seen:?}") };
    assert!(nack.retry_after_ms > 0);
    world.give(Input::Published(first, Outcome::Accepted));
    assert_eq!(code(&world.send(3)), Code::Overloaded as i32, "accepted is not yet stored");
    own(&mut world, 1, 1_999, false);
    published(&world.send(3));
    world.session.end(&mut world.shared, &mut world.out);
    assert_eq!(world.shared.unstored, 0, "the end gives all credit back");
}

#[test]
fn credit_whose_event_never_comes_back_is_freed_in_the_end() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.give(Input::Published(ticket, Outcome::Accepted));
    world.now.mono_ms += CREDIT_MS_MAX + 1_000;
    world.session.heard(world.now);
    world.give(Input::Sweep);
    assert_eq!(world.shared.unstored, 0);
}

#[test]
fn a_lost_route_gives_the_credit_back_of_what_comes_back_to_the_old_address() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.give(Input::Published(ticket, Outcome::Accepted));
    world.give(Input::ClaimAgain);
    assert_eq!(world.shared.unstored, 0);
}

#[test]
fn a_session_has_a_bound_of_its_own() {
    let mut world = World::live();
    for _ in 0..limits::SESSION_IN_FLIGHT_MAX {
        world.send(1);
    }
    assert_eq!(code(&world.send(1)), Code::Overloaded as i32);
}

#[test]
fn after_an_unknown_outcome_nothing_passes_that_message_until_it_is_resent_or_given_up() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    assert_eq!(code(&world.give(Input::Published(ticket, Outcome::Unknown))), Code::OutcomeUnknown as i32);
    assert_eq!(code(&world.send(2)), Code::HeldBack as i32);
    let elsewhere = C2cSendReq { to: 11, ..message(3) };
    published(&world.packet(MsgType::C2cSend, &elsewhere));
    published(&world.send(1));
    published(&world.send(2));

    let ticket = published(&world.send(4)).1;
    world.give(Input::Published(ticket, Outcome::Unknown));
    world.now.mono_ms += limits::REPUBLISH_MS_MAX + 1;
    world.session.heard(world.now);
    world.give(Input::Sweep);
    published(&world.send(5));
}

#[test]
fn a_certain_failure_is_told_and_frees_the_credit() {
    let mut world = World::live();
    for (outcome, expected) in [(Outcome::Full, Code::Overloaded), (Outcome::Unavailable, Code::Unavailable)]
    {
        let ticket = published(&world.send(1)).1;
        assert_eq!(code(&world.give(Input::Published(ticket, outcome))), expected as i32);
        assert_eq!(world.shared.unstored, 0);
    }
}

#[test]
fn message_ids_and_ranges_are_given_to_their_user_alone() {
    let mut world = World::live();
    let seen = world.packet(MsgType::GetBatchMsgIds, &GetBatchMsgIdsReq { user_id: ME.0 });
    assert!(matches!(&seen[..], [Seen::Other(Output::IdBatch)]));
    let other = GetBatchMsgIdsReq { user_id: PEER.0 };
    assert_eq!(world.nack_of(MsgType::GetBatchMsgIds, &other), Code::NotYourUser as i32);

    let ask = SyncReq { peer: PEER.0, from_seq: 0, to_seq: 0 };
    let seen = world.packet(MsgType::Sync, &ask);
    assert!(matches!(&seen[..], [Seen::Other(Output::History(h))] if h.user == ME.0 && h.from_seq == 1));
    assert_eq!(world.nack_of(MsgType::Sync, &ask), Code::Overloaded as i32, "one at a time");
    let seen = world.give(Input::History(Some(range(1..=2))));
    assert_eq!(kinds(&seen), [MsgType::Sync]);
    let own = SyncReq { peer: ME.0, ..ask };
    assert_eq!(world.nack_of(MsgType::Sync, &own), Code::BadRecipient as i32);
}

#[test]
fn sends_of_unknown_outcome_are_taken_again_in_their_order() {
    let mut world = World::live();
    let tickets: Vec<_> = (1..=3).map(|n| published(&world.send(n)).1).collect();
    for ticket in tickets {
        world.give(Input::Published(ticket, Outcome::Unknown));
    }
    for n in 1..=3 {
        published(&world.send(n));
    }
}

#[test]
fn an_outcome_that_becomes_known_holds_nothing_back() {
    let mut world = World::live();
    let ticket = published(&world.send(1)).1;
    world.give(Input::Published(ticket, Outcome::Unknown));
    assert_eq!(code(&world.send(2)), Code::HeldBack as i32);
    own(&mut world, 1, 1_999, false);
    assert_eq!(code(&world.send(3)), Code::HeldBack as i32, "2 was first");
    published(&world.send(2));
    published(&world.send(3));
}
