//! Which certificates are trusted: real ones of OpenSSL and of Java's keytool, as curl and the operator see them.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::support::exchange::{client, request};
use arcgis_credential_operator::api::{Cause, Reason};
use arcgis_credential_operator::arcgis::{ClientCertificate, Proxies};
use arcgis_credential_operator::core::OriginMatch;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use testkit::pki::Authority;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Functions for the commands of the cases. Each leaves `key.pem` and `cert.pem` of the server, with the chain that it sends
/// in `chain.pem`, and the bundle of the client in `bundle.pem`.
const FUNCTIONS: &str = r#"
set -euo pipefail
printf '[req]\ndistinguished_name=dn\n[dn]\n' > empty.cnf
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30)
# A self-signed certificate with these extensions alone.
self() { openssl req -config empty.cnf -x509 "${ec[@]}" -keyout key.pem -out cert.pem "$@"; cp cert.pem bundle.pem; }
# One as OpenSSL makes it by default, which is a CA.
default() { openssl req -x509 "${ec[@]}" -keyout key.pem -out cert.pem "$@"; cp cert.pem bundle.pem; }
ca() { openssl req -config empty.cnf -x509 "${ec[@]}" -keyout ca.key -out ca.pem -subj "/CN=${1:-Root}" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign "${@:2}"; cp ca.pem bundle.pem; }
# A certificate of ca.pem: the subject, its extensions in one line, and options of openssl.
signed() { openssl req -config empty.cnf -new "${new[@]:-${ec[@]:0:5}}" -keyout key.pem -out csr.pem -subj "$1"
  tr ' ' '\n' <<< "$2" > extensions; openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial \
  -days 30 -extfile extensions -out cert.pem "${@:3}"; }
java() { keytool -genkeypair -storetype PKCS12 -keystore store -storepass changeit -alias server "$@"
  openssl pkcs12 -in store -passin pass:changeit -nodes -nocerts -out key.pem
  openssl pkcs12 -in store -passin pass:changeit -nokeys | openssl x509 -out cert.pem; cp cert.pem bundle.pem; }
"#;

use Cause::{CaAsServer, Expired, NoName, NotYetValid, Other, OtherName, UnknownIssuer, Unsupported, WrongPurpose};

/// One certificate, and who trusts it.
struct Case {
    name: &'static str,
    commands: &'static str,
    host: &'static str,
    /// What trusts it: the verifier of the platform with the bundle as roots, the operator, curl.
    platform: bool,
    operator: Result<(), Cause>,
    curl: bool,
}

const fn case(
    name: &'static str,
    commands: &'static str,
    platform: bool,
    operator: Result<(), Cause>,
    curl: bool,
) -> Case {
    Case { name, commands, host: "localhost", platform, operator, curl }
}

const fn at_address(mut case: Case) -> Case {
    case.host = "127.0.0.1";
    case
}

const OK: Result<(), Cause> = Ok(());

/// Where curl and the operator differ, docs/enterprise.md says why.
#[rustfmt::skip]
const CASES: &[Case] = &[
    case("of a CA", "ca; signed / subjectAltName=DNS:localhost", true, OK, true),
    at_address(case("of a CA, for an address", "ca; signed / subjectAltName=IP:127.0.0.1", true, OK, true)),
    case("of an intermediate CA that is sent", "ca; mv ca.key root.key; mv ca.pem root.pem
        openssl req -config empty.cnf -new ${ec[@]:0:5} -keyout ca.key -out i.csr -subj /CN=I; echo basicConstraints=CA:TRUE > e
        openssl x509 -req -in i.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile e -out ca.pem
        signed / subjectAltName=DNS:localhost; cp ca.pem chain.pem; cp root.pem bundle.pem", true, OK, true),
    case("of an intermediate CA that is not sent", "ca; mv ca.key root.key; mv ca.pem root.pem
        openssl req -config empty.cnf -new ${ec[@]:0:5} -keyout ca.key -out i.csr -subj /CN=I; echo basicConstraints=CA:TRUE > e
        openssl x509 -req -in i.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile e -out ca.pem
        signed / subjectAltName=DNS:localhost; cp root.pem bundle.pem", false, Err(UnknownIssuer), false),
    case("of an intermediate CA that is the only one in the bundle", "ca; mv ca.key root.key; mv ca.pem root.pem
        openssl req -config empty.cnf -new ${ec[@]:0:5} -keyout ca.key -out i.csr -subj /CN=I; echo basicConstraints=CA:TRUE > e
        openssl x509 -req -in i.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile e -out ca.pem
        signed / subjectAltName=DNS:localhost; cp ca.pem bundle.pem", true, OK, true),
    case("of a CA of version 1", "openssl req -config empty.cnf -new ${ec[@]:0:5} -keyout ca.key -out ca.csr -subj /CN=Old
        openssl x509 -req -in ca.csr -signkey ca.key -days 30 -out ca.pem; cp ca.pem bundle.pem
        signed / subjectAltName=DNS:localhost", true, OK, true),
    case("of a CA that has expired", "java -keyalg EC -groupname secp256r1 -dname CN=Root -startdate -9d -validity 5 -ext bc:c
        mv key.pem ca.key; mv cert.pem ca.pem; signed / subjectAltName=DNS:localhost", true, OK, false),
    case("of another CA", "ca; signed / subjectAltName=DNS:localhost; ca Other", false, Err(UnknownIssuer), false),
    case("of another CA of the same name", "ca; signed / subjectAltName=DNS:localhost; ca", false, Err(UnknownIssuer), false),
    case("of a certificate that is no CA", "self -subj /CN=Root -addext subjectAltName=DNS:other; mv key.pem ca.key; mv cert.pem ca.pem
        signed / subjectAltName=DNS:localhost", true, Err(UnknownIssuer), false),
    case("RSA 3072 with SHA-512", "new=(-newkey rsa:3072 -nodes); ec=(\"${new[@]}\" -days 30); ca Root -sha512
        signed / subjectAltName=DNS:localhost -sha512", true, OK, true),
    case("SHA-512, signed with P-256", "ca; signed / subjectAltName=DNS:localhost -sha512", false, Err(Unsupported), true),
    case("openssl req -x509", "default -subj /CN=localhost", false, OK, true),
    case("openssl req -x509 with a name", "default -subj /CN=x -addext subjectAltName=DNS:localhost", false, OK, true),
    case("self-signed, no CA", "self -subj /CN=x -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE", true, OK, true),
    case("self-signed, no CA, common name alone", "self -subj /CN=LOCALHOST -addext basicConstraints=CA:FALSE", false, OK, true),
    at_address(case("self-signed, address as common name", "self -subj /CN=127.0.0.1 -addext basicConstraints=CA:FALSE", false, OK, true)),
    case("self-signed, another common name", "self -subj /CN=other -addext basicConstraints=CA:FALSE", false, Err(NoName), false),
    case("self-signed, a wildcard as common name", "self -subj /CN=*.localhost -addext basicConstraints=CA:FALSE", false, Err(NoName), false),
    case("self-signed, two common names", "self -subj /CN=other/CN=localhost -addext basicConstraints=CA:FALSE", false, Err(NoName), true),
    case("self-signed, common name beside other names", "self -subj /CN=localhost -addext subjectAltName=DNS:other", false, Err(OtherName), false),
    case("self-signed, common name beside a mail address", "self -subj /CN=localhost -addext subjectAltName=email:a@example.com", false, Err(OtherName), true),
    case("common name alone, of a CA", "ca; signed /CN=localhost basicConstraints=CA:FALSE", false, Err(NoName), true),
    case("keytool", "java -keyalg RSA -dname CN=localhost", false, OK, true),
    case("keytool with a name", "java -keyalg EC -groupname secp256r1 -dname CN=x -ext san=dns:localhost", true, OK, true),
    case("keytool, as a CA", "java -keyalg EC -groupname secp256r1 -dname CN=x -ext san=dns:localhost -ext bc:c", false, OK, true),
    case("keytool, expired", "java -keyalg EC -groupname secp256r1 -dname CN=localhost -startdate -9d -validity 5", false, Err(Expired), false),
    case("keytool, not yet valid", "java -keyalg EC -groupname secp256r1 -dname CN=localhost -startdate +5d", false, Err(NotYetValid), false),
    case("keytool, another name", "java -keyalg EC -groupname secp256r1 -dname CN=other", false, Err(NoName), false),
    case("for another host, of a CA", "ca; signed / subjectAltName=DNS:other", false, Err(OtherName), false),
    at_address(case("an address as host name", "ca; signed / subjectAltName=DNS:127.0.0.1", false, Err(OtherName), false)),
    case("RSA 1024", "new=(-newkey rsa:1024 -nodes); ca; signed / subjectAltName=DNS:localhost", false, Err(Unsupported), false),
    case("RSA 1024, self-signed", "openssl req -config empty.cnf -x509 -newkey rsa:1024 -nodes -keyout key.pem -out cert.pem -subj /CN=x \\
        -addext subjectAltName=DNS:localhost; cp cert.pem bundle.pem", false, Err(Unsupported), false),
    case("SHA-1", "ca; signed / subjectAltName=DNS:localhost -sha1", false, Err(Unsupported), false),
    case("version 1", "openssl req -config empty.cnf -new ${ec[@]:0:5} -keyout key.pem -out s.csr -subj /CN=localhost
        openssl x509 -req -in s.csr -signkey key.pem -days 30 -out cert.pem; cp cert.pem bundle.pem", false, Err(Unsupported), true),
    case("for clients", "self -subj /CN=x -addext subjectAltName=DNS:localhost -addext extendedKeyUsage=clientAuth", false, Err(WrongPurpose), false),
    case("for clients, of a CA", "ca; signed / 'subjectAltName=DNS:localhost extendedKeyUsage=clientAuth'", false, Err(WrongPurpose), false),
    case("for signing certificates alone", "default -subj /CN=x -addext subjectAltName=DNS:localhost -addext keyUsage=keyCertSign", false, Err(WrongPurpose), false),
    case("a CA below a CA", "ca; signed / 'subjectAltName=DNS:localhost basicConstraints=CA:TRUE'", false, Err(CaAsServer), true),
    case("a CA below a CA, which is in the bundle", "ca; signed / 'subjectAltName=DNS:localhost basicConstraints=CA:TRUE'; cat cert.pem >> bundle.pem", false, OK, true),
    case("an unknown critical extension", "self -subj /CN=x -addext subjectAltName=DNS:localhost -addext 1.2.3.4=critical,ASN1:NULL", false, Err(Other), false),
    case("outside of the names of its CA", "ca Root -addext 'nameConstraints=permitted;DNS:example.com'; signed / subjectAltName=DNS:localhost", false, Err(Other), false),
];

/// A real server of OpenSSL; it answers whatever it gets with something that is not HTTP.
async fn serve(folder: &Path) -> (Child, u16) {
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-rev"]);
    command.args(["-cipher", "DEFAULT@SECLEVEL=0"]);
    if folder.join("chain.pem").exists() {
        command.args(["-cert_chain", "chain.pem"]);
    }
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            let port = address.rsplit(':').next().unwrap().parse().unwrap();
            // The server ends when nobody reads its output.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, port);
        }
    }
    panic!("the server does not start: {}", folder.display());
}

/// Whether curl trusts a server with this bundle.
async fn curl_trusts(bundle: &Path, url: &str) -> bool {
    let curl =
        Command::new("curl").args(["-sS", "-m", "10", "--noproxy", "*", "--cacert"]).arg(bundle).arg(url).output();
    let output = curl.await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        // The certificate is not trusted, or its key is too weak.
        Some(60 | 35) => false,
        // It is, and what follows is no HTTP.
        Some(1 | 8 | 52 | 56) => true,
        other => panic!("{other:?} {error}"),
    }
}

/// Whether the platform's verifier trusts a server with the certificates of the bundle as roots.
async fn platform_trusts(bundle: &str, url: &str) -> bool {
    let roots = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_merge(roots).build().unwrap();
    let error = client.post(url).send().await.unwrap_err();
    let untrusted = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    !untrusted.into_iter().any(|error| error.to_string().contains("invalid peer certificate"))
}

/// Whether the operator trusts it, with and without a client certificate.
async fn operator_trusts(bundle: &str, url: &str, certificate: &ClientCertificate) -> Result<(), Cause> {
    let mut found = Vec::new();
    for certificate in [None, Some(certificate)] {
        let client = client(Some(bundle), certificate, OriginMatch::Exact, Proxies::default());
        let fault = request(&client, url).await.unwrap_err();
        found.push(match (fault.reason, fault.cause) {
            (Reason::PortalUntrusted, Some(cause)) => {
                let dated = matches!(cause, Expired | NotYetValid);
                assert_eq!(fault.seen.date.is_some(), dated, "{fault:?}");
                Err(cause)
            }
            (Reason::MalformedResponse, _) => Ok(()),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(found[0], found[1], "a client certificate changes nothing");
    found[0]
}

async fn check(case: &Case, certificate: &ClientCertificate) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let commands = format!("{FUNCTIONS}\n{}", case.commands);
    let made = Command::new("bash").args(["-c", &commands]).current_dir(folder.path()).output().await.unwrap();
    if !made.status.success() {
        return Some(format!("{}: {}", case.name, String::from_utf8_lossy(&made.stderr)));
    }
    let bundle = std::fs::read_to_string(folder.path().join("bundle.pem")).unwrap();
    let (_server, port) = serve(folder.path()).await;
    let url = format!("https://{}:{port}", case.host);
    let found = (
        platform_trusts(&bundle, &url).await,
        operator_trusts(&bundle, &url, certificate).await,
        curl_trusts(&folder.path().join("bundle.pem"), &url).await,
    );
    let expected = (case.platform, case.operator, case.curl);
    (found != expected).then(|| format!("{}: {found:?}, not {expected:?}", case.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_openssl_and_keytool_are_trusted_as_the_table_says() {
    testkit::init_crypto();
    let java = std::process::Command::new("keytool").arg("-help").output().is_ok();
    if !java {
        // Past the capture of libtest.
        let _ = std::io::stderr().write_all(b"NOT RUN: certificates of keytool, which is not installed\n");
    }
    let issued = Authority::new("clients").unwrap().issue("operator").unwrap();
    let certificate =
        ClientCertificate::parse(issued.certificate.as_bytes(), issued.key.as_bytes(), Timestamp::now()).unwrap();
    let cases = CASES.iter().filter(|case| java || !case.commands.starts_with("java"));
    // More at once make handshakes time out.
    let checks = stream::iter(cases).map(|case| check(case, &certificate)).buffered(3);
    let found: Vec<String> = checks.filter_map(std::future::ready).collect().await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}
