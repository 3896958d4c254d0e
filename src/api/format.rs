//! The ready-made extra keys of the target Secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A ready-made extra key of the target Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    Headers,
    DotEnv,
    Json,
    RestJs,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Self::Headers, Self::DotEnv, Self::Json, Self::RestJs];

    /// The key it fills.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::DotEnv => "arcgis.env",
            Self::Json => "token.json",
            Self::RestJs => "rest-js.json",
        }
    }
}
