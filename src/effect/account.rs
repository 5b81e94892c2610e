//! System accounts. An undo removes the account if it is still as apply made it, and Samba does not need it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Address, Halt, Kind, Past, Reversible, Undo, Undone, last_left};
use crate::error::Result;
use crate::host::{Host, account, blocking, samba};

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

    async fn left(&self, _host: &Host) -> Option<String> {
        match self {
            Self::MakeAccount { name } => state_of(name).await.ok()?,
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
        // Samba's account of that name stays for now, and the Linux account beneath it with all that makes it again.
        let samba_user = Address::new(Kind::SambaUser, name);
        if undo.later.not_undone.contains(&samba_user) {
            return Err(Halt::Waits(samba_user));
        }
        if let Some(why) = used_since(name, &found, last_left(past)).await? {
            return Ok(Undone::Kept(format!("the account {name} stays: {why}")));
        }
        let effect = Self::RemoveAccount {
            name: name.to_owned(),
        };
        let remove = |permit| async move { account::remove(&permit, name).await };
        undo.step.effect(effect, remove).await?;
        Ok(Undone::Restored("removed".to_owned()))
    }
}

/// All that passwd(5), group(5) and shadow(5) say of an account, without its password.
async fn state_of(name: &str) -> Result<Option<String>> {
    let name = name.to_owned();
    blocking(move || account::state_of(&name)).await
}

/// Why an account is not as apply made it.
async fn used_since(
    name: &str,
    found: &account::Account,
    left: Option<&str>,
) -> Result<Option<String>> {
    if found.shell != account::NO_LOGIN {
        return Ok(Some(format!(
            "its shell is {} now, which apply did not give it",
            found.shell
        )));
    }
    if let (Some(left), Some(now)) = (left, state_of(name).await?)
        && left != now
    {
        return Ok(Some(format!(
            "somebody has changed it since apply made it: {left} then, {now} now"
        )));
    }
    if samba::smbpasswd_line(name).await?.is_some() {
        return Ok(Some("Samba has an account of that name".to_owned()));
    }
    Ok(None)
}
