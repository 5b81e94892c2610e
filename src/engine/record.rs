//! What apply leaves under `/var/lib/wasagent`: the role that this VM serves, and the last run
//! that changed something. A run without a change writes nothing.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Address, Diff, Field};
use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::host::fs::{FileMeta, make_dirs, read_regular, write_atomic};

/// The agent's own directory.
pub const STATE_DIRECTORY: &str = "/var/lib/wasagent";
const RECORD: &str = "/var/lib/wasagent/record.json";

/// No record of ours comes near this size.
const MAX_RECORD: u64 = 1 << 20;

/// The record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of this form of the file.
    pub version: u32,
    /// The role that was applied here first, and the only one from then on.
    pub role: Role,
    /// Whether an apply of the role ever succeeded whole: only then is the role remembered.
    pub succeeded: bool,
    pub last_run: Run,
}

/// One run of apply that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// RFC 3339, UTC.
    pub ended: String,
    /// Of the agent.
    pub agent: String,
    pub changes: Vec<Change>,
}

/// What a run changed in one resource. A secret's fields read `(secret)` here too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub resource: String,
    pub fields: Vec<RecordedField>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedField {
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

impl From<&Field> for RecordedField {
    fn from(field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            from: field.from.clone(),
            to: field.to.clone(),
        }
    }
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
            e.hint("the file was changed by hand, or written by a newer version of wasagent")
        })
}

/// The role to work with: the one asked for, or the one remembered. Another one than the
/// remembered is refused.
pub fn choose_role(asked: Option<Role>, record: Option<&Record>) -> Result<Role> {
    let remembered = record.filter(|r| r.succeeded).map(|r| r.role);
    match (asked, remembered) {
        (Some(asked), Some(remembered)) if asked != remembered => Err(Error::new(format!(
            "this VM serves the role {remembered} (see {RECORD}) and cannot take the role {asked}"
        ))
        .hint(format!("use a new VM for the role {asked}"))),
        (Some(role), _) | (None, Some(role)) => Ok(role),
        (None, None) => Err(
            Error::new("no role was applied on this VM yet, so none is known")
                .hint("say --role storage or --role was"),
        ),
    }
}

/// Writes down what a run did, if there is anything new to say.
pub fn write(
    previous: Option<&Record>,
    role: Role,
    succeeded: bool,
    changes: &[(Address, Diff)],
) -> Result<()> {
    let succeeded_before = previous.is_some_and(|record| record.succeeded);
    if changes.is_empty() && (succeeded_before || !succeeded) {
        return Ok(());
    }
    let record = Record {
        version: 1,
        role,
        succeeded: succeeded || succeeded_before,
        last_run: Run {
            ended: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            changes: changes
                .iter()
                .map(|(address, diff)| Change {
                    resource: address.to_string(),
                    fields: diff.fields.iter().map(RecordedField::from).collect(),
                })
                .collect(),
        },
    };
    make_dirs(Path::new(STATE_DIRECTORY), FileMeta::root(0o700))?;
    let mut text = serde_json::to_vec_pretty(&record).doing("write the record")?;
    text.push(b'\n');
    write_atomic(Path::new(RECORD), &text, FileMeta::root(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(role: Role, succeeded: bool) -> Record {
        Record {
            version: 1,
            role,
            succeeded,
            last_run: Run {
                ended: String::new(),
                agent: String::new(),
                changes: Vec::new(),
            },
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
