//! Forgets what no revert can need: old runs, and kept contents. The newest runs stay for `wasagent history`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use super::history::{self, Recorded, Run};
use super::ledger::SAVED;
use super::line::RUNS;
use super::{by_target, needed};
use crate::error::{Doing, Result};
use crate::host::fs::sync_directory;
use crate::host::sha256::Sha256;

/// How many of the newest runs stay whether or not a revert needs them.
const NEWEST: usize = 100;

/// Removes runs and kept contents that no revert can need. While a record cannot be read, nobody knows what a revert by
/// the version that wrote it would need, and nothing is removed.
pub fn forget_what_is_not_needed(directory: &Path) -> Result<()> {
    let (runs, unreadable) = history::read_all(directory)?;
    if !unreadable.is_empty() {
        return Ok(());
    }
    forget_contents(directory, &runs)?;
    let directory = directory.join(RUNS);
    let not_needed = not_needed(&runs);
    // The oldest first: were a whole revert gone before the runs that it undid, they would be undone again.
    for number in &not_needed {
        let file = history::file(&directory, *number);
        fs::remove_file(&file).doing(format_args!("remove {}", file.display()))?;
    }
    if not_needed.is_empty() {
        return Ok(());
    }
    sync_directory(&directory)
}

fn forget_contents(directory: &Path, runs: &[Run]) -> Result<()> {
    let needed = needed_of(runs);
    let Ok(entries) = fs::read_dir(directory.join(SAVED)) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !needed.contains(&Sha256(name)) {
            fs::remove_file(entry.path())
                .doing(format_args!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The contents that a revert of these runs may need.
fn needed_of(runs: &[Run]) -> BTreeSet<Sha256> {
    let effects = history::open_effects(runs);
    let effects: Vec<_> = effects.iter().collect();
    let targets = by_target(&effects, |_| true);
    targets
        .iter()
        .flat_map(|(_, effects)| needed(effects))
        .collect()
}

/// The old runs that no revert needs, oldest first: all of their effects are undone, did not happen, or only repeat what
/// an earlier run did to the same thing.
fn not_needed(runs: &[Run]) -> Vec<u32> {
    let old = &runs[..runs.len().saturating_sub(NEWEST)];
    let open = history::since_revert(runs).first().map(|run| run.number);
    let mut last: HashMap<String, Recorded> = HashMap::new();
    let mut not_needed = Vec::new();
    for run in old {
        let is_open = open.is_some_and(|first| run.number >= first);
        let mut changes = false;
        for recorded in run.effects.iter().filter(|one| is_open && !one.failed) {
            let target = recorded.effect.target().to_string();
            let repeats = last
                .get(&target)
                .is_some_and(|last| is_same(last, recorded));
            changes |= !repeats;
            last.insert(target, recorded.clone());
        }
        if !changes {
            not_needed.push(run.number);
        }
    }
    not_needed
}

fn is_same(one: &Recorded, other: &Recorded) -> bool {
    let same_number = Recorded {
        number: one.number,
        ..other.clone()
    };
    *one == same_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::effect::file::OnFile;
    use crate::effect::samples::{file, recorded, write};
    use crate::effect::{Ledger, Outcome, Work};

    fn run(number: usize, work: Work, effects: Vec<Recorded>) -> Run {
        Run {
            number: u32::try_from(number).unwrap(),
            work,
            role: Role::Storage,
            agent: String::new(),
            started: String::new(),
            effects,
            changed: Vec::new(),
            ended: Some((Outcome::Done, String::new())),
        }
    }

    fn drift() -> Recorded {
        recorded(write(Some("drifted"), "ours"), false)
    }

    #[test]
    fn old_runs_go_that_no_revert_needs() {
        let first = recorded(write(None, "ours"), false);
        let mut runs = vec![run(1, Work::Apply, vec![first])];
        runs.extend((2..=3 * NEWEST).map(|number| run(number, Work::Apply, vec![drift()])));
        let removed = OnFile::RemoveFile {
            path: "/x".into(),
            before: file("ours"),
        };
        runs[49].effects = vec![recorded(removed, false)];
        let gone = not_needed(&runs);
        // The first, the first of each kind of drift, and the newest stay.
        assert_eq!(gone.len(), 2 * NEWEST - 4);
        assert!([1, 2, 50, 51].iter().all(|number| !gone.contains(number)));

        runs.push(run(3 * NEWEST + 1, Work::Revert, Vec::new()));
        runs.push(run(3 * NEWEST + 2, Work::Apply, vec![drift()]));
        assert_eq!(not_needed(&runs).len(), 2 * NEWEST + 2);
    }

    #[test]
    fn what_is_pruned_changes_no_revert() {
        let directory = tempfile::tempdir().unwrap();
        let resource = "file:/x".parse().unwrap();
        for effect in [write(None, "ours"), write(Some("drifted"), "ours")] {
            let ledger = Ledger::new(directory.path(), Work::Apply, Role::Storage);
            let begun = ledger.begin(&resource, &effect.into(), false).unwrap();
            ledger.end(begun, None, None, None).unwrap();
            ledger.close(Outcome::Done).unwrap();
        }
        let file = |number: usize| directory.path().join(format!("runs/{number:06}.jsonl"));
        for number in 3..=NEWEST + 20 {
            fs::copy(file(2), file(number)).unwrap();
        }
        forget_what_is_not_needed(directory.path()).unwrap();
        let runs = history::runs(directory.path()).unwrap();
        let numbers: Vec<u32> = runs.iter().map(|run| run.number).collect();
        // The first, the first drift, and the newest.
        assert_eq!(
            (&numbers[..3], numbers.len()),
            (&[1, 2, 21][..], NEWEST + 2)
        );
        let open = history::open_effects(&runs);
        assert_eq!(open[0].effect, write(None, "ours").into());
    }
}
