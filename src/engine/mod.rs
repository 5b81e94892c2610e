//! The engine: observe everything, compare it with what is wanted, converge what differs in
//! dependency order with independent resources at the same time, observe again, record.

pub mod address;
pub mod apply;
pub mod diff;
pub mod effect;
pub mod entry;
pub mod graph;
pub mod journal;
pub mod mend;
pub mod plan;
pub mod record;
pub mod report;
pub mod resource;
pub mod step;
pub mod undo;

pub use address::{Address, Kind};
pub use diff::{Action, Diff, Disturbance, Field};
pub use graph::Graph;
pub use plan::Plan;
pub use resource::{ChangedNeeds, GuideStep, Requirement, Resource};
pub use step::Step;
