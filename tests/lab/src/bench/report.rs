//! All that was measured, and what it comes to.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::contestant::{AGENT, Contestant, Phase};
use super::floor::Floor;
use super::ground::{Ended, Told};
use super::growth::Growth;
use super::judge::Faults;
use super::machine::Machine;
use super::statistics::{Summary, ratios};
use super::stopwatch::{Counted, Taken};
use crate::image::hex;
use crate::release::Release;
use crate::tier::Role;

/// A contestant's name and a phase.
type Cell = (&'static str, Phase);

/// The measurements of one command.
pub struct Report {
    pub role: Role,
    pub release: Release,
    pub runs: usize,
    pub contestants: Vec<Contestant>,
    pub machine: Machine,
    pub load_at_the_end: f64,
    /// How the agent's times grow with its content.
    pub growth: Option<Growth>,
    /// What the reads of an apply with nothing to change take alone.
    pub floor: Option<Floor>,
    versions: BTreeMap<&'static str, String>,
    /// Who is not here, and why.
    left_out: Vec<(&'static str, &'static str)>,
    taken: BTreeMap<Cell, Vec<(usize, Taken)>>,
    counted: BTreeMap<Cell, Counted>,
    failed: BTreeMap<Cell, Vec<(usize, Faults)>>,
    left: BTreeMap<Cell, &'static str>,
}

impl Report {
    pub fn new(
        role: Role,
        release: Release,
        runs: usize,
        contestants: Vec<Contestant>,
        machine: Machine,
    ) -> Report {
        Report {
            role,
            release,
            runs,
            contestants,
            load_at_the_end: machine.load,
            growth: None,
            floor: None,
            machine,
            versions: BTreeMap::new(),
            left_out: Vec::new(),
            taken: BTreeMap::new(),
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// Names one that cannot be had here.
    pub fn leave_out(&mut self, name: &'static str, why: &'static str) {
        self.left_out.push((name, why));
    }

    /// Takes down what a run of a contestant gave.
    pub fn note(&mut self, contestant: &Contestant, run: usize, told: Told) {
        self.versions.insert(contestant.name, told.version);
        for (phase, ended) in told.phases {
            let cell = (contestant.name, phase);
            match ended {
                Ended::Taken(taken) => self.taken.entry(cell).or_default().push((run, taken)),
                Ended::Counted(counted) => drop(self.counted.insert(cell, counted)),
                Ended::Failed(faults) => self.failed.entry(cell).or_default().push((run, faults)),
                Ended::Left(why) => drop(self.left.insert(cell, why)),
            }
        }
    }

    /// The contestants' versions, by name.
    pub fn versions(&self) -> &BTreeMap<&'static str, String> {
        &self.versions
    }

    pub fn left_out(&self) -> &[(&'static str, &'static str)] {
        &self.left_out
    }

    /// Why a phase of a contestant is not measured.
    pub fn left(&self, name: &'static str, phase: Phase) -> Option<&'static str> {
        self.left.get(&(name, phase)).copied()
    }

    /// What was wrong in the first run in which a contestant did not reach the wanted state.
    pub fn faults(&self, name: &'static str, phase: Phase) -> Option<&Faults> {
        let (_, faults) = self.failed.get(&(name, phase))?.first()?;
        Some(faults)
    }

    /// The phases that somebody failed in: none of its times counts.
    pub fn failures(&self) -> Vec<String> {
        let cells = self.failed.keys();
        cells
            .map(|(name, phase)| format!("{name} ({phase})"))
            .collect()
    }

    /// One number of each run of a phase; none, if it failed in any of them.
    fn values(&self, cell: Cell, of: fn(&Taken) -> f64) -> Vec<(usize, f64)> {
        if self.failed.contains_key(&cell) {
            return Vec::new();
        }
        let taken = self.taken.get(&cell).map_or(&[][..], Vec::as_slice);
        taken.iter().map(|(run, taken)| (*run, of(taken))).collect()
    }

    /// Median, least and most of one number.
    pub fn summary(
        &self,
        name: &'static str,
        phase: Phase,
        of: fn(&Taken) -> f64,
    ) -> Option<Summary> {
        let values = self.values((name, phase), of);
        let values: Vec<f64> = values.into_iter().map(|(_, value)| value).collect();
        Summary::of(&values)
    }

    /// How many times longer than the agent, pair by pair within one run.
    pub fn ratio(&self, name: &'static str, phase: Phase) -> Option<Summary> {
        let seconds = |name| self.values((name, phase), |taken| taken.seconds);
        Summary::of(&ratios(&seconds(name), &seconds(AGENT)))
    }

    pub fn counted(&self, name: &'static str, phase: Phase) -> Option<Counted> {
        self.counted.get(&(name, phase)).copied()
    }

    /// The whole of it.
    pub fn json(&self) -> Value {
        let contestants = self.contestants.iter().map(|one| self.contestant_json(one));
        let left_out = self
            .left_out
            .iter()
            .map(|(name, why)| json!({ "name": name, "why": why }));
        json!({
            "version": 1,
            "role": self.role.to_string(),
            "release": self.release.to_string(),
            "runs": self.runs,
            "machine": self.machine.json(),
            "load_at_the_end": self.load_at_the_end,
            "contestants": contestants.collect::<Vec<_>>(),
            "growth": self.growth.as_ref().map(Growth::json),
            "floor": self.floor.as_ref().map(Floor::json),
            "left_out": left_out.collect::<Vec<_>>(),
        })
    }

    fn contestant_json(&self, one: &Contestant) -> Value {
        let programs = one
            .files
            .iter()
            .map(|(path, text)| json!({ "path": path, "sha256": hex(&Sha256::digest(text)) }));
        let phases = Phase::ALL.map(|phase| self.phase_json(one, phase));
        json!({
            "name": one.name,
            "version": self.versions.get(one.name),
            "programs": programs.collect::<Vec<_>>(),
            "phases": phases,
        })
    }

    fn phase_json(&self, one: &Contestant, phase: Phase) -> Value {
        let cell = (one.name, phase);
        let taken = self.taken.get(&cell).map_or(&[][..], Vec::as_slice);
        let runs = taken.iter().map(|(run, taken)| {
            json!({
                "run": run,
                "seconds": taken.seconds,
                "processor_seconds": taken.processor,
                "largest_process_mib": taken.largest,
            })
        });
        let counted = self.counted(one.name, phase).map(|counted| {
            json!({
                "processes": counted.processes,
                "programs": counted.programs,
                "fsyncs": counted.fsyncs,
            })
        });
        json!({
            "phase": phase.to_string(),
            "command": one.command(phase).ok().map(|words| words.join(" ")),
            "not_measured": one.command(phase).err(),
            "failed": self.failed.get(&cell).map(|failed| {
                failed.iter().map(|(run, faults)| json!({ "run": run, "faults": faults })).collect::<Vec<_>>()
            }),
            "runs": runs.collect::<Vec<_>>(),
            "seconds": self.summary(one.name, phase, |taken| taken.seconds).map(of_three),
            "times_the_agent": self.ratio(one.name, phase).map(of_three),
            "counted": counted,
        })
    }
}

/// A summary as JSON.
pub(super) fn of_three(summary: Summary) -> Value {
    json!({ "median": summary.median, "least": summary.least, "most": summary.most })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::contestant::all;
    use super::*;

    /// A report of the agent and the shell, of two runs.
    pub fn sample() -> Report {
        let machine = Machine {
            processor: "a processor".to_owned(),
            processors: 2,
            memory: 4.0,
            kernel: "6.12".to_owned(),
            load: 0.1,
        };
        let contestants: Vec<Contestant> = all(Role::Storage).into_iter().take(2).collect();
        let mut report = Report::new(
            Role::Storage,
            Release::Bookworm,
            2,
            contestants.clone(),
            machine,
        );
        for (run, slower) in [(1, 1.0), (2, 3.0)] {
            for (contestant, seconds) in contestants.iter().zip([0.01, 0.5]) {
                let taken = Taken {
                    seconds: seconds * slower,
                    processor: seconds / 2.0,
                    largest: 8.0,
                };
                let told = Told {
                    version: format!("{} 1.0", contestant.name),
                    phases: vec![
                        (Phase::First, Ended::Taken(taken)),
                        (Phase::Nothing, Ended::Taken(taken)),
                    ],
                };
                report.note(contestant, run, told);
            }
        }
        report
    }

    #[test]
    fn a_contestant_that_failed_once_has_no_time() {
        let mut report = sample();
        let seconds =
            |report: &Report| report.summary("shell", Phase::First, |taken| taken.seconds);
        assert_eq!(seconds(&report).unwrap().median, 1.0);
        assert_eq!(report.ratio("shell", Phase::First).unwrap().median, 50.0);
        let shell = report.contestants[1].clone();
        let faults = vec!["Samba now: \"inactive\"".to_owned()];
        let told = Told {
            version: String::new(),
            phases: vec![(Phase::First, Ended::Failed(faults))],
        };
        report.note(&shell, 3, told);
        assert_eq!(seconds(&report), None);
        assert!(report.ratio("shell", Phase::First).is_none());
        assert_eq!(report.failures(), ["shell (first apply)"]);
        assert!(report.ratio("shell", Phase::Nothing).is_some());
        let json = report.json().to_string();
        assert!(json.contains("inactive"), "{json}");
    }
}
