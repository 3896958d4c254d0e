//! A portal URL has one normal form, and the HTTP client parses it the same way as the allowlist.
#![no_main]

use arcgis_credential_operator::core::PortalUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(portal) = PortalUrl::parse(text) else { return };
    let base = portal.base();
    assert_eq!(PortalUrl::parse(&base), Ok(portal.clone()));
    let read = reqwest::Url::parse(&format!("{base}/sharing/rest/oauth2/token")).expect("the client can read it");
    let port = read.port().map_or_else(String::new, |port| format!(":{port}"));
    assert_eq!(format!("{}{port}", read.host_str().expect("a host")), portal.authority());
    assert!(read.username().is_empty() && read.password().is_none());
    assert!(read.query().is_none() && read.fragment().is_none());
});
