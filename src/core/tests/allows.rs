//! What the loop asks of an edge, always granted.

use super::*;

/// Allows whatever is asked, at this time.
pub(crate) struct Allows(pub Timestamp);

impl Edge for Allows {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn leads(&self) -> bool {
        true
    }

    fn is_current(&self, _: &Situation) -> bool {
        true
    }

    fn admit(&self, _: &Plan) -> Admit {
        Admit::Now
    }

    fn acquire(&mut self, _: &Plan) -> Admit {
        Admit::Now
    }
}
