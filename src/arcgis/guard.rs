//! What a portal that only a wildcard allows may resolve to.
//!
//! Whoever controls a name below the wildcard chooses its addresses: they must not lead into the pod, to its node's
//! link-local services or to the cluster's own. Checked on the addresses that are connected to, so a name that
//! resolves differently a moment later gains nothing. A proxy resolves names itself, beyond this check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

/// The cluster's service addresses, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct ServiceRanges(Arc<RwLock<Vec<IpNet>>>);

impl ServiceRanges {
    /// The range around the API server's address in the environment, used while the ranges are not known.
    #[must_use]
    pub fn around(address: Option<IpAddr>) -> Self {
        let length = |address: &IpAddr| if address.is_ipv4() { 16 } else { 112 };
        let range = address.and_then(|address| IpNet::new(address, length(&address)).ok());
        Self(Arc::new(RwLock::new(range.into_iter().collect())))
    }

    /// Takes the cluster's own word.
    pub fn set(&self, ranges: Vec<IpNet>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ranges;
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(|range| range.contains(&address))
    }
}

/// Whether a portal that only a wildcard allows may be at this address.
pub(super) fn reachable(address: IpAddr, services: &ServiceRanges) -> bool {
    let address = embedded(address).map_or(address, IpAddr::V4);
    let local = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local
        || address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || services.contains(address))
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        [0, 0, 0, 0, 0, 0, high, low] if !matches!(v6, Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED) => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_reaches_neither_loopback_nor_link_local_nor_service_addresses() {
        let services = ServiceRanges::around(Some("10.96.0.1".parse().unwrap()));
        let reaches = |address: &str| reachable(address.parse().unwrap(), &services);
        for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "fe80::1"] {
            assert!(!reaches(address), "{address}");
        }
        for address in ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:169.254.169.254"]
        {
            assert!(!reaches(address), "{address}");
        }
        for address in ["10.96.0.10", "10.96.255.1", "::ffff:10.96.0.1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(!reaches(address), "{address}");
        }
        for address in ["10.97.0.1", "192.168.1.1", "52.1.2.3", "2600:1f18::1", "64:ff9b::3401:203", "::ffff:52.1.2.3"]
        {
            assert!(reaches(address), "{address}");
        }
        services.set(vec!["10.97.0.0/24".parse().unwrap(), "fd00:1::/112".parse().unwrap()]);
        assert!(
            !reachable("10.97.0.1".parse().unwrap(), &services) && !reachable("fd00:1::5".parse().unwrap(), &services)
        );
        assert!(reachable("10.96.0.10".parse().unwrap(), &services));
    }
}
