//! The pages of examples/browser-token and examples/resource-proxy, with their real servers and a real browser.

use std::path::{Path, PathBuf};

use super::browser::{Browser, Received};
use super::koop::Koop;
use super::processes::Process;
use super::{Mount, issue, renew};
use crate::support::fleet::poll_until;
use crate::support::packages::install;
use crate::support::{SECRET, TestEnv, free_address};

/// The pages reload their layer each second.
const SECONDS: (&str, &str) = (r#"refresh-seconds" content="30""#, r#"refresh-seconds" content="1""#);
const CLIENT_ID: &str = "client-id-that-no-browser-gets";
const SERVICES: &str = "https://services.example.com";

/// Replaces texts of a file, each of which has to occur.
fn edit(path: &Path, edits: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{}: no {from}", path.display());
        text = text.replace(from, to);
    }
    std::fs::write(path, text).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A page with its server.
struct Site {
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    url: String,
    server: Option<Process>,
}

impl Site {
    /// Returns a copy of an example with its libraries, as its Dockerfile makes it.
    async fn new(example: &str) -> Option<Self> {
        let installed = install(&["npm", &format!("examples/{example}")]).await?;
        let folder = tempfile::tempdir().unwrap();
        copy(&installed.join("site"), &folder.path().join("site"));
        for library in ["leaflet", "esri-leaflet"] {
            copy(
                &installed.join("node_modules").join(library).join("dist"),
                &folder.path().join("site/lib").join(library),
            );
        }
        for file in ["nginx.conf", "Caddyfile"].iter().filter(|file| installed.join(file).exists()) {
            std::fs::copy(installed.join(file), folder.path().join(file)).unwrap();
        }
        let address = free_address();
        Some(Self { folder, address, url: format!("http://{address}/"), server: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    async fn serve(&mut self, name: &str, command: &[&str], variables: &[(&str, String)]) {
        self.server = Some(Process::start(name, command, variables));
        let address = self.address;
        poll_until(&format!("{name} listens"), std::time::Duration::from_secs(10), async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
    }

    /// Starts nginx with the page and the token.
    async fn serve_token(&mut self, program: &Path, mount: &Mount, koop: &Koop) {
        edit(
            &self.path("site/index.html"),
            &[SECONDS, (&format!("{SERVICES}/server/rest/services/Places/FeatureServer/0"), &koop.layer())],
        );
        let temporary = format!("{}/", self.folder.path().display());
        edit(
            &self.path("nginx.conf"),
            &[
                ("listen 8080", &format!("listen {}", self.address)),
                ("/tmp/", &temporary),
                ("/usr/share/nginx/html", &self.text("site")),
                ("/var/run/arcgis", &mount.path().display().to_string()),
                (SERVICES, &koop.origin),
            ],
        );
        // The workers of a master that runs as root have a user of their own, who cannot read temporary folders.
        let user = if is_root() { "daemon off; user root;" } else { "daemon off;" };
        let (program, config) = (program.display().to_string(), self.text("nginx.conf"));
        self.serve("nginx", &[&program, "-e", "stderr", "-c", &config, "-g", user], &[]).await;
    }

    /// Starts Caddy with the page, as a proxy of the layer.
    async fn serve_proxy(&mut self, program: &Path, mount: &Mount, koop: &Koop) {
        edit(&self.path("site/index.html"), &[SECONDS]);
        edit(
            &self.path("Caddyfile"),
            &[
                (":8080 {", &format!("http://{} {{", self.address)),
                ("root * /srv", &format!("root * {}", self.text("site"))),
                ("/var/run/arcgis", &mount.path().display().to_string()),
                (SERVICES, &koop.origin),
            ],
        );
        let (program, config) = (program.display().to_string(), self.text("Caddyfile"));
        let command = [&program, "run", "--adapter", "caddyfile", "--config", &config];
        let home = self.folder.path().display().to_string();
        let trust = ("SSL_CERT_FILE", koop.bundle.display().to_string());
        self.serve("Caddy", &command, &[trust, ("XDG_DATA_HOME", home.clone()), ("XDG_CONFIG_HOME", home)]).await;
    }

    /// Returns the HTTP status of a request with curl.
    fn status(&self, path: &str, arguments: &[&str]) -> String {
        let url = format!("{}{path}", self.url);
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is"]).args(arguments).arg(url);
        crate::support::tools::succeed(&mut curl, "")
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

const OF_THIS_ORIGIN: [&str; 2] = ["-H", "Sec-Fetch-Site: same-origin"];

/// Checks that no credentials were received, and that tokens were received from these URLs only.
fn check(received: &Received, tokens: &[&str], places: &[String]) {
    assert!(received.responses().len() > 8, "the browser has received little");
    for secret in [CLIENT_ID, SECRET] {
        assert_eq!(received.places_of(secret), [""; 0], "{secret}");
    }
    for token in tokens {
        assert_eq!(received.places_of(token), places);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_gets_the_token_from_nginx_follows_renewals_and_recovers_from_a_rejected_token() {
    let env = TestEnv::new().await;
    let Some(mut site) = Site::new("browser-token").await else { return };
    let Some(koop) = Koop::start(&env).await else { return };
    let Some(nginx) = install(&["nginx"]).await else { return };
    let Some(mut browser) = Browser::start("browser-token", &koop.certificate()).await else { return };
    // The page renews a minute before the end: 15 seconds after the token was issued.
    let first = issue(&env, CLIENT_ID, Some(75)).await;
    let mount = Mount::new(&first);
    site.serve_token(&nginx, &mount, &koop).await;
    assert_eq!(browser.run("open", &site.url).await, 200);
    browser.run("wait", "4 places").await;
    browser.screenshot("first-token").await;

    let app = testkit::portal::App { secret: SECRET.to_owned(), ..Default::default() };
    env.portal.app(CLIENT_ID, app);
    let second = renew(&env, "renewed").await;
    mount.publish(&second);
    browser.run("sent", &format!("token={}", second["access_token"])).await;
    env.portal.expire(&first["access_token"]);
    browser.run("next", "4 places").await;
    browser.screenshot("renewed").await;

    let third = renew(&env, "rejected").await;
    env.portal.expire(&second["access_token"]);
    browser.run("wait", "The token was rejected. Waiting").await;
    browser.screenshot("rejected").await;
    mount.publish(&third);
    browser.run("wait", "4 places").await;
    browser.screenshot("recovered").await;

    let received = browser.end().await;
    let tokens = [&first, &second, &third].map(|target| target["access_token"].as_str());
    check(&received, &tokens, &[format!("{}token", site.url)]);
    let rejected = received.history().iter().position(|text| text.contains("rejected")).unwrap();
    assert!(received.history()[..rejected].iter().all(|text| text.contains("4 places")), "{:?}", received.history());
    refuses_others(&site, &received);
}

/// Checks that only the page gets the token, not too often, and that it is not cached.
fn refuses_others(site: &Site, received: &Received) {
    let given: Vec<_> =
        received.responses().iter().filter(|response| response["url"] == format!("{}token", site.url)).collect();
    assert!(given.len() >= 3);
    assert!(given.iter().all(|response| response["headers"]["cache-control"] == "no-store"));
    assert_eq!(site.status("token", &[]), "403", "without a browser");
    assert_eq!(site.status("token", &["-H", "Sec-Fetch-Site: cross-site"]), "403", "from another site");
    assert_eq!(site.status("token", &["-X", "POST", OF_THIS_ORIGIN[0], OF_THIS_ORIGIN[1]]), "403");
    assert_eq!(site.status("access_token", &OF_THIS_ORIGIN), "404");
    assert!((0..60).any(|_| site.status("token", &OF_THIS_ORIGIN) == "429"), "the rate has no limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_behind_caddy_reads_a_secured_layer_and_never_gets_a_token() {
    let env = TestEnv::new().await;
    let first = issue(&env, CLIENT_ID, None).await;
    let mount = Mount::new(&first);
    let Some(mut site) = Site::new("resource-proxy").await else { return };
    let Some(koop) = Koop::start(&env).await else { return };
    let Some(caddy) = install(&["caddy"]).await else { return };
    site.serve_proxy(&caddy, &mount, &koop).await;
    let Some(mut browser) = Browser::start("resource-proxy", &koop.certificate()).await else { return };
    assert_eq!(browser.run("open", &site.url).await, 200);
    browser.run("wait", "4 places").await;
    browser.screenshot("first-token").await;

    let second = renew(&env, "renewed").await;
    mount.publish(&second);
    browser.run("next", "4 places").await;
    env.portal.expire(&first["access_token"]);
    for _ in 0..2 {
        browser.run("next", "4 places").await;
    }
    browser.screenshot("renewed").await;

    let third = renew(&env, "rejected").await;
    env.portal.expire(&second["access_token"]);
    browser.run("wait", "The token of the server was rejected").await;
    browser.screenshot("rejected").await;
    mount.publish(&third);
    browser.run("wait", "4 places").await;
    browser.screenshot("recovered").await;

    assert_eq!(browser.run("fetch", "arcgis/Places/FeatureServer/0/query?f=json&where=1%3D1").await, 200);
    assert_eq!(browser.run("fetch", "arcgis/Secret/FeatureServer/0/query?f=json").await, 403);
    let received = browser.end().await;
    let tokens = [&first, &second, &third].map(|target| target["access_token"].as_str());
    check(&received, &tokens, &[]);
    let rejected = received.history().iter().position(|text| text.contains("rejected")).unwrap();
    assert!(received.history()[..rejected].iter().all(|text| text.contains("4 places")), "{:?}", received.history());
    passes_only_what_is_listed(&site);
}

fn passes_only_what_is_listed(site: &Site) {
    let layer = "arcgis/Places/FeatureServer/0";
    assert_eq!(site.status(layer, &OF_THIS_ORIGIN), "200");
    assert_eq!(site.status(layer, &[]), "403", "without a browser");
    assert_eq!(site.status(layer, &["-H", "Sec-Fetch-Site: cross-site"]), "403", "from another site");
    assert_eq!(site.status(layer, &["-X", "DELETE", OF_THIS_ORIGIN[0], OF_THIS_ORIGIN[1]]), "403");
    for path in [
        "arcgis/Secret/FeatureServer/0",
        "arcgis/Places/FeatureServer/0/applyEdits",
        "arcgis/Places/FeatureServer/0/../../../Secret/FeatureServer/0",
        "arcgis/Places/FeatureServer/0/%2e%2e/%2e%2e/%2e%2e/Secret/FeatureServer/0",
        "arcgis/Places%2fFeatureServer/0/query/../../x",
    ] {
        assert_eq!(site.status(path, &OF_THIS_ORIGIN), "403", "{path}");
    }
}
