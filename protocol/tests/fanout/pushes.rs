//! Who is told what.

use super::*;

#[test]
fn receivers_and_the_senders_other_devices_get_the_push_and_the_origin_its_own() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(ANNA, Device::Ios, EDGE_1, 2);
    world.connect(BERT, Device::Android, EDGE_1, 3);
    world.connect(BERT, Device::Desktop, EDGE_2, 4);
    world.connect(CLEO, Device::Web, EDGE_2, 5);
    world.stored(vec![message(ANNA, BERT, 1, Some(origin))]);

    let first = world.answer(EDGE_1);
    let slots: Vec<_> = first.iter().map(|d| (d.slot, d.user, d.device)).collect();
    assert_eq!(slots, [(1, 1, 4), (3, 2, 1), (2, 1, 2)], "who, on which device, in which slot");
    let Some(What::Own(own)) = &first[0].what else { panic!("{first:?}") };
    assert_eq!((own.seq, own.msg_id, own.is_offline, own.is_recall), (1, 1_001, false, false));
    assert_eq!(own.client_msg_id, vec![1; 16]);

    let second = world.answer(EDGE_2);
    assert_eq!(second.iter().map(|d| d.slot).collect::<Vec<_>>(), [4], "nobody else is told");
    let (one, other) = (push(&first[1]), push(&second[0]));
    assert_eq!(one.packet.as_ptr(), other.packet.as_ptr(), "encoded once and shared");
    let envelope = ImProtoResponse::decode(one.packet.clone()).unwrap();
    assert_eq!((envelope.r#type(), envelope.code), (MsgType::C2cMsgPush, SUCCESS));
    let shown = C2cMsgPush::decode(envelope.payload).unwrap();
    let expected = C2cMsgPush {
        client_msg_id: vec![1; 16].into(),
        msg_id: 1_001,
        from: 1,
        to: 2,
        format: 1,
        content: "message 1".into(),
        time: 77,
        seq: 1,
    };
    assert_eq!(shown, expected);
    assert!(world.offline.is_empty());
}

#[test]
fn a_session_that_replaced_the_origin_gets_the_push() {
    let mut world = World::new();
    let mut origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    origin.generation = 0;
    world.stored(vec![message(ANNA, BERT, 1, Some(origin))]);
    let got = world.answer(EDGE_1);
    assert_eq!(seqs(&got), [1]);
}

#[test]
fn the_origin_is_the_same_session_under_a_new_epoch() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, Incarnation { epoch: 11, ..EDGE_1 }, 1);
    let logged = Address { epoch: 10, ..origin };
    world.stored(vec![message(ANNA, BERT, 1, Some(logged))]);
    // Another device type in that very slot is another session.
    let mut other = message(ANNA, BERT, 2, Some(logged));
    other.device = Device::Ios as u32;
    world.stored(vec![other]);
    let got = world.answer(Incarnation { epoch: 11, ..EDGE_1 });
    assert!(matches!(&got[0].what, Some(What::Own(own)) if own.seq == 1));
    assert_eq!(push(&got[1]).seq, 2);
}

#[test]
fn a_recall_names_its_target_to_everybody() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(BERT, Device::Web, EDGE_2, 2);
    let body = Body::Recalled(Recalled { msg_id: 1_001, target_seq: 1 });
    world.stored(vec![stored(ANNA, BERT, 2, Some(origin), body)]);

    let own = world.answer(EDGE_1);
    let Some(What::Own(own)) = &own[0].what else { panic!("{own:?}") };
    assert_eq!((own.seq, own.msg_id, own.is_recall, own.target_seq), (2, 1_001, true, 1));
    let pushed = world.answer(EDGE_2);
    let pushed = push(&pushed[0]);
    assert!(pushed.is_recall && pushed.seq == 2);
    let envelope = ImProtoResponse::decode(pushed.packet.clone()).unwrap();
    assert_eq!(envelope.r#type(), MsgType::C2cWithdraw);
    let recall = C2cWithdrawReq::decode(envelope.payload).unwrap();
    assert_eq!(recall, C2cWithdrawReq { msg_id: 1_001, from: 1, to: 2, seq: 2, target_seq: 1 });
}

#[test]
fn a_replay_of_what_was_recalled_is_shown_as_recalled() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_2, 2);
    let mut event = again(message(ANNA, BERT, 1, None));
    let Some(Body::Message(m)) = &mut event.body else { panic!("a message") };
    (m.is_recalled, m.content) = (true, String::new());
    world.stored(vec![event]);
    let pushed = world.answer(EDGE_2);
    let envelope = ImProtoResponse::decode(push(&pushed[0]).packet.clone()).unwrap();
    let shown = C2cMsgPush::decode(envelope.payload).unwrap();
    assert_eq!((shown.format, shown.content.as_str()), (10, ""));
}

#[test]
fn refusals_and_duplicates_go_to_the_origin_alone() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(ANNA, Device::Ios, EDGE_1, 2);
    world.connect(BERT, Device::Web, EDGE_1, 3);
    let refused = Body::Refused(Refused { code: -112, msg_id: 9, ..Default::default() });
    let duplicate = Body::Duplicate(Duplicate { msg_id: 8, resent_msg_id: 9, seq: 4, ..Default::default() });
    world.stored(vec![
        stored(ANNA, BERT, 0, Some(origin), refused.clone()),
        stored(ANNA, BERT, 0, Some(origin), duplicate),
    ]);
    let got = world.answer(EDGE_1);
    assert_eq!(got.iter().map(|d| d.slot).collect::<Vec<_>>(), [1, 1]);
    assert!(matches!(&got[0].what, Some(What::Refused(r)) if r.code == -112));
    assert!(matches!(&got[1].what, Some(What::Duplicate(d)) if d.seq == 4));

    // Its slot was recycled: nobody is told, and the log goes on.
    let gone = Address { generation: 7, ..origin };
    let entry = world.stored(vec![stored(ANNA, BERT, 0, Some(gone), refused)]);
    assert!(world.calls.is_empty());
    assert_eq!(world.acked().last(), Some(&entry));
}

#[test]
fn an_answered_seq_is_not_pushed_again_and_an_unanswered_one_is() {
    let mut world = World::new();
    world.connect(BERT, Device::Web, EDGE_1, 1);
    world.stored(vec![message(ANNA, BERT, 1, None)]);
    // Not answered yet: a replay is pushed as well.
    world.stored(vec![again(message(ANNA, BERT, 1, None))]);
    assert_eq!(seqs(&world.answer(EDGE_1)), [1, 1]);
    let entry = world.stored(vec![again(message(ANNA, BERT, 1, None)), message(ANNA, BERT, 2, None)]);
    assert_eq!(seqs(&world.answer(EDGE_1)), [2], "1 was answered");
    assert_eq!(world.acked().last(), Some(&entry));

    // The edge dies with 3 unanswered; 4 reaches its successor. A replay of 3 must come through.
    world.stored(vec![message(ANNA, BERT, 3, None)]);
    world.input(Input::LeaseEnded(EDGE_1));
    world.routes.clear();
    world.calls.clear();
    world.connect(BERT, Device::Web, EDGE_2, 1);
    world.stored(vec![message(ANNA, BERT, 4, None)]);
    world.answer(EDGE_2);
    world.stored(vec![again(message(ANNA, BERT, 3, None)), again(message(ANNA, BERT, 4, None))]);
    assert_eq!(seqs(&world.answer(EDGE_2)), [3]);
}

#[test]
fn offline_is_told_once_and_only_at_the_first_publication() {
    let mut world = World::new();
    let origin = world.connect(ANNA, Device::Web, EDGE_1, 1);
    let is_offline = |got: &[Delivery]| match &got[0].what {
        Some(What::Own(own)) => own.is_offline,
        other => panic!("{other:?}"),
    };
    world.stored(vec![message(ANNA, BERT, 1, Some(origin))]);
    assert!(is_offline(&world.answer(EDGE_1)));
    let conversation = ConversationId::of_users(ANNA, BERT);
    let told = Offline { user: BERT, from: ANNA, conversation, seq: 1, msg_id: 1_001 };
    assert_eq!(world.offline, [told]);

    // A replay that a new router has not seen before.
    world.fanout = Fanout::new();
    world.stored(vec![again(message(ANNA, BERT, 1, Some(origin)))]);
    assert!(!is_offline(&world.answer(EDGE_1)));
    assert_eq!(world.offline, [told]);

    // One device is enough; and a recall tells nobody anything.
    world.stored(vec![stored(ANNA, BERT, 2, Some(origin), Body::Recalled(Recalled::default()))]);
    assert!(!is_offline(&world.answer(EDGE_1)));
    world.connect(BERT, Device::Bot, EDGE_2, 9);
    world.stored(vec![message(ANNA, BERT, 3, Some(origin))]);
    assert!(!is_offline(&world.answer(EDGE_1)));
    assert_eq!(world.offline, [told]);
}

#[test]
fn receipts_become_statuses_on_every_device_of_the_sender() {
    let mut world = World::new();
    world.connect(ANNA, Device::Web, EDGE_1, 1);
    world.connect(ANNA, Device::Ios, EDGE_2, 2);
    world.connect(BERT, Device::Web, EDGE_1, 3);
    let status = |seq| Status { msg_id: 1_000 + seq, seq, status: 3, client_msg_id: vec![1; 16].into() };
    let receipt = |user: UserId, statuses| Receipt {
        conversation: Some(ConversationId::of_users(ANNA, BERT).into()),
        user: user.0,
        device: 4,
        delivered_seq: 2,
        read_seq: 0,
        statuses,
    };
    let entry = world.receipts(vec![receipt(BERT, vec![status(1), status(2)])]);
    assert_eq!(world.look_ups, [[ANNA]], "Bert's routes are of no interest");
    for (edge, slot) in [(EDGE_1, 1), (EDGE_2, 2)] {
        let got = world.answer(edge);
        let told: Vec<_> = got
            .iter()
            .map(|d| match &d.what {
                Some(What::Status(update)) => (d.slot, update.status.clone().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(slot, status(1)), (slot, status(2))]);
    }
    assert_eq!(world.acks, [(Topic::Receipts, 0, entry)]);

    // Cursors alone are nobody's business here.
    let entry = world.receipts(vec![receipt(BERT, Vec::new())]);
    assert_eq!(world.look_ups.len(), 1);
    assert_eq!(world.acked().last(), Some(&entry));
}
