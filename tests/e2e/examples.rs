//! The examples use each new token without a restart, with the Secret mounted as files.
//!
//! `make examples` installs what they need. `make test` runs those that need little.

mod browser;
mod consumers;
mod envoy;
mod interrupted_reads;
mod koop;
mod koop_answers;
mod pages;
mod processes;
mod public_answers;
mod redirects;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::fleet::handled;
use crate::support::{SECRET, TestEnv, is, text};
use serde_json::json;
use testkit::portal::App;

pub use processes::Process;

/// A folder with the target's keys as files, as the kubelet mounts them.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(data: &BTreeMap<String, String>) -> Self {
        let mount = Self(tempfile::TempDir::new().unwrap());
        mount.publish(data);
        mount
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Replaces the content as the kubelet does: a new folder, and a symbolic link that is replaced.
    fn publish(&self, data: &BTreeMap<String, String>) {
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        let mount = self.path();
        let folder = format!("..{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        std::fs::create_dir(mount.join(&folder)).unwrap();
        for (key, value) in data {
            std::fs::write(mount.join(&folder).join(key), value).unwrap();
        }
        let before = std::fs::read_link(mount.join("..data"));
        symlink(&folder, mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        for key in data.keys().filter(|key| !mount.join(key).is_symlink()) {
            symlink(Path::new("..data").join(key), mount.join(key)).unwrap();
        }
        if let Ok(before) = before {
            std::fs::remove_dir_all(mount.join(before)).unwrap();
        }
    }
}

/// Creates a resource with every format, and returns its first target.
async fn issue(env: &TestEnv, client_id: &str, lifetime: Option<u64>) -> BTreeMap<String, String> {
    env.portal.app(client_id, App { secret: SECRET.to_owned(), lifetime, ..App::default() });
    env.credentials("app-oauth", client_id, SECRET).await;
    let mut manifest = env.manifest("app", "app-oauth");
    manifest["spec"]["target"]["formats"] = json!(["Headers", "DotEnv", "Json", "RestJs"]);
    env.apply(&manifest).await;
    env.wait("app", |r| is(r, "Ready", "True", "TokenValid")).await;
    text(&env.wait_target("app", |_| true).await)
}

/// Requests another token, and returns the new target.
async fn renew(env: &TestEnv, mark: &str) -> BTreeMap<String, String> {
    let before = env.target("app").await;
    env.request_token("app", mark).await;
    env.wait("app", |r| handled(r, mark)).await;
    let after = env.target("app").await;
    assert_ne!(before["access_token"], after["access_token"]);
    after
}
