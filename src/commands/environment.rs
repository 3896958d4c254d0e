//! What the commands take from the process and its files: clock, certificates and proxies.

use std::path::Path;

use jiff::Timestamp;

use crate::arcgis::{CaBundle, Portals, Proxies, ServiceRanges};

/// The only place that reads the wall clock.
pub(super) fn clock() -> Timestamp {
    Timestamp::now()
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

pub(super) fn read_bundle(path: &Path) -> Result<CaBundle, String> {
    CaBundle::parse(&read_file(path)?).map_err(|error| format!("--ca-file {}: {error}", path.display()))
}

pub(super) fn portals(ca_file: Option<&Path>) -> Result<Portals, String> {
    let bundle = ca_file.map(read_bundle).transpose()?;
    let address = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
    Portals::new(bundle, ServiceRanges::around(address), proxies()?).map_err(|e| e.to_string())
}

/// Reads the proxy for portals from the environment. An error names the variable and not its value.
pub fn proxies() -> Result<Proxies, String> {
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| std::env::var(name).ok().map(|value| (name, value)))
    };
    let set = |found: &(&str, String)| !found.1.trim().is_empty();
    let proxy = first(["HTTPS_PROXY", "https_proxy"]).filter(set).or_else(|| first(["ALL_PROXY", "all_proxy"]));
    let no_proxy = first(["NO_PROXY", "no_proxy"]).map(|(_, hosts)| hosts).unwrap_or_default();
    let (name, url) = proxy.unwrap_or(("HTTPS_PROXY", String::new()));
    Proxies::parse(&url, &no_proxy).map_err(|error| format!("invalid value of {name}: {error}"))
}
