//! System accounts. Others may be there already: the agent recognises one that it made by its shell.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Halt, Past, Reversible, Undo, Undone};
use crate::error::Result;
use crate::host::{Host, account};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnAccount {
    MakeAccount { name: String },
    RemoveAccount { name: String },
}

impl OnAccount {
    fn name(&self) -> &str {
        match self {
            Self::MakeAccount { name } | Self::RemoveAccount { name } => name,
        }
    }
}

impl fmt::Display for OnAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeAccount { name } => write!(f, "make account {name}"),
            Self::RemoveAccount { name } => write!(f, "remove account {name}"),
        }
    }
}

impl Reversible for OnAccount {
    fn target(&self) -> String {
        format!("account {}", self.name())
    }

    async fn has_happened(&self, _host: &Host) -> Option<bool> {
        match self {
            Self::MakeAccount { name } => Some(account::look_up(name).await.ok()?.is_some()),
            Self::RemoveAccount { .. } => None,
        }
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(name) = past.first().map(|first| first.effect.name()) else {
            return Ok(Undone::Already);
        };
        let Some(found) = account::look_up(name).await? else {
            return Ok(Undone::Already);
        };
        if found.shell != account::NO_LOGIN {
            return Ok(Undone::Kept(format!(
                "the account {name} stays: its shell is {} now, which apply did not give it",
                found.shell
            )));
        }
        let effect = Self::RemoveAccount {
            name: name.to_owned(),
        };
        let remove = |permit| async move { account::remove(&permit, name).await };
        undo.step.effect(effect, remove).await?;
        Ok(Undone::Restored("removed".to_owned()))
    }
}
