//! What is known of the cluster: the resources, and the versions of the Secrets and ConfigMaps that they name.

mod objects;
mod packed;
mod portals;
mod resource;
mod store;
#[cfg(test)]
mod tests;

pub use objects::Seen;
pub use portals::NamedPortal;
pub use resource::{IndexedResource, Key, ObjectKind, Report, Verified};
pub use store::Index;
