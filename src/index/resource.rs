//! One resource as it was last observed.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroU64;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::packed::Packed;
use super::portals::{NamedPortal, NamedPortals};
use crate::api::{ArcGisAppCredentialStatus, DEFAULT_PORTAL, Reason, Verification};
use crate::cluster::LeanResource;
use crate::core::{CompactTime, Memory, PortalUrl, ResourceVersion, Uid};

/// Namespace and name, as `namespace/name`: shared by all that refer to the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    #[must_use]
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self([namespace.as_ref(), name.as_ref()].join("/").into())
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.parts().1
    }

    /// Returns the key of what the API server returned.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    /// Whether it is in the namespace; `None`: in any.
    pub fn is_in(&self, namespace: Option<&str>) -> bool {
        namespace.is_none_or(|namespace| namespace == self.namespace())
    }
}

pub(super) fn hash(status: &ArcGisAppCredentialStatus) -> NonZeroU64 {
    NonZeroU64::new(BuildHasherDefault::<DefaultHasher>::default().hash_one(status)).unwrap_or(NonZeroU64::MIN)
}

/// Kinds of objects that resources name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    Secret,
    ConfigMap,
}

/// What metrics and the work queue use of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub ready: bool,
    pub expiration_time: Option<CompactTime>,
    pub renewal_time: Option<CompactTime>,
    pub problem: Option<Reason>,
    pub suspended: bool,
    /// Whether the portal records the token; `None` without verification.
    pub verified: Option<bool>,
}

impl Report {
    pub(super) fn new(status: &ArcGisAppCredentialStatus, suspended: bool) -> Self {
        Self {
            suspended,
            ready: status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            expiration_time: status.token.as_ref().map(|token| token.expiration_time.into()),
            renewal_time: status.token.as_ref().map(|token| token.renewal_time.into()),
            problem: status.failure.as_ref().map(|failure| failure.reason),
            verified: status.conditions.iter().find(|c| c.type_ == "Verified").map(|c| c.status == "True"),
        }
    }
}

/// What the verification of the published token found.
#[derive(Clone, Debug)]
pub enum Verified {
    /// The portal answered about the token that was issued at this time, and its clock differs or not.
    Answered(Timestamp, Verification, bool),
    /// It could not be made, and is due again at this time.
    Deferred(Timestamp),
}

/// One resource.
#[derive(Clone)]
pub struct IndexedResource {
    pub uid: Uid,
    pub version: ResourceVersion,
    /// The version that the operator's last status write made.
    pub(super) status_version: ResourceVersion,
    pub generation: i64,
    pub created_at: Option<CompactTime>,
    pub deleting: bool,
    pub requested_at: Option<Box<str>>,
    pub(super) spec: Packed,
    pub(super) status: Packed,
    pub memory: Memory,
    /// A list that began while it was known has not returned it yet.
    pub(super) awaited: bool,
    /// How often a reconcile panicked in a row, with the report of the panic.
    pub panics: u32,
    /// A hash of the status that was written last, as the API server stored it, to notice another writer.
    pub(super) written: Option<NonZeroU64>,
    /// A hash of the status that was observed last.
    pub(super) observed: NonZeroU64,
    /// A status with a token was seen.
    pub(super) had_token: bool,
    pub report: Report,
    /// What the verification of the published token found, until it is reported.
    pub verified: Option<Box<Verified>>,
    /// When its client certificate expires, as last read.
    pub client_certificate_expires: Option<CompactTime>,
    pub(super) named: Named,
}

/// What the spec names. It is read loosely: the names in a resource count even when it cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Named {
    portal: Option<Arc<NamedPortal>>,
    pub target: Option<Key>,
    credentials: Option<Key>,
    certificates: Option<Box<Certificates>>,
}

/// What few specs name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Certificates {
    client: Option<Key>,
    ca: Option<(ObjectKind, Key)>,
}

impl Named {
    fn read(spec: &Value, namespace: &str, portals: &mut NamedPortals) -> Self {
        let text = |path: &str| spec.pointer(path).and_then(Value::as_str);
        let named = |path: &str| text(path).map(|name| Key::new(namespace, name));
        let ca_kind = match text("/portal/caBundleRef/kind") {
            Some("Secret") => ObjectKind::Secret,
            _ => ObjectKind::ConfigMap,
        };
        let ca = named("/portal/caBundleRef/name").map(|ca| (ca_kind, ca));
        let certificates = Certificates { client: named("/portal/clientCertificateRef/name"), ca };
        let portal = PortalUrl::parse(text("/portal/url").unwrap_or(DEFAULT_PORTAL)).ok();
        Self {
            portal: portal.map(|portal| portals.named(&portal.authority())),
            target: named("/target/name"),
            credentials: named("/credentialsRef/name"),
            certificates: (certificates.client.is_some() || certificates.ca.is_some()).then(|| certificates.into()),
        }
    }

    fn client_certificate(&self) -> Option<&Key> {
        self.certificates.as_ref()?.client.as_ref()
    }

    /// The objects that it names.
    pub(super) fn objects(&self) -> impl Iterator<Item = (ObjectKind, Key)> {
        let secrets = [self.target.as_ref(), self.credentials.as_ref(), self.client_certificate()];
        let secrets = secrets.into_iter().flatten().map(|name| (ObjectKind::Secret, name.clone()));
        secrets.chain(self.certificates.as_ref().and_then(|certificates| certificates.ca.clone()))
    }

    /// Whether it names the same objects.
    fn names_like(&self, other: &Self) -> bool {
        (&self.target, &self.credentials, &self.certificates)
            == (&other.target, &other.credentials, &other.certificates)
    }
}

const REQUESTED_AT_CHARS: usize = 64;

impl IndexedResource {
    /// Reads a resource that a watch or a list returned. `before` is what is known of it.
    pub(super) fn new(resource: LeanResource, before: Option<&Self>, portals: &mut NamedPortals) -> Self {
        let meta = resource.metadata;
        let (spec, named, suspended) = if let Some(same) = before.filter(|before| before.spec() == *resource.spec) {
            (same.spec.clone(), same.named.clone(), same.report.suspended)
        } else {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let spec: Value = serde_json::from_str(&resource.spec).unwrap_or_default();
            (Packed::new(&resource.spec), Named::read(&spec, namespace, portals), spec["suspend"] == true)
        };
        let status = ArcGisAppCredentialStatus::read(&resource.status);
        let observed = hash(&status);
        Self {
            uid: meta.uid.unwrap_or_default().into(),
            version: meta.resource_version.unwrap_or_default().into(),
            status_version: ResourceVersion::default(),
            generation: meta.generation.unwrap_or_default(),
            created_at: meta.creation_timestamp.map(|time| time.0.into()),
            deleting: meta.deletion_timestamp.is_some(),
            requested_at: resource
                .requested_at
                .map(|text| text.chars().take(REQUESTED_AT_CHARS).collect::<String>().into()),
            report: Report::new(&status, suspended),
            spec,
            status: match before.filter(|before| before.observed == observed) {
                Some(before) => before.status.clone(),
                None => Packed::new(&resource.status),
            },
            memory: Memory::default(),
            awaited: false,
            panics: 0,
            written: None,
            observed,
            had_token: status.token.is_some(),
            verified: None,
            client_certificate_expires: None,
            named,
        }
    }

    /// Returns the spec as the API server has it.
    pub fn spec(&self) -> String {
        self.spec.text()
    }

    /// Returns the status as it was last written, as far as this version knows it.
    pub fn status(&self) -> ArcGisAppCredentialStatus {
        ArcGisAppCredentialStatus::read(&self.status.text())
    }

    /// Whether another writer replaced the status that was written last.
    pub(super) fn is_contested(&self) -> bool {
        self.written.is_some_and(|written| written != self.observed)
    }

    /// The portal that it names, as metrics label it; `None` for what is no URL of a portal.
    pub fn portal(&self) -> Option<&NamedPortal> {
        self.named.portal.as_deref()
    }

    /// Whether it is what the operator's last status write made of `before`.
    pub(super) fn is_echo(&self, before: &Self) -> bool {
        self.uid == before.uid && self.version == before.status_version
    }

    /// Whether it names other objects, or is another claimant of its target.
    pub(super) fn claims_otherwise(&self, before: &Self) -> bool {
        !self.named.names_like(&before.named) || self.deleting != before.deleting || self.uid != before.uid
    }

    /// Whether a user, or a controller other than this operator, has changed nothing since `before`.
    pub(super) fn is_specified_like(&self, before: &Self) -> bool {
        self.generation == before.generation
            && self.deleting == before.deleting
            && self.requested_at == before.requested_at
    }

    /// Whether it names the same client certificate.
    pub(super) fn presents_like(&self, before: &Self) -> bool {
        self.named.client_certificate() == before.named.client_certificate()
    }

    /// Whether it names a ConfigMap.
    pub fn names_config_map(&self) -> bool {
        self.named.objects().any(|(kind, _)| kind == ObjectKind::ConfigMap)
    }
}
