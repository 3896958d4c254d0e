//! What people write, and how it is understood: durations, URLs, origins, selectors, templates, credentials.

use super::super::*;

#[test]
fn durations_are_go_s_from_a_minute_to_336_hours() {
    let good = [("1m", 60), ("336h", 1_209_600), ("90m", 5400), ("1h30m", 5400), ("1.5h", 5400), (".5h", 1800)];
    for (text, seconds) in good {
        assert_eq!(parse_duration(text), Ok(seconds), "{text}");
    }
    for text in ["", "1d", "junk", "-1h", "59s", "336h1ns", "5", "1h 30m", "PT2H", "1e3h", "h", "1.2.3h", "."] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    assert!(parse_duration(&("9".repeat(40) + "h")).is_err());
    assert_eq!([7200, 5400, 299, 0].map(format_seconds), ["2h", "1h30m", "4m59s", "0s"]);
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
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"),
    ] {
        assert_eq!(PortalUrl::parse(text).unwrap().base(), base);
    }
    for text in
        ["http://host", "https://u@host", "https://host?x", "https://host/#x", "https://ho st", "https://host:0"]
    {
        assert!(PortalUrl::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_origin_allows_its_host_and_port_and_a_wildcard_what_is_below() {
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
fn a_host_that_url_parsers_read_as_an_address_is_one_in_its_usual_form() {
    for bad in ["https://2130706433", "https://0x7f.1", "https://127.1", "https://a.0x7f000001", "https://1.2.3.4.5"] {
        assert!(PortalUrl::parse(bad).is_err(), "{bad}");
    }
    assert!(PortalUrl::parse("https://10.1.2.3/portal").is_ok());
    for bad in ["https://*.0.0.1", "https://*.1", "https://*.[::1]", "https://*.0x1"] {
        assert!(bad.parse::<AllowedOrigin>().is_err(), "{bad}");
    }
}

#[test]
fn an_origin_that_is_listed_exactly_counts_more_than_a_wildcard() {
    let allowed = ["https://*.example.com", "https://gis.example.com"].map(|origin| origin.parse().unwrap());
    let how = |url: &str| Admission::of(&PortalUrl::parse(url).unwrap(), &allowed);
    assert_eq!(how("https://gis.example.com/portal"), Some(Admission::Exact));
    assert_eq!(how("https://other.example.com"), Some(Admission::Wildcard));
    assert_eq!(how("https://gis.example.com:7443"), None);
}

#[test]
fn selectors_are_kubectl_s() {
    for good in
        ["", "a=b", "a==b", "a!=b", "a", "!a", "x.io/a in (b,c), d notin (e)", "a=", "n>5", "a=b,c=d", "a in (,b)"]
    {
        assert_eq!(parse_selector(good).as_deref(), Ok(good));
    }
    for bad in ["a in b", "a in (b", "a)", "=b", "a=b c", "a,,b", "-a", "a/b/c=d", "a is (b)", "n>x", "((a))"] {
        assert!(parse_selector(bad).is_err(), "{bad}");
    }
}

#[test]
fn templates_substitute_three_names_and_nothing_else() {
    let fill = |text: &str| Template::parse(text).map(|t| t.fill("T", "E", "P"));
    assert_eq!(fill("$(access_token) $(expires_at) $(portal_url)").unwrap(), "T E P");
    assert_eq!(fill("$$(access_token) $x ${y} $").unwrap(), "$(access_token) $x ${y} $");
    assert_eq!(fill("$$$(access_token)").unwrap(), "$T");
    for bad in ["$(other)", "$(access_token", "$()"] {
        assert!(fill(bad).is_err(), "{bad}");
    }
}

#[test]
fn credentials_are_trimmed_and_must_be_visible() {
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
    for bad in [&b""[..], b"  ", b"a b", b"a\0b", b"\xff\xfe"] {
        assert_eq!(read(bad), Err(Incomplete { key: "client_secret".to_owned() }));
    }
}
