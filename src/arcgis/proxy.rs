//! The proxy on the way to a portal, as environment variables name it.

use std::fmt;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::{Proxy, Url};
use thiserror::Error;

use crate::api::ShownName;

/// A value that is no URL of a proxy. It is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write a proxy such as http://proxy.example.com:3128, or http://user:password@proxy.example.com:3128")]
pub struct ProxyError;

/// Which proxy leads to which portal.
#[derive(Clone, Default)]
pub struct Proxies {
    url: Option<Url>,
    no_proxy: String,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Proxies {
    /// Reads the URL of a proxy, with or without a scheme, and the hosts that are reached without it. Blanks are ignored.
    pub fn parse(proxy: &str, no_proxy: &str) -> Result<Self, ProxyError> {
        let (proxy, no_proxy) = (proxy.trim(), no_proxy.trim().to_owned());
        if proxy.is_empty() {
            return Ok(Self { url: None, no_proxy });
        }
        let text = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
        let url = Url::parse(&text).map_err(|_| ProxyError)?;
        let usable = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
        if usable { Ok(Self { url: Some(url), no_proxy }) } else { Err(ProxyError) }
    }

    /// The host of the proxy, which an administrator has chosen.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.url.as_ref()?.host_str()
    }

    fn matcher(&self) -> Matcher {
        let url = self.url.as_ref().map_or("", Url::as_str);
        Matcher::builder().https(url.to_owned()).no(self.no_proxy.clone()).build()
    }

    /// The proxy that leads to a URL.
    pub(super) fn intercept(&self, url: &str) -> Option<Intercept> {
        self.matcher().intercept(&url.parse().ok()?)
    }

    /// Host and port of the proxy that leads to a URL, for messages.
    #[must_use]
    pub fn name(&self, url: &str) -> Option<ShownName> {
        ShownName::host(self.intercept(url)?.uri().authority()?.as_str())
    }

    /// The same for an HTTP client.
    pub(super) fn for_client(&self) -> Option<Proxy> {
        let url = self.url.clone()?;
        let matcher = self.matcher();
        let through = move |portal: &Url| {
            let portal = portal.as_str().parse().ok()?;
            matcher.intercept(&portal).map(|_| url.clone())
        };
        Some(Proxy::custom(through))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    const PORTAL: &str = "https://gis.example.com/portal";

    #[test]
    fn a_proxy_is_trimmed_and_named_without_its_password() {
        for (text, name) in [
            (" http://user:secret@proxy.example.com:3128/ ", "proxy.example.com:3128"),
            ("proxy.example.com:8080\n", "proxy.example.com:8080"),
            ("https://proxy.example.com", "proxy.example.com"),
            ("[::1]:3128", "[::1]:3128"),
        ] {
            let proxies = Proxies::parse(text, "").unwrap();
            assert_eq!(proxies.name(PORTAL).unwrap().as_str(), name, "{text}");
            assert!(!format!("{proxies:?}").contains("secret"));
        }
        assert_eq!(Proxies::parse(" \n", "").unwrap().name(PORTAL), None);
    }

    #[test]
    fn no_proxy_names_hosts_and_the_domains_below_them() {
        for (no_proxy, through) in
            [("example.com", false), (" .example.com ,other", false), ("*", false), ("ample.com", true), ("", true)]
        {
            assert_eq!(Proxies::parse("p:1", no_proxy).unwrap().name(PORTAL).is_some(), through, "{no_proxy}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_proxy_is_refused() {
        for text in ["http://", "socks5://proxy:1080", "http://a b", "http://proxy:port", "://"] {
            assert!(Proxies::parse(text, "").is_err(), "{text}");
        }
    }
}
