//! The size of the target, computed before anything is rendered.

use super::*;
use crate::api::Cause;

fn plan_of(data: &str, formats: &[&str], referer: Option<&str>) -> Plan {
    let spec = json!({
        "portal": {"url": "https://gis.example.com/portal"}, "credentialsRef": {"name": "c"},
        "token": {"referer": referer},
        "target": {"name": "t", "formats": formats, "data": {"a": data, "b": "$$ $(portal_url) $(expires_at)"}},
    });
    Plan::new(&serde_json::from_value(spec).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn the_computed_size_is_that_of_what_is_rendered(
        length in 1_usize..2000,
        data in "([a-z]|\\$\\(access_token\\)|\\$\\(portal_url\\)|\\$\\$){0,20}",
        with_formats: bool,
        with_referer: bool,
    ) {
        let formats: &[&str] = if with_formats { &["Headers", "DotEnv", "Json", "RestJs"] } else { &[] };
        let plan = plan_of(&data, formats, with_referer.then_some("https://maps.example.com/?a=1"));
        let issued = IssuedToken {
            token: token(&"t".repeat(length)),
            issue_time: at(START),
            expiration_time: at(START + 7200),
            inputs: None,
            portal_url: None,
            referer: plan.referer.clone(),
        };
        let manifest = render(&plan, &me(), &issued).manifest(&plan, &me());
        let secret: Secret = serde_json::from_value(manifest.expose().clone()).unwrap();
        let bytes: usize = secret.data.unwrap().values().map(|value| value.0.len()).sum();
        prop_assert_eq!(rendered_size(&plan, length), bytes);
    }
}

fn too_large(s: &Situation) -> bool {
    let verdict = decide(s, at(START + 100));
    let found = verdict.problem.as_ref().is_some_and(|problem| problem.finding.cause == Some(Cause::TargetTooLarge));
    assert_eq!(found, matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    found
}

#[test]
fn a_first_token_that_does_not_fit_is_dropped_and_the_next_is_requested_after_a_change() {
    let resource = |copies: usize| {
        let mut s = situation(at(START));
        s.plan = Ok(plan_of(&"$(access_token)".repeat(copies), &[], None));
        s
    };
    let mut s = resource(2000);
    s.has_permit = true;
    s.create_tried();
    s.credentials_read(Some((s.credentials.version().unwrap().clone(), Ok(7))));
    assert!(matches!(decide(&s, at(START)).step, Step::Request(_)), "nothing is known of the token");
    s.issued(token(&"t".repeat(1000)), 7200, at(START));
    assert!(s.memory.issued.is_none() && too_large(&s), "it is not kept");
    let verdict = decide(&s, at(START + 100));
    let conclusion = conclude(s, verdict, at(START + 100));
    for (copies, restarted, expected) in [(2000, false, true), (900, false, false), (2000, true, true)] {
        let mut s = resource(copies);
        s.status = conclusion.status.clone();
        s.memory = if restarted { Memory::default() } else { conclusion.memory.clone() };
        s.recall(at(START + 100));
        s.target = Observed::Absent;
        assert_eq!(too_large(&s), expected, "{copies} copies, restarted: {restarted}");
    }
}

#[test]
fn what_is_published_stays_where_the_next_does_not_fit() {
    let before = at(START - 60);
    let mut s = situation_with_credentials(before);
    s.target_read(Some(stored(&s, before, 7200)));
    s.plan = Ok(plan_of(&"$(portal_url)".repeat(40_000), &[], None));
    s.generation = 2;
    s.target_read(Some(stored(&situation_with_credentials(before), before, 7200)));
    let verdict = decide(&s, at(START));
    assert_eq!(verdict.problem.unwrap().finding.cause, Some(Cause::TargetTooLarge));
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
}

#[test]
fn what_does_not_fit_with_the_longer_portal_url_of_the_published_token_waits_for_the_next_token() {
    let before = at(START - 60);
    let moved = || {
        let mut s = situation_with_credentials(before);
        let portal = PortalUrl::parse(&format!("https://gis.example.com/{}", "long/".repeat(90))).unwrap();
        s.plan = s.plan.map(|plan| Plan { public_url: portal.clone(), portal, ..plan });
        let target = stored(&s, before, 7200);
        s.plan = Ok(plan_of(&"$(portal_url)".repeat(2500), &[], None));
        s.generation = 2;
        s.has_permit = true;
        s.target_read(Some(target));
        s
    };
    // The published token is neither rendered again nor reported: another one is requested.
    let mut s = moved();
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Request(Trigger::Inputs)) && verdict.problem.is_none(), "{:?}", verdict.step);
    s.issued(token("next"), 7200, at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::Publish(_)), "it fits");
    let mut s = moved();
    s.failed(Activity::Request, Fault::from(Reason::PortalUnreachable), None, at(START));
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    assert_eq!(verdict.problem.unwrap().reason, Reason::PortalUnreachable);
}
