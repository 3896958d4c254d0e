//! The messages of failures: one row for each reason and cause, with what was seen and what to do.
//!
//! Braces name what is filled in: [`Names`] that the user wrote, and what a [`Seen`](super::Seen) holds.

use super::cause::{Fault, Seen, ShownName};
use super::message_table::{MESSAGES, Message, WINDOWS};

/// The names that the user wrote, for messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// Host of `spec.portal.url`, with its port if it is not 443.
    pub portal: &'a str,
    /// Where the credentials are, such as `Secret NAME`.
    pub credentials: &'a str,
    /// The key of the credentials Secret that a failure is about.
    pub key: &'a str,
    /// Kind, name and key of the CA bundle.
    pub ca: &'a str,
    pub client_certificate: &'a str,
    pub target: &'a str,
    /// The object that cannot be read, with its kind.
    pub source: &'a str,
    /// The field of the specification that is wrong, and what to write instead.
    pub field: &'a str,
}

const MAX_CHARS: usize = 1024;
/// Follows the message of a failure that the clock may be the cause of.
const CLOCK: &str =
    " The clock of the operator's node differs from that of the API server by more than 5 minutes: correct it first.";

impl Fault {
    /// What was seen, where, and what to do: constant text with checked names, at most 1,024 characters.
    #[must_use]
    pub fn message(&self, names: &Names<'_>) -> String {
        let fits = |row: &&Message| {
            let status = if self.seen.windows { Some(WINDOWS) } else { self.seen.number };
            row.reason == self.reason && row.cause == self.cause && (row.status.is_none() || row.status == status)
        };
        let general = || MESSAGES.iter().find(|row| row.reason == self.reason && row.cause.is_none());
        let Some(row) = MESSAGES.iter().find(fits).or_else(general) else { return String::new() };
        let clock = if self.seen.clock_differs { CLOCK } else { "" };
        let text = format!("{} {}{clock}", fill(row.seen, names, &self.seen), row.advice);
        text.chars().take(MAX_CHARS).collect()
    }
}

/// Fills in the names between braces. A name that a user chose is not read for braces.
fn fill(text: &str, names: &Names<'_>, seen: &Seen) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, (name, after))) = rest.split_once('{').and_then(|(b, a)| Some((b, a.split_once('}')?))) {
        filled.push_str(before);
        filled.push_str(&value(name, names, seen).unwrap_or_default());
        rest = after;
    }
    filled + rest
}

/// What a brace stands for.
fn value(brace: &str, names: &Names<'_>, seen: &Seen) -> Option<String> {
    let written = [
        ("portal", names.portal),
        ("credentials", names.credentials),
        ("key", names.key),
        ("ca", names.ca),
        ("client_certificate", names.client_certificate),
        ("target", names.target),
        ("source", names.source),
        ("field", names.field),
    ];
    let written = written.into_iter().find(|(name, _)| *name == brace);
    written.map(|(_, text)| text.to_owned()).or_else(|| seen_value(brace, seen))
}

fn seen_value(brace: &str, seen: &Seen) -> Option<String> {
    let number = |what: &str, unknown: &str| seen.number.map_or_else(|| unknown.to_owned(), |n| format!("{what} {n}"));
    let name = |before: &str, unknown: &str| {
        let name = seen.name.as_ref().map(ShownName::as_str);
        name.map_or_else(|| unknown.to_owned(), |name| format!("{before} {name}"))
    };
    Some(match brace {
        "name" | "proxy" => name("", ""),
        "through" => name(" through proxy", ""),
        "owner" => name("resource", "another resource"),
        "date" => seen.date.map_or_else(|| "a date that is past or to come".to_owned(), |date| date.to_string()),
        "status" => number("HTTP", "an error status"),
        "code" => number("ArcGIS error", "an ArcGIS error"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::cause::Cause::{self, HttpStatus};
    use super::super::reason::Reason::{self, RequestRejected};
    use super::*;

    fn faults() -> Vec<Fault> {
        let causes = |reason: &Reason| {
            let reason = *reason;
            reason.causes().iter().map(move |cause| Fault::new(reason, *cause)).chain([Fault::from(reason)])
        };
        Reason::ALL.iter().flat_map(causes).collect()
    }

    #[test]
    fn every_reason_and_every_cause_has_a_message_and_no_other_has() {
        for fault in faults() {
            let rows = MESSAGES.iter().filter(|row| row.reason == fault.reason && row.cause == fault.cause);
            assert!(rows.clone().any(|row| row.status.is_none()), "{fault:?}");
        }
        for row in MESSAGES {
            assert!(row.cause.is_none_or(|cause| row.reason.causes().contains(&cause)), "{row:?}");
        }
        for cause in Cause::ALL {
            assert!(Reason::ALL.iter().any(|reason| reason.causes().contains(cause)), "{cause}");
            assert_eq!(Cause::parse(cause.as_str()), Some(*cause));
        }
    }

    #[test]
    fn a_cause_of_another_reason_is_left_out() {
        assert_eq!(Fault::new(Reason::PortalUntrusted, Cause::Quota), Reason::PortalUntrusted.into());
    }

    #[test]
    fn every_brace_is_filled_and_a_message_says_what_to_do_within_1024_characters() {
        let long = "n".repeat(253);
        let names = Names {
            portal: &long,
            credentials: &long,
            key: &long,
            ca: &long,
            client_certificate: &long,
            target: &long,
            source: &long,
            field: &long,
        };
        for mut fault in faults() {
            for seen in [
                Seen::default(),
                Seen {
                    number: Some(503),
                    date: Some(jiff::Timestamp::UNIX_EPOCH),
                    name: ShownName::object("a"),
                    windows: true,
                    config_map: true,
                    clock_differs: true,
                },
            ] {
                fault.seen = seen;
                let message = fault.message(&names);
                assert!(
                    !message.contains(['{', '}']) && !message.contains("  ") && message.ends_with('.'),
                    "{message}"
                );
                assert!(message.len() <= 1024, "{message}");
            }
        }
        for row in MESSAGES {
            let braces = row.seen.split('{').skip(1).map(|rest| rest.split('}').next().unwrap_or_default());
            for brace in braces {
                assert!(value(brace, &names, &Seen::default()).is_some(), "{brace}");
            }
            assert!(!row.advice.contains('{') && row.advice.ends_with('.') && row.seen.ends_with('.'), "{row:?}");
        }
    }

    #[test]
    fn a_401_says_who_asks_for_credentials() {
        let names = Names { portal: "gis.example.com", ..Names::default() };
        let mut fault = Fault::new(RequestRejected, HttpStatus).number(401);
        assert!(fault.message(&names).starts_with("A server in front of portal gis.example.com asks for credentials"));
        fault.seen.windows = true;
        assert!(fault.message(&names).contains("Windows authentication"), "{}", fault.message(&names));
        let other = Fault::new(RequestRejected, HttpStatus).number(418).message(&names);
        assert!(other.contains("with HTTP 418."), "{other}");
    }

    #[test]
    fn a_clock_that_may_be_at_fault_is_named_where_dates_decide() {
        let names = Names { portal: "gis.example.com", ..Names::default() };
        let says = |fault: Fault, differs| {
            fault.clock(differs).message(&names).contains("clock of the operator's node differs")
        };
        for cause in [Cause::Expired, Cause::NotYetValid] {
            for reason in [Reason::PortalUntrusted, Reason::ClientCertificateInvalid] {
                assert!(says(Fault::new(reason, cause), true) && !says(Fault::new(reason, cause), false));
            }
        }
        assert!(!says(Fault::new(Reason::PortalUntrusted, Cause::OtherName), true));
    }

    #[test]
    fn only_names_of_objects_and_hosts_are_shown() {
        assert!(ShownName::object("team-a.example.com").is_some() && ShownName::object("Team A").is_none());
        assert!(ShownName::host("[::1]:8080").is_some() && ShownName::host("host\u{202e}").is_none());
        assert!(ShownName::host(&"a".repeat(254)).is_none() && ShownName::host("user:secret@host").is_none());
    }
}
