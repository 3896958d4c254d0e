//! The URL that requests to a portal name as their `Referer`.

/// What to write instead of a text that is not a referer.
pub const REFERER_ADVICE: &str =
    "write an http or https URL of at most 512 characters, such as https://maps.example.com";

/// Whether a text is a URL that can be sent as `Referer`.
#[must_use]
pub fn is_referer(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    text.len() <= 512
        && is_host(host)
        && port.is_none_or(is_port)
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// Whether a text has only characters that shells take as they are.
#[must_use]
pub fn is_shell_safe(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"[]:._~%/?=+,@-".contains(&b))
}

fn is_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return (2..=45).contains(&v6.len()) && v6.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
    }
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(host.bytes().next())
        && edge(host.bytes().last())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
}

fn is_port(port: &str) -> bool {
    (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
}
