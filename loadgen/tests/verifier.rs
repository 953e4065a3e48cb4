//! The whole generator against an edge that misbehaves on purpose: each fault is found, and what is allowed is not held
//! against the edge. The edge's WebSocket is tungstenite, so that both ends do not share a bug.

mod fake;

use fake::{FakeEdge, Mischief};
use petrel_loadgen::report::{Report, Verdict};
use petrel_loadgen::run::{Options, run};
use petrel_loadgen::scenario::Scenario;
use petrel_loadgen::verify::Violation;

const BASE: &str = "
    users = 10
    settle_s = 3.0
    quiet_ms = 300
    answer_s = 1.0
";

/// 400 messages in a closed loop.
fn run_with(mischief: Mischief, more: &str) -> Report {
    run_load(mischief, &format!("messages = 400\nwindow = 2\n{more}"))
}

fn run_load(mischief: Mischief, more: &str) -> Report {
    let edge = FakeEdge::start(mischief);
    let scenario = Scenario::parse("test", &format!("{BASE}{more}")).expect("a good scenario");
    let options = Options {
        edge: Some(format!("ws://{}/websocket", edge.address)),
        data: Some(edge.data.path().to_owned()),
        ..Options::default()
    };
    run(scenario, &options).expect("a run")
}

#[track_caller]
fn assert_clean(report: &Report) {
    assert_eq!(report.verdict, Verdict::Clean, "{}\n{:?}", report.summary(), report.judgement.histories);
    assert_eq!(report.judgement.messages, 400);
}

#[track_caller]
fn assert_found(report: &Report, expected: Violation) {
    assert_eq!(report.verdict, Verdict::Violated);
    let found = &report.judgement.violations;
    assert!(found.contains_key(&expected), "{expected:?} is not among {found:?}");
    let histories = &report.judgement.histories;
    assert!(histories.iter().any(|h| h.starts_with(expected.text())), "{histories:?}");
}

#[test]
fn a_good_edge_is_clean() {
    let report = run_with(Mischief::None, "");
    assert_clean(&report);
    assert_eq!((report.counts.duplicates, report.counts.out_of_order, report.counts.resent), (0, 0, 0));
    assert_eq!(report.latencies_ms["delivery"].count, 400);
}

#[test]
fn offline_receivers_churn_recalls_and_reads_are_clean() {
    let more = "offline_share = 0.2\noffline_s = 0.3\nchurn_per_s = 10.0\nrecall_share = 0.2\nread_share = 0.5\n\
                pairs = 'fixed'";
    let report = run_with(Mischief::None, more);
    assert_clean(&report);
    assert!(report.counts.recalls.1 > 0, "{}", report.summary());
    assert!(report.counts.connections.0 > 20, "{}", report.summary());
}

#[test]
fn an_open_loop_offers_what_it_should() {
    let more = "phases = [{ name = 'a', duration_s = 0.5, rate = 200.0 }, \
                { name = 'b', duration_s = 0.5, rate = 600.0 }]\nlag_p99_ms_max = 10000.0\nlag_max_ms_max = 10000.0";
    let report = run_load(Mischief::None, more);
    assert_eq!(report.verdict, Verdict::Clean, "{}", report.summary());
    assert_eq!(report.counts.offered, 400);
    assert_eq!(report.phases.len(), 2);
    assert_eq!(report.phases[0].accept_ms.count, 100);
    assert_eq!(report.phases[1].accept_ms.count, 300);
}

#[test]
fn what_is_allowed_is_not_held_against_the_edge() {
    let report = run_with(Mischief::PushTwice, "");
    assert_clean(&report);
    assert!(report.counts.duplicates >= 400, "{}", report.summary());

    let report = run_with(Mischief::PushLate, "pairs = 'fixed'");
    assert_clean(&report);
    assert!(report.counts.out_of_order > 0, "{}", report.summary());

    let report = run_with(Mischief::Overload, "");
    assert_clean(&report);
    assert!(report.counts.resent > 0, "{}", report.summary());

    let report = run_with(Mischief::Crash, "");
    assert_clean(&report);
    assert!(report.counts.connections.1 > 0, "{}", report.summary());
}

#[test]
fn refusals_that_are_given_up_are_counted_and_clean() {
    let report = run_with(Mischief::Overload, "refusals_max = 1");
    assert_eq!(report.verdict, Verdict::Clean, "{:?}", report.judgement.histories);
    assert!(report.counts.refused > 100, "{}", report.summary());
    assert_eq!(report.counts.refused + report.counts.accepted, 400);
}

macro_rules! finds {
    ($($name:ident: $mischief:ident, $more:expr => $($violation:ident),+;)+) => {$(
        #[test]
        fn $name() {
            let report = run_with(Mischief::$mischief, $more);
            $(assert_found(&report, Violation::$violation);)+
        }
    )+};
}

finds! {
    a_forgotten_message_is_found: Forget, "" => Lost;
    a_hidden_message_is_found: Hide, "pairs = 'fixed'" => Lost, Hole;
    a_swapped_order_is_found: Swap, "pairs = 'fixed'" => Order;
    a_changed_content_is_found: Change, "" => Content;
    a_falling_status_is_found: LowerStatus, "" => StatusFell;
    a_send_without_an_answer_is_found: Silence, "" => Unanswered;
    a_message_stored_twice_is_found: StoreTwice, "" => TwoSeqs;
    a_message_at_a_strangers_is_found: Mislead, "" => Misdelivered;
    a_refused_and_delivered_message_is_found: RefuseAndDeliver, "" => RefusedDelivered;
    a_hidden_recall_is_found: HideRecalls, "recall_share = 0.2" => RecallLost;
    a_packet_without_sense_is_found: Babble, "" => Nonsense;
    a_refusal_for_now_that_does_not_say_until_when_is_found: OverloadForEver, "" => Nonsense;
    an_invented_message_is_found: Invent, "" => Stranger;
}
