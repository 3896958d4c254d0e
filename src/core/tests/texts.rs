//! The parsing of what users write: durations, URLs, origins, selectors, templates, credentials.

use crate::api::{Cause, is_subdomain};
use crate::core::spec::is_shell_safe;

use super::super::*;
use serde_json::json;

mod secrets;
mod spec;

#[test]
fn durations_are_go_durations_from_a_minute_to_336_hours() {
    let long = [("1m", 60), ("336h", 1_209_600), ("90m", 5400), ("1h30m", 5400), ("1.5h", 5400), (".5h", 1800)];
    let short = [("60s", 60), ("60000ms", 60)];
    for (text, seconds) in long.into_iter().chain(short) {
        assert_eq!(parse_duration(text), Ok(seconds), "{text}");
    }
    assert_eq!((parse_duration("60000.000001ms"), parse_duration("60.25s")), (Ok(61), Ok(61)), "rounded up");
    assert_eq!(parse_duration(&"1m".repeat(32)), Ok(1920));
    assert!(parse_duration(&("1m".repeat(31) + "01m")).is_err(), "65 characters");
    assert_eq!(parse_duration(&("0".repeat(62) + "1m")), Ok(60));
    for text in [
        "60000000us",
        "60000000001ns",
        "5.m",
        "1.0000000001h",
        "",
        "1d",
        "junk",
        "-1h",
        "59s",
        "336h1ns",
        "5",
        "1h 30m",
        "PT2H",
        "1e3h",
        "h",
        "1.2.3h",
        ".",
    ] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    assert!(parse_duration(&("9".repeat(40) + "h")).is_err());
    let shown = [7200, 5400, 299, 0, 60, 3599, 3601, 90_061].map(format_seconds);
    assert_eq!(shown, ["2h", "1h30m", "4m59s", "0s", "1m", "59m59s", "1h1s", "25h1m1s"]);
}

#[test]
fn portal_urls_have_one_normal_form() {
    for (text, base) in [
        ("https://www.arcgis.com", "https://www.arcgis.com"),
        ("https://WWW.ArcGIS.com:443/", "https://www.arcgis.com"),
        ("https://gis.example.com/portal/sharing/rest/oauth2/token/", "https://gis.example.com/portal"),
        ("https://gis.example.com/portal/Sharing", "https://gis.example.com/portal"),
        ("https://host:7443/arcgis/", "https://host:7443/arcgis"),
        ("https://host/sharingx/rest", "https://host/sharingx/rest"),
        ("https://gis_1.example.com/portal/home/index.html", "https://gis_1.example.com/portal"),
        ("https://host/Home", "https://host"),
        ("https://host/homes", "https://host/homes"),
        ("https://host/sharing/home/x", "https://host"),
        ("https://host/a/home/b/sharing/rest", "https://host/a"),
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"),
    ] {
        assert_eq!(PortalUrl::parse(text).unwrap().base(), base);
    }
    for text in
        ["http://host", "https://u@host", "https://host?x", "https://host/#x", "https://ho st", "https://host:0"]
    {
        assert_eq!(PortalUrl::parse(text), Err(PortalUrlError::Syntax), "{text}");
    }
    for text in ["https://host/arcgis/rest/services/Roads/FeatureServer", "https://host/server/REST/Services"] {
        assert_eq!(PortalUrl::parse(text), Err(PortalUrlError::Service), "{text}");
    }
}

#[test]
fn portal_urls_have_bounds_and_lose_what_follows_the_base() {
    for (text, base) in [
        ("https://host/a/sharing/b/sharing/rest/oauth2/token", "https://host/a/sharing/b"),
        ("https://host/sharing", "https://host"),
        ("https://host/sharing/rest", "https://host"),
        ("https://host/sharing/restful", "https://host/sharing/restful"),
        ("https://host:65535/", "https://host:65535"),
        ("https://a-b.c1/x~y._%20-", "https://a-b.c1/x~y._%20-"),
        ("https://0x.example/", "https://0x.example"),
        ("https://1.example/", "https://1.example"),
    ] {
        assert_eq!(PortalUrl::parse(text).unwrap().base(), base, "{text}");
    }
    let bad_hosts = [
        "-a",
        "a-",
        "a..b",
        "",
        "a_b-",
        "[::1",
        "[::1]7",
        "[x]",
        "a:65536",
        "a:",
        "a:+1",
        "a:0443",
        "a.0X1",
        "1",
        "[::ffff:10.0.0.1]",
    ];
    let bad_paths = ["/%", "/%4", "/%zz", "/a%2", "/\u{e4}"];
    for host in bad_hosts {
        assert!(PortalUrl::parse(&format!("https://{host}")).is_err(), "{host}");
    }
    for path in bad_paths {
        assert!(PortalUrl::parse(&format!("https://host{path}")).is_err(), "{path}");
    }
    assert_eq!(PortalUrl::parse("https://[::1]:7443").unwrap().authority(), "[::1]:7443");
    assert_eq!(PortalUrl::parse("https://host:7443/x").unwrap().authority(), "host:7443");
    assert_eq!(PortalUrl::parse("https://host/x").unwrap().to_string(), "host/x");
    let label = |length| format!("https://{}.example", "a".repeat(length));
    assert!(PortalUrl::parse(&label(63)).is_ok() && PortalUrl::parse(&label(64)).is_err());
    let host = |length: usize| format!("https://{}{}", "a.".repeat((length - 1) / 2), "a".repeat(2 - length % 2));
    assert!(PortalUrl::parse(&host(253)).is_ok() && PortalUrl::parse(&host(254)).is_err());
    let url = |length: usize| format!("https://host/{}", "a".repeat(length - 13));
    assert!(PortalUrl::parse(&url(2048)).is_ok() && PortalUrl::parse(&url(2049)).is_err());
}

#[test]
fn an_origin_matches_its_host_and_port_and_a_wildcard_matches_subdomains() {
    let allows =
        |origin: &str, url: &str| origin.parse::<AllowedOrigin>().unwrap().matches(&PortalUrl::parse(url).unwrap());
    assert!(allows("https://*.example.com", "https://a.b.example.com/portal"));
    assert!(!allows("https://*.example.com", "https://example.com"));
    assert!(!allows("https://*.example.com", "https://evilexample.com"));
    assert!(!allows("https://*.example.com", "https://a.example.com:7443"));
    assert!(!allows("https://example.com", "https://a.example.com"));
    assert!(allows("https://Host:7443", "https://host:7443/arcgis"));
    for bad in ["http://host", "https://host/path", "host", "https://*.127.0.0.1", "https://", "https://u@host"] {
        assert!(bad.parse::<AllowedOrigin>().is_err(), "{bad}");
    }
}

#[test]
fn a_host_that_parses_as_an_ip_address_must_be_in_canonical_form() {
    for bad in ["https://2130706433", "https://0x7f.1", "https://127.1", "https://a.0x7f000001", "https://1.2.3.4.5"] {
        assert!(PortalUrl::parse(bad).is_err(), "{bad}");
    }
    assert!(PortalUrl::parse("https://10.1.2.3/portal").is_ok());
    for bad in ["https://*.0.0.1", "https://*.1", "https://*.[::1]", "https://*.0x1"] {
        assert!(bad.parse::<AllowedOrigin>().is_err(), "{bad}");
    }
}

#[test]
fn an_exact_origin_takes_precedence_over_a_wildcard() {
    let allowed = ["https://*.example.com", "https://gis.example.com"].map(|origin| origin.parse().unwrap());
    let how = |url: &str| OriginMatch::of(&PortalUrl::parse(url).unwrap(), &allowed);
    assert_eq!(how("https://gis.example.com/portal"), Some(OriginMatch::Exact));
    assert_eq!(how("https://other.example.com"), Some(OriginMatch::Wildcard));
    assert_eq!(how("https://gis.example.com:7443"), None);
}

#[test]
fn selectors_have_the_syntax_of_kubectl() {
    for good in
        ["", "a=b", "a==b", "a!=b", "a", "!a", "x.io/a in (b,c), d notin (e)", "a=", "n>5", "a=b,c=d", "a in (,b)"]
    {
        assert_eq!(parse_selector(good).as_deref(), Ok(good));
    }
    for bad in ["a in b", "a in (b", "a)", "=b", "a=b c", "a,,b", "-a", "a/b/c=d", "a is (b)", "n>x", "((a))"] {
        assert!(parse_selector(bad).is_err(), "{bad}");
    }
    for good in ["n<5", "n > -5", " a = b ", "! a", "a notin (b)", "a_b.c-d=E_1.f", "  ", "1=2"] {
        assert_eq!(parse_selector(good).as_deref(), Ok(good));
    }
    for bad in [
        "a in (b) c",
        "a in b c (d)",
        "a b in (c)",
        "a (b)",
        "in (b)",
        "a_.b/c=d",
        "/c=d",
        "a_/c",
        "a=-b",
        "a=b-",
        "a.=b",
        "!",
        "n<",
        "a in ((b)",
    ] {
        assert!(parse_selector(bad).is_err(), "{bad}");
    }
    let long = |length: usize| "a".repeat(length);
    assert!(parse_selector(&long(63)).is_ok() && parse_selector(&long(64)).is_err());
    assert!(parse_selector(&format!("a={}", long(63))).is_ok() && parse_selector(&format!("a={}", long(64))).is_err());
    let prefix = |length: usize| format!("{}{}/k", "a.".repeat((length - 1) / 2), "a".repeat(2 - length % 2));
    assert!(parse_selector(&prefix(253)).is_ok() && parse_selector(&prefix(254)).is_err());
}

#[test]
fn a_referer_is_an_http_url_of_visible_characters() {
    for good in [
        "https://maps.example.com",
        "http://localhost:3000/",
        "https://10.1.2.3/a%20b/~x_y.z-1?a=b,c+d@e",
        "https://[2001:db8::1]:7443/app",
        "https://host?a=1&b=2",
        &format!("https://host/{}", "a".repeat(499)),
    ] {
        assert!(is_referer(good), "{good}");
    }
    for bad in ["a b", "a\n", "a\r\nX: y", "\u{e4}", "#x"] {
        assert!(!is_referer(&format!("https://host/{bad}")), "{bad}");
    }
    assert!(is_shell_safe("https://[2001:db8::1]:7443/a%20b/~x_y.z-1?a=b,c+d@e"));
    for bad in ["$x", "`x`", "a;b", "a&b", "(x)", "'x'", "\"x\"", "a|b", "a>b", "a<b", "a\\b", "{x}", "*", "a b"] {
        assert!(!is_shell_safe(&format!("https://host/{bad}")), "{bad}");
    }
    for bad in [
        "",
        "host",
        "ftp://host",
        "https://",
        "https:///x",
        "https://-a",
        "https://u@host",
        "https://host:",
        "https://host:123456",
        "https://host:x",
        "https://[::1",
        "https://[x]",
        "HTTPS://host",
    ] {
        assert!(!is_referer(bad), "{bad}");
    }
    assert!(!is_referer(&format!("https://host/{}", "a".repeat(500))));
}

#[test]
fn object_names_are_dns_subdomains() {
    assert!(["a", "a-b.c", "0", &"a".repeat(253)].into_iter().all(is_subdomain));
    assert!(!["", "-a", "a-", "a..b", "A", "a_b", ".a", &"a".repeat(254)].into_iter().any(is_subdomain));
}
