//! The states of a token, and the triggers of the next one.

use jiff::Timestamp;

use crate::api::words;
use crate::core::object::Version;
use crate::core::secrets::{Fingerprint, IssuedToken, Owner};

/// What was found of a target that was read or written: valid for this version of it and this generation of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evaluated {
    pub version: Version,
    pub generation: i64,
    pub owner: Owner,
    /// `None`: missing or damaged.
    pub token: Option<TokenDetails>,
    /// All fields of the operator are as specified for the stored token.
    pub rendered: bool,
    /// The owner reference is as the deletion policy specifies.
    pub owned: bool,
}

impl Evaluated {
    /// Whether it was found in this version.
    pub fn is_of(&self, version: &Version) -> bool {
        self.version.resource == version.resource && (self.version.uid == version.uid || self.is_reported())
    }

    /// Whether only a status says so, and no watch has reported the target since: then its UID is not known.
    pub fn is_reported(&self) -> bool {
        self.version.uid.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenDetails {
    pub issue_time: Timestamp,
    pub expiration_time: Timestamp,
    /// The digest of the token and its times; `None`: an older version did not report it.
    pub digest: Option<Fingerprint>,
    /// What the token was requested with. `None`: as specified in this generation.
    pub inputs: Option<Fingerprint>,
}

impl From<IssuedToken> for TokenDetails {
    fn from(token: IssuedToken) -> Self {
        let digest = Some(token.digest());
        Self { issue_time: token.issue_time, expiration_time: token.expiration_time, digest, inputs: token.inputs }
    }
}

/// The state of the token.
#[derive(Clone, Copy)]
pub(crate) enum Token<'a> {
    /// The target has to be read: nothing is known of it, or it changed since.
    Unobserved,
    /// Another owner's Secret has the target's name, or it cannot be updated.
    Foreign(&'a Owner),
    /// There is none, or it is damaged. `assumed`: nobody has looked. A new resource costs no read, because its creation as a
    /// dry run says whether the name is taken.
    Missing { over: Option<&'a Evaluated>, assumed: bool },
    /// The portal issued it, and it has to be written.
    Issued { token: &'a IssuedToken, over: Option<&'a Evaluated> },
    /// The target holds it.
    Published { in_target: &'a Evaluated, token: &'a TokenDetails, fit: Fit },
}

/// How a target compares with what is specified for the token in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Exact,
    /// A user changed the spec.
    SpecChanged,
    /// Another writer changed the target.
    Drifted,
}

impl<'a> Token<'a> {
    /// Returns the target that this resource owns.
    pub fn target(self) -> Option<&'a Evaluated> {
        match self {
            Self::Unobserved | Self::Foreign(_) => None,
            Self::Missing { over, .. } | Self::Issued { over, .. } => over,
            Self::Published { in_target, .. } => Some(in_target),
        }
    }

    /// Returns the token that the target holds.
    pub fn published(self) -> Option<&'a TokenDetails> {
        self.target()?.token.as_ref()
    }

    /// Whether the target has to be created.
    pub fn needs_creation(self) -> bool {
        matches!(self, Self::Missing { over: None, .. } | Self::Issued { over: None, .. })
    }
}

words! {
    /// Why a token is owed.
    pub enum Trigger {
    /// There was no token yet.
    First,
    /// The renewal time came.
    Due,
    /// The spec changed what a token is requested with.
    Inputs,
    /// The values of the credentials changed, or another Secret has their name.
    Credentials,
    /// The annotation `requested-at` changed.
    Requested,
    /// The target was deleted, or its token damaged.
    Gone,
    /// The last token expired before it could be written.
    Lapsed,
    /// The portal rejects the published token.
    Rejected,
    /// The clock was ahead when the published token was requested, and was set back.
    ClockSetBack,
    /// A request failed before a restart.
    Retry,
    }
}

/// A token that is owed: why, and the earliest time for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub not_before: Timestamp,
    pub trigger: Trigger,
}
