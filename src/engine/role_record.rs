//! The role that this VM serves, kept under `/var/lib/wasagent` beside the record of every run. A run writes it only if
//! it changes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::effect::Outcome;
use crate::effect::history::{self, Run};
use crate::error::{Doing, Error, Result};
use crate::host::fs::{read_regular, write_own};

const RECORD: &str = "/var/lib/wasagent/record.json";

/// Far above the size of any record.
const MAX_RECORD: u64 = 1 << 20;

/// The record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the file's format.
    pub version: u32,
    /// The role that was applied here. Once an apply of it succeeded, no other is accepted.
    pub role: Role,
    /// Whether an apply of the role ever succeeded completely: only then is the role remembered.
    pub succeeded: bool,
}

/// The record of this VM; `None` before the first apply.
pub fn read() -> Result<Option<Record>> {
    let Some(file) = read_regular(Path::new(RECORD), MAX_RECORD)? else {
        return Ok(None);
    };
    serde_json::from_slice(&file.contents)
        .map(Some)
        .doing(format_args!("read {RECORD}"))
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

/// The role to work with: the one asked for, or else the remembered one. Asking for another role
/// than the remembered one is an error.
pub fn choose_role(asked: Option<Role>, record: Option<&Record>) -> Result<Role> {
    let remembered = record.filter(|r| r.succeeded).map(|r| r.role);
    match (asked, remembered) {
        (Some(asked), Some(remembered)) if asked != remembered => Err(Error::new(format!(
            "this VM serves the role {remembered} (see {RECORD}) and cannot take the role {asked}"
        ))
        .hint(format!(
            "run `wasagent revert` first, or use a new VM for the role {asked}"
        ))),
        (Some(role), _) | (None, Some(role)) => Ok(role),
        (None, None) => Err(
            Error::new("no role was applied on this VM yet, so none is known")
                .hint("say --role storage or --role was"),
        ),
    }
}

/// Saves the role, and whether an apply of it succeeded completely, if that is new.
pub fn remember(previous: Option<&Record>, role: Role, succeeded: bool) -> Result<()> {
    let record = Record {
        version: 1,
        role,
        succeeded: succeeded || previous.is_some_and(|record| record.succeeded),
    };
    if previous == Some(&record) {
        return Ok(());
    }
    let mut text = serde_json::to_vec_pretty(&record).doing("write the record")?;
    text.push(b'\n');
    write_own(Path::new(RECORD), &text)
}

/// Forgets the role, when everything that apply did is undone.
pub fn forget() -> Result<()> {
    match std::fs::remove_file(RECORD) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(format_args!("remove {RECORD}"))
        }
        _ => Ok(()),
    }
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
    fn a_role_is_remembered_only_after_success_and_then_kept() {
        let storage = record(Role::Storage, true);
        assert_eq!(choose_role(None, Some(&storage)), Ok(Role::Storage));
        assert!(choose_role(Some(Role::Was), Some(&storage)).is_err());
        let failed = record(Role::Storage, false);
        assert_eq!(choose_role(Some(Role::Was), Some(&failed)), Ok(Role::Was));
        assert!(choose_role(None, Some(&failed)).is_err());
        assert!(choose_role(None, None).is_err());
    }
}
