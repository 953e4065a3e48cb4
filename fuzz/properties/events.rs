//! Whatever the log holds is read by the sequencer and by the fan-out without a panic, nothing stops on it, and the same
//! bytes lead to the same rows.

use bytes::Bytes;
use petrel_protocol::calls::DeliverReply;
use petrel_protocol::events::StoredPack;
use petrel_protocol::fanout::{self, Fanout};
use petrel_protocol::ids::Position;
use petrel_protocol::sequencer::{Batch, Config, Input, Loaded, Output, Record, Sequencer};
use petrel_protocol::time::Now;
use petrel_protocol::topics::Topic;
use prost::Message;

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_800_000_000_000 };
const POSITION: Position = Position { generation: 1, ledger: 0, entry: 0, index: 0 };

/// One record of any topic.
pub(crate) fn check(bytes: &[u8]) {
    let batches = sequenced(bytes);
    assert_eq!(batches, sequenced(bytes), "rows are a function of the log");
    for batch in &batches {
        let stored = StoredPack { events: batch.stored.clone() };
        fan_out(Topic::Stored, &stored.encode_to_vec());
    }
    fan_out(Topic::Stored, bytes);
    fan_out(Topic::Receipts, bytes);
}

/// What a fresh reader of an empty store makes of a record.
fn sequenced(bytes: &[u8]) -> Vec<Batch> {
    let mut machine = Sequencer::new(Config::new(0, 1, 7));
    let record = Record { position: POSITION, pack: Bytes::copy_from_slice(bytes), is_resumed: true };
    let (mut outputs, mut batches, mut is_acked) = (Vec::new(), Vec::new(), false);
    machine.handle(NOW, Input::Records(vec![record]), &mut outputs);
    while let Some(output) = outputs.pop() {
        let input = match output {
            Output::Load(loads) => Input::Loaded(Loaded {
                heads: vec![None; loads.heads.len()],
                keys: vec![None; loads.keys.len()],
                targets: vec![None; loads.targets.len()],
            }),
            Output::Commit(batch) => {
                batches.push(Batch::clone(&batch));
                Input::Committed
            }
            Output::Publish(_) => Input::Published,
            Output::Ack(position) => {
                assert_eq!(position, POSITION);
                is_acked = true;
                continue;
            }
        };
        machine.handle(NOW, input, &mut outputs);
    }
    assert!(is_acked && machine.is_idle(), "whatever it was, the reader goes on");
    for batch in &batches {
        let rows = batch.messages.len();
        assert!(batch.heads.iter().all(|(_, head)| head.seq as usize <= rows), "a seq for each row");
    }
    batches
}

fn fan_out(topic: Topic, bytes: &[u8]) {
    let mut machine = Fanout::new();
    let pack = Bytes::copy_from_slice(bytes);
    let record = fanout::Record { topic, partition: 0, position: POSITION, pack };
    let mut outputs = Vec::new();
    machine.handle(NOW, fanout::Input::Records(vec![record]), &mut outputs);
    while let Some(output) = outputs.pop() {
        let input = match output {
            fanout::Output::LookUp { round, .. } => fanout::Input::Routes { round, routes: Vec::new() },
            fanout::Output::Deliver { ticket, .. } => {
                fanout::Input::Answered { ticket, answer: Some(DeliverReply::default()) }
            }
            fanout::Output::Revoke(incarnation) => fanout::Input::LeaseEnded(incarnation),
            _ => continue,
        };
        machine.handle(NOW, input, &mut outputs);
    }
}
