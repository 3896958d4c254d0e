//! Proxies, private CAs and TLS versions, and which credentials a portal receives.

use std::process::Stdio;
use std::time::Duration;

use crate::support::{SECRET, TestEnv, failure_reason, is};
use serde_json::json;
use testkit::portal::{App, Certificate, Portal, Protocol};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running forward proxy that resolves every name to loopback.
struct Proxy {
    _child: Child,
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Proxy {
    async fn start() -> Self {
        let tool = crate::support::tools::go_build("hack/proxy", ".");
        let mut child = Command::new(tool).arg("127.0.0.1").stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.next_line().await.unwrap().unwrap();
        Self { _child: child, url: format!("http://{address}"), lines }
    }

    async fn tunnel(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(10), self.lines.next_line()).await.unwrap().unwrap().unwrap()
    }
}

async fn portal(address: &str, protocol: Protocol) -> Portal {
    let portal = Portal::with_protocol(address.parse().unwrap(), Certificate::Good, protocol).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    portal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_works_with_a_private_ca_and_no_proxy_bypasses_it() {
    let mut proxy = Proxy::start().await;
    let (portal, near) = (portal("127.0.0.1:0", Protocol::Any).await, portal("127.0.0.1:0", Protocol::Any).await);
    let port = portal.address().port();
    let near_url = format!("https://127.0.0.1:{}", near.address().port());
    let mut env = TestEnv::without_operator(&["--allowed-portal", &portal.url(), "--allowed-portal", &near_url]).await;
    env.set_variable("HTTPS_PROXY", &proxy.url);
    env.set_variable("NO_PROXY", "127.0.0.1");
    env.start().await;
    env.credentials("oauth", "app", SECRET).await;
    for (name, url, pem) in [("far", portal.url(), portal.ca()), ("near", near_url, near.ca())] {
        env.ca_bundle(name, pem).await;
        let mut manifest = env.manifest(name, "oauth");
        manifest["spec"]["portal"] = json!({"url": url, "caBundleRef": {"name": name}});
        env.apply(&manifest).await;
        env.wait(name, |r| is(r, "Ready", "True", "TokenValid")).await;
    }
    assert_eq!(proxy.tunnel().await, format!("CONNECT localhost:{port}"));
    assert_eq!((portal.requests("app"), near.requests("app")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_kubeconfig_is_used_for_the_api_server_alone() {
    let mut proxy = Proxy::start().await;
    let mut env = TestEnv::without_operator(&[]).await;
    let account = std::fs::read_to_string(TestEnv::restricted()).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&account).unwrap();
    let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap().trim_start_matches("https://").to_owned();
    let kubeconfig = env.plane.dir().join(format!("{}-proxied", env.namespace));
    for (url, works) in [("socks5://127.0.0.1:1", false), (proxy.url.as_str(), true)] {
        config["clusters"][0]["cluster"]["proxy-url"] = json!(url);
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        env.start_with_kubeconfig(&kubeconfig);
        if !works {
            let ended = tokio::time::timeout(Duration::from_secs(10), env.operator.as_mut().unwrap().wait()).await;
            assert_eq!(ended.unwrap().unwrap().code(), Some(1));
            assert!(env.log().contains("error: proxy-url of the kubeconfig: write http://HOST:PORT"), "{}", env.log());
        }
    }
    env.ready("proxied").await;
    // A connection to the portal would be a tunnel to another port.
    assert_eq!(proxy.tunnel().await, format!("CONNECT {server}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_are_supported() {
    for protocol in [Protocol::Tls12, Protocol::Tls13] {
        let portal = portal("127.0.0.1:0", protocol).await;
        let env = TestEnv::with_flags(&["--allowed-portal", &portal.url()]).await;
        env.credentials("oauth", "app", SECRET).await;
        env.ca_bundle("ca", portal.ca()).await;
        let mut manifest = env.manifest("spoken", "oauth");
        manifest["spec"]["portal"] = json!({"url": portal.url(), "caBundleRef": {"name": "ca"}});
        env.apply(&manifest).await;
        env.wait("spoken", |r| is(r, "Ready", "True", "TokenValid")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_replaced_in_its_config_map_is_picked_up_without_a_restart() {
    let first = portal("127.0.0.1:0", Protocol::Any).await;
    let env = TestEnv::with_flags(&["--allowed-portal", &first.url()]).await;
    env.credentials("oauth", "app", SECRET).await;
    env.ca_bundle("ca", first.ca()).await;
    let mut manifest = env.manifest("rotated", "oauth");
    manifest["spec"]["portal"] = json!({"url": first.url(), "caBundleRef": {"name": "ca"}});
    env.apply(&manifest).await;
    env.wait("rotated", |r| is(r, "Ready", "True", "TokenValid")).await;
    let address = first.address();
    drop(first);
    let second = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            // The port is free after the first portal has closed it.
            if let Ok(portal) = Portal::start(address, Certificate::Good).await {
                return portal;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    second.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    env.request_token("rotated", "now").await;
    let untrusted = env.wait("rotated", |r| failure_reason(r) == Some("PortalUntrusted")).await;
    assert!(is(&untrusted, "Ready", "True", "TokenValid") && is(&untrusted, "Stalled", "True", "PortalUntrusted"));
    assert_eq!(second.journal().len(), 0, "nothing is sent to a portal that is not trusted");
    env.ca_bundle("ca", second.ca()).await;
    env.wait_for("rotated", Duration::from_secs(8), |r| failure_reason(r).is_none()).await;
    assert_eq!(second.requests("app"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_bundle_created_while_the_operator_is_down_is_found_at_start() {
    let portal = portal("127.0.0.1:0", Protocol::Any).await;
    let mut env = TestEnv::with_flags(&["--allowed-portal", &portal.url()]).await;
    env.credentials("oauth", "app", SECRET).await;
    let mut manifest = env.manifest("late", "oauth");
    manifest["spec"]["portal"] = json!({"url": portal.url(), "caBundleRef": {"name": "ca"}});
    env.apply(&manifest).await;
    env.wait("late", |r| failure_reason(r) == Some("CaBundleNotFound")).await;
    env.kill().await;
    env.ca_bundle("ca", portal.ca()).await;
    env.start().await;
    env.wait("late", |r| is(r, "Ready", "True", "TokenValid") && failure_reason(r).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_receives_the_app_s_credentials_and_none_of_the_cluster() {
    let env = TestEnv::new().await;
    let mut manifest = env.manifest("shown", "shown-oauth");
    manifest["spec"]["verification"] = json!({});
    env.portal.app("shown", App { secret: SECRET.to_owned(), ..App::default() });
    env.credentials("shown-oauth", "shown", SECRET).await;
    env.apply(&manifest).await;
    env.wait("shown", |r| is(r, "Verified", "True", "AppKnown")).await;
    let headers: Vec<Vec<String>> = env.portal.journal().into_iter().map(|entry| entry.headers).collect();
    let sorted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut expected = [
        sorted(&["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"]),
        sorted(&["accept", "accept-encoding", "host", "user-agent", "x-esri-authorization"]),
    ];
    for (mut found, expected) in headers.into_iter().zip(&mut expected) {
        found.sort();
        assert_eq!(&found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_is_not_dumpable() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    // The process does not run as root, because root may read these files in any case.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("operator");
    std::fs::copy(env!("CARGO_BIN_EXE_arcgis-credential-operator"), &program).unwrap();
    let portal = portal("127.0.0.1:0", Protocol::Any).await;
    portal.app("app", App { hang: true, ..App::default() });
    for (name, text) in [("id", "app"), ("secret", SECRET), ("ca", portal.ca())] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(["probe", "--portal", &portal.url(), "--client-id-file", "id", "--client-secret-file", "secret"]);
    command.args(["--ca-file", "ca"]).current_dir(&dir).kill_on_drop(true);
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65532);
    }
    let child = command.spawn().unwrap();
    portal.wait_for_requests("app", 1, Duration::from_secs(10)).await.unwrap();
    let pid = child.id().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let environ = std::fs::metadata(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environ.uid(), 0, "the kernel makes root the owner of a process that is not dumpable");
}
