//! Objects of the cluster: which one, in which version, and how much is known of it.

use std::sync::Arc;

/// Which resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Which object, in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub uid: Arc<str>,
    /// Its `resourceVersion`.
    pub resource: Arc<str>,
}

impl Version {
    #[must_use]
    pub fn new(uid: impl Into<Arc<str>>, resource: impl Into<Arc<str>>) -> Self {
        Self { uid: uid.into(), resource: resource.into() }
    }
}

/// How much is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed<T> {
    /// Nothing.
    Unknown,
    /// It does not exist.
    Absent,
    /// Its version, from a watch.
    Cached(Version),
    /// Its version and what a read returned.
    Loaded(Version, T),
}

impl<T> Observed<T> {
    /// Returns the same without the content.
    #[must_use]
    pub fn unloaded<U>(&self) -> Observed<U> {
        match self {
            Self::Unknown => Observed::Unknown,
            Self::Absent => Observed::Absent,
            Self::Cached(version) | Self::Loaded(version, _) => Observed::Cached(version.clone()),
        }
    }

    /// Whether it was read.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self, Self::Loaded(..))
    }

    /// Returns the version of an object that exists.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Unknown | Self::Absent => None,
            Self::Cached(version) | Self::Loaded(version, _) => Some(version),
        }
    }
}
