//! What the commands take from the process and its files: clock, certificates and proxies.

use std::path::Path;

use jiff::Timestamp;

use crate::arcgis::{CaBundle, Portals, ServiceRanges};

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
    let variable = |name: &str| std::env::var(name).ok();
    let services = ServiceRanges::around(variable("KUBERNETES_SERVICE_HOST").and_then(|host| host.parse().ok()));
    let proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().filter_map(variable);
    Portals::new(bundle, services, proxies.filter_map(|proxy| proxy_host(&proxy)).collect()).map_err(|e| e.to_string())
}

/// The host of a proxy as environment variables name it: `http://user:password@host:port`, or `host:port`.
fn proxy_host(proxy: &str) -> Option<String> {
    let url = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    reqwest::Url::parse(&url).ok()?.host_str().map(str::to_owned)
}
