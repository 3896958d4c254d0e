//! The resource: its spec, its status, and the reasons of its conditions.

mod cause;
mod crd;
mod format;
mod message_table;
mod messages;
mod reason;
mod rules;
mod spec;
mod status;
mod words;

pub use cause::{Cause, Fault, Seen, ShownName, is_subdomain};
pub use crd::{crd, crd_yaml};
pub use format::Format;
pub use message_table::{MESSAGES, Message};
pub use messages::Names;
pub use reason::{Reason, Recovery, Retry};
pub use spec::{
    ArcGisAppCredential, ArcGisAppCredentialSpec, CaBundleKind, CaBundleRef, ClientCertificateRef, CredentialsRef,
    DEFAULT_PORTAL, DeletionPolicy, PortalSpec, TargetSpec, TokenSpec, VerificationSpec,
};
pub use status::{App, ArcGisAppCredentialStatus, Condition, Failure, Rejection, TokenStatus, Verification};
pub(crate) use words::words;
