//! The long campaigns: every fail point, power cuts, what a revert leaves. `cargo lab soak NAME` runs one in full; the
//! tests run a sample of each, by the same functions and so with the same assertions.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::progress::say;
use crate::release::Release;
use crate::tier::Role;

pub mod adopt;
pub mod boots;
pub mod builds;
pub mod confined;
pub mod content;
pub mod disk;
pub mod fault;
pub mod fuzz;
pub mod ground;
pub mod image;
pub mod kill;
pub mod outage;
pub mod password;
pub mod power;
pub mod refusal;
pub mod revert;
pub mod selinux;
pub mod stage;
mod start;
pub mod unit;

use ground::Scenario;

/// A campaign: what it is called, what it proves, and how it is run.
pub struct Campaign {
    pub name: &'static str,
    pub proves: &'static str,
    run: fn(&Scope) -> Result<()>,
}

pub const CAMPAIGNS: [Campaign; 17] = [
    Campaign {
        name: "kill",
        proves: "killed at any fail point, the next apply converges and revert restores",
        run: kill::run,
    },
    Campaign {
        name: "fault",
        proves: "the same when an effect fails, with an error that names the resource and the way out",
        run: fault::run,
    },
    Campaign {
        name: "disk",
        proves: "a data disk waited for, enlarged, pulled out, missing at a boot and put into another VM: its files are there",
        run: disk::run,
    },
    Campaign {
        name: "password",
        proves: "any password lets a client in after the apply that sets it, and the one before no longer",
        run: password::run,
    },
    Campaign {
        name: "power",
        proves: "the power cut at random moments of an apply: the next one converges, and no file of anybody's is lost",
        run: power::run,
    },
    Campaign {
        name: "revert",
        proves: "apply and revert leave a guest as it was, but for a list of exceptions",
        run: revert::run,
    },
    Campaign {
        name: "content",
        proves: "changes of revision, killed in any phase: readers and containers that start find a whole one, and nobody's files are lost",
        run: content::run,
    },
    Campaign {
        name: "builds",
        proves: "ten kinds of npm's projects are built in the sandbox, are the share's, and their pages are served",
        run: builds::run,
    },
    Campaign {
        name: "outage",
        proves: "the share goes in each way and comes back: what a WAS VM answers each second, and that all is well again",
        run: outage::run,
    },
    Campaign {
        name: "boots",
        proves: "50 boots of a WAS VM, its storage VM up, late or down: no container in an empty directory, and it serves",
        run: boots::run,
    },
    Campaign {
        name: "refusal",
        proves: "each way in which a mount is refused has its own sentence and way out, in time, and nothing is mounted",
        run: refusal::run,
    },
    Campaign {
        name: "image",
        proves: "a tag that moves is told and taken when asked for; registry down, archive cut off, image that ends: the page stays",
        run: image::run,
    },
    Campaign {
        name: "adopt",
        proves: "a WAS VM set up by typing the guide is taken over, comes back where that fails, and is what it was after a revert",
        run: adopt::run,
    },
    Campaign {
        name: "confined",
        proves: "the sample application has no capability, cannot change its image, and nobody sees what it alone is told",
        run: confined::run,
    },
    Campaign {
        name: "fuzz",
        proves: "random tier files, smb.conf, fstab, JavaScript and git trees: no panic, and no wrong edit",
        run: fuzz::run,
    },
    Campaign {
        name: "selinux",
        proves: "a storage VM that enforces SELinux's policy: both WAS write, nothing is denied, a full relabel changes nothing",
        run: selinux::run,
    },
    Campaign {
        name: "unit",
        proves: "the boot's unit applies both roles in its sandbox, under SELinux too, and all comes back at a boot without the agent",
        run: unit::run,
    },
];

/// Runs a campaign by its name; without one, lists them.
pub fn run(name: Option<&str>, scope: &Scope) -> Result<()> {
    let Some(name) = name else {
        for campaign in &CAMPAIGNS {
            println!("{:<8} {}", campaign.name, campaign.proves);
        }
        return Ok(());
    };
    let known: Vec<&str> = CAMPAIGNS.iter().map(|campaign| campaign.name).collect();
    let campaign = CAMPAIGNS
        .iter()
        .find(|campaign| campaign.name == name)
        .with_context(|| format!("no campaign {name}; there are {}", known.join(", ")))?;
    (campaign.run)(scope)
}

/// How many of the points of a campaign are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    #[default]
    All,
    /// This many, spread evenly: the same ones in every run.
    Sample(usize),
}

impl Size {
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        let Size::Sample(wanted) = self else {
            return all;
        };
        let count = all.len();
        let wanted = wanted.min(count);
        let chosen: Vec<usize> = (0..wanted)
            .map(|index| (2 * index + 1) * count / (2 * wanted))
            .collect();
        let numbered = all.into_iter().enumerate();
        numbered
            .filter_map(|(index, one)| chosen.contains(&index).then_some(one))
            .collect()
    }
}

/// Which part of a campaign is run.
#[derive(Args, Clone, Debug, Default)]
pub struct Scope {
    #[arg(skip)]
    pub size: Size,
    /// Only on this release.
    #[arg(long)]
    pub release: Option<Release>,
    /// Only this role.
    #[arg(long)]
    pub role: Option<Role>,
    /// Only with this command disturbed.
    #[arg(long)]
    pub scenario: Option<Scenario>,
    /// Only the points with this in their names.
    #[arg(long, value_name = "TEXT")]
    pub point: Option<String>,
    /// How many power cuts.
    #[arg(long, value_name = "COUNT")]
    pub rounds: Option<usize>,
    /// What the moments of the power cuts, or the passwords, follow from, as an earlier run said it.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Scope {
    /// A small part of a campaign, on one kind of guest.
    pub fn sample(size: usize, role: Role, release: Release) -> Scope {
        Scope {
            size: Size::Sample(size),
            release: Some(release),
            role: Some(role),
            ..Scope::default()
        }
    }

    /// The guests that are meant, the quickest first.
    pub fn guests(&self) -> Vec<(Role, Release)> {
        [Role::Storage, Role::Was]
            .into_iter()
            .flat_map(|role| Release::BOTH.map(|release| (role, release)))
            .filter(|(role, release)| {
                self.role.is_none_or(|wanted| wanted == *role)
                    && self.release.is_none_or(|wanted| wanted == *release)
            })
            .collect()
    }

    /// The commands that are disturbed.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::ALL.into_iter();
        all.filter(|scenario| self.scenario.is_none_or(|only| only == *scenario))
            .collect()
    }

    pub fn means(&self, point: impl fmt::Display) -> bool {
        self.point
            .as_ref()
            .is_none_or(|part| point.to_string().contains(part.as_str()))
    }
}

/// What a campaign has come to. A point that fails does not end it.
pub struct Tally {
    campaign: &'static str,
    begun: Instant,
    points: usize,
    failures: Vec<String>,
}

impl Tally {
    pub fn new(campaign: &'static str) -> Tally {
        Tally {
            campaign,
            begun: Instant::now(),
            points: 0,
            failures: Vec::new(),
        }
    }

    /// Tries one point and says how it went; gives back whether it held.
    pub fn point(&mut self, name: &str, trial: impl FnOnce() -> Result<()>) -> bool {
        let begun = Instant::now();
        self.points += 1;
        let result = trial();
        let took = begun.elapsed().as_secs_f64();
        let number = self.points;
        match &result {
            Ok(()) => say(format!("{} {number} {name}: {took:.1} s", self.campaign)),
            Err(error) => {
                say(format!(
                    "{} {number} {name}: FAILED after {took:.1} s: {error:#}",
                    self.campaign
                ));
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
        result.is_ok()
    }

    /// Sums it up, and fails if a point failed or none was tried.
    pub fn end(self) -> Result<()> {
        let minutes = self.begun.elapsed().as_secs_f64() / 60.0;
        say(format!(
            "{}: {} points, {} failed, {minutes:.1} min",
            self.campaign,
            self.points,
            self.failures.len()
        ));
        ensure!(self.points > 0, "{}: nothing was tried", self.campaign);
        if !self.failures.is_empty() {
            bail!(
                "{}: {} of {} points failed:\n{}",
                self.campaign,
                self.failures.len(),
                self.points,
                self.failures.join("\n")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_and_always_the_same() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(Size::All.of(all.clone()), all);
        assert_eq!(Size::Sample(3).of(all.clone()), [1, 5, 8]);
        assert_eq!(Size::Sample(20).of(all.clone()), all);
        assert!(Size::Sample(3).of(Vec::<usize>::new()).is_empty());
    }

    #[test]
    fn a_campaign_goes_on_after_a_failure_and_fails_at_its_end() {
        let mut tally = Tally::new("kill");
        assert!(!tally.point("one", || bail!("broken")));
        assert!(tally.point("two", || Ok(())));
        let said = tally.end().unwrap_err().to_string();
        assert!(
            said.contains("one: broken") && said.contains("1 of 2"),
            "{said}"
        );
        assert!(Tally::new("kill").end().is_err());
    }

    #[test]
    fn a_name_finds_its_campaign() {
        assert!(run(None, &Scope::default()).is_ok());
        assert!(run(Some("drain"), &Scope::default()).is_err());
    }
}
