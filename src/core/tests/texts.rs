//! The parsing of what users write: durations, URLs, origins, selectors, templates, credentials.

use crate::api::{Cause, is_subdomain};
use crate::core::spec::is_shell_safe;

use super::super::*;
use serde_json::json;

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
fn templates_substitute_three_names_and_nothing_else() {
    let fill = |text: &str| Template::parse(text).map(|t| t.fill("T", "E", "P"));
    assert_eq!(fill("$(access_token) $(expires_at) $(portal_url)").unwrap(), "T E P");
    assert_eq!(fill("$$(access_token) $x ${y} $").unwrap(), "$(access_token) $x ${y} $");
    assert_eq!(fill("$$$(access_token)").unwrap(), "$T");
    assert_eq!(fill("a$(access_token)b$(expires_at)").unwrap(), "aTbE");
    assert_eq!((fill("").unwrap(), fill("$").unwrap()), (String::new(), "$".to_owned()));
    for bad in ["$(other)", "$(access_token", "$()"] {
        assert!(fill(bad).is_err(), "{bad}");
    }
}

#[test]
fn credentials_are_trimmed_and_must_be_visible_text() {
    let keys = crate::api::CredentialsRef {
        name: "s".to_owned(),
        client_id_key: "client_id".to_owned(),
        client_secret_key: "client_secret".to_owned(),
    };
    let read = |secret: &[u8]| {
        let bytes = |b: &[u8]| k8s_openapi::ByteString(b.to_vec());
        let data = [("client_id".to_owned(), bytes(b" id\n")), ("client_secret".to_owned(), bytes(secret))];
        Credentials::read(&data.into(), &keys).map(|c| (c.id().to_owned(), c.secret().to_owned()))
    };
    assert_eq!(read(b"\t secret \r\n"), Ok(("id".to_owned(), "secret".to_owned())));
    assert_eq!(read(&[b'a'; 4096]).unwrap().1.len(), 4096);
    for (bad, cause) in [
        (&b""[..], Cause::Empty),
        (b"  ", Cause::Empty),
        (b"a b", Cause::NotText),
        (b"a\0b", Cause::NotText),
        (b"\xff\xfe", Cause::NotText),
        (b"\xef\xbb\xbfa", Cause::NotText),
        (&[b'a'; 4097], Cause::NotText),
    ] {
        assert_eq!(read(bad), Err(CredentialsError { key: "client_secret".to_owned(), cause }));
    }
}

#[test]
fn a_digest_distinguishes_credentials_within_one_process_only() {
    let keys = crate::api::CredentialsRef {
        name: "s".to_owned(),
        client_id_key: "i".to_owned(),
        client_secret_key: "s".to_owned(),
    };
    let read = |id: &str, secret: &str| {
        let bytes = |text: &str| k8s_openapi::ByteString(text.into());
        Credentials::read(&[("i".to_owned(), bytes(id)), ("s".to_owned(), bytes(secret))].into(), &keys).unwrap()
    };
    let digester = Digester::default();
    let digest = |id, secret| digester.digest(&read(id, secret));
    assert_eq!(digest("a", "b"), digest("a", "b"));
    assert_ne!(digest("a", "b"), digest("a", "c"));
    assert_ne!(digest("a", "b"), digest("c", "b"));
    assert_ne!(digest("ab", "c"), digest("a", "bc"));
    assert_ne!(digest("a", "b"), Digester::default().digest(&read("a", "b")));
}

#[test]
fn a_token_has_the_characters_of_a_bearer_token_and_a_maximum_length() {
    let takes = |text: &str| AccessToken::parse(text.to_owned()).is_some_and(|token| token.expose() == text);
    assert!(["a", "AZaz09._~+/-", "a=", "a=="].into_iter().all(takes));
    assert!(!["", "=", "a=b", "a b", "a\n", "a\"", "a$", "\u{e4}"].into_iter().any(takes));
    assert!(takes(&"a".repeat(16_384)) && !takes(&"a".repeat(16_385)));
}

#[test]
fn an_invalid_spec_reports_the_name_of_its_field() {
    let spec = |change: serde_json::Value| {
        let mut spec = json!({"credentialsRef": {"name": "c"}, "target": {"name": "t"}, "portal": {}});
        json_patch::merge(&mut spec, &change);
        Plan::new(&serde_json::from_value(spec).unwrap())
    };
    let field = |change| spec(change).err().map(|problem| problem.field);
    let ca = |kind: &str, name: &str| json!({"portal": {"caBundleRef": {"kind": kind, "name": name, "key": "k"}}});
    for (change, expected) in [
        (json!({}), None),
        (json!({"token": {"lifetime": "1h", "renewBefore": "59m"}}), None),
        (json!({"token": {"lifetime": "1h", "renewBefore": "1h"}}), Some("spec.token.renewBefore")),
        (json!({"token": {"lifetime": "1d"}}), Some("spec.token.lifetime")),
        (json!({"token": {"renewBefore": "x"}}), Some("spec.token.renewBefore")),
        (json!({"token": {"referer": "https://maps.example.com"}}), None),
        (json!({"token": {"referer": "maps.example.com"}}), Some("spec.token.referer")),
        (json!({"target": {"name": "c"}}), Some("spec.target.name")),
        (ca("Secret", "t"), Some("spec.target.name")),
        (ca("ConfigMap", "t"), None),
        (ca("Secret", "ca"), None),
        (ca("Secret", "../ca"), Some("spec.portal.caBundleRef.name")),
        (json!({"portal": {"clientCertificateRef": {"name": "client"}}}), None),
        (json!({"portal": {"clientCertificateRef": {"name": "t"}}}), Some("spec.target.name")),
        (json!({"portal": {"clientCertificateRef": {"name": "a/b"}}}), Some("spec.portal.clientCertificateRef.name")),
        (json!({"target": {"name": "T"}}), Some("spec.target.name")),
        (json!({"credentialsRef": {"name": "a/b"}}), Some("spec.credentialsRef.name")),
        (json!({"portal": {"url": "http://host"}}), Some("spec.portal.url")),
        (json!({"portal": {"publicURL": "https://maps.example.com/portal"}}), None),
        (json!({"portal": {"publicURL": "https://h/arcgis/rest/services"}}), Some("spec.portal.publicURL")),
        (json!({"target": {"labels": {"credentials.arcgis.dev/x": "y"}}}), Some("spec.target.labels")),
        (json!({"target": {"labels": {"app.kubernetes.io/managed-by": "y"}}}), Some("spec.target.labels")),
        (json!({"target": {"annotations": {"credentials.arcgis.dev/x": "y"}}}), Some("spec.target.annotations")),
        (json!({"target": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}), None),
        (json!({"target": {"data": {"a-b._C1": "x"}}}), None),
        (json!({"target": {"data": {"": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"a b": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"access_token": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"client_secret": "x"}}}), Some("spec.target.data")),
        (json!({"target": {"data": {"a": "$(x)"}}}), Some("spec.target.data")),
        (
            json!({"target": {"formats": ["Json"], "data": {crate::api::Format::Json.key(): "x"}}}),
            Some("spec.target.data"),
        ),
        (json!({"target": {"data": {crate::api::Format::Json.key(): "x"}}}), None),
        (json!({"target": {"data": {"a".repeat(253): "x"}}}), None),
        (json!({"target": {"data": {"a".repeat(254): "x"}}}), Some("spec.target.data")),
    ] {
        assert_eq!(field(change.clone()), expected, "{change}");
    }
    let plan = spec(
        json!({"suspend": true, "verification": {}, "token": {"lifetime": "2h", "renewBefore": "10m"}, "target": {"formats": ["Json", "Headers", "Json"]}}),
    );
    let plan = plan.unwrap();
    assert_eq!(
        (plan.suspend, plan.verification.is_some(), plan.lifetime, plan.renew_before),
        (true, true, Some(7200), Some(600))
    );
    assert_eq!(plan.target.formats.len(), 2, "duplicates are removed");
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
