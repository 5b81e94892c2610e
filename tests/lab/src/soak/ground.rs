//! The ground that the kill and fault campaigns share: a guest that is as before any apply, what each command passes and
//! where it ends when nobody disturbs it, and the way back.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::revert::{COPY, STAYS};
use super::stage::{CHANGED_TIER_FILE, Image, Machine, Stage};
use super::{Scope, Tally};
use crate::agent;
use crate::failpoint::{self, Point};
use crate::progress::say;
use crate::release::Release;
use crate::snapshot::{self, Except, Snapshot, same};
use crate::tier::Role;

/// Whether a change falls into the same second as the last one is chance.
pub const COPIES: [Except; 4] = [
    Except::new("time of path /etc/passwd-", COPY),
    Except::new("time of path /etc/group-", COPY),
    Except::new("time of path /etc/shadow-", COPY),
    Except::new("time of path /etc/gshadow-", COPY),
];

/// The command that is disturbed, and what was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// An apply on a guest that nothing was done to.
    First,
    /// An apply after the tier file has changed.
    Change,
    /// A revert.
    Revert,
}

impl Scenario {
    pub const ALL: [Scenario; 3] = [Scenario::First, Scenario::Change, Scenario::Revert];

    pub fn name(self) -> &'static str {
        match self {
            Scenario::First => "first apply",
            Scenario::Change => "changed tier file",
            Scenario::Revert => "revert",
        }
    }

    /// The tier file of the command, where it is not the usual one.
    pub fn config(self) -> Option<&'static str> {
        (self == Scenario::Change).then_some(CHANGED_TIER_FILE)
    }
}

/// How an apply may end otherwise after a revert that was disturbed: what a revert keeps was not there before the first.
const AFTER_A_REVERT: [Except; 2] = [
    Except::new(
        "path /etc/firewalld/zones/public.xml.old",
        "firewalld keeps a copy of the file before its last change",
    ),
    Except::new(
        "text /etc/sysusers.d/wasagent.conf",
        "the account gets the number that the data on the disk has",
    ),
];

/// A guest whose states are kept has three: before everything, where the scenario's command begins, and disturbed.
const BEFORE: &str = "before";
const APPLIED: &str = "applied";
const DISTURBED: &str = "disturbed";

/// A scenario as it goes undisturbed.
pub struct Course {
    pub scenario: Scenario,
    pub points: Vec<Point>,
    /// The state to which an apply leads from anywhere in it, relative to the state before everything.
    end: Snapshot,
}

pub struct Ground {
    pub stage: Stage,
    /// Before any apply.
    before: Snapshot,
    /// Set once the state is kept that the changed tier file and the revert begin with.
    applied: OnceCell<()>,
    /// Whether nothing has been done to the guest since it was found to be as before everything.
    untouched: Cell<bool>,
    courses: Vec<Course>,
}

impl Ground {
    /// A new guest, and every scenario once undisturbed.
    fn prepare(scope: &Scope, role: Role, release: Release, image: Image) -> Result<Ground> {
        let agent = agent::build_with_failpoints(scope.size)?;
        let stage = match role {
            Role::Storage => Stage::storage(&agent, Machine::Container, release)?,
            Role::Was => Stage::was(&agent, release, image)?,
        };
        let before = Snapshot::take(&stage.guest, role)?;
        let mut ground = Ground {
            stage,
            before,
            applied: OnceCell::new(),
            untouched: Cell::new(true),
            courses: Vec::new(),
        };
        if ground.stage.has_states() {
            ground.stage.keep(BEFORE)?;
        }
        for scenario in scope.scenarios() {
            let course = ground
                .undisturbed(scenario)
                .with_context(|| format!("{}, undisturbed", scenario.name()))?;
            ground.courses.push(course);
        }
        Ok(ground)
    }

    fn undisturbed(&self, scenario: Scenario) -> Result<Course> {
        self.set_out(scenario)?;
        let command = self.command(scenario);
        let (output, points) = failpoint::passed(&self.stage.guest, &command)?;
        ensure!(output.success(), "{}: {output}", command.join(" "));
        ensure!(
            !points.is_empty(),
            "{} passed no fail point",
            command.join(" ")
        );
        say(format!("{}: {} points", scenario.name(), points.len()));
        let end = match scenario {
            Scenario::First | Scenario::Change => self.now()?.since(&self.before),
            Scenario::Revert => match self.course(Scenario::First) {
                Ok(first) => first.end.clone(),
                Err(_) => {
                    self.set_out(scenario)?;
                    self.now()?.since(&self.before)
                }
            },
        };
        self.back()?;
        Ok(Course {
            scenario,
            points,
            end,
        })
    }

    pub fn course(&self, scenario: Scenario) -> Result<&Course> {
        self.courses
            .iter()
            .find(|course| course.scenario == scenario)
            .context("a scenario that was not prepared")
    }

    /// Disturbs a command in the same way twice: an apply after it ends where an undisturbed one does, and a revert after
    /// it where everything began.
    pub fn both_ways(
        &self,
        course: &Course,
        disturb: impl Fn() -> Result<()>,
        go_on: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.set_out(course.scenario)?;
        disturb()?;
        if self.stage.has_states() {
            self.stage.keep(DISTURBED)?;
        }
        go_on()?;
        self.converge(course).context("applied again")?;
        if self.stage.has_states() {
            self.stage.go_back(DISTURBED)?;
        } else {
            self.back().context("applied again, reverted")?;
            self.set_out(course.scenario)?;
            disturb()?;
        }
        self.back().context("reverted")
    }

    /// Brings the guest from the state before everything, or from any if states are kept, to where the scenario's command
    /// begins.
    pub fn set_out(&self, scenario: Scenario) -> Result<()> {
        let states = self.stage.has_states();
        let applies = scenario != Scenario::First;
        let untouched = self.untouched.replace(false);
        if states {
            if applies && self.applied.get().is_some() {
                return self.stage.go_back(APPLIED);
            }
            if !untouched {
                self.stage.go_back(BEFORE)?;
            }
        }
        if applies {
            self.stage.apply(None)?;
        }
        if states && applies {
            self.stage.keep(APPLIED)?;
            self.applied.get_or_init(|| ());
        }
        Ok(())
    }

    /// The command that is disturbed.
    pub fn command(&self, scenario: Scenario) -> Vec<&'static str> {
        match scenario {
            Scenario::First | Scenario::Change => self.stage.apply_command(scenario.config()),
            Scenario::Revert => vec!["wasagent", "revert"],
        }
    }

    /// Applies after a disturbance, and compares the end with the undisturbed one.
    pub fn converge(&self, course: &Course) -> Result<()> {
        failpoint::settle(&self.stage.guest)?;
        self.stage.apply(course.scenario.config())?;
        let left = snapshot::leftovers(&self.stage.guest)?;
        ensure!(left.is_empty(), "applied again, it left {left:?}");
        let end = self.now()?.since(&self.before);
        let mut except = COPIES.to_vec();
        if course.scenario == Scenario::Revert {
            except.extend(AFTER_A_REVERT);
        }
        same("the end state", &course.end, &end, &except)
    }

    /// Reverts, compares with the state before everything, and takes what is on the disk away.
    pub fn back(&self) -> Result<()> {
        let reverted = self.stage.revert()?;
        same("after revert", &self.before, &self.now()?, STAYS)
            .with_context(|| reverted.to_string())?;
        self.stage.blank()?;
        self.untouched.set(true);
        Ok(())
    }

    fn now(&self) -> Result<Snapshot> {
        Snapshot::take(&self.stage.guest, self.stage.role)
    }
}

/// One trial: a scenario disturbed at one point.
pub type Trial = fn(&Ground, &Course, &Point) -> Result<()>;

/// Tries every point of the scope that a guest of each kind passes.
pub fn drive(scope: &Scope, tally: &mut Tally, trial: Trial) -> Result<()> {
    for (role, release) in scope.guests() {
        let ground = Ground::prepare(scope, role, release, Image::There)?;
        let passed = points(&ground);
        let mut tried = trials(&passed, scope);
        tried = scope.size.of(tried);
        try_all(scope, ground, &tried, Image::There, release, tally, trial)?;
        if role == Role::Was && scope.scenario.is_none_or(|only| only == Scenario::First) {
            drive_image(scope, release, &passed, tally, trial)?;
        }
    }
    Ok(())
}

/// The points that only a guest without the image passes. Every other guest has it before, because a pull takes longer
/// than all the rest.
fn drive_image(
    scope: &Scope,
    release: Release,
    passed: &BTreeSet<(Scenario, Point)>,
    tally: &mut Tally,
    trial: Trial,
) -> Result<()> {
    let ground = Ground::prepare(scope, Role::Was, release, Image::Absent)?;
    let with_pull = points(&ground);
    let more: BTreeSet<_> = with_pull.difference(passed).cloned().collect();
    let elsewhere: Vec<String> = more
        .iter()
        .filter(|(_, point)| !point.resource.starts_with("image:"))
        .chain(passed.difference(&with_pull))
        .map(|(_, point)| point.to_string())
        .collect();
    ensure!(
        elsewhere.is_empty() && !more.is_empty(),
        "a pull makes {} more points, and should make none of {elsewhere:?} come or go",
        more.len()
    );
    let tried = scope.size.of(trials(&more, scope));
    try_all(scope, ground, &tried, Image::Absent, release, tally, trial)
}

fn points(ground: &Ground) -> BTreeSet<(Scenario, Point)> {
    let courses = ground.courses.iter();
    courses
        .flat_map(|course| {
            let points = course.points.iter();
            points.map(|point| (course.scenario, point.clone()))
        })
        .collect()
}

fn trials(points: &BTreeSet<(Scenario, Point)>, scope: &Scope) -> Vec<(Scenario, Point)> {
    let meant = points.iter().filter(|(_, point)| scope.means(point));
    meant.cloned().collect()
}

/// A guest on which a trial failed is not as it was: unless a state was kept, the next one gets a new guest.
fn try_all(
    scope: &Scope,
    ground: Ground,
    tried: &[(Scenario, Point)],
    image: Image,
    release: Release,
    tally: &mut Tally,
    trial: Trial,
) -> Result<()> {
    let role = ground.stage.role;
    let mut ground = Some(ground);
    for (index, (scenario, point)) in tried.iter().enumerate() {
        let on = match ground.take() {
            Some(ground) => ground,
            None => Ground::prepare(scope, role, release, image)?,
        };
        let name = format!(
            "{}/{} {role} on {release}, {}: {point}",
            index + 1,
            tried.len(),
            scenario.name()
        );
        let held = tally.point(&name, || trial(&on, on.course(*scenario)?, point));
        if held || on.stage.has_states() || on.back().is_ok() {
            ground = Some(on);
        }
    }
    Ok(())
}
