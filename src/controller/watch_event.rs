//! What a watch covers, what it reports, and why it failed.

use kube::runtime::watcher::{self, Event};

use crate::cluster::LeanResource;
use crate::core::Version;
use crate::index::{Key, ObjectKind};

/// An event of a watch.
#[allow(clippy::large_enum_variant, reason = "passed on at once and never kept")]
pub enum WatchEvent {
    Resource(watcher::Result<Event<LeanResource>>),
    Object(ObjectKind, watcher::Result<Event<(Key, Version)>>),
}

impl WatchEvent {
    /// Whether it completes a list.
    pub fn completes_list(&self) -> bool {
        matches!(self, Self::Resource(Ok(Event::InitDone)) | Self::Object(_, Ok(Event::InitDone)))
    }

    /// Whether it begins a list.
    pub fn begins_list(&self) -> bool {
        matches!(self, Self::Resource(Ok(Event::Init)) | Self::Object(_, Ok(Event::Init)))
    }

    /// Returns why the watch failed.
    pub fn error(&self) -> Option<&watcher::Error> {
        match self {
            Self::Resource(event) => event.as_ref().err(),
            Self::Object(_, event) => event.as_ref().err(),
        }
    }
}

/// What a watch is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Resources,
    Objects(ObjectKind),
}

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub what: Subject,
    /// `None`: all namespaces.
    pub namespace: Option<String>,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.what {
            Subject::Resources => "arcgisappcredentials.credentials.arcgis.dev",
            Subject::Objects(ObjectKind::Secret) => "secrets",
            Subject::Objects(ObjectKind::ConfigMap) => "configmaps",
        })?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in namespace {namespace}"))
    }
}

/// Whether the failure lasts until an administrator acts: the permission or the kind is missing.
pub fn is_lasting(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| matches!(status.code, 403 | 404))
}

/// Whether the API server answered with an error.
pub fn is_answer(error: &watcher::Error) -> bool {
    status(error).is_some()
}

pub(super) fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    use watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            Some(status)
        }
        Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// Returns what to do about a failed watch. The API server's own text is not repeated.
pub fn describe(error: &watcher::Error) -> &'static str {
    let Some(status) = status(error) else { return "the API server cannot be reached" };
    match status.code {
        401 => "the operator's credentials for the API server are not accepted",
        403 => "the permission to list and watch is missing: apply the operator's RBAC",
        404 => "unknown to the API server: install the CRD",
        410 => "the watch was too old: listing again",
        _ => "the API server failed",
    }
}
