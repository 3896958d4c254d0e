//! A token that ends between two pages of a layer: no program takes the part for the whole, and the next read is complete.

use super::processes::Process;
use super::{Mount, issue, renew};
use crate::support::TestEnv;
use crate::support::packages::install;
use testkit::portal::PARCELS;

/// How many requests are admitted before the token ends: the first page and one more.
const ADMITTED: usize = 3;

/// Runs a program with a token that ends while it reads, then with the next one.
async fn read(env: &TestEnv, name: &str, command: &[&str], variables: &[(&str, String)], refusal: &str) {
    let first = renew(env, &format!("{name} interrupted")).await;
    let mount = Mount::new(&first);
    env.portal.expire_after(&first["access_token"], ADMITTED);
    let ca = env.ca_file().display().to_string();
    let mut given = vec![
        ("TOKEN_DIR", mount.path().display().to_string()),
        ("LAYER_URL", format!("{}/server/rest/services/Parcels/FeatureServer/0", env.portal.url())),
        ("EVERY", "0.3".to_owned()),
        ("GDAL_CURL_CA_BUNDLE", ca),
    ];
    given.extend_from_slice(variables);
    let mut process = Process::start(name, command, &given);
    process.wait_for(&[refusal], 1).await;
    assert_eq!(process.count(&["Parcel "]), 0, "{name} takes a part for the whole");
    mount.publish(&renew(env, &format!("{name} continues")).await);
    process.wait_for(&["Parcel "], PARCELS).await;
    for number in 1..=PARCELS {
        assert!(process.line(&format!("Parcel {number}")).is_some(), "{name} has no parcel {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gdal_reports_a_token_that_ends_between_two_pages() {
    let env = TestEnv::new().await;
    let Some(python) = install(&["gdal"]).await else { return };
    issue(&env, "app", None).await;
    let refusal = "Failed to read ESRIJSON";
    let python = python.display().to_string();
    read(&env, "gdal in one process", &[&python, "examples/consumers/gdal/read.py"], &[], refusal).await;
    let folder = tempfile::tempdir().unwrap();
    let output = ("OUTPUT", folder.path().join("parcels.gpkg").display().to_string());
    read(&env, "gdal", &["examples/consumers/gdal/read.sh"], &[output], refusal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pyogrio_reports_a_token_that_ends_between_two_pages_and_reads_on() {
    let env = TestEnv::new().await;
    let Some(python) = install(&["venv", "examples/consumers/pyogrio"]).await else { return };
    issue(&env, "app", None).await;
    let python = python.display().to_string();
    let refusal = "Failed to read ESRIJSON";
    read(&env, "pyogrio", &[&python, "examples/consumers/pyogrio/read.py"], &[], refusal).await;
}
