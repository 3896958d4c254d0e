//! The steps of an exchange: name, connection, proxy, TLS, HTTP, ArcGIS.

use std::time::Instant;

use super::Subject;
use super::report::{Report, Result as Ended};
use crate::api::{Cause, Fault, Names, Reason};
use crate::arcgis::{Facts, Grant, Route, Session, TokenRequest, exchange as request};
use crate::commands::environment::clock;
use crate::core::{describe, format_seconds};

/// A name in a certificate is shown up to this length.
const MAX_CHARS: usize = 253;
const MAX_NAMES: usize = 10;

/// Makes each step until one fails; the last one requests a token.
pub(super) async fn exchange(subject: &Subject, report: &mut Report) -> Option<Grant> {
    report.portal(format!("https://{}", subject.portal));
    let base = subject.portal.base();
    let route = Route::new(&subject.client, &base)?;
    if let Err(fault) = connect(&route, report).await {
        fail(subject, report, &route.named(fault));
        return None;
    }
    let (credentials, referer) = (&subject.credentials, subject.referer.as_deref());
    let lifetime = subject.plan.as_ref().and_then(|plan| plan.lifetime);
    let started = Instant::now();
    let made = TokenRequest { portal: &base, credentials, lifetime, referer };
    let exchanged = request(&subject.client, &made, clock).await;
    let took = Some(started.elapsed());
    match exchanged.answer {
        Ok(grant) => {
            report.add("HTTP", Ended::Ok, vec!["the portal answers".to_owned()], took);
            let lifetime = format_seconds(grant.lifetime_seconds);
            report.add("ArcGIS", Ended::Ok, vec![format!("Issued: a token for {lifetime}")], None);
            report.issued(grant.lifetime_seconds);
            Some(grant)
        }
        Err(error) => {
            let fault = error.fault;
            let by_arcgis = matches!(fault.reason, Reason::ClientIdRejected | Reason::ClientSecretRejected)
                || fault.cause == Some(Cause::ArcGisError);
            if by_arcgis {
                report.add("HTTP", Ended::Ok, vec!["the portal answers".to_owned()], took);
            }
            report.add(if by_arcgis { "ArcGIS" } else { "HTTP" }, Ended::Failed, vec![word(&fault)], None);
            fail(subject, report, &fault);
            None
        }
    }
}

/// Records a failure with the message that a resource would have.
pub(super) fn fail(subject: &Subject, report: &mut Report, fault: &Fault) {
    let fault = &fault.clone().clock(subject.server_clock.differs());
    let message = if let Some(plan) = &subject.plan {
        describe(fault, None, Some(plan))
    } else {
        let portal = subject.portal.authority();
        fault.message(&Names { portal: &portal, credentials: &subject.place, ..Names::default() })
    };
    report.failed(fault, message);
}

fn word(fault: &Fault) -> String {
    let number = fault.seen.number.map_or_else(String::new, |number| format!(" {number}"));
    fault.cause.map_or(fault.reason.as_str(), Cause::as_str).to_owned() + &number
}

/// Makes a connection of its own, which sends nothing.
async fn connect(route: &Route<'_>, report: &mut Report) -> Result<(), Fault> {
    let (host, port) = route.first();
    let started = Instant::now();
    let addresses = match route.resolve().await {
        Ok(addresses) => addresses,
        Err(fault) => return Err(failed(report, "Name", &fault, started)),
    };
    let listed: Vec<String> = addresses.iter().take(MAX_NAMES).map(|at| at.ip().to_string()).collect();
    report.add("Name", Ended::Ok, vec![format!("{host}: {}", listed.join(", "))], Some(started.elapsed()));
    let started = Instant::now();
    let stream = match route.connect(&addresses).await {
        Ok(stream) => stream,
        Err(fault) => return Err(failed(report, "Connection", &fault, started)),
    };
    let peer = stream.peer_addr().map_or_else(|_| format!("port {port}"), |peer| peer.to_string());
    report.add("Connection", Ended::Ok, vec![peer], Some(started.elapsed()));
    let started = Instant::now();
    let (session, ended) = route.handshake(stream).await;
    let by_proxy = |fault: &Fault| matches!(fault.cause, Some(Cause::ProxyUnreachable | Cause::ProxyRejected));
    match (&ended, route.proxied()) {
        (Err(fault), true) if by_proxy(fault) => return Err(failed(report, "Proxy", fault, started)),
        (_, true) => report.add("Proxy", Ended::Ok, vec![format!("{host}:{port} opens the connection")], None),
        (_, false) => report.add("Proxy", Ended::Skipped, vec!["none".to_owned()], None),
    }
    let mut seen = match &ended {
        Ok(()) => vec![session_line(&session)],
        Err(fault) => vec![word(fault)],
    };
    seen.extend(session.certificate.iter().flat_map(certificate_lines));
    report.add("TLS", if ended.is_ok() { Ended::Ok } else { Ended::Failed }, seen, Some(started.elapsed()));
    ended
}

fn failed(report: &mut Report, step: &'static str, fault: &Fault, started: Instant) -> Fault {
    report.add(step, Ended::Failed, vec![word(fault)], Some(started.elapsed()));
    fault.clone()
}

fn session_line(session: &Session) -> String {
    let version = session.version.unwrap_or("TLS");
    let suite = session.cipher_suite.as_deref().map_or_else(String::new, |suite| format!(", {suite}"));
    let asks = if session.asks_for_certificate { ", asks for a client certificate" } else { "" };
    format!("{version}{suite}{asks}")
}

fn certificate_lines(facts: &Facts) -> Vec<String> {
    let more = facts.alternative_names.len().saturating_sub(MAX_NAMES);
    let mut names: Vec<String> = facts.alternative_names.iter().take(MAX_NAMES).map(|name| escaped(name)).collect();
    names.extend((more > 0).then(|| format!("and {more} more")));
    if !facts.has_alternative_names {
        names.push("none".to_owned());
    }
    let common = facts.common_name.as_deref().map_or_else(|| "none".to_owned(), escaped);
    let ca = if facts.ca { ", a CA certificate" } else { "" };
    vec![
        format!("names: {}; common name: {common}{ca}", names.join(", ")),
        format!("issuer: {}", escaped(&facts.issuer)),
        format!("valid from {} to {}", facts.not_before, facts.not_after),
    ]
}

/// A certificate may name itself as it likes.
fn escaped(name: &str) -> String {
    name.chars().flat_map(char::escape_default).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_in_a_certificate_is_escaped_and_bounded() {
        assert_eq!(escaped("gis.example.com"), "gis.example.com");
        assert_eq!(escaped("\u{1b}[31m\u{202e}"), "\\u{1b}[31m\\u{202e}");
        assert_eq!(escaped(&"a".repeat(1000)).len(), 253);
    }
}
