//! Samba accounts. An undo restores the line that Samba's database had for the account, if nobody has set a password or
//! changed its flags since, and keeps the account's SID.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Halt, Past, Reversible, Step, Undo, Undone, last_left};
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::host::samba::identity::{self, Identity};
use crate::host::sha256::Sha256;
use crate::host::{
    Host, account,
    samba::{self, bar::Bar},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSambaUser {
    SetSambaPassword {
        name: String,
        /// The account's line of smbpasswd(5), kept like a file's contents; `None` if there was
        /// none.
        before: Option<Sha256>,
    },
    /// What keeps the account out is taken away; its password stays.
    AdmitSambaUser { name: String, before: Barred },
    RestoreSambaUser {
        name: String,
        /// What the account keeps. Missing in older records, and where the account is removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<Identity>,
    },
}

/// What an account's entry said that kept it out, as far as it can be said again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// As smbpasswd(5) writes them: `DU`.
    pub flags: String,
    /// When the account expires, in seconds since 1970.
    pub expires: Option<u64>,
    pub workstations: Option<String>,
}

impl OnSambaUser {
    fn name(&self) -> &str {
        match self {
            Self::SetSambaPassword { name, .. }
            | Self::AdmitSambaUser { name, .. }
            | Self::RestoreSambaUser { name, .. } => name,
        }
    }
}

impl fmt::Display for OnSambaUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSambaPassword { name, .. } => write!(f, "set Samba password of {name}"),
            Self::AdmitSambaUser { name, .. } => write!(f, "admit Samba account {name}"),
            Self::RestoreSambaUser { name, .. } => write!(f, "restore Samba account {name}"),
        }
    }
}

/// The account's line before the agent's first change. Only the first effect has it.
fn first_line<'a>(past: &[Past<'a, OnSambaUser>]) -> Option<&'a Sha256> {
    let mut lines = past.iter().filter_map(|one| match one.effect {
        OnSambaUser::SetSambaPassword { before, .. } => Some(before.as_ref()),
        OnSambaUser::AdmitSambaUser { .. } | OnSambaUser::RestoreSambaUser { .. } => None,
    });
    lines.next().flatten()
}

/// Whether the agent made the account or set its password.
fn has_password(past: &[Past<'_, OnSambaUser>]) -> bool {
    let mut effects = past.iter().map(|one| one.effect);
    effects.any(|effect| matches!(effect, OnSambaUser::SetSambaPassword { .. }))
}

/// What kept the account out before the agent first admitted it.
fn first_barred<'a>(past: &[Past<'a, OnSambaUser>]) -> Option<&'a Barred> {
    past.iter().find_map(|one| match one.effect {
        OnSambaUser::AdmitSambaUser { before, .. } => Some(before),
        _ => None,
    })
}

impl Reversible for OnSambaUser {
    fn target(&self) -> String {
        format!("Samba account {}", self.name())
    }

    fn needed(past: &[Past<'_, Self>]) -> Vec<Sha256> {
        first_line(past).cloned().into_iter().collect()
    }

    async fn left(&self, _host: &Host) -> Option<String> {
        let line = samba::smbpasswd_line(self.name()).await.ok()??;
        Some(samba::state_in(&line))
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(name) = past.first().map(|first| first.effect.name()) else {
            return Ok(Undone::Already);
        };
        let mut undone = Undone::Already;
        if has_password(past) {
            undone = undo_password(past, name, undo.step).await?;
            if first_line(past).is_none() || matches!(undone, Undone::Kept(_)) {
                return Ok(undone);
            }
        }
        let Some(before) = first_barred(past) else {
            return Ok(undone);
        };
        // An undo that was cut off has changed the account itself.
        let has_begun = past.iter().any(|one| one.undoes);
        if !has_password(past) && !has_begun {
            let now = samba::smbpasswd_line(name).await?;
            if let Some(why) = changed_since(last_left(past), now.as_deref()) {
                return Ok(Undone::Kept(format!("the Samba account {name} {why}")));
            }
        }
        let effect = Self::RestoreSambaUser {
            name: name.to_owned(),
            identity: None,
        };
        let step = undo.step;
        step.effect(effect, |permit| async move {
            samba::bar_again(
                &permit,
                name,
                &before.flags,
                before.expires,
                before.workstations.as_deref(),
            )
            .await
        })
        .await?;
        Ok(Undone::Restored("as it was before".to_owned()))
    }
}

/// The identity that the account had when an undo first began to restore it.
fn first_identity<'a>(past: &[Past<'a, OnSambaUser>]) -> Option<&'a Identity> {
    past.iter().find_map(|one| match one.effect {
        OnSambaUser::RestoreSambaUser { identity, .. } => identity.as_ref(),
        OnSambaUser::SetSambaPassword { .. } | OnSambaUser::AdmitSambaUser { .. } => None,
    })
}

/// How the account differs from what apply left, if that is known: then it is somebody else's decision.
fn changed_since(left: Option<&str>, line: Option<&String>) -> Option<&'static str> {
    let left = left?;
    match line.map(|line| samba::state_in(line)) {
        None => Some("was removed by somebody since, and stays removed"),
        Some(now) if now != left => {
            Some("stays: somebody has set its password or its flags since apply did")
        }
        Some(_) => None,
    }
}

/// Restores the account's line and its SID, or removes an account that the agent has made.
async fn undo_password(
    past: &[Past<'_, OnSambaUser>],
    name: &str,
    step: &Step,
) -> Result<Undone, Halt> {
    let now = samba::smbpasswd_line(name).await?;
    let was = match first_line(past) {
        None => None,
        Some(saved) => Some(Zeroizing::new(
            String::from_utf8_lossy(&step.saved(saved).await?).into_owned(),
        )),
    };
    // An undo that was cut off may have restored the line alone.
    let identity = first_identity(past);
    let identity_now = match &now {
        Some(_) => identity::identity(name).await?,
        None => None,
    };
    let keeps_identity = identity.is_none() || identity == identity_now.as_ref();
    let is_as_before = now.as_deref().map(String::as_str) == was.as_deref().map(String::as_str);
    if is_as_before && (was.is_none() || keeps_identity) {
        return Ok(Undone::Already);
    }
    if let Some(why) = changed_since(last_left(past), now.as_deref()).filter(|_| !is_as_before) {
        return Ok(Undone::Kept(format!("the Samba account {name} {why}")));
    }
    let identity = identity.cloned().or(identity_now).filter(|_| was.is_some());
    let effect = OnSambaUser::RestoreSambaUser {
        name: name.to_owned(),
        identity: identity.clone(),
    };
    let how = if was.is_some() {
        "as it was before"
    } else {
        "removed"
    };
    step.effect(effect, |permit| async move {
        let Some(line) = was else {
            return samba::remove_user(&permit, name).await;
        };
        samba::restore_user(&permit, &line).await?;
        match identity {
            Some(identity) => identity::identify(&permit, name, &identity).await,
            None => Ok(()),
        }
    })
    .await?;
    Ok(Undone::Restored(how.to_owned()))
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

    /// Takes away what keeps an existing Samba account out.
    pub async fn admit_samba_user(&self, name: &str, bars: &[Bar]) -> Result<()> {
        let line = samba::smbpasswd_line(name).await?;
        let effect = OnSambaUser::AdmitSambaUser {
            name: name.to_owned(),
            before: barred(line.as_deref().map_or("", String::as_str), bars),
        };
        self.effect(effect, |permit| async move {
            samba::admit(&permit, name, bars).await
        })
        .await
    }
}

fn barred(line: &str, bars: &[Bar]) -> Barred {
    let flags = line.split(':').nth(4).unwrap_or_default();
    let flags = flags.trim_matches(['[', ']']).trim();
    let since_1970 = |at: SystemTime| at.duration_since(UNIX_EPOCH).ok();
    Barred {
        flags: flags.to_owned(),
        expires: bars.iter().find_map(|bar| match bar {
            Bar::Expires { at, .. } => since_1970(*at).map(|since| since.as_secs()),
            _ => None,
        }),
        workstations: bars.iter().find_map(|bar| match bar {
            Bar::Workstations(names) => Some(names.clone()),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kept_an_account_out_is_recorded_without_its_hash() {
        let line = "user1:989:XXXX:A4F49C406510BDCAB6824EE7C30FD852:[DLU        ]:LCT-6B0C611B:\n";
        let at = UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let bars = [Bar::Expires { at, expired: true }, Bar::Disabled];
        let barred = barred(line, &bars);
        assert_eq!(barred.flags, "DLU");
        assert_eq!(barred.expires, Some(1_000_000_000));
        assert_eq!(barred.workstations, None);
    }

    #[test]
    fn what_somebody_has_set_since_is_seen() {
        let line = |time: &str, flags: &str| format!("user1:996:X:AA:[{flags}]:LCT-{time}:\n");
        let left = samba::state_in(&line("1", "UX"));
        let since = |line: Option<String>| changed_since(Some(&left), line.as_ref());
        assert_eq!(since(Some(line("1", "UX"))), None);
        assert!(since(Some(line("2", "UX"))).unwrap().contains("stays"));
        assert!(since(Some(line("1", "DUX"))).unwrap().contains("stays"));
        assert!(since(None).unwrap().contains("removed"));
        // An older agent did not record it.
        assert_eq!(changed_since(None, None), None);
    }
}
