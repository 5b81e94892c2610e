//! The engine: observe everything, compare it with what is wanted, converge what differs in
//! dependency order (independent resources at the same time), observe again, record.

pub mod converge;
pub mod diff;
pub mod entry;
pub mod graph;
pub mod mend;
pub mod plan;
pub mod report;
pub mod resource;
pub mod retry;
pub mod role_record;
pub mod run;
pub mod undo;

pub use crate::effect::{Address, Field, Kind, Step, Work};
pub use diff::{Action, Diff, Disturbance};
pub use graph::Graph;
pub use plan::Plan;
pub use resource::{ChangedNeeds, GuideStep, Requirement, Resource};
