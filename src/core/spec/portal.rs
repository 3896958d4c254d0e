//! Portal URLs, and the list of origins that credentials may be sent to.

use std::fmt;

use thiserror::Error;

/// A text that is not a portal URL, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PortalUrlError {
    #[error("write https://host, https://host/context or https://host:port/context, without user, query or fragment")]
    Syntax,
    #[error("this is a service; write the portal's URL")]
    Service,
}

/// A portal's base URL in its one normal form: lower-case host, no `:443`, no trailing slash, no
/// `/home` or `/sharing` tail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalUrl {
    host: String,
    port: u16,
    path: String,
}

const HTTPS_PORT: u16 = 443;

impl PortalUrl {
    /// Parses and normalizes a URL.
    pub fn parse(text: &str) -> Result<Self, PortalUrlError> {
        let rest = text.strip_prefix("https://").ok_or(PortalUrlError::Syntax)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = parse_authority(authority).ok_or(PortalUrlError::Syntax)?;
        if !is_path(path) || text.len() > 2048 {
            Err(PortalUrlError::Syntax)
        } else if path.to_ascii_lowercase().contains("/rest/services") {
            Err(PortalUrlError::Service)
        } else {
            Ok(Self { host, port, path: strip_tails(path).to_owned() })
        }
    }

    /// The base URL: `https://gis.example.com/portal`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("https://{self}")
    }

    /// The host, with its port where that is not 443: what limits and metrics go by.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == HTTPS_PORT { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Without the scheme: `gis.example.com/portal`.
impl fmt::Display for PortalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.authority(), self.path)
    }
}

/// Characters of a path, with two hexadecimal digits after each `%`.
fn is_path(path: &str) -> bool {
    let is_escaped = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~%/-".contains(&b)) && path.split('%').skip(1).all(is_escaped)
}

/// Drops what browsers and documentation show after the base URL: `/home…` and `/sharing…`.
fn strip_tails(path: &str) -> &str {
    let any = |_: &str| true;
    let rest = |tail: &str| tail.is_empty() || tail == "/rest" || tail.starts_with("/rest/");
    strip_tail(strip_tail(path, "/home", any), "/sharing", rest)
}

/// Drops the first such segment together with what follows, where that is a tail; and slashes at the end.
fn strip_tail<'a>(path: &'a str, segment: &str, is_tail: impl Fn(&str) -> bool) -> &'a str {
    let path = path.trim_end_matches('/');
    let lower = path.to_ascii_lowercase();
    let ends = lower.match_indices(segment).find(|(at, _)| {
        let tail = &lower[at + segment.len()..];
        (tail.is_empty() || tail.starts_with('/')) && is_tail(tail)
    });
    ends.map_or(path, |(at, _)| path[..at].trim_end_matches('/'))
}

/// Host in lower case and port of `host`, `host:port` or `[v6]:port`.
fn parse_authority(text: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(v6) = text.strip_prefix('[') {
        let (host, rest) = v6.split_once(']')?;
        // One that stands for an IPv4 address is written as such.
        let host = host.parse().ok().filter(|host: &std::net::Ipv6Addr| host.to_ipv4_mapped().is_none())?;
        (format!("[{host}]"), if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if !is_host(host) {
            return None;
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None => HTTPS_PORT,
        Some(port) if port.as_bytes().first().is_some_and(|digit| (b'1'..=b'9').contains(digit)) => {
            port.parse().ok()?
        }
        Some(_) => return None,
    };
    Some((host, port))
}

/// A host name, or an IPv4 address in its usual form: other numbers would be read as addresses by URL parsers.
fn is_host(host: &str) -> bool {
    if ends_in_number(host) {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Whether URL parsers take the host for an IPv4 address (URL Standard, "ends in a number").
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let digits =
        |text: &str, hex: bool| text.bytes().all(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() });
    (!last.is_empty() && digits(last, false))
        || last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).is_some_and(|rest| digits(rest, true))
}

/// A text that is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write an origin such as https://gis.example.com, https://host:7443 or https://*.example.com, without a path")]
pub struct OriginError;

/// An origin that credentials may be sent to; `*.example.com` is any depth below example.com, on one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin {
    wildcard: bool,
    host: String,
    port: u16,
}

/// How a portal matches the list of allowed origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginMatch {
    /// Its origin is listed: the administrator has accepted whatever address it resolves to.
    Exact,
    /// Its name is below a listed domain.
    Wildcard,
}

impl OriginMatch {
    /// The best match of the portal with any of the origins; an exact one is better.
    #[must_use]
    pub fn of(portal: &PortalUrl, allowed: &[AllowedOrigin]) -> Option<Self> {
        let how = |origin: &AllowedOrigin| if origin.wildcard { Self::Wildcard } else { Self::Exact };
        allowed.iter().filter(|origin| origin.matches(portal)).map(how).min()
    }
}

impl AllowedOrigin {
    /// Whether the portal is on this origin.
    #[must_use]
    pub fn matches(&self, portal: &PortalUrl) -> bool {
        let host = if self.wildcard {
            portal.host.strip_suffix(&self.host).is_some_and(|rest| rest.ends_with('.'))
        } else {
            portal.host == self.host
        };
        host && portal.port == self.port
    }
}

impl std::str::FromStr for AllowedOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("https://").ok_or(OriginError)?;
        let (wildcard, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        let (host, port) = parse_authority(rest.strip_suffix('/').unwrap_or(rest)).ok_or(OriginError)?;
        // An address has nothing below it.
        if wildcard && (host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()) {
            Err(OriginError)
        } else {
            Ok(Self { wildcard, host, port })
        }
    }
}
