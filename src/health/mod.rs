//! Whether this VM can serve now. What a resource is like is seen through the same `observe` that
//! plan and apply use; what only a request can tell is asked by one.

mod checks;
mod verdict;

pub use checks::Check;
pub use verdict::{State, Verdict, probe};
