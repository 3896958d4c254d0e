//! A real nginx that requires client certificates.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::{env, manifest, tls, unusable, valid, write};
use crate::support::fleet::{handled, poll_until};
use crate::support::packages::install;
use crate::support::tools::succeed;
use crate::support::{SECRET, condition, free_address, is};
use arcgis_credential_operator::api::ArcGisAppCredential;
use testkit::pki::Authority;
use testkit::portal::{App, Portal};
use tokio::process::{Child, Command};

/// A real nginx that requires client certificates in front of a portal; dropping it ends it.
struct Nginx {
    master: Child,
    folder: tempfile::TempDir,
    tls12: u16,
    tls13: u16,
    authority: Authority,
}

impl Nginx {
    async fn start(program: PathBuf, portal: &Portal, clients: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("servers").unwrap();
        let server = authority.issue_server("localhost").unwrap();
        let (tls12, tls13) = (free_address().port(), free_address().port());
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("server.crt", &server.certificate);
        write("server.key", &server.key);
        write("clients.crt", clients.pem());
        write("upstream.crt", portal.ca());
        write("nginx.conf", &config(folder.path(), &portal.url(), tls12, tls13));
        let master = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "error.log", "-c"])
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for port in [tls12, tls13] {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            poll_until("nginx listens", Duration::from_secs(10), async || {
                tokio::net::TcpStream::connect(address).await.ok()
            })
            .await;
        }
        Self { master, folder, tls12, tls13, authority }
    }

    /// What it has written for each request: the version of TLS, the subject of the client and the status.
    fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(mut self) {
        testkit::signal(self.master.id().unwrap(), "QUIT").await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.master.wait()).await.unwrap().unwrap();
    }
}

fn config(folder: &Path, upstream: &str, tls12: u16, tls13: u16) -> String {
    let server = |port: u16, protocol: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port} ssl; ssl_protocols {protocol}; {} }}",
            SERVER.replace("UPSTREAM", upstream)
        )
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()))
        .concat();
    format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log error.log; events {{}} http {{ {temporary} \
         log_format seen '$ssl_protocol $ssl_client_s_dn $status'; access_log access.log seen; {} {} }}",
        server(tls12, "TLSv1.2"),
        server(tls13, "TLSv1.3"),
    )
}

/// The part that both servers share.
const SERVER: &str = "server_name localhost; ssl_certificate server.crt; ssl_certificate_key server.key; \
    ssl_client_certificate clients.crt; ssl_verify_client on; location / { proxy_pass UPSTREAM; \
    proxy_ssl_trusted_certificate upstream.crt; proxy_ssl_verify on; proxy_ssl_name localhost; }";

/// A certificate as OpenSSL issues it without extensions: of version 1.
fn version_1(authority: &Authority, key: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.crt", authority.pem()), ("ca.key", &authority.key()), ("key", key)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let openssl = |args: &[&str], input: &str| {
        succeed(std::process::Command::new("openssl").args(args).current_dir(&folder), input)
    };
    let request = openssl(&["req", "-new", "-key", "key", "-subj", "/CN=simple"], "");
    openssl(&["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2", "-set_serial", "7"], &request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_nginx_that_requires_client_certificates_is_passed_and_renewals_are_followed() {
    let (clients, others) = (Authority::new("clients").unwrap(), Authority::new("others").unwrap());
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), testkit::portal::Certificate::Good).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    let Some(program) = install(&["nginx"]).await else { return };
    let nginx = Nginx::start(program, &portal, &clients).await;
    for (name, protocol, port) in [("old", "TLSv1.2", nginx.tls12), ("new", "TLSv1.3", nginx.tls13)] {
        let url = format!("https://localhost:{port}");
        let env = env(&url, nginx.authority.pem()).await;
        let secret = format!("{name}-client");
        let first = clients.issue("first").unwrap();
        tls(&env, &secret, &first.certificate, &first.key).await;
        env.apply(&manifest(&env, name, &url)).await;
        env.wait(name, valid).await;
        assert_eq!(nginx.requests().last().unwrap(), &format!("{protocol} CN=first 200"));

        let second = clients.issue("second").unwrap();
        tls(&env, &secret, &second.certificate, &second.key).await;
        env.request_token(name, "renewed").await;
        env.wait(name, |r| valid(r) && handled(r, "renewed")).await;
        assert_eq!(nginx.requests().last().unwrap(), &format!("{protocol} CN=second 200"));

        let published = env.target(name).await;
        let wrong = others.issue("wrong").unwrap();
        tls(&env, &secret, &wrong.certificate, &wrong.key).await;
        env.request_token(name, "wrong").await;
        env.wait(name, |r| is(r, "Stalled", "True", "RequestRejected")).await;
        for (_, kind, data, says) in unusable(&clients).into_iter().filter(|(_, kind, ..)| *kind != "Opaque") {
            write(&env, &secret, kind, data).await;
            let says = |r: &ArcGisAppCredential| condition(r, "Stalled").is_some_and(|c| c.message.contains(says));
            env.wait(name, |r| is(r, "Stalled", "True", "ClientCertificateInvalid") && says(r)).await;
        }
        assert_eq!(env.target(name).await, published, "the last token stays");
        let simple = version_1(&clients, &first.key);
        tls(&env, &secret, &simple, &first.key).await;
        env.wait_for(name, Duration::from_secs(8), valid).await;
        assert_eq!(nginx.requests().last().unwrap(), &format!("{protocol} CN=simple 200"));
    }
    let mut statuses = nginx.requests();
    statuses.retain(|line| line.ends_with(" 400"));
    assert_eq!(statuses, ["TLSv1.2 CN=wrong 400", "TLSv1.3 CN=wrong 400"], "nothing else was sent");
    nginx.stop().await;
}
