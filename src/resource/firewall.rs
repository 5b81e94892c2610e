//! Openings in one zone of firewalld, in its runtime and in its permanent settings.

use crate::engine::{Address, Diff, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::firewalld::{Opening, Settings};

/// A zone that has these openings, among others.
#[derive(Debug, Clone)]
pub struct Firewall {
    pub zone: String,
    pub openings: Vec<Opening>,
    /// Openings that somebody else made would undo the point of these; they are told of.
    pub unwanted: Vec<Opening>,
}

#[derive(Debug)]
pub struct Observed {
    /// For each opening, whether it is in the runtime and in the permanent settings.
    openings: Vec<(Opening, bool, bool)>,
    /// Those of the unwanted that are open now.
    unwanted: Vec<Opening>,
}

impl Resource for Firewall {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Firewall, &self.zone)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Firewalld]
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let firewalld = host.running_firewalld()?;
        let zones = firewalld.zones().await?;
        if !zones.contains(&self.zone) {
            return Err(Error::new(format!("firewalld has no zone {}", self.zone))
                .hint(format!("firewall.zone is one of: {}", zones.join(", "))));
        }
        let mut openings = Vec::new();
        for opening in &self.openings {
            let runtime = firewalld
                .has(Settings::Runtime, &self.zone, opening)
                .await?;
            let permanent = firewalld
                .has(Settings::Permanent, &self.zone, opening)
                .await?;
            openings.push((opening.clone(), runtime, permanent));
        }
        let mut unwanted = Vec::new();
        for opening in &self.unwanted {
            if firewalld
                .has(Settings::Runtime, &self.zone, opening)
                .await?
            {
                unwanted.push(opening.clone());
            }
        }
        Ok(Observed { openings, unwanted })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let mut diff = Diff::update(format!("zone {} is closed for what is served", self.zone));
        for opening in &observed.unwanted {
            diff.notes.push(format!(
                "{opening} is open to everybody in zone {}; close it if nobody else needs it",
                self.zone
            ));
        }
        for (opening, runtime, permanent) in &observed.openings {
            let state = |open: bool| if open { "open" } else { "closed" };
            diff.field(&format!("runtime {opening}"), Some(state(*runtime)), "open");
            diff.field(
                &format!("permanent {opening}"),
                Some(state(*permanent)),
                "open",
            );
        }
        Ok(diff)
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        for (opening, runtime, permanent) in &observed.openings {
            // The permanent settings first: what is lost between the two is back at a reload.
            if !permanent {
                step.open(Settings::Permanent, &self.zone, opening).await?;
            }
            if !runtime {
                step.open(Settings::Runtime, &self.zone, opening).await?;
            }
        }
        Ok(())
    }
}
