//! Errors of calls to the API server, and their time limit.

use std::time::Duration;

use kube::core::Status;
use thiserror::Error;
use tokio::time::timeout;

use crate::api::{CaBundleKind, Cause, Fault, Reason, ShownName};

/// The time limit of one call to the API server.
const CALL: Duration = Duration::from_secs(10);

/// Why a call failed. Of the text of the API server, only the name of what refused is kept: it may echo values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    #[error("the object does not exist")]
    NotFound,
    #[error("the object already exists")]
    Exists,
    #[error("the object changed since it was read")]
    Conflict,
    #[error("the permission is missing")]
    Forbidden,
    /// With what `spec.target` adds to the Secret among the causes.
    #[error("the API server rejects labels, annotations or keys of the object as invalid")]
    InvalidFields(Cause),
    /// Another lasting rejection: quota, admission policy, webhook or namespace.
    #[error("the API server refuses the call: {0}")]
    Refused(Cause, Option<ShownName>),
    #[error("the call could not be encoded, and was not sent")]
    NotSent,
    #[error("the API server limits the rate of calls")]
    TooManyRequests {
        /// Seconds to wait, where it names some.
        retry_after: Option<u32>,
    },
    #[error("the API server cannot call an admission webhook")]
    WebhookFailed(Option<ShownName>),
    #[error("the call failed with status {0}")]
    Failed(u16),
    #[error("no answer within 10 s")]
    TimedOut,
    #[error("the API server cannot be reached")]
    Unreachable,
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_already_exists() => Self::Exists,
            kube::Error::Api(status) => Self::of(&status),
            _ => Self::Unreachable,
        }
    }
}

impl ApiError {
    /// By the code: a proxy in between may give no reason. What refused is said in words only.
    fn of(status: &Status) -> Self {
        match status.code {
            404 => Self::NotFound,
            409 => Self::Conflict,
            401 | 408 => Self::Failed(status.code),
            429 => Self::TooManyRequests { retry_after: retry_after(status) },
            400..=499 => Self::refused(status),
            code => failed_webhook(&status.message).map_or(Self::Failed(code), Self::WebhookFailed),
        }
    }

    fn refused(status: &Status) -> Self {
        match refusal(&status.message) {
            Some((Cause::Permission, _)) => Self::Forbidden,
            Some((cause, name)) => Self::Refused(cause, name),
            None => match target_field(status) {
                Some(cause) if status.code == 422 => Self::InvalidFields(cause),
                _ => Self::Refused(Cause::Other, None),
            },
        }
    }

    /// What failed, for a resource; `source`: the object that it names and that was read, `None` for its target.
    #[must_use]
    pub fn fault(&self, source: Option<(CaBundleKind, &str)>) -> Fault {
        let (cause, name) = match self {
            Self::Forbidden => (Cause::Permission, None),
            Self::Refused(cause, name) => (*cause, name.clone()),
            Self::NotSent => (Cause::Other, None),
            Self::InvalidFields(cause) => return Fault::new(Reason::SpecInvalid, *cause),
            failed => return failed.cluster_fault(),
        };
        match source {
            Some((kind, object)) => {
                let cause = if cause == Cause::Permission { cause } else { Cause::Other };
                let mut fault = Fault::new(Reason::SourceRefused, cause).named(ShownName::object(object));
                fault.seen.config_map = kind == CaBundleKind::ConfigMap;
                fault
            }
            None => Fault::new(Reason::TargetRefused, cause).named(name),
        }
    }

    fn cluster_fault(&self) -> Fault {
        let cluster = |cause| Fault::new(Reason::ClusterError, cause);
        match self {
            Self::TooManyRequests { .. } => cluster(Cause::TooManyRequests),
            Self::WebhookFailed(name) => cluster(Cause::WebhookFailed).named(name.clone()),
            Self::Failed(401) => cluster(Cause::Unauthorized),
            Self::TimedOut | Self::Failed(408 | 504) => cluster(Cause::Timeout),
            Self::Failed(status) => cluster(Cause::ServerError).number(*status),
            Self::Unreachable => cluster(Cause::Unreachable),
            _ => Reason::ClusterError.into(),
        }
    }

    /// The seconds that the API server asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests { retry_after } => *retry_after,
            _ => None,
        }
    }
}

/// How the API server's messages begin, after the name of the object, what that means, and what ends the name after it.
const REFUSALS: &[(&str, Cause, Option<char>)] = &[
    ("ValidatingAdmissionPolicy '", Cause::Policy, Some('\'')),
    ("MutatingAdmissionPolicy '", Cause::Policy, Some('\'')),
    ("exceeded quota: ", Cause::Quota, Some(',')),
    ("failed quota: ", Cause::Quota, Some(':')),
    ("unable to create new content in namespace ", Cause::NamespaceTerminating, None),
    ("cannot set an ownerRef on a resource", Cause::OwnerReference, None),
    ("cannot set blockOwnerDeletion", Cause::OwnerReference, None),
    ("User \"", Cause::Permission, None),
];

/// What refused a call, by the fixed beginning of the message. Nothing after the name is read.
fn refusal(message: &str) -> Option<(Cause, Option<ShownName>)> {
    let quoted = |rest: &str, end: char| rest.split_once(end).and_then(|(name, _)| ShownName::object(name));
    if let Some(rest) = message.strip_prefix("admission webhook \"") {
        return Some((Cause::Webhook, quoted(rest, '"')));
    }
    // Before it stand the resource and the name of the object, which has no blank in it.
    let (object, reason) = message.split_once(" is forbidden: ")?;
    if object.split(' ').count() > 2 {
        return None;
    }
    REFUSALS.iter().find_map(|(beginning, cause, end)| {
        let rest = reason.strip_prefix(beginning)?;
        Some((*cause, end.and_then(|end| quoted(rest, end))))
    })
}

/// The webhook that the API server could not call.
#[allow(clippy::option_option, reason = "a webhook without a name that can be shown is one, too")]
fn failed_webhook(message: &str) -> Option<Option<ShownName>> {
    let rest = message.strip_prefix("Internal error occurred: failed calling webhook \"")?;
    Some(rest.split_once('"').and_then(|(name, _)| ShownName::object(name)))
}

/// What of `spec.target` a cause is about. An admission policy names no field.
fn target_field(status: &Status) -> Option<Cause> {
    let fields = [
        ("metadata.labels", Cause::TargetLabels),
        ("metadata.annotations", Cause::TargetAnnotations),
        ("data", Cause::TargetKeys),
        ("stringData", Cause::TargetKeys),
    ];
    let within =
        |field: &str, of: &str| field.strip_prefix(of).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.find_map(|cause| fields.iter().find(|(of, _)| within(&cause.field, of)).map(|(_, found)| *found))
}

fn retry_after(status: &Status) -> Option<u32> {
    status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
}

/// Limits the time of a call.
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    timeout(CALL, call).await.map_err(|_| ApiError::TimedOut)?.map_err(ApiError::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn refused(message: &str) -> Option<(Cause, Option<String>)> {
        refusal(message).map(|(cause, name)| (cause, name.map(|name| name.as_str().to_owned())))
    }

    #[test]
    fn what_refuses_is_named_by_the_beginning_of_the_message_alone() {
        for (message, cause, name) in [
            (r#"secrets "t" is forbidden: User "u" cannot get resource "secrets""#, Cause::Permission, None),
            (r#"secrets "t" is forbidden: exceeded quota: small, requested: secrets=1"#, Cause::Quota, Some("small")),
            (r#"secrets "t" is forbidden: failed quota: q: must specify cpu"#, Cause::Quota, Some("q")),
            (
                r#"secrets "t" is forbidden: ValidatingAdmissionPolicy 'p.example.com' with binding 'b' denied request: no"#,
                Cause::Policy,
                Some("p.example.com"),
            ),
            (r#"admission webhook "w.example.com" denied the request: no"#, Cause::Webhook, Some("w.example.com")),
            (r#"admission webhook "W <canary>" denied the request: no"#, Cause::Webhook, None),
            (
                r#"secrets "t" is forbidden: unable to create new content in namespace n because it is being terminated"#,
                Cause::NamespaceTerminating,
                None,
            ),
        ] {
            assert_eq!(refused(message), Some((cause, name.map(str::to_owned))), "{message}");
        }
        for message in [
            "",
            r#"secrets "t" is forbidden: canary"#,
            "canary canary canary is forbidden: exceeded quota: small, x",
            r#"canary: admission webhook "w" denied the request"#,
        ] {
            assert_eq!(refused(message), None, "{message}");
        }
        let failed =
            r#"Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: canary"#;
        assert_eq!(failed_webhook(failed), Some(ShownName::object("w.example.com")));
        assert_eq!(failed_webhook("canary"), None);
    }

    fn fault_of(code: u16, message: &str, field: Option<&str>) -> Fault {
        let causes: Vec<_> = field.iter().map(|field| serde_json::json!({"field": field})).collect();
        let status = serde_json::json!({"code": code, "message": message, "details": {"causes": causes}});
        ApiError::of(&serde_json::from_value(status).unwrap()).fault(None)
    }

    #[test]
    fn what_the_api_server_answers_has_a_cause() {
        let owner = r#"secrets "t" is forbidden: cannot set an ownerRef on a resource you can't delete: canary"#;
        let webhook = r#"Internal error occurred: failed calling webhook "w.example.com": canary"#;
        for (code, message, field, reason, cause) in [
            (401, "", None, Reason::ClusterError, Cause::Unauthorized),
            (408, "", None, Reason::ClusterError, Cause::Timeout),
            (504, "", None, Reason::ClusterError, Cause::Timeout),
            (429, "", None, Reason::ClusterError, Cause::TooManyRequests),
            (500, "canary", None, Reason::ClusterError, Cause::ServerError),
            (500, webhook, None, Reason::ClusterError, Cause::WebhookFailed),
            (403, owner, None, Reason::TargetRefused, Cause::OwnerReference),
            (403, "canary", None, Reason::TargetRefused, Cause::Other),
            (400, "canary", None, Reason::TargetRefused, Cause::Other),
            (422, "canary", Some("metadata.labels"), Reason::SpecInvalid, Cause::TargetLabels),
            (422, "canary", Some("metadata.annotations"), Reason::SpecInvalid, Cause::TargetAnnotations),
            (422, "canary", Some("data[a/b]"), Reason::SpecInvalid, Cause::TargetKeys),
            (422, "canary", Some("dataset"), Reason::TargetRefused, Cause::Other),
        ] {
            let fault = fault_of(code, message, field);
            assert_eq!((fault.reason, fault.cause), (reason, Some(cause)), "{code} {message} {field:?}");
            assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
        }
        assert_eq!(fault_of(502, "", None).seen.number, Some(502));
        assert_eq!(ApiError::Unreachable.fault(None).cause, Some(Cause::Unreachable));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named() {
        let refused = |error: ApiError| error.fault(Some((CaBundleKind::Secret, "oauth")));
        let found = refused(ApiError::Forbidden);
        assert_eq!((found.reason, found.cause), (Reason::SourceRefused, Some(Cause::Permission)));
        assert_eq!(found.seen.name, ShownName::object("oauth"));
        let policy = ApiError::Refused(Cause::Policy, ShownName::object("p"));
        assert_eq!(refused(policy).cause, Some(Cause::Other), "a read has no policy");
        assert_eq!(refused(ApiError::TimedOut).reason, Reason::ClusterError);
    }
}
