//! The consumers in examples/consumers switch to a new token without a restart, with the Secret mounted as files.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::fleet::handled;
use crate::support::{SECRET, TestEnv, text};
use serde_json::json;
use testkit::portal::App;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/consumers");
/// A part of each successful response of the layer.
const FEATURE: &str = "Redlands";
/// Each consumer prints one of these when its token is rejected. GDAL does not distinguish that from other failures.
const REJECTIONS: [&str; 3] = ["nvalid token", "Unable to open datasource", "Failed to read ESRIJSON"];
const TIMEOUT: Duration = Duration::from_secs(30);

/// Writes a Secret's keys as the kubelet does: a new folder, and a symbolic link that is replaced.
fn publish(mount: &Path, data: &BTreeMap<String, String>) {
    static SERIAL: AtomicUsize = AtomicUsize::new(0);
    let folder = format!("..{}", SERIAL.fetch_add(1, Ordering::Relaxed));
    std::fs::create_dir(mount.join(&folder)).unwrap();
    for (key, value) in data {
        std::fs::write(mount.join(&folder).join(key), value).unwrap();
        if !mount.join(key).is_symlink() {
            symlink(Path::new("..data").join(key), mount.join(key)).unwrap();
        }
    }
    let before = std::fs::read_link(mount.join("..data"));
    symlink(&folder, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Ok(before) = before {
        std::fs::remove_dir_all(mount.join(before)).unwrap();
    }
}

/// Prints past the capture of libtest, to show that something was not checked.
fn print(text: &str) {
    std::io::stderr().write_all(format!("consumers: {text}\n").as_bytes()).unwrap();
}

/// Whether a command can be run and succeeds.
async fn works(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Returns a Python with GDAL's bindings, if the tools of Debian's gdal-bin are installed or can be installed.
pub async fn gdal() -> Option<&'static str> {
    let installed = async || works(Command::new("ogrinfo").arg("--version")).await;
    if !installed().await && is_root() {
        print("installing gdal-bin");
        works(Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", "gdal-bin"])).await;
    }
    if !installed().await {
        return None;
    }
    for python in ["python3", "/usr/bin/python3"] {
        if works(Command::new(python).args(["-c", "import osgeo.gdal"])).await {
            return Some(python);
        }
    }
    None
}

/// Returns a copy of rest-js.mjs with its dependencies from the lock file, if they can be installed.
async fn rest_js() -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rest-js");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = "package-lock.json";
    let expected = std::fs::read(Path::new(EXAMPLES).join(lock)).unwrap();
    let fresh = std::fs::read(folder.join("installed.json")).is_ok_and(|installed| installed == expected);
    for file in ["package.json", lock, "rest-js.mjs"] {
        std::fs::copy(Path::new(EXAMPLES).join(file), folder.join(file)).unwrap();
    }
    let install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    if !fresh && !works(Command::new("npm").args(install).current_dir(&folder)).await {
        return None;
    }
    std::fs::write(folder.join("installed.json"), expected).unwrap();
    works(Command::new("node").arg("--version")).await.then(|| folder.join("rest-js.mjs").display().to_string())
}

/// A consumer that runs continuously; dropping it stops it.
struct Consumer {
    name: &'static str,
    child: Child,
    seen: tokio::sync::watch::Receiver<Seen>,
}

/// What a consumer has printed.
#[derive(Debug, Default)]
struct Seen {
    features: usize,
    rejections: usize,
    last: String,
}

impl Consumer {
    fn start(name: &'static str, command: &[&str], mount: &Path, env: &TestEnv) -> Self {
        let ca = env.plane.dir().join(format!("{}-ca.pem", env.namespace));
        let layer = format!("{}/server/rest/services/Places/FeatureServer/0", env.portal.url());
        // Standard output and standard error in one stream keep their order.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .args(command)
            .current_dir(EXAMPLES)
            .env("TOKEN_DIR", mount)
            .env("LAYER_URL", layer)
            .env("EVERY", "0.3")
            .envs(["CURL_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"].map(|variable| (variable, &ca)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, seen) = tokio::sync::watch::channel(Seen::default());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|seen| {
                    seen.features += usize::from(line.contains(FEATURE));
                    seen.rejections += usize::from(REJECTIONS.iter().any(|refusal| line.contains(refusal)));
                    seen.last = line;
                });
            }
        });
        Self { name, child, seen }
    }

    async fn wait_for(&mut self, condition: impl FnMut(&Seen) -> bool) -> bool {
        tokio::time::timeout(TIMEOUT, self.seen.wait_for(condition)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Waits until it has read this many more features.
    async fn wait_for_reads(&mut self, more: usize) {
        let until = self.seen.borrow().features + more;
        assert!(
            self.wait_for(|seen| seen.features >= until).await,
            "{} reads nothing: {:?}",
            self.name,
            *self.seen.borrow()
        );
        assert!(self.child.try_wait().unwrap().is_none(), "{} has ended", self.name);
    }

    /// Waits until a request with its token was rejected.
    async fn wait_for_rejection(&mut self) {
        assert!(
            self.wait_for(|seen| seen.rejections > 0).await,
            "{} is not rejected: {:?}",
            self.name,
            *self.seen.borrow()
        );
    }
}

async fn consumers(mount: &Path, env: &TestEnv) -> Vec<Consumer> {
    let start = |name, command: &[&str]| Consumer::start(name, command, mount, env);
    let mut consumers = vec![
        start("curl", &["./curl.sh"]),
        start("dotenv", &["./dotenv.sh"]),
        start("python", &["python3", "reader.py"]),
    ];
    if let Some(python) = gdal().await {
        consumers.push(start("gdal", &["./gdal.sh"]));
        consumers.push(start("gdal in one process", &[python, "gdal_reader.py"]));
    } else {
        print(
            "NOT RUN: gdal.sh and gdal_reader.py, because GDAL is missing: install Debian's gdal-bin and python3-gdal",
        );
    }
    if let Some(script) = rest_js().await {
        consumers.push(start("rest-js", &["node", &script]));
    } else {
        print(
            "NOT RUN: rest-js.mjs, because npm ci or node failed: install Node 18 or newer, and check the access to the registry",
        );
    }
    consumers
}

#[tokio::test(flavor = "multi_thread")]
async fn every_consumer_switches_to_the_new_token_without_a_restart() {
    let env = TestEnv::new().await;
    env.portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("app-oauth", "app", SECRET).await;
    let mut manifest = env.manifest("app", "app-oauth");
    manifest["spec"]["target"]["formats"] = json!(["Headers", "DotEnv", "Json", "RestJs"]);
    env.apply(&manifest).await;
    let first = text(&env.wait_target("app", |_| true).await);
    let mount = tempfile::TempDir::new().unwrap();
    publish(mount.path(), &first);

    let mut consumers = consumers(mount.path(), &env).await;
    assert!(consumers.len() >= 3);
    for consumer in &mut consumers {
        consumer.wait_for_reads(1).await;
    }

    env.request_token("app", "now").await;
    env.wait("app", |r| handled(r, "now")).await;
    let second = text(&env.wait_target("app", |_| true).await);
    assert_ne!(first["access_token"], second["access_token"]);
    for consumer in &mut consumers {
        // Nothing has changed for them: the previous token is still valid.
        consumer.wait_for_reads(1).await;
    }
    // It expires before the files are updated: each consumer is rejected, and keeps retrying.
    env.portal.expire(&first["access_token"]);
    for consumer in &mut consumers {
        consumer.wait_for_rejection().await;
    }
    publish(mount.path(), &second);
    for consumer in &mut consumers {
        consumer.wait_for_reads(2).await;
    }
}
