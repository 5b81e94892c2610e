//! Openings in the zones of firewalld by which the tier's packets come in, in its runtime and its permanent settings.
//! The wanted openings are there. Openings that an apply made from an older tier file or for another zone, and that are
//! no longer wanted, are not.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::future::try_join_all;

use super::way_in::{Plan, Wanted, WayIn};
use crate::effect::opening::OnOpening;
use crate::effect::{Effect, history};
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::cifs::SMB_PORT;
use crate::host::firewalld::{Firewalld, Opening, Settings, zone_file};
use crate::host::{Host, blocking, way};

/// What lets clients reach ports of this VM.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// The zones that are in use, as far as they are known: the resource's name.
    pub zone: String,
    pub way: WayIn,
}

/// An opening that is wanted, and whether it is there.
#[derive(Debug, Clone)]
struct State {
    settings: Settings,
    wanted: Wanted,
    is_open: bool,
}

#[derive(Debug)]
pub struct Observed {
    /// What cannot be opened, and why.
    refusal: Option<Error>,
    openings: Vec<State>,
    /// Zones that let everybody in, and by what; not by an opening of the agent's.
    open_to_everybody: Vec<(String, String)>,
    /// Openings that an apply made, that are open now, and that the tier file no longer names.
    outdated: Vec<(Settings, String, Opening)>,
    notes: Vec<String>,
    /// Whether firewalld takes changes from the agent; asked only if there is something to change.
    takes_changes: bool,
}

impl Firewall {
    async fn look(&self, host: &Host, firewalld: &Firewalld) -> Result<Observed> {
        let (zones, interfaces) = (&host.facts.zones, &host.facts.interfaces);
        let zones = zones.clone().unwrap_or_default();
        let (plan, refusal) = match self.way.plan(&zones, interfaces) {
            Ok(plan) => (plan, None),
            Err(refusal) => (Plan::default(), Some(refusal)),
        };
        let openings = self.states(host, firewalld, &plan).await?;
        // Openings too many shut nobody out, which is what health asks.
        let outdated = if refusal.is_none() && host.reads_records {
            self.outdated(firewalld, host.state_directory.clone(), &openings)
                .await?
        } else {
            Vec::new()
        };
        let mut open_to_everybody = self.way.open_to_everybody(&zones, &plan.openings);
        open_to_everybody.retain(|(zone, by)| {
            !outdated.iter().any(|(settings, in_zone, opening)| {
                *settings == Settings::Runtime
                    && in_zone == zone
                    && *by == format!("the port {opening} of zone {zone}")
            })
        });
        let differs = !outdated.is_empty() || openings.iter().any(|state| !state.is_open);
        Ok(Observed {
            refusal,
            openings,
            open_to_everybody,
            outdated,
            notes: plan.notes,
            takes_changes: !differs || firewalld.takes_changes().await?,
        })
    }

    /// Asks for all the openings at the same time.
    async fn states(&self, host: &Host, firewalld: &Firewalld, plan: &Plan) -> Result<Vec<State>> {
        let mut asked = Vec::new();
        for wanted in &plan.openings {
            asked.push((Settings::Permanent, wanted.clone()));
            asked.push((Settings::Runtime, wanted.clone()));
        }
        // After a restart of firewalld or a boot, an interface is in the zone that the permanent settings say.
        for interface in self.way.interfaces(&host.facts.interfaces) {
            let Some(zone) = firewalld.permanent_zone_of(interface).await? else {
                continue;
            };
            if self.way.zone.is_some() || self.way.is_left_closed(&zone) {
                continue;
            }
            for wanted in &plan.openings {
                let then = Wanted {
                    zone: zone.clone(),
                    ..wanted.clone()
                };
                let is_known = asked.iter().any(|(settings, known)| {
                    *settings == Settings::Permanent
                        && known.zone == then.zone
                        && known.opening == then.opening
                });
                if !is_known {
                    asked.push((Settings::Permanent, then));
                }
            }
        }
        let states = asked.into_iter().map(|(settings, wanted)| async move {
            let is_open = firewalld.has(settings, &wanted.zone, &wanted.opening);
            Ok::<_, Error>(State {
                is_open: is_open.await?,
                settings,
                wanted,
            })
        });
        try_join_all(states).await
    }

    /// The openings that the agent made by its own record, that are open, and that are no longer wanted.
    async fn outdated(
        &self,
        firewalld: &Firewalld,
        record: PathBuf,
        wanted: &[State],
    ) -> Result<Vec<(Settings, String, Opening)>> {
        let opened = blocking(move || {
            let effects = history::open_effects(&history::runs(&record)?);
            let opened = effects
                .into_iter()
                .filter_map(|recorded| match recorded.effect {
                    Effect::Opening(OnOpening::Open {
                        settings,
                        zone,
                        opening,
                        ..
                    }) => Some((settings, zone, opening)),
                    _ => None,
                });
            Ok(opened.collect::<BTreeSet<_>>())
        })
        .await?;
        let mut outdated = Vec::new();
        for (settings, zone, opening) in opened {
            let is_wanted = wanted.iter().any(|state| {
                state.settings == settings
                    && state.wanted.zone == zone
                    && state.wanted.opening == opening
            });
            // A zone that somebody has removed since has nothing open.
            if !is_wanted
                && firewalld
                    .has(settings, &zone, &opening)
                    .await
                    .unwrap_or(false)
            {
                outdated.push((settings, zone, opening));
            }
        }
        Ok(outdated)
    }

    /// The error to report if firewalld does not have the zone that the tier file names.
    async fn no_such_zone(&self, firewalld: &Firewalld) -> Option<Error> {
        let zone = self.way.zone.as_ref()?;
        let zones = firewalld.zones().await.ok()?;
        (!zones.contains(zone)).then(|| {
            Error::new(format!("firewalld has no zone {zone}"))
                .hint(format!("firewall.zone is one of: {}", zones.join(", ")))
        })
    }

    /// What a field is called: with its zone, where that is not the resource's own.
    fn field(&self, settings: Settings, zone: &str, opening: &Opening) -> String {
        if zone == self.zone {
            format!("{settings} {opening}")
        } else {
            format!("{settings} {opening} in zone {zone}")
        }
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
        let observed = self.look(host, firewalld).await;
        match observed {
            Ok(observed) if observed.refusal.is_none() => Ok(observed),
            // Only after a failure is it worth a call to ask whether the zone is there.
            Ok(observed) => match self.no_such_zone(firewalld).await {
                Some(error) => Err(error),
                None => Ok(observed),
            },
            Err(error) => Err(self.no_such_zone(firewalld).await.unwrap_or(error)),
        }
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        if let Some(refusal) = &observed.refusal {
            return Err(refusal.clone());
        }
        let mut diff = Diff::update(format!("zone {} is closed for what is served", self.zone));
        diff.notes.extend(observed.notes.iter().cloned());
        for (zone, by) in &observed.open_to_everybody {
            let ports = self.way.ports.iter();
            let ports: Vec<String> = ports.map(|(port, kind)| format!("{port}/{kind}")).collect();
            diff.notes.push(format!(
                "{} is open to everybody in zone {zone}, by {by}; close it if nobody else needs it",
                ports.join(", ")
            ));
        }
        let word = |open: bool| if open { "open" } else { "closed" };
        for state in &observed.openings {
            let Wanted {
                zone,
                opening,
                is_spare,
            } = &state.wanted;
            let name = self.field(state.settings, zone, opening);
            // Nobody is shut out by what only the permanent settings lack, nor by what another rule lets in.
            if *is_spare || state.settings == Settings::Permanent {
                diff.improvement(&name, word(state.is_open).to_owned(), "open".to_owned());
            } else {
                diff.field(&name, Some(word(state.is_open)), "open");
            }
        }
        if diff.is_empty() && !observed.outdated.is_empty() {
            diff.because("the tier file no longer says what an apply has opened");
        }
        for (settings, zone, opening) in &observed.outdated {
            let name = self.field(*settings, zone, opening);
            diff.improvement(&name, "open".to_owned(), "closed".to_owned());
        }
        if !diff.is_empty() && !observed.takes_changes {
            return Err(Error::new(
                "firewalld is locked down: it takes changes only from those on its list",
            )
            .hint("run: firewall-cmd --lockdown-off, apply, and lock it down again; or put the agent on the list:                    firewall-cmd --permanent --add-lockdown-whitelist-uid=0 && firewall-cmd --add-lockdown-whitelist-uid=0"));
        }
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        let openings = observed.openings.iter();
        let missing = openings
            .filter(|state| !state.is_open && state.settings == Settings::Permanent)
            .map(|state| &state.wanted.zone);
        let outdated = observed.outdated.iter();
        let too_many = outdated
            .filter(|(settings, ..)| *settings == Settings::Permanent)
            .map(|(_, zone, _)| zone);
        for zone in missing.chain(too_many) {
            let file = zone_file(zone);
            blocking(move || way::to_file(&file)).await?;
        }
        Ok(())
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        let permanent = format!("firewall-cmd --zone={} --permanent", self.zone);
        let openings = self.way.openings();
        let opened = openings.iter().map(|opening| match opening {
            Opening::Port { port, .. } if *port == SMB_PORT => {
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
        // The permanent settings come first: an opening that is lost between the two is back at a reload.
        for state in observed.openings.iter().filter(|state| !state.is_open) {
            step.open(state.settings, &state.wanted.zone, &state.wanted.opening)
                .await?;
        }
        // The wanted openings are open by now, so nobody is shut out in between.
        for (settings, zone, opening) in &observed.outdated {
            step.close(*settings, zone, opening).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> Opening {
        Opening::Port {
            port,
            protocol: "tcp".to_owned(),
        }
    }

    fn firewall() -> Firewall {
        Firewall {
            zone: "public".to_owned(),
            way: WayIn {
                zone: None,
                clients: Vec::new(),
                reached_at: Vec::new(),
                ports: vec![(5000, "tcp".to_owned())],
                forwarded: false,
            },
        }
    }

    /// The runtime and the permanent opening in a zone.
    fn observed(zone: &str, runtime: bool, permanent: bool, is_spare: bool) -> Observed {
        let state = |settings, is_open| State {
            settings,
            is_open,
            wanted: Wanted {
                zone: zone.to_owned(),
                opening: port(5000),
                is_spare,
            },
        };
        Observed {
            refusal: None,
            openings: vec![
                state(Settings::Permanent, permanent),
                state(Settings::Runtime, runtime),
            ],
            open_to_everybody: Vec::new(),
            outdated: Vec::new(),
            notes: Vec::new(),
            takes_changes: true,
        }
    }

    #[test]
    fn what_an_older_tier_file_opened_is_to_be_closed() {
        let firewall = firewall();
        let mut observed = observed("public", true, true, false);
        assert!(firewall.diff(&observed).unwrap().is_empty());
        observed.outdated = vec![
            (Settings::Permanent, "public".to_owned(), port(4000)),
            (Settings::Runtime, "work".to_owned(), port(5000)),
        ];
        let diff = firewall.diff(&observed).unwrap();
        let names: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["permanent 4000/tcp", "runtime 5000/tcp in zone work"]
        );
        assert_eq!(diff.fields[0].to.as_deref(), Some("closed"));
        assert!(diff.why.contains("no longer"), "{}", diff.why);
        assert!(diff.harmful().is_empty());
    }

    #[test]
    fn only_what_shuts_clients_out_now_is_harmful() {
        for (runtime, permanent, is_spare, harmful) in [
            (true, true, false, 0),
            (true, false, false, 0),
            (false, true, false, 1),
            (false, false, true, 0),
        ] {
            let diff = firewall().diff(&observed("public", runtime, permanent, is_spare));
            assert_eq!(diff.unwrap().harmful().len(), harmful);
        }
    }

    #[test]
    fn a_firewalld_that_takes_no_changes_is_told_before_the_first_one() {
        let mut observed = observed("public", false, true, false);
        observed.takes_changes = false;
        let refusal = firewall().diff(&observed).unwrap_err();
        assert!(refusal.message.contains("locked down"), "{refusal}");
    }
}
