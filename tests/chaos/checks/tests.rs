//! Each check must be able to fail.

use super::*;

const MINUTE: Ms = 60_000;
const LIFETIME: Ms = 4 * MINUTE;

fn sent(at: Ms, outcome: Outcome) -> Sent {
    Sent { resource: 0, at, ended: at + 100, outcome }
}

fn run(sent: &[Sent]) -> Run {
    Run { sent: sent.to_vec(), lifetimes: vec![LIFETIME; 20], ended: 60 * MINUTE, ..Run::default() }
}

fn violations(run: &Run) -> usize {
    check_requests(run).violations.len()
}

fn window(fault: Fault, from: Ms, to: Ms) -> Window {
    Window { fault, from, to, only: Vec::new() }
}

#[test]
fn a_renewal_before_its_time_is_found() {
    assert_eq!(violations(&run(&[sent(0, Outcome::Issued), sent(89_000, Outcome::Issued)])), 0);
    let early = run(&[sent(0, Outcome::Issued), sent(88_000, Outcome::Issued)]);
    assert_eq!(violations(&early), 1);
    let touch = Touch { resource: 0, at: 80_000, destroys: false };
    assert_eq!(violations(&Run { touches: vec![touch], ..early }), 0);
}

#[test]
fn requests_closer_than_any_rule_allows_are_found_even_in_a_fault() {
    let windows = vec![window(Fault::LeaderKilled, 0, 10_000)];
    let close = |gap| Run { windows: windows.clone(), ..run(&[sent(0, Outcome::Issued), sent(gap, Outcome::Issued)]) };
    assert_eq!((violations(&close(2_000)), violations(&close(1_500))), (0, 1));
    let unsteady = |at| Run { windows: Vec::new(), unsteady: vec![at], ..close(2_000) };
    assert_eq!((violations(&unsteady(3_000)), violations(&unsteady(60_000))), (0, 1));
}

#[test]
fn retries_that_do_not_double_are_found() {
    let gaps = |gaps: &[Ms]| {
        let mut at = 0;
        let mut all = vec![sent(0, Outcome::Failed)];
        for gap in gaps {
            at += 100 + gap;
            all.push(sent(at, Outcome::Failed));
        }
        violations(&run(&all))
    };
    assert_eq!((gaps(&[2_000, 4_000, 8_000]), gaps(&[2_000, 4_000, 4_000]), gaps(&[1_000])), (0, 1, 1));
}

#[test]
fn two_requests_at_once_are_found_unless_the_first_process_was_paused() {
    let hanging = Sent { ended: 15_000, ..sent(0, Outcome::Failed) };
    let both = run(&[hanging, sent(12_000, Outcome::Issued)]);
    assert_eq!(violations(&both), 1);
    let cut_off = Run { windows: vec![window(Fault::LeaderCutOff, 0, 20_000)], ..run(&both.sent) };
    assert_eq!(violations(&cut_off), 1);
    assert_eq!(violations(&Run { windows: vec![window(Fault::LeaderPaused, 1_000, 20_000)], ..both }), 0);
}

#[test]
fn a_request_within_a_pause_is_found_also_of_another_resource() {
    let other = |at| Sent { resource: 1, ..sent(at, Outcome::Issued) };
    assert_eq!(violations(&run(&[sent(0, Outcome::Limited), other(30_000)])), 1);
    assert_eq!(violations(&run(&[sent(0, Outcome::Limited), other(61_000)])), 0);
}

#[test]
fn more_requests_in_flight_than_a_process_may_send_are_found() {
    let flight = |count| {
        let of = |resource| Sent { resource, ended: 1_000, ..sent(0, Outcome::Issued) };
        violations(&run(&(0..count).map(of).collect::<Vec<_>>())) > 0
    };
    assert_eq!((flight(8), flight(9)), (false, true));
}

/// When the tokens of these tests are to be renewed at the latest.
const RENEWAL: Ms = LIFETIME / 2;

fn late(run: &Run) -> usize {
    check_renewals(run).violations.len()
}

/// Returns a run in which a token was published at the start, and its successor at this time.
fn renewed(at: Ms) -> Run {
    let token = |at| Publication { issued: at, at };
    Run { published: [(0, vec![token(0), token(at)])].into(), ended: at + MINUTE, ..run(&[]) }
}

#[test]
fn a_token_that_is_not_renewed_in_time_is_found() {
    assert_eq!((late(&renewed(RENEWAL + 9_000)), late(&renewed(RENEWAL + 11_000))), (0, 1));
    let never = Run { ended: 60 * MINUTE, ..renewed(RENEWAL) };
    assert_eq!(late(&never), 1, "the last token was never renewed");
}

#[test]
fn a_fault_gives_more_time_until_it_has_settled() {
    let late = |at, from, only: &[usize]| {
        let window = Window { only: only.to_vec(), ..window(Fault::PortalHangs, from, from + 10_000) };
        late(&Run { windows: vec![window], ..renewed(at) })
    };
    let before = RENEWAL - 5_000;
    assert_eq!((late(RENEWAL + 74_000, before, &[]), late(RENEWAL + 76_000, before, &[])), (0, 1));
    assert_eq!(late(RENEWAL + 50_000, RENEWAL + 20_000, &[]), 1, "there was time before it");
    assert_eq!(late(RENEWAL + 50_000, before, &[1]), 1, "it was about another resource");
}

#[test]
fn a_destroyed_token_that_is_not_replaced_is_found() {
    let destroyed = |replaced| {
        let touches = vec![Touch { resource: 0, at: 30_000, destroys: true }];
        late(&Run { touches, ..renewed(replaced) })
    };
    assert_eq!((destroyed(45_000), destroyed(55_000)), (0, 1));
}

#[test]
fn a_call_that_is_repeated_in_a_loop_is_found() {
    let repeated = |every: Ms| {
        let calls = (0..10).map(|n| Call { at: n * every, what: "get /a".to_owned() }).collect();
        check_calls(&Run { calls, ..run(&[]) }).violations.len()
    };
    assert_eq!((repeated(200), repeated(10)), (0, 1));
}

#[test]
fn a_token_that_a_restore_takes_away_and_that_is_not_replaced_is_found() {
    let restored = |replaced| {
        let windows = vec![window(Fault::EtcdRestored, -5_000, 5_000)];
        late(&Run { windows, ..renewed(replaced) })
    };
    assert_eq!((restored(119_000), restored(121_000)), (0, 1));
}

fn beyond(run: &Run) -> usize {
    check_limits(run).violations.len()
}

fn repeated(what: &str, times: impl IntoIterator<Item = Ms>) -> Vec<Call> {
    times.into_iter().map(|at| Call { at, what: what.to_owned() }).collect()
}

#[test]
fn a_call_that_is_repeated_before_the_time_in_the_header_is_found() {
    let limited = |times: &[Ms]| beyond(&Run { limited: repeated("get /a", times.iter().copied()), ..run(&[]) });
    assert_eq!((limited(&[0, 100, 8_000, 8_100]), limited(&[0, 2_000, 6_000])), (0, 1));
}

#[test]
fn a_gateway_that_no_verification_reaches_is_found() {
    let verified = |at| {
        beyond(&Run { windows: vec![window(Fault::GatewayUnauthorized, 0, 9_000)], verified: vec![at], ..run(&[]) })
    };
    assert_eq!((verified(5_000), verified(10_000)), (0, 1));
}

#[test]
fn lists_that_do_not_back_off_while_no_watch_can_start_are_found() {
    let listed = |every: usize| {
        let windows = vec![window(Fault::WatchesTooOld, 0, 15_000)];
        beyond(&Run { windows, lists: repeated("GET /secrets", (0..15_000).step_by(every)), ..run(&[]) })
    };
    assert_eq!((listed(2_000), listed(500)), (0, 1));
}

#[test]
fn a_read_or_a_status_write_for_each_annotation_of_others_is_found() {
    let annotated = |what: &str, count: Ms| {
        let windows = vec![Window { only: vec![1], ..window(Fault::SecretsAnnotated, 0, 10_000) }];
        beyond(&Run { windows, calls: repeated(what, (0..count).map(|n| n * 500)), ..run(&[]) })
    };
    let (read, write) = ("get /secrets/r1-token", "patch /arcgisappcredentials/r1/status");
    assert_eq!((annotated(read, 9), annotated(read, 20)), (0, 1));
    assert_eq!((annotated(write, 4), annotated(write, 20)), (0, 1));
}
