//! Why a resource is not well: the one closed list of reasons.
//!
//! A reason is the same word everywhere: condition reason, event reason, metric label and log field.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose move it is when a reason is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Somebody has to change something: the resource is `Stalled`.
    User,
    /// It may cure itself: the resource is `Reconciling` while it has no token.
    Nobody,
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
    ($($(#[$doc:meta])* $name:ident: $mover:ident, $retry:expr;)*) => {
        /// What stands in the way, in the order in which the first that applies is shown.
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

            /// Whose move it is.
            #[must_use]
            pub const fn mover(self) -> Move {
                match self { $(Reason::$name => Move::$mover,)* }
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
    SpecInvalid: User, Retry::OnChange;
    /// The portal's origin is not on the operator's list.
    PortalNotAllowed: User, Retry::OnChange;
    /// Somebody else's Secret, or another resource's, has the target's name.
    TargetNotOwned: User, Retry::OnChange;
    /// The credentials Secret is missing.
    CredentialsNotFound: Nobody, Retry::OnChange;
    /// A key of the credentials Secret is missing, empty or not visible text.
    CredentialsIncomplete: User, Retry::OnChange;
    /// The CA bundle's object or key is missing.
    CaBundleNotFound: Nobody, Retry::OnChange;
    /// No certificate in the CA bundle.
    CaBundleInvalid: User, Retry::OnChange;
    /// The portal's certificate does not verify.
    PortalUntrusted: User, backoff(MINUTE, HOUR);
    /// The portal refused the client id.
    ClientIdRejected: User, backoff(MINUTE, HOUR);
    /// The portal refused the client secret.
    ClientSecretRejected: User, backoff(MINUTE, HOUR);
    /// The portal refused the request for another lasting cause.
    RequestRejected: User, backoff(MINUTE, HOUR);
    /// Name resolution, connection or time-out.
    PortalUnreachable: Nobody, backoff(2, 5 * MINUTE);
    /// The portal answers that it cannot serve now.
    PortalUnavailable: Nobody, backoff(2, 5 * MINUTE);
    /// The portal asks for fewer requests.
    RateLimited: Nobody, Retry::RetryAfter;
    /// The answer is neither a token nor a refusal.
    MalformedResponse: Nobody, backoff(30, 15 * MINUTE);
    /// The API server refuses the write of the target: quota, policy or a missing right.
    TargetRefused: User, backoff(MINUTE, 15 * MINUTE);
    /// The Kubernetes API failed otherwise.
    ClusterError: Nobody, backoff(2, 5 * MINUTE);
    /// A bug in the operator.
    Internal: Nobody, backoff(MINUTE, HOUR);
}

impl Reason {
    /// The reason with this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
