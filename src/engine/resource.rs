//! What every kind of resource does: the contract between the engine and `resource/`.
//!
//! Plan, apply and health all go through the same `observe`: there is no second opinion about
//! what is true.

use std::future::Future;
use std::pin::Pin;

use super::step::Step;
use super::{Address, Diff};
use crate::error::Result;
use crate::host::Host;

/// Something that must be on the guest before the first change, named with its package when it is
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// A program in the system's directories.
    Program(&'static str),
    /// firewalld answers on the bus.
    Firewalld,
    /// A Samba server with a unit.
    SambaServer,
}

/// One thing on the machine, in its desired state.
pub trait Resource: Send + Sync + 'static {
    /// What is there now.
    type Observed: Send + Sync;

    fn address(&self) -> Address;

    /// What the guest must have for this resource.
    fn requirements(&self) -> Vec<Requirement> {
        Vec::new()
    }

    /// Looks at the machine and changes nothing.
    fn observe(&self, host: &Host) -> impl Future<Output = Result<Self::Observed>> + Send;

    /// Compares. An error is a refusal: what is there must not be touched.
    fn diff(&self, observed: &Self::Observed) -> Result<Diff>;

    /// Makes the machine as desired, starting from what was observed; every effect goes through the
    /// step.
    fn converge(
        &self,
        step: &Step,
        observed: &Self::Observed,
    ) -> impl Future<Output = Result<()>> + Send;
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// [`Resource`] without its type of observation, so that a graph can hold every kind.
pub trait Managed: Send + Sync {
    fn address(&self) -> Address;
    fn requirements(&self) -> Vec<Requirement>;
    /// Observes and compares.
    fn inspect<'a>(&'a self, host: &'a Host) -> Boxed<'a, Diff>;
    /// Observes once more, and converges from that.
    fn converge<'a>(&'a self, step: &'a Step) -> Boxed<'a, ()>;
}

impl<R: Resource> Managed for R {
    fn address(&self) -> Address {
        Resource::address(self)
    }

    fn requirements(&self) -> Vec<Requirement> {
        Resource::requirements(self)
    }

    fn inspect<'a>(&'a self, host: &'a Host) -> Boxed<'a, Diff> {
        Box::pin(async move { self.diff(&self.observe(host).await?) })
    }

    fn converge<'a>(&'a self, step: &'a Step) -> Boxed<'a, ()> {
        Box::pin(async move {
            let observed = self.observe(step).await?;
            // What was blank when the plan was made may not be so any more: refuse again.
            self.diff(&observed)?;
            Resource::converge(self, step, &observed).await
        })
    }
}
