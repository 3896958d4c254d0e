//! What stays with a token that was requested from another portal.

use super::*;

#[test]
fn the_portal_url_stays_with_its_token_until_a_token_of_another_portal_replaces_it() {
    let url = |stored_url: &str, moved: bool| {
        let mut s = with_target();
        let token = IssuedToken { portal_url: Some(stored_url.to_owned()), ..published(&s, at(START), 7200) };
        let live = live(&s, &token);
        if moved {
            s.plan.as_mut().unwrap().portal = PortalUrl::parse("https://gis.example.com").unwrap();
        }
        s.stored(&live).unwrap().portal_url
    };
    assert_eq!(url("https://www.arcgis.com", true).as_deref(), Some("https://www.arcgis.com"));
    assert_eq!(url("https://elsewhere.example.com", false), None, "another writer changed it");
    assert_eq!(url("", true), None);

    let mut s = with_target();
    let live = live(&s, &published(&s, at(START - 60), 7200));
    s.plan.as_mut().unwrap().portal = PortalUrl::parse("https://gis.example.com").unwrap();
    s.generation = 2;
    s.credentials = Observed::Absent;
    s.target_read(Some(live));
    let verdict = decide(&s, at(START));
    assert!(matches!(verdict.step, Step::Rest), "{:?}", verdict.step);
    let status = conclude(s, verdict, at(START)).status;
    assert_eq!(
        status.conditions[0].observed_generation, 1,
        "without credentials nobody knows that the token is another one"
    );
}

#[test]
fn the_referer_stays_with_the_token_until_a_token_requested_with_another_is_published() {
    let headers = |s: &mut Situation, referer: &str| {
        let plan = s.plan.as_mut().unwrap();
        plan.target.formats = vec![crate::api::Format::Headers];
        plan.referer = Some(referer.to_owned());
    };
    let mut s = with_target();
    headers(&mut s, "https://a.example");
    let live = live(&s, &published(&s, at(START), 7200));
    assert_eq!(s.stored(&live).unwrap().referer.as_deref(), Some("https://a.example"));
    headers(&mut s, "https://b.example");
    s.generation = 2;
    assert_eq!(s.stored(&live).unwrap().referer.as_deref(), Some("https://a.example"));
    s.target_read(Some(live));
    assert!(matches!(decide(&s, at(START)).step, Step::AcquirePermit), "a change of it requests a token");
    s.failed(Activity::Request, Reason::RequestRejected, None, at(START));
    assert!(matches!(decide(&s, at(START)).step, Step::Rest), "a failure changes nothing that is published");
    s.issued(token("next"), 7200, at(START));
    assert_eq!(s.memory.issued.as_ref().unwrap().referer.as_deref(), Some("https://b.example"));
}
