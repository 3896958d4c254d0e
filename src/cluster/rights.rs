//! The operator's permissions, and the service addresses of the cluster.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::client::Cluster;
use super::error::{ApiError, bounded};

/// A right on a kind of object in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
}

const fn right(verb: &'static str, group: &'static str, resource: &'static str, subresource: &'static str) -> Right {
    Right { verb, group, resource, subresource }
}

/// The permissions needed besides list and watch, whose absence the watches report.
pub const NEEDED: [Right; 6] = [
    right("get", "", "secrets", ""),
    right("create", "", "secrets", ""),
    right("patch", "", "secrets", ""),
    right("get", "", "configmaps", ""),
    right("patch", "credentials.arcgis.dev", "arcgisappcredentials", "status"),
    right("create", "events.k8s.io", "events", ""),
];

/// As administrators write it: `arcgisappcredentials/status.credentials.arcgis.dev`.
impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (slash, dot) =
            (if self.subresource.is_empty() { "" } else { "/" }, if self.group.is_empty() { "" } else { "." });
        write!(f, "{} {}{slash}{}{dot}{}", self.verb, self.resource, self.subresource, self.group)
    }
}

impl Cluster {
    /// Whether this process has a right, in one namespace or in all.
    pub async fn may(&self, namespace: Option<&str>, right: Right) -> Result<bool, ApiError> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: namespace.map(str::to_owned),
                    verb: text(right.verb),
                    group: text(right.group),
                    resource: text(right.resource),
                    subresource: text(right.subresource),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api = Api::<SelfSubjectAccessReview>::all(self.calls());
        let answer = bounded(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// The ranges that service addresses are taken from, in CIDR notation.
    pub async fn service_ranges(&self) -> Result<Vec<String>, ApiError> {
        let ranges = bounded(Api::<ServiceCIDR>::all(self.calls()).list(&ListParams::default())).await?;
        Ok(ranges.items.into_iter().filter_map(|range| range.spec?.cidrs).flatten().collect())
    }
}
