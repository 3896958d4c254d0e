//! What was found of the objects that a request needs, each in one version of it.

use jiff::Timestamp;

use crate::api::{Failure, Fault, Reason};
use crate::core::object::Version;
use crate::core::scheduling::Finding;
use crate::core::scheduling::waits::MadeWith;
use crate::core::secrets::{ClientCertificateError, CredentialsError};

/// What was found in one version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact<T> {
    pub version: Version,
    /// The generation of the spec that names its keys; `None` where they are fixed.
    pub generation: Option<i64>,
    pub found: T,
}

impl<T> Fact<T> {
    /// Returns what was found, if it still applies.
    pub fn of(&self, version: &Version, generation: i64) -> Option<&T> {
        let applies = self.version == *version && self.generation.is_none_or(|of| of == generation);
        applies.then_some(&self.found)
    }
}

impl<T> Fact<Option<T>> {
    /// Nothing is wrong in this version.
    pub fn in_order(version: &Version, generation: Option<i64>) -> Self {
        Self { version: version.clone(), generation, found: None }
    }
}

/// What was found of the objects that the spec names. Boxed where most resources have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The last complete credentials: their version, and a digest that shows whether their values changed.
    pub credentials: Option<(Version, u64)>,
    /// The key that the credentials lack.
    pub incomplete: Option<Box<Fact<CredentialsError>>>,
    pub ca: Option<Box<Fact<Option<Fault>>>>,
    pub client_certificate: Option<Box<Fact<Option<ClientCertificateError>>>>,
}

/// A prerequisite that is not met. It is found, not attempted: nothing is counted, and only a change resolves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmet {
    pub reason: Reason,
    pub finding: Finding,
    pub start_time: Timestamp,
    pub found_at: Timestamp,
    pub made_with: MadeWith,
}

impl Unmet {
    /// Restores it from a status after a restart. `current` is used for what the status does not record.
    pub fn recall(failure: &Failure, current: MadeWith, now: Timestamp) -> Self {
        Self {
            reason: failure.reason,
            finding: Finding::recall(failure),
            start_time: failure.start_time,
            found_at: failure.last_attempt_time.unwrap_or(now).min(now),
            made_with: failure.inputs.as_deref().and_then(MadeWith::parse).map_or(current, |(_, made_with)| made_with),
        }
    }
}
