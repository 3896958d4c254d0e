//! The peak of memory while objects of others are listed, and with resources of the largest size. Each test has a control
//! plane of its own: the operators of other tests would list these objects, too.

use std::time::Duration;

use crate::support::{SECRET, TestEnv, is, peak_memory};
use arcgis_credential_operator::api::ArcGisAppCredential;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::portal::App;

const MIB: u64 = 1024 * 1024;
/// The length of a token with which a target is as large as it may be.
const LARGEST_TOKEN: usize = 450;
const MANY: Duration = Duration::from_mins(2);

/// Texts of so many bytes in all, under as many keys as it takes.
fn texts(bytes: usize, each: usize) -> Value {
    (0..bytes / each).map(|n| (format!("key-{n}"), json!("x".repeat(each)))).collect::<serde_json::Map<_, _>>().into()
}

/// Creates 300 objects with 250 KiB of annotations each.
async fn create_large<K>(env: &TestEnv)
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api = Api::<K>::namespaced(env.client.clone(), &env.namespace);
    let annotations = texts(250 * 1024, 50 * 1024);
    for ten in 0..30 {
        let bodies =
            (0..10).map(|n| json!({"metadata": {"name": format!("large-{ten}-{n}"), "annotations": annotations}}));
        let bodies: Vec<K> = bodies.map(|body| serde_json::from_value(body).unwrap()).collect();
        let params = PostParams::default();
        join_all(bodies.iter().map(|body| api.create(&params, body)))
            .await
            .into_iter()
            .for_each(|made| drop(made.unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_annotations_of_others_stay_below_96_mib() {
    let mut env = TestEnv::alone_without_operator().await;
    create_large::<ConfigMap>(&env).await;
    create_large::<Secret>(&env).await;
    env.ca_bundle("ca", env.portal.ca()).await;
    env.credentials("oauth", "app", SECRET).await;
    let mut manifest = env.manifest("small", "oauth");
    manifest["spec"]["portal"]["caBundleRef"] = json!({"name": "ca"});
    env.apply(&manifest).await;
    env.start().await;
    env.wait("small", |r| is(r, "Ready", "True", "TokenValid")).await;
    let peak = peak_memory(env.operator.as_ref().unwrap()).unwrap();
    println!("peak with 300 ConfigMaps and 300 Secrets of 250 KiB each: {} MiB", peak / MIB);
    assert!(peak < 96 * MIB, "{} MiB", peak / MIB);
    env.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_of_the_largest_size_that_render_to_the_largest_targets_stay_below_128_mib() {
    let mut env = TestEnv::alone_without_operator().await;
    let token = "t".repeat(LARGEST_TOKEN);
    env.portal.app("app", App { secret: SECRET.to_owned(), token: Some(token), ..App::default() });
    env.portal.app("long", App { secret: SECRET.to_owned(), token: Some("t".repeat(16 * 1024)), ..App::default() });
    env.credentials("oauth", "app", SECRET).await;
    env.credentials("long-oauth", "long", SECRET).await;
    let rendered = (0..4).map(|n| (format!("key-{n}"), json!("$(access_token)".repeat(8 * 1024 / 15)))).collect();
    let manifest = |name: &str, oauth: &str| {
        let mut manifest = env.manifest(name, oauth);
        let target = &mut manifest["spec"]["target"];
        target["data"] = Value::Object(serde_json::Map::clone(&rendered));
        target["annotations"] = texts(15 * 1024, 3 * 1024);
        target["labels"] = texts(64 * 63, 63);
        // Few bytes each, which need much more when they are decoded.
        manifest["metadata"]["annotations"] = texts(12 * 1024, 6);
        manifest
    };
    for n in 0..150 {
        env.apply(&manifest(&format!("large-{n}"), "oauth")).await;
    }
    for n in 0..16 {
        env.apply(&manifest(&format!("too-large-{n}"), "long-oauth")).await;
    }
    env.start().await;
    for n in 0..150 {
        env.wait_for(&format!("large-{n}"), MANY, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    for n in 0..16 {
        let cause = |r: &ArcGisAppCredential| r.status.as_ref()?.failure.as_ref()?.cause.clone();
        let refused = env.wait_for(&format!("too-large-{n}"), MANY, |r| is(r, "Stalled", "True", "SpecInvalid")).await;
        assert_eq!(cause(&refused).as_deref(), Some("TargetTooLarge"));
    }
    let target = env.target("large-0").await;
    let bytes: usize = target.values().map(String::len).sum();
    assert!((900_000..=1_000_000).contains(&bytes), "{bytes} bytes");
    let peak = peak_memory(env.operator.as_ref().unwrap()).unwrap();
    println!("peak with 150 resources of the largest size, each with a target of {bytes} bytes: {} MiB", peak / MIB);
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
    assert_eq!(env.portal.requests("long"), 16, "a token that does not fit is not requested again");
    env.end().await;
}
