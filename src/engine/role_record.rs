//! The role that this VM serves, kept under `/var/lib/wasagent` beside the record of every run, and the role that an
//! apply tried before one succeeded. A run writes them only if they change.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::effect::Outcome;
use crate::effect::history::{self, Run};
use crate::error::{Doing, Error, Result};
use crate::host::fs::{read_regular, remove_own, write_own};

const RECORD: &str = "/var/lib/wasagent/record.json";

/// The role that was tried last, until an apply has succeeded. An apply that is refused changes nothing that outlives a
/// boot.
const TRIED: &str = "/run/wasagent.tried";

/// Far above the size of any record.
const MAX_RECORD: u64 = 1 << 20;

/// The record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the file's format.
    pub version: u32,
    /// The role that was applied here, or that an apply tried last. Once an apply of it succeeded, no other is accepted.
    pub role: Role,
    /// Whether an apply of the role ever succeeded completely.
    pub succeeded: bool,
}

/// The record of this VM; `None` before the first apply.
pub fn read() -> Result<Option<Record>> {
    let kept = read_file(Path::new(RECORD))?;
    if kept.as_ref().is_some_and(|record| record.succeeded) {
        return Ok(kept);
    }
    Ok(read_file(Path::new(TRIED))?.or(kept))
}

fn read_file(path: &Path) -> Result<Option<Record>> {
    let Some(file) = read_regular(path, MAX_RECORD)? else {
        return Ok(None);
    };
    serde_json::from_slice(&file.contents)
        .map(Some)
        .doing(format_args!("read {}", path.display()))
        .map_err(|e| {
            e.hint(
                "the file was changed by hand, or written by a newer version of wasagent; the record of runs tells the \
                 role, and the next apply writes the file anew",
            )
        })
}

/// The role according to the record of runs, for when its own record cannot be read.
pub fn from_runs(directory: &Path) -> Result<Option<Record>> {
    let runs = history::runs(directory)?;
    let runs = history::since_revert(&runs);
    let succeeded = |run: &Run| matches!(run.ended, Some((Outcome::Done, _)));
    Ok(runs.last().map(|last| Record {
        version: 1,
        role: last.role,
        succeeded: runs.iter().any(succeeded),
    }))
}

/// The role to work with: the one asked for, or else the one that was applied or tried here. Asking
/// for another role than the one that this VM serves is an error. A role that was only tried, and
/// failed, binds nobody.
pub fn choose_role(asked: Option<Role>, record: Option<&Record>) -> Result<Role> {
    match (asked, record) {
        (
            Some(asked),
            Some(Record {
                role,
                succeeded: true,
                ..
            }),
        ) if asked != *role => Err(Error::new(format!(
            "this VM serves the role {role} (see {RECORD}) and cannot take the role {asked}"
        ))
        .hint(format!(
            "run `wasagent revert` first, or use a new VM for the role {asked}"
        ))),
        (Some(role), _) => Ok(role),
        (None, Some(record)) => Ok(record.role),
        (None, None) => Err(
            Error::new("no role was applied on this VM yet, so none is known")
                .hint("say --role storage or --role was"),
        ),
    }
}

/// Notes that an apply of the role begins. If it fails, `health`, `plan` and the next `apply` know the role.
pub fn tries(role: Role) -> Result<()> {
    let previous = read().unwrap_or_default();
    if previous.is_some_and(|record| record.succeeded || record.role == role) {
        return Ok(());
    }
    write(Path::new(TRIED), role, false)
}

/// Saves the role, and whether an apply of it succeeded completely, if that is new.
pub fn remember(role: Role, succeeded: bool) -> Result<()> {
    let path = Path::new(RECORD);
    // A record that cannot be read is written anew.
    let previous = read_file(path).unwrap_or_default();
    let succeeded = succeeded || previous.as_ref().is_some_and(|record| record.succeeded);
    if previous.is_none_or(|record| (record.role, record.succeeded) != (role, succeeded)) {
        write(path, role, succeeded)?;
    }
    Ok(())
}

fn write(path: &Path, role: Role, succeeded: bool) -> Result<()> {
    let record = Record {
        version: 1,
        role,
        succeeded,
    };
    let mut text = serde_json::to_vec_pretty(&record).doing("write the record")?;
    text.push(b'\n');
    write_own(path, &text)
}

/// Forgets the role, when everything that apply did is undone.
pub fn forget() -> Result<()> {
    for path in [TRIED, RECORD] {
        remove_own(Path::new(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(role: Role, succeeded: bool) -> Record {
        Record {
            version: 1,
            role,
            succeeded,
        }
    }

    #[test]
    fn a_role_is_known_once_it_was_tried_and_binds_once_it_succeeded() {
        let storage = record(Role::Storage, true);
        assert_eq!(choose_role(None, Some(&storage)), Ok(Role::Storage));
        assert!(choose_role(Some(Role::Was), Some(&storage)).is_err());
        let failed = record(Role::Storage, false);
        assert_eq!(choose_role(None, Some(&failed)), Ok(Role::Storage));
        assert_eq!(choose_role(Some(Role::Was), Some(&failed)), Ok(Role::Was));
        assert!(choose_role(None, None).is_err());
    }
}
