//! `wasagent history`: lists the runs and what each changed.

use std::path::Path;

use serde::Serialize;

use super::Failure;
use super::exit::{self, Code};
use super::lock;
use super::output::{Ink, Output, describe};
use crate::config::Role;
use crate::effect::Outcome;
use crate::effect::history::{self, Run, Unreadable};
use crate::engine::Field;
use crate::error::Result;
use crate::host::STATE_DIRECTORY;

#[derive(Serialize)]
struct HistoryJson<'a> {
    version: u32,
    runs: Vec<RunJson<'a>>,
    /// The runs whose record cannot be read, or not all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<UnreadableJson<'a>>,
}

#[derive(Serialize)]
struct UnreadableJson<'a> {
    run: u32,
    file: &'a Path,
    why: &'a str,
}

#[derive(Serialize)]
struct RunJson<'a> {
    run: u32,
    command: &'static str,
    role: Role,
    agent: &'a str,
    started: &'a str,
    ended: Option<&'a str>,
    /// `null` for a run that was cut off or is still running.
    outcome: Option<Outcome>,
    /// Whether the run goes on now.
    running: bool,
    changes: Vec<ChangeJson<'a>>,
}

#[derive(Serialize)]
struct ChangeJson<'a> {
    resource: &'a str,
    fields: &'a [Field],
}

/// The runs on record. Tells of every record that cannot be read.
pub fn read(output: &Output) -> Result<(Vec<Run>, Vec<Unreadable>)> {
    let (runs, unreadable) = history::read_all(Path::new(STATE_DIRECTORY))?;
    for one in &unreadable {
        output.warning(&one.as_error());
    }
    Ok((runs, unreadable))
}

pub fn run(output: &Output) -> Result<Code, Failure> {
    let directory = Path::new(STATE_DIRECTORY);
    let (mut runs, unreadable) = read(output)?;
    let running = history::running(directory, &runs);
    if running.is_none() {
        // It may just have ended.
        runs = history::runs(directory)?;
    }
    if output.is_json() {
        output.json(&HistoryJson {
            version: 1,
            runs: runs.iter().map(|run| json(run, running)).collect(),
            unreadable: unreadable.iter().map(unreadable_json).collect(),
        });
        return Ok(exit::DONE);
    }
    if runs.is_empty() && unreadable.is_empty() {
        output.line("no run has changed anything on this VM");
    }
    for run in &runs {
        show(run, running, output);
    }
    if running.is_none() && lock::is_held() {
        output.line("a run of wasagent is at work on this VM, and has changed nothing yet");
    }
    Ok(exit::DONE)
}

fn unreadable_json(unreadable: &Unreadable) -> UnreadableJson<'_> {
    UnreadableJson {
        run: unreadable.number,
        file: &unreadable.file,
        why: &unreadable.why,
    }
}

fn json(run: &Run, running: Option<u32>) -> RunJson<'_> {
    RunJson {
        run: run.number,
        command: run.work.command(),
        role: run.role,
        agent: &run.agent,
        started: &run.started,
        ended: run.ended.as_ref().map(|(_, at)| at.as_str()),
        outcome: run.ended.as_ref().map(|(outcome, _)| *outcome),
        running: running == Some(run.number),
        changes: run
            .changed
            .iter()
            .map(|(resource, fields)| ChangeJson { resource, fields })
            .collect(),
    }
}

fn show(run: &Run, running: Option<u32>, output: &Output) {
    let command = run.work.command();
    let (ink, outcome) = match &run.ended {
        Some((Outcome::Done, _)) => (Ink::Green, "done"),
        Some((Outcome::Failed, _)) => (Ink::Red, "failed"),
        Some((Outcome::Interrupted, _)) => (Ink::Yellow, "interrupted"),
        Some((Outcome::RolledBack, _)) => (Ink::Yellow, "rolled back"),
        None if running == Some(run.number) => (Ink::Cyan, "running"),
        None => (Ink::Yellow, "cut off"),
    };
    output.line(&format!(
        "{:>4}  {}  {command} --role {}  {}  {}",
        run.number,
        run.started,
        run.role,
        output.ink(ink, outcome),
        output.ink(Ink::Faint, &format!("wasagent {}", run.agent)),
    ));
    for (resource, fields) in &run.changed {
        output.line(&format!("      {resource}"));
        for field in fields {
            output.line(&format!("          {}", describe(field)));
        }
    }
    for recorded in run.effects.iter().filter(|recorded| !recorded.done) {
        output.line(&format!(
            "      {}  {}",
            recorded.resource,
            output.ink(Ink::Yellow, &format!("begun: {}", recorded.effect))
        ));
    }
}
