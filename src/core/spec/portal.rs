//! Portal URLs, and the list of origins that credentials may be sent to.

use std::fmt;

use thiserror::Error;

/// A text that is not a portal URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write https://host, https://host/context or https://host:port/context, without user, query or fragment")]
pub struct PortalUrlError;

/// A portal's base URL in its one normal form: lower-case host, no `:443`, no trailing slash, no `/sharing` tail.
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
        let rest = text.strip_prefix("https://").ok_or(PortalUrlError)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = parse_authority(authority).ok_or(PortalUrlError)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~%/-".contains(c);
        if !path.chars().all(allowed) || text.len() > 2048 {
            return Err(PortalUrlError);
        }
        Ok(Self { host, port, path: strip_sharing(path).to_owned() })
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

fn strip_sharing(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    let lower = path.to_ascii_lowercase();
    let mut from = 0;
    while let Some(found) = lower[from..].find("/sharing") {
        let at = from + found;
        let tail = &lower[at + "/sharing".len()..];
        if tail.is_empty() || tail == "/rest" || tail.starts_with("/rest/") {
            return path[..at].trim_end_matches('/');
        }
        from = at + 1;
    }
    path
}

/// Host in lower case and port of `host`, `host:port` or `[v6]:port`.
fn parse_authority(text: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(v6) = text.strip_prefix('[') {
        let (host, rest) = v6.split_once(']')?;
        let host: std::net::Ipv6Addr = host.parse().ok()?;
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
        Some(port) if port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0)?
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
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
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
