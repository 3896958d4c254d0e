//! Which creations show that another one is accepted.

use super::*;

#[test]
fn a_creation_shows_for_a_minute_that_one_with_the_same_keys_is_accepted() {
    let mut creations = Creations::default();
    let first = plan(&json!({"labels": {"a": "1"}, "annotations": {"b": "1"}, "formats": ["Json", "Headers"]}));
    let has = |creations: &Creations, namespace: &str, plan: &Plan, second: i64| {
        creations.has_alike(namespace, plan, at(START + second))
    };
    assert!(!has(&creations, "n", &first, 0));
    creations.accepted("n", &first, at(START));
    let alike = json!({"name": "u", "labels": {"a": "2"}, "annotations": {"b": "2"}, "formats": ["Headers", "Json"]});
    let alike = plan(&alike);
    assert_eq!([0, 59, 60, -10].map(|second| has(&creations, "n", &alike, second)), [true, true, false, false]);
    assert!(!has(&creations, "other", &alike, 0));
    for change in [
        json!({"labels": {"c": "1"}}),
        json!({"annotations": {"c": "1"}}),
        json!({"formats": ["Json"]}),
        json!({"data": {"c": "1"}}),
        json!({"deletionPolicy": "Retain"}),
    ] {
        let mut other = json!({"labels": {"a": "1"}, "annotations": {"b": "1"}, "formats": ["Json", "Headers"]});
        json_patch::merge(&mut other, &change);
        assert!(!has(&creations, "n", &plan(&other), 0), "{change}");
    }
}

#[test]
fn a_refusal_ends_what_was_accepted_in_its_namespace_alone() {
    let mut creations = Creations::default();
    let plans = [plan(&json!({})), plan(&json!({"labels": {"a": "1"}}))];
    for (namespace, plan) in [("n", &plans[0]), ("n", &plans[1]), ("other", &plans[0])] {
        creations.accepted(namespace, plan, at(START));
    }
    creations.refused("n");
    assert!(plans.iter().all(|plan| !creations.has_alike("n", plan, at(START))));
    assert!(creations.has_alike("other", &plans[0], at(START)));
    creations.accepted("n", &plans[0], at(START + 1));
    assert!(creations.has_alike("n", &plans[0], at(START + 1)));
}

#[test]
fn a_thousand_creations_are_remembered() {
    let mut creations = Creations::default();
    let plan = plan(&json!({}));
    let all = |second: i64, creations: &mut Creations| {
        for n in 0..1500 {
            creations.accepted(&format!("{second}-{n}"), &plan, at(START + second));
        }
        let alike = |n: &i32| creations.has_alike(&format!("{second}-{n}"), &plan, at(START + second));
        (0..1500).filter(alike).count()
    };
    assert_eq!(all(0, &mut creations), 1000);
    assert_eq!(all(30, &mut creations), 0, "a dry run shows it");
    assert_eq!(all(60, &mut creations), 1000);
}
