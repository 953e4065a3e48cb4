//! Two readers of one log, stopped and replaced at random between any two effects, against one that was never disturbed.

use petrel_protocol::events::{Uplink, stored, uplink};
use petrel_protocol::sequencer::{Config, RowBody};

use crate::crashes::assert_same_answers;
use crate::world::{Effect, Log, Random, Reader, T0, World, config, recall, resent, send};

const USERS: u64 = 4;

/// Sends, resends by clients and by the bus, stolen ids, recalls; time passes, sometimes quickly.
fn random_log(random: &mut Random) -> Log {
    let mut log = Log::default();
    let mut sent: Vec<Uplink> = Vec::new();
    let (mut at_ms, mut id, mut client) = (0, 1_000, 0_u8);
    for _ in 0..40 {
        let mut pack = Vec::new();
        for _ in 0..=random.below(4) {
            at_ms += if random.one_in(10) { random.below(100_000) } else { random.below(500) };
            let user = 1 + random.below(USERS);
            let to = 1 + (user + random.below(USERS - 1)) % USERS;
            id += 1;
            let earlier = if sent.is_empty() {
                None
            } else {
                Some(sent[random.below(sent.len() as u64) as usize].clone())
            };
            let event = match (random.below(10), earlier) {
                (0, Some(event)) => resent(event, id, at_ms),
                (1, Some(event)) => {
                    let same = msg_id(&event);
                    resent(event, same, at_ms)
                }
                // The bus sends again in silence, soon after.
                (2, Some(event)) if event.edge_time_ms + 30_000 > T0 + at_ms => event,
                (3, Some(event)) => {
                    let (mut thief, stolen) = (send(user, to, 0, msg_id(&event), at_ms), event.conversation);
                    thief.conversation = stolen;
                    let both = stolen.unwrap();
                    thief.user = if random.one_in(2) { both.a } else { both.b };
                    look_up(&mut thief);
                    thief
                }
                (4..=5, Some(event)) => {
                    let both = event.conversation.unwrap();
                    let peer = if event.user == both.a { both.b } else { both.a };
                    let (by, other) = if random.one_in(4) { (peer, event.user) } else { (event.user, peer) };
                    recall(by, other, msg_id(&event), at_ms)
                }
                (6, _) => recall(user, to, 1_000 + random.below(300), at_ms),
                (7, _) => send(user, to, 0, id, at_ms),
                _ => {
                    client += 1;
                    send(user, to, client, id, at_ms)
                }
            };
            if matches!(event.body, Some(uplink::Body::Send(_))) {
                sent.push(event.clone());
            }
            pack.push(event);
        }
        log.append(pack);
    }
    log
}

fn msg_id(event: &Uplink) -> u64 {
    match event.body.as_ref().unwrap() {
        uplink::Body::Send(send) => send.msg_id,
        uplink::Body::Recall(recall) => recall.msg_id,
    }
}

fn look_up(event: &mut Uplink) {
    if let Some(uplink::Body::Send(send)) = &mut event.body {
        send.look_up = true;
    }
}

fn random_config(random: &mut Random) -> Config {
    Config {
        seed: random.below(1 << 30),
        batch_events_max: 1 + random.below(20) as usize,
        heads_max: 1 + random.below(4) as usize,
        keys_max: 4 + random.below(60) as usize,
        ..config()
    }
}

/// One move of one reader: an effect (any of those under way, as they would overlap), or more records.
fn act(world: &mut World, reader: &mut Reader, log: &Log, random: &mut Random) {
    let is_reading = reader.effects.is_empty() || (random.one_in(3) && reader.next < log.records.len());
    if is_reading {
        reader.read(log, 1 + random.below(5) as usize);
        return;
    }
    let mut index = random.below(reader.effects.len() as u64) as usize;
    // Acknowledgements keep their order, and none comes before the effects that it stands for: they were begun earlier.
    if matches!(reader.effects[index], Effect::Ack(_)) {
        index = reader.effects.iter().position(|e| matches!(e, Effect::Ack(_))).unwrap();
    }
    world.step(reader, index);
}

fn assert_dense(world: &World) {
    for (conversation, head) in &world.store.heads {
        let rows: Vec<_> =
            world.store.messages.range((*conversation, 0)..=(*conversation, u64::MAX)).collect();
        let seqs: Vec<_> = rows.iter().map(|((_, seq), _)| *seq).collect();
        assert_eq!(seqs, (1..=head.seq).collect::<Vec<_>>(), "{conversation}");
        let messages = rows.iter().filter(|(_, row)| matches!(row.body, RowBody::Message(_))).count();
        assert_eq!(messages as u64, head.visible, "{conversation}");
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let log = random_log(&mut random);
    let expected = World::of(&log);
    assert_dense(&expected);
    let mut world = World::default();
    let mut readers =
        [Reader::new(random_config(&mut random), 0), Reader::new(random_config(&mut random), 0)];
    let mut restarts = 0;
    while restarts < 12 && !readers.iter().all(|reader| reader.is_done(&log)) {
        let which = random.below(2) as usize;
        if random.one_in(120) {
            // It is gone with all that it had not done, and a new one starts where acknowledgements end.
            readers[which] = world.restart(random_config(&mut random));
            restarts += 1;
        } else if random.one_in(60) {
            // It comes back to where acknowledgements end, before or after what it has read.
            readers[which].resume(world.unacked());
        } else if !readers[which].is_done(&log) {
            act(&mut world, &mut readers[which], &log, &mut random);
        }
    }
    for reader in &mut readers {
        world.run(reader, &log, 3);
    }
    let mut last = world.restart(random_config(&mut random));
    world.run(&mut last, &log, 4);
    assert_eq!(world.store, expected.store, "seed {seed}");
    assert_same_answers(&world, &expected);
    assert_order(&world, seed);
}

/// First publications of one conversation come in seq order wherever no replay comes between.
fn assert_order(world: &World, seed: u64) {
    let mut by_seq = std::collections::BTreeMap::new();
    for stored in &world.stored {
        let body = stored.body.as_ref().unwrap();
        if stored.seq == 0 {
            continue;
        }
        let message = match body {
            stored::Body::Message(m) => (1, m.msg_id),
            stored::Body::Recalled(r) => (2, r.target_seq),
            body => panic!("seed {seed}: it takes no seq: {body:?}"),
        };
        let key = (stored.conversation.unwrap().a, stored.conversation.unwrap().b, stored.seq);
        let first = *by_seq.entry(key).or_insert(message);
        assert_eq!(first, message, "seed {seed}: one seq, one message");
    }
}

#[test]
fn two_readers_and_crashes_give_what_one_undisturbed_reader_gives() {
    for seed in 1..=300 {
        run(seed);
    }
}
