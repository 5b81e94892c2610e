//! An effect that fails, at every fail point: the command exits with 1 and an error that names the resource and the way
//! out, nothing is half-written, and the next apply or revert ends where it should.
//!
//! `before` a point the effect has not happened when it is told to have failed; `after` one it has, as when a reply is
//! lost.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::ground::{Course, Ground, Scenario, drive};
use super::{Scope, Tally};
use crate::failpoint::{Action, Moment, Point, set_off};
use crate::process::Output;
use crate::snapshot;

pub fn run(scope: &Scope) -> Result<()> {
    let mut tally = Tally::new("fault");
    drive(scope, &mut tally, trial)?;
    tally.end()
}

fn trial(ground: &Ground, course: &Course, point: &Point) -> Result<()> {
    let mut faults = point.faults();
    if ground.stage.guest.is_qemu() {
        // Each takes its time on an emulated processor: the points take turns, and every fault meets its share of them.
        let length = point.to_string().len();
        let turn = length % faults.len();
        faults = &faults[turn..=turn];
    }
    // An effect that did not happen is still to be done, so the next fault finds it in the same run of attempts.
    let is_to_be_done = match point.moment {
        Moment::Before => true,
        // Only of a file nothing has happened before its end.
        Moment::During => point.effect.starts_with("write "),
        Moment::After => false,
    };
    // A revert goes on with what does not depend on the failed step, such as the mount below a directory.
    let at_once = if is_to_be_done && course.scenario != Scenario::Revert {
        faults.len()
    } else {
        1
    };
    let fail_with = |turn: usize, action: Action| {
        // People and scripts each read every other error.
        fail(ground, course, point, action, turn % 2 == 1).with_context(|| action.to_string())
    };
    let (first, others) = faults.split_at(at_once);
    let goes_on = || {
        let mut others = first.iter().enumerate().skip(1);
        others.try_for_each(|(turn, action)| fail_with(turn, *action))
    };
    ground
        .both_ways(course, || fail_with(0, first[0]), goes_on)
        .with_context(|| format!("{first:?}"))?;
    for (turn, action) in others.iter().enumerate() {
        ground.set_out(course.scenario)?;
        fail_with(turn + 1, *action)?;
        let then = || format!("{action}, and applied again");
        ground.converge(course).with_context(then)?;
        if !ground.stage.has_states() {
            ground
                .back()
                .with_context(|| format!("{action}, applied again, reverted"))?;
        }
    }
    Ok(())
}

/// The command fails at the point, and says so.
fn fail(ground: &Ground, course: &Course, point: &Point, action: Action, json: bool) -> Result<()> {
    let mut command = ground.command(course.scenario);
    if command.contains(&"apply") {
        // A transient fault would be tried again, and succeed.
        command.extend(["--timeout", "0s"]);
    }
    if json {
        command.extend(["--format", "json"]);
    }
    let output = set_off(&ground.stage.guest, point, action, &command)?;
    ensure!(output.status == 1, "it should exit with 1: {output}");
    names_the_way_out(&output, &point.resource)?;
    if json {
        is_in_the_events(&output, &point.resource)?;
    }
    let left = snapshot::leftovers(&ground.stage.guest)?;
    ensure!(
        left.is_empty() || finishes_later(point),
        "it left {left:?}: {output}"
    );
    Ok(())
}

/// Whether the effect ends a change of revision. Where it fails, the replaced tree and the record of the change stay: the
/// next apply finishes the change by them, and takes them away.
fn finishes_later(point: &Point) -> bool {
    let ends = ["settle ", "clear beside "];
    ends.iter().any(|effect| point.effect.starts_with(effect))
}

/// An `error:` line with the resource's address, with a `hint:` line of its own.
fn names_the_way_out(output: &Output, resource: &str) -> Result<()> {
    let mut lines = output.stderr.lines();
    let error = lines.find(|line| line.starts_with("error: ") && line.contains(resource));
    ensure!(error.is_some(), "no error names {resource}: {output}");
    // A message may have several lines.
    let hint = lines
        .take_while(|line| !line.starts_with("error: "))
        .find_map(|line| line.strip_prefix("hint:"));
    ensure!(
        hint.is_some_and(|hint| !hint.trim().is_empty()),
        "the error of {resource} has no hint: {output}"
    );
    Ok(())
}

fn is_in_the_events(output: &Output, resource: &str) -> Result<()> {
    let failed = output
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["event"] == "failed" && event["resource"] == resource)
        .with_context(|| format!("no failed event of {resource}: {output}"))?;
    for field in ["message", "hint"] {
        ensure!(
            failed["error"][field]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "the event has no error.{field}: {failed}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn said(stderr: &str) -> Output {
        Output {
            status: 1,
            stdout: String::new(),
            stderr: stderr.to_owned(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn each_error_needs_its_own_hint() {
        let whole = "error: a:b: broken\n  in two lines\nhint: mend it\n";
        assert!(names_the_way_out(&said(whole), "a:b").is_ok());
        assert!(names_the_way_out(&said(whole), "a:c").is_err());
        let other = "error: a:b: broken\nerror: a:c: broken\nhint: mend it\n";
        assert!(names_the_way_out(&said(other), "a:b").is_err());
    }
}
