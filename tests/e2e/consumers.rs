//! The consumers of examples/consumers go over to a new token without a restart, with the Secret mounted as files.

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
/// Stands in each answer of the layer.
const FEATURE: &str = "Redlands";
/// One of these stands in what each says of a token that is not taken. GDAL does not tell that from other failures.
const REFUSALS: [&str; 3] = ["nvalid token", "Unable to open datasource", "Failed to read ESRIJSON"];
const SOON: Duration = Duration::from_secs(30);

/// Writes a Secret's keys as the kubelet does: a folder with a name of its own, and a symbolic link that is swapped.
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

/// Says what libtest does not capture: that something was not checked.
fn say(text: &str) {
    std::io::stderr().write_all(format!("consumers: {text}\n").as_bytes()).unwrap();
}

/// Whether a command can be run, and succeeds.
async fn works(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// GDAL's tools and a Python with its bindings, of Debian's gdal-bin.
pub async fn gdal() -> Option<&'static str> {
    let installed = async || works(Command::new("ogrinfo").arg("--version")).await;
    if !installed().await && is_root() {
        say("installing gdal-bin");
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

/// A copy of rest-js.mjs with what it needs beside it, from the lock file.
async fn rest_js() -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rest-js");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = "package-lock.json";
    let wanted = std::fs::read(Path::new(EXAMPLES).join(lock)).unwrap();
    let fresh = std::fs::read(folder.join("installed.json")).is_ok_and(|installed| installed == wanted);
    for file in ["package.json", lock, "rest-js.mjs"] {
        std::fs::copy(Path::new(EXAMPLES).join(file), folder.join(file)).unwrap();
    }
    let install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    if !fresh && !works(Command::new("npm").args(install).current_dir(&folder)).await {
        return None;
    }
    std::fs::write(folder.join("installed.json"), wanted).unwrap();
    works(Command::new("node").arg("--version")).await.then(|| folder.join("rest-js.mjs").display().to_string())
}

/// A consumer that runs all the time; dropping it ends it.
struct Consumer {
    name: &'static str,
    child: Child,
    seen: tokio::sync::watch::Receiver<Seen>,
}

/// What a consumer has printed.
#[derive(Debug, Default)]
struct Seen {
    features: usize,
    refusals: usize,
    last: String,
}

impl Consumer {
    fn start(name: &'static str, command: &[&str], mount: &Path, env: &TestEnv) -> Self {
        let ca = env.plane.dir().join(format!("{}-ca.pem", env.namespace));
        let layer = format!("{}/server/rest/services/Places/FeatureServer/0", env.portal.url());
        // In the order in which they are said.
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
        let (tell, seen) = tokio::sync::watch::channel(Seen::default());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                tell.send_modify(|seen| {
                    seen.features += usize::from(line.contains(FEATURE));
                    seen.refusals += usize::from(REFUSALS.iter().any(|refusal| line.contains(refusal)));
                    seen.last = line;
                });
            }
        });
        Self { name, child, seen }
    }

    async fn comes(&mut self, condition: impl FnMut(&Seen) -> bool) -> bool {
        tokio::time::timeout(SOON, self.seen.wait_for(condition)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Waits for this many features more.
    async fn reads(&mut self, more: usize) {
        let until = self.seen.borrow().features + more;
        assert!(
            self.comes(|seen| seen.features >= until).await,
            "{} reads nothing: {:?}",
            self.name,
            *self.seen.borrow()
        );
        assert!(self.child.try_wait().unwrap().is_none(), "{} has ended", self.name);
    }

    /// Waits until it has been told that its token is not taken.
    async fn is_refused(&mut self) {
        assert!(self.comes(|seen| seen.refusals > 0).await, "{} is not refused: {:?}", self.name, *self.seen.borrow());
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
        say("NOT RUN: gdal.sh and gdal_reader.py, for there is no GDAL: install Debian's gdal-bin and python3-gdal");
    }
    if let Some(script) = rest_js().await {
        consumers.push(start("rest-js", &["node", &script]));
    } else {
        say("NOT RUN: rest-js.mjs, for npm ci or node did not work: install Node 18 or newer, and see to the registry");
    }
    consumers
}

#[tokio::test(flavor = "multi_thread")]
async fn every_consumer_goes_over_to_the_new_token_without_a_restart() {
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
        consumer.reads(1).await;
    }

    env.ask_anew("app", "now").await;
    env.wait("app", |r| handled(r, "now")).await;
    let second = text(&env.wait_target("app", |_| true).await);
    assert_ne!(first["access_token"], second["access_token"]);
    for consumer in &mut consumers {
        // Nothing has changed for them: the former token lives on.
        consumer.reads(1).await;
    }
    // Its end comes before the files follow: each is refused, and goes on trying.
    env.portal.expire(&first["access_token"]);
    for consumer in &mut consumers {
        consumer.is_refused().await;
    }
    publish(mount.path(), &second);
    for consumer in &mut consumers {
        consumer.reads(2).await;
    }
}
