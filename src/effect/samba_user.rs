//! Samba accounts. An undo restores the line that Samba's database had for the account.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Halt, Past, Reversible, Step, Undo, Undone};
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::host::sha256::Sha256;
use crate::host::{account, samba};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSambaUser {
    SetSambaPassword {
        name: String,
        /// The account's line of smbpasswd(5), kept like a file's contents; `None` if there was
        /// none.
        before: Option<Sha256>,
    },
    RestoreSambaUser {
        name: String,
    },
}

impl OnSambaUser {
    fn name(&self) -> &str {
        match self {
            Self::SetSambaPassword { name, .. } | Self::RestoreSambaUser { name } => name,
        }
    }
}

impl fmt::Display for OnSambaUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSambaPassword { name, .. } => write!(f, "set Samba password of {name}"),
            Self::RestoreSambaUser { name } => write!(f, "restore Samba account {name}"),
        }
    }
}

/// The account's line before the agent's first change. Only the first effect has it.
fn first_line<'a>(past: &[Past<'a, OnSambaUser>]) -> Option<&'a Sha256> {
    let mut lines = past.iter().filter_map(|one| match one.effect {
        OnSambaUser::SetSambaPassword { before, .. } => Some(before.as_ref()),
        OnSambaUser::RestoreSambaUser { .. } => None,
    });
    lines.next().flatten()
}

impl Reversible for OnSambaUser {
    fn target(&self) -> String {
        format!("Samba account {}", self.name())
    }

    fn needed(past: &[Past<'_, Self>]) -> Vec<Sha256> {
        first_line(past).cloned().into_iter().collect()
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(name) = past.first().map(|first| first.effect.name()) else {
            return Ok(Undone::Already);
        };
        let step = undo.step;
        let now = samba::smbpasswd_line(name).await?;
        let was = match first_line(past) {
            None => None,
            Some(saved) => Some(Zeroizing::new(
                String::from_utf8_lossy(&step.saved(saved).await?).into_owned(),
            )),
        };
        if now.as_deref().map(String::as_str) == was.as_deref().map(String::as_str) {
            return Ok(Undone::Already);
        }
        let effect = Self::RestoreSambaUser {
            name: name.to_owned(),
        };
        let how = if was.is_some() {
            "as it was before"
        } else {
            "removed"
        };
        step.effect(effect, |permit| async move {
            match was {
                None => samba::remove_user(&permit, name).await,
                Some(line) => samba::restore_user(&permit, &line).await,
            }
        })
        .await?;
        Ok(Undone::Restored(how.to_owned()))
    }
}

impl Step {
    /// Sets the password of a Samba account, and makes the account if it is missing.
    pub async fn set_samba_password(
        &self,
        name: &str,
        password: &Secret,
        exists: bool,
    ) -> Result<()> {
        let Some(account) = account::look_up(name).await? else {
            return Err(Error::new(format!("the account {name} is missing")));
        };
        let before = match samba::smbpasswd_line(name).await? {
            // Without its line the account could not be restored.
            None if exists => {
                return Err(Error::new(format!(
                    "pdbedit does not show the Samba account {name}, which is there"
                ))
                .hint("run pdbedit --list to see why, mend it, and apply again")
                .transient());
            }
            None => None,
            Some(line) => Some(self.save(line.as_bytes()).await?),
        };
        let effect = OnSambaUser::SetSambaPassword {
            name: name.to_owned(),
            before,
        };
        self.effect(effect, |permit| async move {
            if exists {
                samba::set_password(&permit, name, account.uid, password).await
            } else {
                samba::add_user(&permit, name, account.uid, password).await
            }
        })
        .await
    }
}
