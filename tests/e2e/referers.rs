//! Apps that are restricted to HTTP referrers.

use std::process::Stdio;
use std::time::Duration;

use crate::support::fleet::handled;
use crate::support::{SECRET, TestEnv, failure_reason, is};
use serde_json::{Value, json};
use testkit::portal::{App, Entry};
use tokio::process::Command;

const REFERER: &str = "https://maps.example.com/app";

/// A resource of an app that is restricted to the referrer, with every format.
async fn restricted(env: &TestEnv, name: &str, referer: Option<&str>) {
    env.portal.app(name, App { secret: SECRET.to_owned(), referer: Some(REFERER.to_owned()), ..App::default() });
    env.credentials(&format!("{name}-oauth"), name, SECRET).await;
    let mut manifest = env.manifest(name, &format!("{name}-oauth"));
    manifest["spec"]["verification"] = json!({});
    if let Some(referer) = referer {
        manifest["spec"]["token"]["referer"] = json!(referer);
    }
    manifest["spec"]["target"]["formats"] = json!(["Headers", "DotEnv", "Json", "RestJs"]);
    env.apply(&manifest).await;
}

fn sent(env: &TestEnv, path: &str) -> Vec<Option<String>> {
    let journal: Vec<Entry> = env.portal.journal();
    journal.into_iter().filter(|entry| entry.path.ends_with(path)).map(|entry| entry.referer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_referer_is_sent_with_every_request_and_written_into_the_formats() {
    let env = TestEnv::new().await;
    restricted(&env, "sent", Some(REFERER)).await;
    env.wait("sent", |r| is(r, "Verified", "True", "AppKnown")).await;
    assert_eq!(sent(&env, "/oauth2/token"), [Some(REFERER.to_owned())]);
    assert_eq!(sent(&env, "/portals/self"), [Some(REFERER.to_owned())]);
    let target = env.target("sent").await;
    let token = &target["access_token"];
    assert_eq!(target["headers"], format!("X-Esri-Authorization: Bearer {token}\nReferer: {REFERER}\n"));
    assert!(target["arcgis.env"].ends_with(&format!("\nARCGIS_REFERER={REFERER}\n")), "{}", target["arcgis.env"]);
    assert_eq!(serde_json::from_str::<Value>(&target["token.json"]).unwrap()["referer"], REFERER);
    assert!(!target["rest-js.json"].contains(REFERER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_referer_requests_a_token_and_a_rejected_one_keeps_the_last() {
    let env = TestEnv::new().await;
    restricted(&env, "moved", None).await;
    let rejected = env.wait("moved", |r| is(r, "Stalled", "True", "RequestRejected")).await;
    assert!(is(&rejected, "Ready", "False", "RequestRejected"));
    env.change("moved", json!({"spec": {"token": {"referer": REFERER}}})).await;
    env.wait("moved", |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
    let first = env.target("moved").await;

    env.change("moved", json!({"spec": {"token": {"referer": "https://other.example.com"}}})).await;
    env.wait("moved", |r| is(r, "Stalled", "True", "RequestRejected")).await;
    assert_eq!(env.target("moved").await, first, "what is published keeps its own referer");

    let other =
        App { secret: SECRET.to_owned(), referer: Some("https://other.example.com".to_owned()), ..App::default() };
    env.portal.app("moved", other);
    env.request_token("moved", "now").await;
    env.wait("moved", |r| handled(r, "now") && failure_reason(r).is_none()).await;
    let second = env.target("moved").await;
    assert_ne!(second["access_token"], first["access_token"]);
    assert!(second["headers"].ends_with("\nReferer: https://other.example.com\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_without_a_referer_sends_none_and_a_new_referer_is_part_of_its_inputs() {
    let env = TestEnv::new().await;
    env.ready("plain").await;
    assert_eq!(sent(&env, "/oauth2/token"), [None]);
    env.change("plain", json!({"spec": {"token": {"referer": REFERER}}})).await;
    env.portal.wait_for_requests("plain", 2, Duration::from_secs(15)).await.unwrap();
    assert_eq!(sent(&env, "/oauth2/token")[1].as_deref(), Some(REFERER));
}

/// Runs a program of the examples' kind on the layer; returns what it printed.
async fn output(env: &TestEnv, program: &str, args: &[&str], headers: &std::path::Path) -> String {
    let ca = env.plane.dir().join(format!("{}-ca.pem", env.namespace));
    let output = Command::new(program)
        .args(args)
        .env("CURL_CA_BUNDLE", &ca)
        .env("GDAL_HTTP_HEADER_FILE", headers)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn gdal_and_curl_read_a_service_that_is_restricted_to_a_referrer() {
    let env = TestEnv::new().await;
    restricted(&env, "layer", Some(REFERER)).await;
    env.wait("layer", |r| is(r, "Ready", "True", "TokenValid")).await;
    let target = env.target("layer").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (whole, bare) = (
        file("headers", &target["headers"]),
        file("bare", &format!("X-Esri-Authorization: Bearer {}\n", target["access_token"])),
    );
    let query = format!("{}/server/rest/services/Places/FeatureServer/0/query?where=1%3D1&f=json", env.portal.url());
    let curl = async |headers: &std::path::Path| {
        output(&env, "curl", &["-sS", "-H", &format!("@{}", headers.display()), &query], headers).await
    };
    assert!(curl(&whole).await.contains("Redlands"));
    assert!(curl(&bare).await.contains("498"), "the service is restricted");
    if crate::support::packages::install(&["gdal"]).await.is_none() {
        return;
    }
    let source = format!("ESRIJSON:{query}");
    let gdal = async |headers: &std::path::Path| output(&env, "ogrinfo", &["-ro", "-al", &source], headers).await;
    let read = gdal(&whole).await;
    assert!(read.contains("Redlands"), "{read}");
    assert!(!gdal(&bare).await.contains("Redlands"));
}
