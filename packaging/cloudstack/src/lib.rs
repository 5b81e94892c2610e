//! From a tier file and a site file to three VMs, a disk and a balancer on ABLESTACK Mold or Apache CloudStack.
//!
//! [`Plan`] is what the two files ask for. [`make`] looks each thing up by its name and makes what is missing, in an
//! order in which a run that was cut off can be run again. [`api`] signs the calls and waits for the jobs behind them.

pub mod api;
mod make;
mod plan;
mod site;

pub use make::make;
pub use plan::Plan;
pub use site::Site;
