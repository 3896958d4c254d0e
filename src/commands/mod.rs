//! What the commands do. Each returns a line to print, or one that says what is wrong.

mod environment;
mod probe;
mod run;

pub use environment::proxies;
pub use probe::{Probed, probe};
pub use run::run;
