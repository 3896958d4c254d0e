//! Each cause of each reason has a row in the reference, a row in troubleshooting, and a test that produces it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use arcgis_credential_operator::api::{Cause, MESSAGES, Reason};

use crate::docs::root;

const BEGIN: &str = "### Causes\n";
const END: &str = "\n## Status\n";

/// What a brace of a message stands for, as the reference shows it.
fn shown(seen: &str) -> String {
    let mut shown = seen.to_owned();
    for (brace, word) in [
        ("{portal}", "PORTAL"),
        ("{credentials}", "Secret SECRET"),
        ("{client_certificate}", "SECRET"),
        ("{target}", "TARGET"),
        ("{key}", "KEY"),
        ("{ca}", "KIND NAME, key KEY"),
        ("{source}", "KIND NAME"),
        ("{field}", "FIELD"),
        ("{name}", " NAME"),
        ("{proxy}", " NAME"),
        ("{through}", " through proxy NAME"),
        ("{owner}", "resource NAME"),
        ("{date}", "DATE"),
        ("{status}", "HTTP STATUS"),
        ("{code}", "ArcGIS error CODE"),
    ] {
        shown = shown.replace(brace, word);
    }
    assert!(!shown.contains('{'), "{shown}");
    shown
}

fn table() -> String {
    let mut table = "\n| reason | cause | message | what to do |\n|---|---|---|---|\n".to_owned();
    for row in MESSAGES {
        let Some(cause) = row.cause else { continue };
        let status = match row.status {
            None => String::new(),
            Some(0) => " (401 with Negotiate or NTLM)".to_owned(),
            Some(status) => format!(" ({status})"),
        };
        let (reason, seen, advice) = (row.reason, shown(row.seen), row.advice);
        writeln!(table, "| `{reason}` | `{cause}`{status} | {seen} | {advice} |").unwrap();
    }
    table
}

#[test]
fn the_reference_lists_every_cause_with_its_message() {
    let path = root().join("docs/reference.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (section, after) = rest.split_once(END).unwrap();
    let (intro, _) = section.split_once("\n| reason |").unwrap_or((section, ""));
    let expected = format!("{}\n{}", intro.trim_end_matches('\n'), table());
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(section, expected, "run UPDATE_SNAPSHOT=1 cargo test --test repo causes::");
}

#[test]
fn troubleshooting_has_a_row_for_every_cause_of_every_reason_and_no_other() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    for reason in Reason::ALL {
        let (_, section) = text.split_once(&format!("\n### {reason}\n")).unwrap();
        let section = section.split("\n### ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let rows = rows.filter(|(_, rest)| rest.matches(" | ").count() == 1);
        let found: Vec<Option<Cause>> = rows.map(|(cause, _)| Cause::parse(cause)).collect();
        let causes: Vec<Option<Cause>> = reason.causes().iter().copied().map(Some).collect();
        assert_eq!(found, causes, "{reason}");
    }
}

/// How a cause is produced in its test.
#[derive(PartialEq)]
enum By {
    /// The real thing: a name, a port, a certificate, a proxy, an object of the cluster, what the API server refuses.
    RealThing,
    /// The test portal, or a server of the test that sends these bytes over TLS: no ArcGIS is at hand.
    Server,
    /// A fault that the API proxy injects, or the text of an answer in a unit test.
    Script,
}

use By::{RealThing, Script, Server};

/// The test that produces each cause of each reason.
#[rustfmt::skip]
const PRODUCED: &[(Reason, &[Cause], By, &str)] = &[
    (Reason::SpecInvalid, &[Cause::Undecodable], Script, "src/core/tests/reports/messages.rs::each_reason_has_a_message_with_the_names_in_the_spec"),
    (Reason::SpecInvalid, &[Cause::TargetLabels, Cause::TargetAnnotations, Cause::TargetKeys], Script, "src/cluster/error.rs::what_the_api_server_answers_has_a_cause"),
    (Reason::SpecInvalid, &[Cause::TargetTooLarge], RealThing, "tests/e2e/memory.rs::resources_of_the_largest_size_that_render_to_the_largest_targets_stay_below_128_mib"),
    (Reason::PortalNotAllowed, &[Cause::NotListed], RealThing, "tests/e2e/sources.rs::what_is_wrong_with_credentials_and_bundles_has_a_cause"),
    (Reason::PortalNotAllowed, &[Cause::AddressNotAllowed], RealThing, "tests/e2e/causes.rs::names_and_ports_that_do_not_exist_are_told_apart"),
    (Reason::TargetNotOwned, &[Cause::NoOwner, Cause::OtherController, Cause::OtherResource, Cause::Immutable, Cause::OtherType], RealThing, "tests/e2e/sources.rs::who_owns_a_target_is_named"),
    (Reason::SourceRefused, &[Cause::Permission], RealThing, "tests/e2e/refusals.rs::what_rbac_does_not_grant_is_named_with_the_verb_and_the_object"),
    (Reason::SourceRefused, &[Cause::Other], Script, "src/cluster/error.rs::an_object_that_cannot_be_read_is_named"),
    (Reason::CredentialsIncomplete, &[Cause::KeyMissing, Cause::Empty, Cause::NotText], RealThing, "tests/e2e/sources.rs::what_is_wrong_with_credentials_and_bundles_has_a_cause"),
    (Reason::CaBundleNotFound, &[Cause::ObjectMissing, Cause::KeyMissing], RealThing, "tests/e2e/sources.rs::what_is_wrong_with_credentials_and_bundles_has_a_cause"),
    (Reason::CaBundleInvalid, &[Cause::Empty, Cause::NotPem, Cause::TooLarge], RealThing, "tests/e2e/sources.rs::what_is_wrong_with_credentials_and_bundles_has_a_cause"),
    (Reason::ClientCertificateNotFound, &[Cause::ObjectMissing, Cause::KeyMissing], RealThing, "tests/e2e/sources.rs::what_is_wrong_with_a_client_certificate_has_a_cause"),
    (Reason::ClientCertificateInvalid, &[Cause::NotPem, Cause::KeyMismatch, Cause::Encrypted, Cause::Expired, Cause::NotYetValid, Cause::OtherType], RealThing, "tests/e2e/sources.rs::what_is_wrong_with_a_client_certificate_has_a_cause"),
    (Reason::PortalUntrusted, &[Cause::Expired, Cause::NotYetValid, Cause::CaAsServer, Cause::WrongPurpose, Cause::UnknownIssuer, Cause::Unsupported, Cause::OtherName, Cause::NoName, Cause::Other], RealThing, "tests/e2e/trust.rs::certificates_of_openssl_and_keytool_are_trusted_as_the_table_says"),
    (Reason::RequestRejected, &[Cause::ClientCertificateRequired, Cause::NoCommonTls], RealThing, "tests/e2e/causes.rs::tls_that_is_not_shared_is_told_from_a_client_certificate_that_is_missing"),
    (Reason::RequestRejected, &[Cause::HttpStatus, Cause::ArcGisError], Server, "tests/e2e/causes.rs::responses_have_a_cause_and_their_text_goes_nowhere"),
    (Reason::PortalUnreachable, &[Cause::NameNotResolved, Cause::ConnectionRefused], RealThing, "tests/e2e/causes.rs::names_and_ports_that_do_not_exist_are_told_apart"),
    (Reason::PortalUnreachable, &[Cause::NoRoute, Cause::ConnectTimeout], RealThing, "tests/e2e/causes.rs::silent_dns_a_black_hole_and_a_missing_route_are_told_apart"),
    (Reason::PortalUnreachable, &[Cause::ConnectionClosed], Server, "tests/e2e/causes.rs::a_port_without_tls_and_one_that_closes_are_told_apart"),
    (Reason::PortalUnreachable, &[Cause::NotTls], RealThing, "tests/e2e/causes.rs::tls_that_is_not_shared_is_told_from_a_client_certificate_that_is_missing"),
    (Reason::PortalUnreachable, &[Cause::ResponseTimeout], Server, "tests/e2e/causes.rs::a_portal_that_does_not_answer_is_a_response_time_out"),
    (Reason::PortalUnreachable, &[Cause::ProxyUnreachable], RealThing, "tests/e2e/causes.rs::a_proxy_that_refuses_and_one_that_is_gone_are_told_apart_and_named"),
    (Reason::PortalUnreachable, &[Cause::ProxyRejected], RealThing, "tests/e2e/causes.rs::a_real_proxy_that_asks_for_credentials_or_forbids_the_port_is_named"),
    (Reason::PortalUnavailable, &[Cause::HttpStatus, Cause::ArcGisError], Server, "tests/e2e/causes.rs::responses_have_a_cause_and_their_text_goes_nowhere"),
    (Reason::RateLimited, &[Cause::HttpStatus, Cause::ArcGisError], Server, "tests/e2e/causes.rs::responses_have_a_cause_and_their_text_goes_nowhere"),
    (Reason::MalformedResponse, &[Cause::Redirect, Cause::Html, Cause::NotJson, Cause::NoToken, Cause::InvalidToken, Cause::InvalidLifetime, Cause::TooLarge, Cause::Truncated], Server, "tests/e2e/causes.rs::responses_have_a_cause_and_their_text_goes_nowhere"),
    (Reason::TargetRefused, &[Cause::Permission], RealThing, "tests/e2e/refusals.rs::a_target_that_rbac_does_not_let_the_operator_create_is_reported_before_a_token_is_requested"),
    (Reason::TargetRefused, &[Cause::Quota], RealThing, "tests/e2e/portal_failures.rs::an_exceeded_quota_is_reported_before_a_token_is_requested"),
    (Reason::TargetRefused, &[Cause::Policy], RealThing, "tests/e2e/secrets_in_output.rs::text_of_certificates_headers_policies_and_webhooks_appears_nowhere"),
    (Reason::TargetRefused, &[Cause::Webhook], RealThing, "tests/e2e/refusals.rs::a_webhook_that_refuses_and_one_that_is_down_are_named_before_a_token_is_requested"),
    (Reason::TargetRefused, &[Cause::NamespaceTerminating, Cause::OwnerReference], RealThing, "tests/e2e/target_ownership.rs::a_forbidden_owner_reference_update_does_not_block_renewals"),
    (Reason::TargetRefused, &[Cause::Other], Script, "src/cluster/error.rs::what_the_api_server_answers_has_a_cause"),
    (Reason::ClusterError, &[Cause::Unauthorized, Cause::TooManyRequests, Cause::ServerError, Cause::Unreachable], Script, "src/cluster/error.rs::what_the_api_server_answers_has_a_cause"),
    (Reason::ClusterError, &[Cause::Timeout], RealThing, "tests/e2e/refusals.rs::a_webhook_that_does_not_answer_is_a_time_out_of_the_api_server"),
    (Reason::ClusterError, &[Cause::WebhookFailed], RealThing, "tests/e2e/refusals.rs::a_webhook_that_refuses_and_one_that_is_down_are_named_before_a_token_is_requested"),
];

#[test]
fn a_test_produces_every_cause_of_every_reason() {
    let pairs = Reason::ALL.iter().flat_map(|reason| reason.causes().iter().map(|cause| (*reason, *cause)));
    let pairs: BTreeSet<(Reason, Cause)> = pairs.collect();
    let listed = PRODUCED.iter().flat_map(|(reason, causes, ..)| causes.iter().map(|cause| (*reason, *cause)));
    let listed: Vec<(Reason, Cause)> = listed.collect();
    let named: BTreeSet<(Reason, Cause)> = listed.iter().copied().collect();
    assert_eq!(named, pairs);
    assert_eq!(listed.len(), pairs.len(), "one is listed twice");
    for (reason, causes, _, test) in PRODUCED {
        let (file, name) = test.split_once("::").unwrap();
        let text = std::fs::read_to_string(root().join(file)).expect(test);
        // What a file of the program says of a cause outside of its tests counts nothing.
        let text = if file.starts_with("src/") {
            text.split_once("mod tests {").map_or(&*text, |(_, own)| own)
        } else {
            &text
        };
        assert!(text.contains(&format!("fn {name}(")), "there is no test {test}");
        for word in causes.iter().map(|cause| cause.as_str()).chain([reason.as_str()]) {
            let stands = text.match_indices(word).any(|(at, _)| {
                let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
                edge(text[..at].chars().next_back()) && edge(text[at + word.len()..].chars().next())
            });
            assert!(stands, "{test} does not name {word}");
        }
    }
}

#[test]
fn what_a_cluster_or_a_network_can_produce_is_produced_by_the_real_thing() {
    let count =
        |by: &By| PRODUCED.iter().filter(|(.., is, _)| is == by).map(|(_, causes, ..)| causes.len()).sum::<usize>();
    let (real, server, script) = (count(&RealThing), count(&Server), count(&Script));
    assert!(real >= 45 && server <= 18 && script <= 10, "{real} real, {server} by a server, {script} scripted");
}
