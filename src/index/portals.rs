//! The portals that resources name, with what is known of each: when its certificate expires.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use jiff::Timestamp;

const UNKNOWN: i64 = i64::MIN;

/// A portal, shared by the resources that name it.
#[derive(Debug)]
pub struct NamedPortal {
    /// Its host, with its port if that is not 443.
    pub authority: Box<str>,
    expires: AtomicI64,
}

impl NamedPortal {
    /// When the certificate that it presented last expires, in seconds; `None` before the first one.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<i64> {
        Some(self.expires.load(Ordering::Relaxed)).filter(|seconds| *seconds != UNKNOWN)
    }

    pub(super) fn presented(&self, expires: Timestamp) {
        self.expires.store(expires.as_second(), Ordering::Relaxed);
    }

    pub(super) fn forget(&self) {
        self.expires.store(UNKNOWN, Ordering::Relaxed);
    }
}

/// All portals. One that no resource names any more is gone.
#[derive(Default)]
pub(super) struct NamedPortals(HashMap<Box<str>, Weak<NamedPortal>>);

impl NamedPortals {
    pub(super) fn named(&mut self, authority: &str) -> Arc<NamedPortal> {
        if let Some(known) = self.0.get(authority).and_then(Weak::upgrade) {
            return known;
        }
        self.0.retain(|_, portal| portal.strong_count() > 0);
        let portal = Arc::new(NamedPortal { authority: authority.into(), expires: AtomicI64::new(UNKNOWN) });
        self.0.insert(authority.into(), Arc::downgrade(&portal));
        portal
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<NamedPortal>> {
        self.0.values().filter_map(Weak::upgrade)
    }
}
