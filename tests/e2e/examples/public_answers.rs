//! A layer that shows a part of its features to everyone: a program does not take that part for the whole.

use std::process::Command;

use super::processes::Process;
use super::{Mount, issue};
use crate::support::TestEnv;
use crate::support::packages::install;
use crate::support::tools::succeed;

const FOLDER: &str = "examples/consumers/arcgis-python";
const PUBLIC: &[&str] = &["Trail for everyone"];
const SECURED: &[&str] = &["Trail for rangers"];

fn layer(env: &TestEnv) -> String {
    format!("{}/server/rest/services/Trails/FeatureServer/0", env.portal.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn arcgis_python_does_not_send_an_expired_token() {
    let env = TestEnv::new().await;
    let Some(python) = install(&["venv", FOLDER]).await else { return };
    let mut target = issue(&env, "app", None).await;
    let mount = Mount::new(&target);
    let ca = env.ca_file().display().to_string();
    let mut process = Process::start(
        "arcgis-python",
        &[&python.display().to_string(), &format!("{FOLDER}/read.py")],
        &[
            ("TOKEN_DIR", mount.path().display().to_string()),
            ("LAYER_URL", layer(&env)),
            ("EVERY", "0.3".to_owned()),
            ("REQUESTS_CA_BUNDLE", ca.clone()),
            ("SSL_CERT_FILE", ca),
        ],
    );
    process.wait_for(SECURED, 2).await;
    target.insert("expires_at".to_owned(), jiff::Timestamp::now().strftime("%FT%TZ").to_string());
    mount.publish(&target);
    process.wait_for(&["has expired"], 1).await;
    let read = process.count(PUBLIC);
    env.portal.expire(&target["access_token"]);
    process.wait_for(&["has expired"], 4).await;
    assert_eq!(process.count(PUBLIC), read, "it reads the public answer");
    assert_eq!(process.count(SECURED), read);
}

#[tokio::test(flavor = "multi_thread")]
async fn arcgis_python_sends_the_token_of_a_job_from_its_environment() {
    let env = TestEnv::new().await;
    let Some(python) = install(&["venv", FOLDER]).await else { return };
    let target = issue(&env, "app", None).await;
    let mut job = Command::new(python);
    job.arg(format!("{FOLDER}/job.py")).current_dir(env!("CARGO_MANIFEST_DIR"));
    job.env("ESRI_API_KEY", &target["access_token"]).env("PORTAL_URL", &target["portal_url"]);
    job.env("LAYER_URL", layer(&env)).env("REQUESTS_CA_BUNDLE", env.ca_file()).env("SSL_CERT_FILE", env.ca_file());
    let printed = tokio::task::spawn_blocking(move || succeed(&mut job, "")).await.unwrap();
    assert!(SECURED.iter().all(|text| printed.contains(text)), "{printed}");
}
