//! Reads the record of runs back: what a revert has to undo, and what a killed run left. What cannot be read stops
//! nobody: it is left out and told ([`Unreadable`]).

use std::fs;
use std::path::{Path, PathBuf};

use super::line::{Field, Line, Outcome, RUNS, VERSION, Work};
use super::{Address, Effect};
use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::host::fs::{read_regular, remove_leftover};
use crate::host::holders;

/// Other files that the agent keeps in the state directory.
const OWN_FILES: [&str; 2] = ["record.json", "key"];

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
    /// [`super::Reversible::left`].
    pub left: Option<String>,
}

/// A run whose record cannot be read, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub number: u32,
    pub file: PathBuf,
    /// What is wrong with the record.
    pub why: String,
}

impl Unreadable {
    /// What the operator should know, and do.
    pub fn as_error(&self) -> Error {
        let file = self.file.display();
        Error::new(format!(
            "the record of run {} ({file}) cannot be read: {}; what is not read is left out, and no revert undoes it",
            self.number, self.why
        ))
        .hint(format!(
            "use the version of wasagent that wrote it, or move {file} away once what that run did is undone by hand"
        ))
    }
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

/// Whether any run is on record.
pub(super) fn exists(directory: &Path) -> Result<bool> {
    Ok(!numbers(&directory.join(RUNS))?.is_empty())
}

/// The number of the run that goes on now. A run has its file open as long as it lives.
pub fn running(directory: &Path, runs: &[Run]) -> Option<u32> {
    let last = runs.last().filter(|run| run.ended.is_none())?;
    let file = file(&directory.join(RUNS), last.number);
    holders::has_open(&file).then_some(last.number)
}

/// Every run on record in the agent's own directory, oldest first, as far as it can be read.
pub fn runs(directory: &Path) -> Result<Vec<Run>> {
    Ok(read_all(directory)?.0)
}

/// The same, and what of the record cannot be read.
pub fn read_all(directory: &Path) -> Result<(Vec<Run>, Vec<Unreadable>)> {
    let directory = directory.join(RUNS);
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    for number in numbers(&directory)? {
        let (run, why) = read_run(&directory, number);
        runs.extend(run);
        unreadable.extend(why.map(|why| Unreadable {
            number,
            file: file(&directory, number),
            why,
        }));
    }
    Ok((runs, unreadable))
}

pub(super) fn file(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:06}.jsonl"))
}

/// The run, as far as its record can be read, and what is wrong with the record. `None` for a run that was cut off in
/// its first line: it has done nothing.
fn read_run(directory: &Path, number: u32) -> (Option<Run>, Option<String>) {
    match read_regular(&file(directory, number), MAX_RUN) {
        Ok(Some(file)) => parse(number, &file.contents),
        Ok(None) => (None, None),
        Err(error) => (None, Some(error.message)),
    }
}

/// Removes the half-made temporary files that the last run left, if it was cut off. A later write
/// of the same file would overwrite them, but may never come.
pub fn sweep(directory: &Path, runs: &[Run]) -> Result<()> {
    let Some(run) = runs.last().filter(|run| run.ended.is_none()) else {
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

fn parse(number: u32, text: &[u8]) -> (Option<Run>, Option<String>) {
    // What follows the last line feed is a line that was cut off.
    let whole = text
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    let mut lines = text[..whole]
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty());
    let Some(first) = lines.next() else {
        return (None, None);
    };
    let mut run = match begin(number, first) {
        Ok(run) => run,
        Err(why) => return (None, Some(why)),
    };
    let odd = lines.filter(|line| !run.take(line)).count();
    let why = match odd {
        0 => None,
        1 => Some("one of its lines is not of this version's form".to_owned()),
        many => Some(format!(
            "{many} of its lines are not of this version's form"
        )),
    };
    (Some(run), why)
}

/// The run that the first line of a record begins, or what is wrong with that line.
fn begin(number: u32, line: &[u8]) -> Result<Run, String> {
    // A newer version's line may have another form.
    let version = serde_json::from_slice(line)
        .ok()
        .and_then(|line: serde_json::Value| line["run"]["version"].as_u64());
    if version.is_some_and(|version| version > VERSION.into()) {
        return Err("a newer version of wasagent wrote it".to_owned());
    }
    match serde_json::from_slice(line) {
        Ok(Line::Run {
            work,
            role,
            agent,
            at,
            ..
        }) => Ok(Run {
            number,
            work,
            role,
            agent,
            started: at,
            effects: Vec::new(),
            changed: Vec::new(),
            ended: None,
        }),
        _ => Err("its first line is not of this version's form".to_owned()),
    }
}

impl Run {
    /// Takes in a further line of the record; `false` where that cannot be read.
    fn take(&mut self, line: &[u8]) -> bool {
        match serde_json::from_slice(line) {
            Ok(Line::Begin {
                effect,
                resource,
                what,
                undoes,
                ..
            }) => {
                let Ok(resource) = resource.parse() else {
                    return false;
                };
                self.effects.push(Recorded {
                    resource,
                    effect: what,
                    number: effect,
                    undoes,
                    done: false,
                    failed: false,
                    left: None,
                });
            }
            Ok(Line::End {
                effect,
                error,
                happened,
                left,
                ..
            }) => {
                let mut effects = self.effects.iter_mut();
                if let Some(recorded) = effects.find(|recorded| recorded.number == effect) {
                    recorded.done = error.is_none();
                    recorded.failed = happened == Some(false);
                    recorded.left = left;
                }
            }
            Ok(Line::Changed { resource, fields }) => self.changed.push((resource, fields)),
            Ok(Line::Ended { outcome, at }) => self.ended = Some((outcome, at)),
            Ok(Line::Run { .. }) | Err(_) => return false,
        }
        true
    }
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
