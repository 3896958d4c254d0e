//! A specification, parsed: what users write, understood and checked.

mod duration;
pub(crate) mod plan;
mod portal;
mod selector;
mod template;

pub use duration::{DurationError, format_seconds, parse_duration};
pub use plan::{
    Plan, REFERER_ADVICE, SpecError, TargetPlan, VerificationPlan, is_referer, is_shell_safe, is_subdomain,
};
pub use portal::{AllowedOrigin, OriginError, OriginMatch, PortalUrl, PortalUrlError};
pub use selector::{SelectorError, parse_selector};
pub use template::{Template, TemplateError};
