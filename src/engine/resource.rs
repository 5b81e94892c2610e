//! What every kind of resource does: the contract between the engine and `resource/`.
//!
//! Plan, apply and health all use the same `observe`, so they agree on what is true.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

use super::{Address, Diff, Kind, Step};
use crate::error::Result;
use crate::host::Host;

/// Something that must be on the guest before the first change. If it is missing, the error names
/// it and its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// A program in the system's directories.
    Program(&'static str),
    /// firewalld answers on the bus.
    Firewalld,
    /// A Samba server with a unit.
    SambaServer,
}

/// The needs of one resource that a plan changes, each with its diff.
#[derive(Debug, Default)]
pub struct ChangedNeeds<'a>(Vec<(&'a Address, &'a Diff)>);

impl<'a> ChangedNeeds<'a> {
    pub fn new(needs: impl IntoIterator<Item = (&'a Address, &'a Diff)>) -> Self {
        let changed = needs.into_iter().filter(|(_, diff)| !diff.is_empty());
        Self(changed.collect())
    }

    /// The diff of the need of this kind and name, if the plan changes it.
    pub fn get(&self, kind: Kind, name: impl fmt::Display) -> Option<&'a Diff> {
        let address = Address::new(kind, name);
        let found = self.0.iter().find(|(need, _)| **need == address);
        found.map(|(_, diff)| *diff)
    }
}

/// A shell step of the guide that the agent replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuideStep {
    /// Its number in the guide.
    pub step: u8,
    pub command: String,
}

impl GuideStep {
    pub fn new(step: u8, command: impl Into<String>) -> Self {
        Self {
            step,
            command: command.into(),
        }
    }
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

    /// Looks for what stands in the way of `converge`, as far as that shows beforehand. Asked only of a resource that
    /// differs. An error is a refusal, as in `diff`.
    fn obstacles(
        &self,
        _host: &Host,
        _observed: &Self::Observed,
    ) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Adds to a diff what else will differ once these needs, which a plan changes, are converged.
    /// Apply finds that out when it observes again after them. The plan is right only as far as
    /// this function agrees with `converge`.
    fn foresee(&self, _changed: &ChangedNeeds<'_>, _diff: &mut Diff) {}

    /// The guide's shell steps that a change replaces, with this resource's own names.
    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        Vec::new()
    }

    /// Brings the machine to the desired state, starting from what was observed. Every effect goes
    /// through the step.
    fn converge(
        &self,
        step: &Step,
        observed: &Self::Observed,
    ) -> impl Future<Output = Result<()>> + Send;
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// [`Resource`] without its `Observed` type, so that a graph can hold every kind.
pub trait Managed: Send + Sync {
    fn requirements(&self) -> Vec<Requirement>;
    /// Observes and compares: what is true now.
    fn inspect<'a>(&'a self, host: &'a Host) -> Boxed<'a, Diff>;
    /// The same, and refuses what could not be changed.
    fn plan<'a>(&'a self, host: &'a Host) -> Boxed<'a, Diff>;
    fn foresee(&self, changed: &ChangedNeeds<'_>, diff: &mut Diff);
    fn guide(&self, diff: &Diff) -> Vec<GuideStep>;
    /// Observes once more, and converges from that.
    fn converge<'a>(&'a self, step: &'a Step) -> Boxed<'a, ()>;
}

impl<R: Resource> Managed for R {
    fn requirements(&self) -> Vec<Requirement> {
        Resource::requirements(self)
    }

    fn foresee(&self, changed: &ChangedNeeds<'_>, diff: &mut Diff) {
        Resource::foresee(self, changed, diff);
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        Resource::guide(self, diff)
    }

    fn inspect<'a>(&'a self, host: &'a Host) -> Boxed<'a, Diff> {
        Box::pin(async move { self.diff(&self.observe(host).await?) })
    }

    fn plan<'a>(&'a self, host: &'a Host) -> Boxed<'a, Diff> {
        Box::pin(async move { look_ahead(self, host).await.map(|(_, diff)| diff) })
    }

    fn converge<'a>(&'a self, step: &'a Step) -> Boxed<'a, ()> {
        Box::pin(async move {
            // Refuse again: what was blank when the plan was made may no longer be.
            let (observed, _) = look_ahead(self, step).await?;
            Resource::converge(self, step, &observed).await
        })
    }
}

async fn look_ahead<R: Resource>(resource: &R, host: &Host) -> Result<(R::Observed, Diff)> {
    let observed = resource.observe(host).await?;
    let diff = resource.diff(&observed)?;
    if !diff.is_empty() {
        resource.obstacles(host, &observed).await?;
    }
    Ok((observed, diff))
}
