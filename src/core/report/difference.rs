//! Whether a status is worth a write: a difference of words alone is not.

use crate::api::{ArcGisAppCredentialStatus, Reason, Recovery, TokenStatus};

/// How two statuses of a resource differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    None,
    /// In messages, or in what an older version did not write: it follows with the next write.
    Words,
    /// In the versions of Secrets that others changed in what does not matter.
    Versions,
    /// In the cause of a failure, too.
    Cause,
    More,
}

impl Difference {
    pub fn between(before: &ArcGisAppCredentialStatus, after: &ArcGisAppCredentialStatus) -> Self {
        if before == after {
            return Self::None;
        }
        let (mut bare_before, mut bare_after) = (bare(before), bare(after));
        let versions =
            |status: &ArcGisAppCredentialStatus| (status.target_version.clone(), status.credentials_version.clone());
        let other_versions = versions(&bare_before) != versions(&bare_after);
        (bare_before.target_version, bare_before.credentials_version) = versions(&bare_after);
        if let (Some(TokenStatus { digest: None, .. }), Some(token)) = (&bare_before.token, &mut bare_after.token) {
            token.digest = None;
        }
        if bare_before != bare_after {
            return Self::More;
        }
        let cause =
            |status: &ArcGisAppCredentialStatus| status.failure.as_ref().and_then(|failure| failure.cause.clone());
        match (cause(before), cause(after)) {
            (Some(before), after) if after.as_ref() != Some(&before) => Self::Cause,
            _ if other_versions => Self::Versions,
            _ => Self::Words,
        }
    }
}

/// A status without its words.
fn bare(status: &ArcGisAppCredentialStatus) -> ArcGisAppCredentialStatus {
    let mut status = status.clone();
    if let Some(failure) = &mut status.failure {
        (failure.cause, failure.message) = (None, None);
    }
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    status
}

/// Whether somebody has to act.
pub(super) fn stalls(reason: Reason) -> bool {
    reason.recovery() == Recovery::ActionRequired
}
