//! The resource: its spec, its status, and the reasons of its conditions.

mod crd;
mod format;
mod reason;
mod rules;
mod spec;
mod status;

pub use crd::{crd, crd_yaml};
pub use format::Format;
pub use reason::{Reason, Recovery, Retry};
pub use spec::{
    ArcGisAppCredential, ArcGisAppCredentialSpec, CaBundleKind, CaBundleRef, ClientCertificateRef, CredentialsRef,
    DEFAULT_PORTAL, DeletionPolicy, PortalSpec, TargetSpec, TokenSpec, VerificationSpec,
};
pub use status::{App, ArcGisAppCredentialStatus, Condition, Failure, Rejection, TokenStatus, Verification};
