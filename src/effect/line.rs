//! The lines of a run's file, as they stand on the disk.

use serde::{Deserialize, Serialize};

use super::Effect;
use crate::config::Role;

/// Where the files of the runs are, in the agent's own directory.
pub(super) const RUNS: &str = "runs";

/// The version of these lines. A record of a higher version means things that this agent does not know: it is left out
/// as a whole. A field that a later version of the agent adds needs no higher version.
pub(super) const VERSION: u32 = 1;

fn first_version() -> u32 {
    1
}

/// What kind of work a run does on the resources. All kinds report with the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    Apply,
    Revert,
    /// Undoes what a failed apply did: part of that apply's run, never a run of its own.
    RollBack,
}

impl Work {
    /// The command's name.
    pub fn command(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Revert => "revert",
            Self::RollBack => "roll-back",
        }
    }
}

/// One field that differs, with both values; `None` is "not there".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Failed,
    /// A signal asked it to stop.
    Interrupted,
    /// It failed, and its changes were undone.
    RolledBack,
}

/// One line of a run's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    Run {
        /// [`VERSION`]; missing in records of the first version.
        #[serde(default = "first_version")]
        version: u32,
        work: Work,
        role: Role,
        /// Version of the agent.
        agent: String,
        /// RFC 3339, UTC.
        at: String,
    },
    Begin {
        effect: u32,
        resource: String,
        #[serde(rename = "does")]
        what: Effect,
        /// Part of an undo, by a revert or at the end of a run that failed.
        undoes: bool,
        at: String,
    },
    End {
        effect: u32,
        error: Option<String>,
        /// For a failed effect: whether a check showed that it happened anyway.
        happened: Option<bool>,
        /// [`super::Reversible::left`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<String>,
        at: String,
    },
    /// A resource that was brought to the desired state, or back.
    Changed {
        resource: String,
        fields: Vec<Field>,
    },
    Ended {
        outcome: Outcome,
        at: String,
    },
}
