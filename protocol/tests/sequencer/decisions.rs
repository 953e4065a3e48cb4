//! One reader, nothing fails: what becomes of each event.

use bytes::Bytes;
use petrel_protocol::codes::Code;
use petrel_protocol::events::{self, UplinkPack, stored};
use petrel_protocol::ids::{ConversationId, UserId};
use petrel_protocol::limits::{DEDUP_WINDOW_MS, RECALL_WINDOW_MS};
use petrel_protocol::sequencer::{Fault, Key, KeyId, Member, Outcome, RowBody};
use prost::Message;

use crate::world::{Log, World, code_of, duplicate_of, pair, recall, resent, send};

#[test]
fn seqs_are_dense_in_each_conversation() {
    let mut log = Log::default();
    log.append(vec![send(1, 2, 1, 11, 0), send(2, 1, 2, 12, 1), send(1, 3, 3, 13, 2)]);
    log.append(vec![send(1, 2, 4, 14, 3)]);
    let world = World::of(&log);
    let seqs: Vec<_> = world.stored.iter().map(|s| (s.conversation.unwrap().b, s.seq)).collect();
    assert_eq!(seqs, [(2, 1), (2, 2), (3, 1), (2, 3)]);
    let head = world.store.heads[&pair(1, 2)];
    assert_eq!((head.seq, head.applied, head.visible), (3, 3, 3));
    assert!(world.stored.iter().all(|s| !s.again));
}

#[test]
fn the_first_message_lists_the_conversation_for_both() {
    let world = World::of(&Log::one_each([send(5, 2, 1, 11, 0), send(2, 5, 2, 12, 1)]));
    let conversation = pair(2, 5);
    let members: Vec<_> = world.store.members.into_iter().collect();
    let member = |user| Member { user: UserId(user), conversation };
    assert_eq!(members, [member(2), member(5)]);
}

#[test]
fn a_resend_is_a_duplicate_and_its_second_id_leads_to_the_same_message() {
    let first = send(1, 2, 1, 11, 0);
    let world = World::of(&Log::one_each([first.clone(), resent(first, 99, 500), recall(1, 2, 99, 600)]));
    assert_eq!(duplicate_of(world.answer(1)), (11, 99, 1));
    let alias = world.store.keys[&KeyId { conversation: pair(1, 2), key: Key::Message(99) }];
    assert_eq!(alias.outcome, Outcome::Alias(1));
    match world.answer(2).body.as_ref().unwrap() {
        stored::Body::Recalled(r) => {
            assert_eq!((r.msg_id, r.target_seq), (11, 1), "the id that receivers know");
        }
        body => panic!("a recall was expected: {body:?}"),
    }
}

#[test]
fn a_resend_long_after_is_still_a_duplicate() {
    let first = send(1, 2, 1, 11, 0);
    let log = Log::one_each([first.clone(), resent(first, 99, 10 * DEDUP_WINDOW_MS)]);
    assert_eq!(duplicate_of(World::of(&log).answer(1)), (11, 99, 1));
}

#[test]
fn what_the_bus_sends_again_in_silence_is_a_duplicate() {
    let mut log = Log::default();
    let pack = vec![send(1, 2, 1, 11, 0), send(1, 2, 0, 12, 0)];
    log.append(pack.clone());
    log.append(pack);
    let world = World::of(&log);
    assert_eq!(duplicate_of(world.answers(1, 0)[0]), (11, 11, 1));
    assert_eq!(duplicate_of(world.answers(1, 1)[0]), (12, 12, 2));
    assert_eq!(world.store.messages.len(), 2);
}

#[test]
fn duplicates_within_one_pack_are_seen() {
    let mut log = Log::default();
    log.append(vec![send(1, 2, 1, 11, 0), send(1, 2, 1, 12, 0), recall(1, 2, 12, 1)]);
    let world = World::of(&log);
    assert_eq!(duplicate_of(world.answers(0, 1)[0]), (11, 12, 1));
    assert_eq!(world.answers(0, 2)[0].seq, 2);
}

#[test]
fn an_old_key_without_a_look_up_is_a_new_message() {
    // What is a duplicate must not depend on how long a reader has been running.
    let log = Log::one_each([send(1, 2, 1, 11, 0), send(1, 2, 1, 12, DEDUP_WINDOW_MS + 1)]);
    assert_eq!(World::of(&log).answer(1).seq, 2);
    let log = Log::one_each([send(1, 2, 1, 11, 0), send(1, 2, 1, 12, DEDUP_WINDOW_MS)]);
    assert_eq!(duplicate_of(World::of(&log).answer(1)), (11, 12, 1));
}

#[test]
fn senders_do_not_share_client_ids() {
    let world = World::of(&Log::one_each([send(1, 2, 1, 11, 0), send(2, 1, 1, 12, 1)]));
    assert_eq!((world.answer(0).seq, world.answer(1).seq), (1, 2));
}

#[test]
fn a_msg_id_belongs_to_its_first_writer_and_the_refusal_is_remembered() {
    let thief = send(2, 1, 7, 11, 1);
    let again = resent(thief.clone(), 77, 2);
    let world = World::of(&Log::one_each([send(1, 2, 1, 11, 0), thief, again, recall(1, 2, 11, 3)]));
    assert_eq!(code_of(world.answer(1)), Code::IdTaken as i32);
    assert_eq!(code_of(world.answer(2)), Code::IdTaken as i32, "also under another msg_id");
    assert_eq!(world.answer(3).seq, 2, "the first writer's id still leads to its message");
    assert_eq!(world.store.heads[&pair(1, 2)].applied, 4);
}

#[test]
fn a_stolen_msg_id_without_a_client_id_is_no_duplicate_of_its_owner() {
    let world = World::of(&Log::one_each([send(1, 2, 1, 11, 0), send(2, 1, 0, 11, 1)]));
    assert_eq!(code_of(world.answer(1)), Code::IdTaken as i32);
}

#[test]
fn the_same_msg_id_for_another_message_is_refused() {
    let world = World::of(&Log::one_each([send(1, 2, 1, 11, 0), send(1, 2, 2, 11, 1)]));
    assert_eq!(code_of(world.answer(1)), Code::IdTaken as i32);
}

#[test]
fn a_recall_takes_a_seq_and_names_its_target() {
    let world = World::of(&Log::one_each([send(1, 2, 1, 11, 0), send(2, 1, 2, 12, 1), recall(1, 2, 11, 2)]));
    let answer = world.answer(2);
    assert_eq!(answer.seq, 3);
    assert_eq!(answer.body, Some(stored::Body::Recalled(events::Recalled { msg_id: 11, target_seq: 1 })));
    let row = &world.store.messages[&(pair(1, 2), 3)];
    assert!(matches!(&row.body, RowBody::Recall(r) if r.target_seq == 1));
    assert_eq!(row.visible, 2, "a recall is no message");
    assert_eq!(world.store.recalls[&(pair(1, 2), 1)].seq, 3);
}

#[test]
fn recalls_are_refused_where_they_must_be() {
    let world = World::of(&Log::one_each([
        send(1, 2, 1, 11, 0),
        recall(2, 1, 11, 1),
        recall(1, 2, 99, 1),
        recall(1, 3, 11, 1),
        recall(1, 2, 11, RECALL_WINDOW_MS + 1),
        recall(1, 2, 11, RECALL_WINDOW_MS),
    ]));
    let codes: Vec<_> = (1..5).map(|entry| code_of(world.answer(entry))).collect();
    let expected = [Code::NotYours, Code::NotFound, Code::NotFound, Code::RecallTooLate];
    assert_eq!(codes, expected.map(|code| code as i32));
    assert_eq!(world.answer(5).seq, 2, "the window is judged by the edge's stamps");
}

#[test]
fn a_second_recall_changes_nothing() {
    let world = World::of(&Log::one_each([
        send(1, 2, 1, 11, 0),
        recall(1, 2, 11, 1),
        recall(1, 2, 11, RECALL_WINDOW_MS * 2),
        send(1, 2, 2, 12, 3),
    ]));
    assert_eq!(duplicate_of(world.answer(2)), (11, 11, 2));
    assert_eq!(world.answer(3).seq, 3);
}

#[test]
fn a_recall_does_not_see_a_later_message() {
    let world = World::of(&Log::one_each([recall(1, 2, 11, 0), send(1, 2, 1, 11, 1)]));
    assert_eq!(code_of(world.answer(0)), Code::NotFound as i32);
    assert_eq!(world.answer(1).seq, 1);
}

#[test]
fn groups_are_refused() {
    let mut event = send(1, 2, 1, 11, 0);
    event.conversation = Some(ConversationId::Group(9).into());
    let world = World::of(&Log::one_each([event]));
    assert_eq!(code_of(world.answer(0)), Code::BadRecipient as i32);
    assert!(world.store.messages.is_empty());
}

#[test]
fn one_undecodable_event_does_not_take_its_pack_with_it() {
    let good = UplinkPack { events: vec![send(1, 2, 1, 11, 0)] }.encode_to_vec();
    let bad = [0x0a, 3, 0xff, 0xff, 0xff];
    let mut log = Log::default();
    log.append_raw([&good[..], &bad, &good].concat().into());
    log.append_raw(Bytes::from_static(b"\x0a\x7fnonsense"));
    log.append(vec![send(1, 2, 2, 12, 1)]);
    let world = World::of(&log);
    let dead: Vec<_> =
        world.store.dead_letters.values().map(|d| (d.position.entry, d.position.index)).collect();
    assert_eq!(dead, [(0, 1), (1, 0)]);
    assert_eq!(world.store.messages.len(), 2, "the third event repeats the first");
    assert_eq!(world.acked.unwrap().entry, 2);
}

#[test]
fn impossible_events_are_dead_letters() {
    let mut outsider = send(1, 2, 1, 11, 0);
    outsider.user = 3;
    let mut nobody = send(1, 2, 1, 11, 0);
    nobody.conversation = None;
    let mut bodiless = send(1, 2, 1, 11, 0);
    bodiless.body = None;
    let mut short_id = send(1, 2, 1, 11, 0);
    if let Some(events::uplink::Body::Send(send)) = &mut short_id.body {
        send.client_msg_id = Bytes::from_static(b"short");
    }
    let world = World::of(&Log::one_each([outsider, nobody, bodiless, short_id, send(1, 2, 1, 0, 0)]));
    let faults: Vec<_> = world.store.dead_letters.values().map(|dead| dead.fault).collect();
    assert_eq!(faults, [Fault::User, Fault::Conversation, Fault::Body, Fault::Ids, Fault::Ids]);
    assert!(world.store.heads.is_empty());
}
