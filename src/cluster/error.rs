//! Errors of calls to the API server, and their time limit.

use std::time::Duration;

use kube::core::Status;
use thiserror::Error;
use tokio::time::timeout;

/// The time limit of one call to the API server.
const CALL: Duration = Duration::from_secs(10);

/// Why a call failed. The text of the API server is not kept: it may echo values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    #[error("the object does not exist")]
    NotFound,
    #[error("the object already exists")]
    Exists,
    #[error("the object changed since it was read")]
    Conflict,
    #[error("the permission is missing, or a policy denies the call")]
    Forbidden,
    /// With what `spec.target` adds to the Secret among the causes.
    #[error("the API server rejects labels, annotations or keys of the object as invalid")]
    InvalidFields,
    /// Another lasting rejection: quota, admission policy or webhook.
    #[error("the API server refuses the write with status {0}")]
    Denied(u16),
    #[error("the call could not be encoded, and was not sent")]
    NotSent,
    #[error("the API server limits the rate of calls")]
    TooManyRequests {
        /// Seconds to wait, where it names some.
        retry_after: Option<u32>,
    },
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
            // By the code: a proxy in between may give no reason.
            kube::Error::Api(status) => match status.code {
                404 => Self::NotFound,
                409 => Self::Conflict,
                403 => Self::Forbidden,
                422 if blames_target_fields(&status) => Self::InvalidFields,
                429 => Self::TooManyRequests { retry_after: retry_after(&status) },
                401 | 408 => Self::Failed(status.code),
                code @ 400..=499 => Self::Denied(code),
                code => Self::Failed(code),
            },
            _ => Self::Unreachable,
        }
    }
}

/// Whether a cause is in what `spec.target` adds to a Secret. An admission policy names no field.
fn blames_target_fields(status: &Status) -> bool {
    let fields = ["metadata.labels", "metadata.annotations", "data", "stringData"];
    let within =
        |field: &str, of: &str| field.strip_prefix(of).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| fields.iter().any(|of| within(&cause.field, of)))
}

fn retry_after(status: &Status) -> Option<u32> {
    status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
}

/// Limits the time of a call.
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    timeout(CALL, call).await.map_err(|_| ApiError::TimedOut)?.map_err(ApiError::from)
}
