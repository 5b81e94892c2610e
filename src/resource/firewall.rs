//! Openings in one zone of firewalld, in its runtime and its permanent settings. The wanted
//! openings are there. Openings that an apply made from an older tier file, and that are no longer
//! wanted, are not.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::future::try_join_all;

use crate::effect::opening::OnOpening;
use crate::effect::{Effect, history};
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::cifs::SMB_PORT;
use crate::host::firewalld::{Firewalld, Opening, Settings, zone_file};
use crate::host::{Host, blocking, way};

/// A zone that has these openings, among others.
#[derive(Debug, Clone)]
pub struct Firewall {
    pub zone: String,
    pub openings: Vec<Opening>,
    /// Openings that would defeat the wanted ones if somebody else made them; they are only
    /// reported.
    pub unwanted: Vec<Opening>,
}

#[derive(Debug)]
pub struct Observed {
    /// For each opening, whether it is in the runtime and in the permanent settings.
    openings: Vec<(Opening, bool, bool)>,
    /// The unwanted openings that are open now and that the agent did not make.
    unwanted: Vec<Opening>,
    /// Openings that an apply made, that are open now, and that the tier file no longer names.
    outdated: Vec<(Settings, Opening)>,
}

impl Firewall {
    /// Asks for all the openings at the same time.
    async fn look(&self, host: &Host, firewalld: &Firewalld) -> Result<Observed> {
        let runtime = |opening| firewalld.has(Settings::Runtime, &self.zone, opening);
        let permanent = async {
            let zone = firewalld.permanent_zone(&self.zone).await?;
            try_join_all(self.openings.iter().map(|opening| zone.has(opening))).await
        };
        let (runtime, permanent, unwanted) = tokio::try_join!(
            try_join_all(self.openings.iter().map(runtime)),
            permanent,
            try_join_all(self.unwanted.iter().map(runtime)),
        )?;
        // Openings too many shut nobody out, which is what health asks.
        let outdated = match host.reads_records {
            true => {
                self.outdated(firewalld, host.state_directory.clone())
                    .await?
            }
            false => Vec::new(),
        };
        let openings = self.openings.iter().cloned();
        let unwanted = self.unwanted.iter().cloned().zip(unwanted);
        Ok(Observed {
            openings: openings
                .zip(runtime)
                .zip(permanent)
                .map(|((opening, runtime), permanent)| (opening, runtime, permanent))
                .collect(),
            unwanted: unwanted
                .filter_map(|(opening, open)| open.then_some(opening))
                .filter(|opening| !outdated.iter().any(|(_, ours)| ours == opening))
                .collect(),
            outdated,
        })
    }

    /// The openings in this zone that the agent made by its own record, that are open, and that are
    /// no longer wanted.
    async fn outdated(
        &self,
        firewalld: &Firewalld,
        record: PathBuf,
    ) -> Result<Vec<(Settings, Opening)>> {
        let zone = self.zone.clone();
        let opened = blocking(move || {
            let effects = history::open_effects(&history::runs(&record)?);
            let opened = effects
                .into_iter()
                .filter_map(|recorded| match recorded.effect {
                    Effect::Opening(OnOpening::Open {
                        settings,
                        zone: in_zone,
                        opening,
                        ..
                    }) if in_zone == zone => Some((settings, opening)),
                    _ => None,
                });
            Ok(opened.collect::<BTreeSet<_>>())
        })
        .await?;
        let mut outdated = Vec::new();
        for (settings, opening) in opened {
            if !self.openings.contains(&opening)
                && firewalld.has(settings, &self.zone, &opening).await?
            {
                outdated.push((settings, opening));
            }
        }
        Ok(outdated)
    }

    /// The error to report if firewalld does not have the zone.
    async fn no_such_zone(&self, firewalld: &Firewalld) -> Option<Error> {
        let zones = firewalld.zones().await.ok()?;
        (!zones.contains(&self.zone)).then(|| {
            Error::new(format!("firewalld has no zone {}", self.zone))
                .hint(format!("firewall.zone is one of: {}", zones.join(", ")))
        })
    }
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
        match self.look(host, firewalld).await {
            Ok(observed) => Ok(observed),
            // Only after a failure is it worth a call to ask whether the zone is there.
            Err(error) => Err(self.no_such_zone(firewalld).await.unwrap_or(error)),
        }
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
        if diff.is_empty() && !observed.outdated.is_empty() {
            diff.because("the tier file no longer says what an apply has opened");
        }
        for (settings, opening) in &observed.outdated {
            diff.field(&format!("{settings} {opening}"), Some("open"), "closed");
        }
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        let mut openings = observed.openings.iter();
        let mut outdated = observed.outdated.iter();
        let writes_the_zone = openings.any(|(_, _, permanent)| !permanent)
            || outdated.any(|(settings, _)| *settings == Settings::Permanent);
        if !writes_the_zone {
            return Ok(());
        }
        let file = zone_file(&self.zone);
        blocking(move || way::to_file(&file)).await
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        let permanent = format!("firewall-cmd --zone={} --permanent", self.zone);
        let samba = format!("{SMB_PORT}/tcp");
        let opened = self.openings.iter().map(|opening| match opening {
            Opening::Port { .. } if opening.to_string() == samba => {
                format!("{permanent} --add-service=samba")
            }
            Opening::Port { .. } => format!("{permanent} --add-port={opening}"),
            Opening::RichRule(rule) => format!("{permanent} --add-rich-rule='{rule}'"),
        });
        opened
            .chain(["firewall-cmd --reload".to_owned()])
            .map(|command| GuideStep::new(3, command))
            .collect()
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        for (opening, runtime, permanent) in &observed.openings {
            // The permanent settings come first: an opening that is lost between the two is back at
            // a reload.
            if !permanent {
                step.open(Settings::Permanent, &self.zone, opening).await?;
            }
            if !runtime {
                step.open(Settings::Runtime, &self.zone, opening).await?;
            }
        }
        // The wanted openings are open by now, so nobody is shut out in between.
        for (settings, opening) in &observed.outdated {
            step.close(*settings, &self.zone, opening).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_tier_file_opened_is_to_be_closed() {
        let port = |port| Opening::Port {
            port,
            protocol: "tcp".to_owned(),
        };
        let firewall = Firewall {
            zone: "public".to_owned(),
            openings: vec![port(5000)],
            unwanted: Vec::new(),
        };
        let mut observed = Observed {
            openings: vec![(port(5000), true, true)],
            unwanted: Vec::new(),
            outdated: Vec::new(),
        };
        assert!(firewall.diff(&observed).unwrap().is_empty());
        observed.outdated = vec![(Settings::Permanent, port(4000))];
        let diff = firewall.diff(&observed).unwrap();
        assert_eq!(diff.fields.len(), 1);
        assert_eq!(diff.fields[0].name, "permanent 4000/tcp");
        assert_eq!(diff.fields[0].to.as_deref(), Some("closed"));
        assert!(diff.why.contains("no longer"), "{}", diff.why);
    }
}
