//! SELinux file labels, and the rules for them in the policy store. A rule that the agent added is removed. The labels
//! that it gave stay until somebody runs restorecon(8).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Halt, Past, Reversible, Undo, Undone};
use crate::error::Result;
use crate::host::{Host, blocking, selinux};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFileContext {
    AddFileContext {
        specification: String,
        label: String,
    },
    RemoveFileContext {
        specification: String,
    },
    Relabel {
        tree: PathBuf,
    },
}

impl fmt::Display for OnFileContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddFileContext { specification, .. } => {
                write!(f, "add SELinux rule {specification}")
            }
            Self::RemoveFileContext { specification } => {
                write!(f, "remove SELinux rule {specification}")
            }
            Self::Relabel { tree } => write!(f, "relabel {}", tree.display()),
        }
    }
}

async fn rule_now(specification: &str) -> Result<Option<String>> {
    let of = specification.to_owned();
    blocking(move || selinux::local_rule(&of)).await
}

impl Reversible for OnFileContext {
    fn target(&self) -> String {
        match self {
            Self::AddFileContext { specification, .. }
            | Self::RemoveFileContext { specification } => format!("SELinux rule {specification}"),
            Self::Relabel { .. } => self.to_string(),
        }
    }

    async fn has_happened(&self, _host: &Host) -> Option<bool> {
        match self {
            Self::AddFileContext { specification, .. } => {
                Some(rule_now(specification).await.ok()?.is_some())
            }
            _ => None,
        }
    }

    /// Removes the agent's rule, if nobody changed it since.
    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let specification = match past.first().map(|first| first.effect) {
            None => return Ok(Undone::Already),
            Some(Self::Relabel { tree }) => {
                return Ok(Undone::Kept(format!(
                    "the files in {} keep their SELinux labels until restorecon -R gives them others",
                    tree.display()
                )));
            }
            Some(
                Self::AddFileContext { specification, .. }
                | Self::RemoveFileContext { specification },
            ) => specification,
        };
        let ours = past.iter().find_map(|one| match one.effect {
            Self::AddFileContext { label, .. } => Some(label),
            _ => None,
        });
        match rule_now(specification).await? {
            None => Ok(Undone::Already),
            Some(now) if Some(&now) != ours => Ok(Undone::Kept(format!(
                "the SELinux rule {specification} was changed by somebody to {now}, and is kept"
            ))),
            Some(_) => {
                let effect = Self::RemoveFileContext {
                    specification: specification.clone(),
                };
                let remove =
                    |permit| async move { selinux::remove_rule(&permit, specification).await };
                undo.step.effect(effect, remove).await?;
                Ok(Undone::Restored("removed".to_owned()))
            }
        }
    }
}
