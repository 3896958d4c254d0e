//! Errors of calls to the API server, and their time limit.

use std::time::Duration;

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
    #[error("the API server refuses the write")]
    Refused,
    #[error("the API server rejects the object as invalid")]
    Invalid,
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
                403 => Self::Refused,
                422 => Self::Invalid,
                code => Self::Failed(code),
            },
            _ => Self::Unreachable,
        }
    }
}

/// Limits the time of a call.
pub(super) async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    timeout(CALL, call).await.map_err(|_| ApiError::TimedOut)?.map_err(ApiError::from)
}
