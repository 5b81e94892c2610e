//! Reads the record of runs back: what a revert has to undo, and what a killed run left.

use std::fs;
use std::path::Path;

use super::line::{Field, Line, Outcome, RUNS, Work};
use super::{Address, Effect};
use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::host::fs::{read_regular, remove_leftover};

/// Other files that the agent keeps in the state directory.
const OWN_FILES: [&str; 1] = ["record.json"];

/// Far above the size of any run's record.
const MAX_RUN: u64 = 64 << 20;

/// An effect as a run recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub resource: Address,
    pub effect: Effect,
    /// Its number in the run.
    pub number: u32,
    /// Part of an undo.
    pub undoes: bool,
    /// Known to have succeeded.
    pub done: bool,
    /// Known not to have happened.
    pub failed: bool,
}

/// A run read back.
#[derive(Debug, Clone)]
pub struct Run {
    pub number: u32,
    pub work: Work,
    pub role: Role,
    pub agent: String,
    pub started: String,
    pub effects: Vec<Recorded>,
    pub changed: Vec<(String, Vec<Field>)>,
    /// `None` if the run was cut off, or is still going on.
    pub ended: Option<(Outcome, String)>,
}

/// The numbers of the runs on record, oldest first.
pub(super) fn numbers(directory: &Path) -> Result<Vec<u32>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(format_args!("read {}", directory.display()))?,
    };
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(".jsonl")?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Every run on record in the agent's own directory, oldest first.
pub fn runs(directory: &Path) -> Result<Vec<Run>> {
    let directory = directory.join(RUNS);
    let mut runs = Vec::new();
    for number in numbers(&directory)? {
        runs.extend(read_run(&directory, number)?);
    }
    Ok(runs)
}

/// `None` for a run that was cut off in its first line: it has done nothing.
fn read_run(directory: &Path, number: u32) -> Result<Option<Run>> {
    let path = directory.join(format!("{number:06}.jsonl"));
    let Some(file) = read_regular(&path, MAX_RUN)? else {
        return Ok(None);
    };
    parse(number, &file.contents)
        .map_err(|error| error.while_doing(format_args!("read {}", path.display())))
}

/// Removes the half-made temporary files that the last run left, if it was cut off. A later write
/// of the same file would overwrite them, but may never come.
pub fn sweep(directory: &Path) -> Result<()> {
    let runs = directory.join(RUNS);
    let Some(last) = numbers(&runs)?.pop() else {
        return Ok(());
    };
    let Some(run) = read_run(&runs, last)?.filter(|run| run.ended.is_none()) else {
        return Ok(());
    };
    let unfinished = run.effects.iter().filter(|recorded| !recorded.done);
    for path in unfinished.filter_map(|recorded| recorded.effect.made_beside()) {
        remove_leftover(path)?;
    }
    for own in OWN_FILES {
        remove_leftover(&directory.join(own))?;
    }
    Ok(())
}

fn parse(number: u32, text: &[u8]) -> Result<Option<Run>> {
    let mut run: Option<Run> = None;
    // What follows the last line feed is a line that was cut off.
    let whole = text
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    for line in text[..whole]
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
    {
        let line: Line = serde_json::from_slice(line).map_err(|cause| {
            Error::new(format!("a line is not of this version's form: {cause}"))
                .hint("the file was changed by hand, or written by a newer version of wasagent")
        })?;
        match (line, &mut run) {
            (
                Line::Run {
                    work,
                    role,
                    agent,
                    at,
                },
                None,
            ) => {
                run = Some(Run {
                    number,
                    work,
                    role,
                    agent,
                    started: at,
                    effects: Vec::new(),
                    changed: Vec::new(),
                    ended: None,
                });
            }
            (
                Line::Begin {
                    effect,
                    resource,
                    what,
                    undoes,
                    ..
                },
                Some(run),
            ) => run.effects.push(Recorded {
                resource: resource.parse()?,
                effect: what,
                number: effect,
                undoes,
                done: false,
                failed: false,
            }),
            (
                Line::End {
                    effect,
                    error,
                    happened,
                    ..
                },
                Some(run),
            ) => {
                let mut effects = run.effects.iter_mut();
                if let Some(recorded) = effects.find(|recorded| recorded.number == effect) {
                    recorded.done = error.is_none();
                    recorded.failed = happened == Some(false);
                }
            }
            (Line::Changed { resource, fields }, Some(run)) => run.changed.push((resource, fields)),
            (Line::Ended { outcome, at }, Some(run)) => run.ended = Some((outcome, at)),
            _ => return Err(Error::new("its lines are out of order")),
        }
    }
    Ok(run)
}

/// The runs since the last complete revert: what is still to be undone.
pub fn since_revert(runs: &[Run]) -> &[Run] {
    let after = runs
        .iter()
        .rposition(|run| run.work == Work::Revert && matches!(run.ended, Some((Outcome::Done, _))))
        .map_or(0, |last| last + 1);
    &runs[after..]
}

/// The effects that are still to be undone, oldest first. Of a run that was rolled back, only
/// effects that outlive a roll-back are left.
pub fn open_effects(runs: &[Run]) -> Vec<Recorded> {
    since_revert(runs)
        .iter()
        .flat_map(|run| {
            let rolled_back = matches!(run.ended, Some((Outcome::RolledBack, _)));
            run.effects.iter().filter(move |recorded| {
                !recorded.failed && (!rolled_back || recorded.effect.outlives_a_roll_back())
            })
        })
        .cloned()
        .collect()
}

/// The latest applies that were killed, failed or interrupted, with no revert, roll-back or successful apply since.
pub fn without_an_end(runs: &[Run]) -> &[Run] {
    let after = runs
        .iter()
        .rposition(|run| {
            let ended = run.ended.as_ref().map(|(outcome, _)| outcome);
            run.work != Work::Apply || matches!(ended, Some(Outcome::Done | Outcome::RolledBack))
        })
        .map_or(0, |last| last + 1);
    &runs[after..]
}
