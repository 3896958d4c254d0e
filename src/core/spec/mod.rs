//! A specification, parsed: what users write, understood and checked.

mod duration;
pub(crate) mod plan;
mod portal;
mod referer;
mod selector;
mod template;

pub use duration::{DurationError, format_seconds, parse_duration};
pub use plan::{Plan, SpecError, TargetPlan, VerificationPlan};
pub use portal::{AllowedOrigin, OriginError, OriginMatch, PortalUrl, PortalUrlError};
pub use referer::{REFERER_ADVICE, is_referer, is_shell_safe};
pub use selector::{SelectorError, parse_selector};
pub use template::{Template, TemplateError};
