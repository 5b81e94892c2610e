//! Whether this VM can serve now. Resources are seen through the same `observe` that plan and apply
//! use. What only a request can show is checked by a request.

pub mod checks;
mod share;
pub mod share_probe;
mod verdict;

pub use checks::Check;
pub use verdict::{State, Verdict, probe};
