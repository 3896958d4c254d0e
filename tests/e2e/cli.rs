//! Exit codes and error messages of the command line.

use std::process::{Command, Output};

use testkit::portal::{App, Certificate, Portal, TOKEN_CANARY};

fn operator(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"))
        .args(args)
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap()
}

fn first_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn an_invalid_flag_exits_with_2_and_a_clear_first_line() {
    for (args, expected) in [
        (vec!["run", "--allowed-portal", "http://host"], "write an origin such as"),
        (vec!["run", "--allowed-portal", "https://host/portal"], "without a path"),
        (vec!["run", "--concurrency", "0"], "write a number from 1 to 1024"),
        (vec!["run", "--log-level", "loud"], "invalid value 'loud'"),
        (vec!["run", "--admin-address", "nowhere"], "invalid value 'nowhere'"),
        (vec!["run", "--namespace", ""], "leave the flag out for all namespaces"),
        (vec!["run", "--namespace", "maps,Maps"], "write a namespace's name"),
        (vec!["run", "--selector", "a in (b"], "write a label selector such as"),
        (vec!["run", "--leader-elect", "perhaps"], "invalid value 'perhaps'"),
        (vec!["run", "--lease-name", "My Lease"], "write lower-case letters, digits, - and ."),
        (vec!["probe", "--referer", "maps"], "write an http or https URL"),
        (vec!["probe", "--resource", "maps"], "write NAMESPACE/NAME"),
        (vec!["probe", "--resource", "maps/a", "--portal", "https://x"], "cannot be used with"),
        (vec!["probe", "--output", "yaml"], "invalid value 'yaml'"),
        (vec!["run", "--no-such-flag"], "unexpected argument"),
        (vec!["fly"], "unrecognized subcommand"),
    ] {
        let output = operator(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(first_line(&output).contains(expected), "{args:?}: {}", first_line(&output));
    }
}

#[test]
fn a_proxy_that_is_no_url_is_a_flag_that_does_not_parse() {
    let run = |name: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"));
        command.args(["run", "--admin-address", "127.0.0.1:0"]).env("KUBECONFIG", "/nonexistent").env(name, value);
        command.output().unwrap()
    };
    for (name, value) in [("HTTPS_PROXY", "http://"), ("https_proxy", "socks5://canary:1"), ("ALL_PROXY", "http://a b")]
    {
        let output = run(name, value);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(first_line(&output).contains(&format!("invalid value of {name}: write a proxy such as")), "{name}");
        assert!(!first_line(&output).contains("canary"));
    }
    let trimmed = run("HTTPS_PROXY", " http://proxy.example.com:3128\n");
    assert_eq!(trimmed.status.code(), Some(1), "{}", first_line(&trimmed));
}

#[test]
fn a_failed_start_exits_with_1_and_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (args, expected) in [
        (vec!["run", "--ca-file", "/nonexistent/ca.pem"], "cannot read /nonexistent/ca.pem"),
        (vec!["run", "--ca-file", "Cargo.toml"], "--ca-file Cargo.toml: no certificate in PEM"),
        (vec!["run", "--admin-address", &address], "cannot listen there"),
        (vec!["run", "--admin-address", "127.0.0.1:0"], "no access to a cluster: set KUBECONFIG"),
    ] {
        let output = operator(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(first_line(&output).contains(expected), "{args:?}: {}", first_line(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{args:?}");
    }
}

#[test]
fn leader_election_is_disabled_with_and_without_an_equals_sign() {
    for args in [vec!["--leader-elect=false"], vec!["--leader-elect", "false"], vec!["--leader-elect=true"]] {
        let args = [vec!["run", "--admin-address", "127.0.0.1:0"], args].concat();
        let output = operator(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?} parses: {}", first_line(&output));
        assert!(first_line(&output).contains("no access to a cluster"), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_prints_the_granted_lifetime_and_never_the_token() {
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    portal.app("app", App { secret: "canary".to_owned(), lifetime: Some(5400), ..App::default() });
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("id", "app"), ("secret", "canary\n"), ("ca", portal.ca())] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"))
        .args(["probe", "--portal", &portal.url(), "--client-id-file", "id", "--client-secret-file", "secret"])
        .args(["--ca-file", "ca"])
        .current_dir(&dir)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    for line in [
        "Name        ok      localhost: ",
        "Connection  ok      ",
        "Proxy       -       none",
        "TLS         ok      TLS 1.3, TLS13_AES_256_GCM_SHA384",
        "                    names: localhost, 127.0.0.1, ::1; common name: rcgen self signed cert",
        "                    issuer: CN=test portal CA",
        "HTTP        ok      the portal answers",
        "ArcGIS      ok      Issued: a token for 1h30m",
    ] {
        assert!(printed.contains(&format!("\n{line}")) || printed.starts_with(line), "{line}: {printed}");
    }
    assert!(!printed.contains('\u{1b}'), "no colors without a terminal");
    assert!(!printed.contains("canary") && !printed.contains(TOKEN_CANARY));
}

#[test]
fn probe_prints_a_reason_and_never_a_secret() {
    let dir = std::env::temp_dir().join(format!("probe-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name).display().to_string()
    };
    let (id, secret, empty) = (file("id", "app"), file("secret", "canary"), file("empty", " "));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let portal = format!("https://localhost:{}", closed.port());
    let probe = |portal: &str, secret: &str| {
        operator(&["probe", "--portal", portal, "--client-id-file", &id, "--client-secret-file", secret])
    };
    for (output, expected) in [
        (probe(&portal, &secret), "PortalUnreachable"),
        (probe(&portal, &empty), "is missing, empty or not visible text"),
        (probe("http://x", &secret), "--portal: write https://host"),
    ] {
        assert_eq!(output.status.code(), Some(1));
        assert!(first_line(&output).contains(expected), "{}", first_line(&output));
        assert!(!first_line(&output).contains("canary"));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn probe_prints_one_json_object() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("id", "app"), ("secret", "canary")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let portal = format!("https://localhost:{}/portal", closed.port());
    let output = Command::new(env!("CARGO_BIN_EXE_arcgis-credential-operator"))
        .args(["probe", "--output=json", "--portal", &portal, "--client-id-file=id", "--client-secret-file=secret"])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["portal"], portal);
    assert_eq!(
        (&printed["failure"]["reason"], &printed["failure"]["cause"]),
        (&"PortalUnreachable".into(), &"ConnectionRefused".into())
    );
    let steps: Vec<_> =
        printed["steps"].as_array().unwrap().iter().map(|step| (&step["step"], &step["result"])).collect();
    assert_eq!(steps, [(&"Name".into(), &"ok".into()), (&"Connection".into(), &"failed".into())]);
}
