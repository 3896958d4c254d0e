//! Where a Secret was created a moment ago, a look at the name replaces the dry run of the next one.

use std::time::Duration;

use crate::support::policy::{allow_targets, deny_targets};
use crate::support::{SECRET, TestEnv, is};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;

/// A retry after 1 m, with jitter.
const RETRIED: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_look_in_place_of_a_dry_run_finds_a_taken_name_and_a_token_that_is_refused_is_kept() {
    let env = TestEnv::new().await;
    env.ready("first").await;
    env.credentials("oauth", "app", SECRET).await;
    let foreign: Secret = serde_json::from_value(json!({"metadata": {"name": "taken-token"}})).unwrap();
    env.secrets().create(&PostParams::default(), &foreign).await.unwrap();
    env.apply(&env.manifest("taken", "oauth")).await;
    env.wait("taken", |r| is(r, "Stalled", "True", "TargetNotOwned")).await;
    assert_eq!(env.portal.requests("app"), 0);
    let looked = |name: &str| {
        let end = format!("/{name}-token?&resourceVersion=0");
        env.reads().iter().any(|url| url.ends_with(&end))
    };
    assert!(looked("taken"));

    deny_targets(&env).await;
    env.apply(&env.manifest("denied", "oauth")).await;
    env.wait("denied", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    assert!(looked("denied"));
    assert_eq!(env.portal.requests("app"), 1, "issued before its creation was refused");
    env.apply(&env.manifest("later", "oauth")).await;
    env.wait("later", |r| is(r, "Stalled", "True", "TargetRefused")).await;
    assert!(!looked("later"), "a dry run");
    assert_eq!(env.portal.requests("app"), 1);

    allow_targets(&env).await;
    for name in ["denied", "later"] {
        env.wait_for(name, RETRIED, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    assert_eq!(env.portal.requests("app"), 2, "the token that was refused is the one that is written");
}
