//! Why a resource is not healthy: the closed list of reasons.
//!
//! A reason is the same word everywhere: condition reason, event reason, metric label and log field.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a failure needs somebody to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Somebody has to change something: the resource is `Stalled`.
    ActionRequired,
    /// The failure may end by itself: the resource is `Reconciling` while it has no token.
    Automatic,
}

/// When a failed attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only when something it was made with changes.
    OnChange,
    /// After `first` seconds, doubling up to `cap` seconds.
    Backoff { first: u32, cap: u32 },
    /// As the portal says, within bounds.
    RetryAfter,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $recovery:ident, $retry:expr;)*) => {
        /// Why an attempt failed, in the order in which the first reason that applies is shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of precedence.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word shown to users.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }

            /// Whether somebody has to act before it can end.
            #[must_use]
            pub const fn recovery(self) -> Recovery {
                match self { $(Reason::$name => Recovery::$recovery,)* }
            }

            /// When to try again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Reason::$name => $retry,)* }
            }
        }
    };
}

const fn backoff(first: u32, cap: u32) -> Retry {
    Retry::Backoff { first, cap }
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;

reasons! {
    /// A spec that got past admission, or one that makes the target invalid to the API server.
    SpecInvalid: ActionRequired, Retry::OnChange;
    /// The portal's origin is not on the operator's list.
    PortalNotAllowed: ActionRequired, Retry::OnChange;
    /// A Secret that this resource does not own has the target's name.
    TargetNotOwned: ActionRequired, Retry::OnChange;
    /// The API server does not let the operator read the credentials, the CA bundle or the client certificate.
    SourceRefused: ActionRequired, backoff(MINUTE, 15 * MINUTE);
    /// The credentials Secret is missing.
    CredentialsNotFound: Automatic, Retry::OnChange;
    /// A key of the credentials Secret is missing, empty or not visible text.
    CredentialsIncomplete: ActionRequired, Retry::OnChange;
    /// The CA bundle's object or key is missing.
    CaBundleNotFound: Automatic, Retry::OnChange;
    /// The Secret with the client certificate, or a key of it, is missing.
    ClientCertificateNotFound: Automatic, Retry::OnChange;
    /// No certificate in the CA bundle.
    CaBundleInvalid: ActionRequired, Retry::OnChange;
    /// The client certificate cannot be used: its type, its content or its dates.
    ClientCertificateInvalid: ActionRequired, Retry::OnChange;
    /// The portal's certificate does not verify.
    PortalUntrusted: ActionRequired, backoff(MINUTE, HOUR);
    /// The portal rejected the client id.
    ClientIdRejected: ActionRequired, backoff(MINUTE, HOUR);
    /// The portal rejected the client secret.
    ClientSecretRejected: ActionRequired, backoff(MINUTE, HOUR);
    /// The portal rejected the request for another lasting cause.
    RequestRejected: ActionRequired, backoff(MINUTE, HOUR);
    /// Name resolution, connection or time-out.
    PortalUnreachable: Automatic, backoff(2, 5 * MINUTE);
    /// The portal answers that it is unavailable.
    PortalUnavailable: Automatic, backoff(2, 5 * MINUTE);
    /// The portal asks for fewer requests.
    RateLimited: Automatic, Retry::RetryAfter;
    /// The answer is neither a token nor an ArcGIS error.
    MalformedResponse: Automatic, backoff(30, 15 * MINUTE);
    /// The API server refuses the write of the target: quota, policy or a missing right.
    TargetRefused: ActionRequired, backoff(MINUTE, 15 * MINUTE);
    /// The Kubernetes API failed otherwise.
    ClusterError: Automatic, backoff(2, 5 * MINUTE);
    /// A bug in the operator.
    Internal: Automatic, backoff(MINUTE, HOUR);
}

impl Reason {
    /// The reason with this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }

    /// Whether the portal host itself failed, and not what it was asked.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::PortalUnreachable | Self::PortalUnavailable)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
