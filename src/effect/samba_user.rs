//! Samba accounts. An undo restores the line that Samba's database had for the account and what kept the account out, if
//! both are still as apply left them, and keeps the account's SID.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Halt, Past, Reversible, Step, Undo, Undone};
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

/// Whether the agent made the account.
fn is_ours(past: &[Past<'_, OnSambaUser>]) -> bool {
    let mut effects = past.iter().map(|one| one.effect);
    let first = effects.find(|effect| matches!(effect, OnSambaUser::SetSambaPassword { .. }));
    matches!(
        first,
        Some(OnSambaUser::SetSambaPassword { before: None, .. })
    )
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
        let account = Account::look_up(self.name()).await.ok()??;
        Some(account.state())
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(name) = past.first().map(|first| first.effect.name()) else {
            return Ok(Undone::Already);
        };
        let now = Account::look_up(name).await?;
        if is_ours(past) {
            remove(past, name, now.as_ref(), undo.step).await
        } else {
            restore(past, name, now.as_ref(), undo.step).await
        }
    }
}

/// An account as Samba has it.
struct Account {
    /// In the form of smbpasswd(5).
    line: Zeroizing<String>,
    identity: Option<Identity>,
}

impl Account {
    async fn look_up(name: &str) -> Result<Option<Self>> {
        let Some(line) = samba::smbpasswd_line(name).await? else {
            return Ok(None);
        };
        let identity = identity::identity(name).await?;
        Ok(Some(Self { line, identity }))
    }

    /// [`Reversible::left`]: flags, when the password was set, when the account expires, and its workstations, with
    /// colons between them. Older agents recorded the first two alone.
    fn state(&self) -> String {
        let mut state = samba::state_in(&self.line);
        if let Some(identity) = &self.identity {
            let expires = identity
                .kickoff
                .map_or(UNKNOWN.to_owned(), |at| at.to_string());
            let workstations = identity.workstations.as_deref().unwrap_or(UNKNOWN);
            state = format!("{state}:{expires}:{workstations}");
        }
        state
    }
}

/// A part of a state that could not be read: it tells nothing.
const UNKNOWN: &str = "?";

/// The state that the agent left last, as far as it is known.
fn known(past: &[Past<'_, OnSambaUser>]) -> Option<String> {
    let mut ours = past.iter().rev().filter(|one| !one.undoes);
    let told = |one: &Past<'_, OnSambaUser>| {
        one.left.is_some() || !matches!(one.effect, OnSambaUser::AdmitSambaUser { .. })
    };
    let last = ours.next()?;
    if told(last) {
        return last.left.map(str::to_owned);
    }
    // Admitting the account was cut off. It leaves the password as it is.
    let before = ours.find(|one| told(one))?.left?;
    let set = before.split(':').nth(1)?;
    Some(format!("{UNKNOWN}:{set}"))
}

/// How the account differs from what apply left, if that is known: then it is somebody else's decision.
fn changed_since(left: Option<&str>, now: Option<&str>) -> Option<&'static str> {
    let left = left?;
    let Some(now) = now else {
        return Some("was removed by somebody since, and stays removed");
    };
    let mut parts = left.splitn(4, ':').zip(now.splitn(4, ':'));
    parts
        .any(|(left, now)| left != now && left != UNKNOWN && now != UNKNOWN)
        .then_some(
            "stays: somebody has set its password, its flags, its expiry or its workstations since apply did",
        )
}

fn kept(past: &[Past<'_, OnSambaUser>], name: &str, now: Option<&Account>) -> Option<Undone> {
    let now = now.map(Account::state);
    let why = changed_since(known(past).as_deref(), now.as_deref())?;
    Some(Undone::Kept(format!("the Samba account {name} {why}")))
}

/// Removes an account that the agent has made.
async fn remove(
    past: &[Past<'_, OnSambaUser>],
    name: &str,
    now: Option<&Account>,
    step: &Step,
) -> Result<Undone, Halt> {
    if now.is_none() {
        return Ok(Undone::Already);
    }
    if let Some(kept) = kept(past, name, now) {
        return Ok(kept);
    }
    let effect = OnSambaUser::RestoreSambaUser {
        name: name.to_owned(),
        identity: None,
    };
    step.effect(effect, |permit| async move {
        samba::remove_user(&permit, name).await
    })
    .await?;
    Ok(Undone::Restored("removed".to_owned()))
}

/// Restores somebody's account.
async fn restore(
    past: &[Past<'_, OnSambaUser>],
    name: &str,
    now: Option<&Account>,
    step: &Step,
) -> Result<Undone, Halt> {
    let flags = first_flags(past);
    let line = match first_line(past) {
        None => None,
        Some(saved) => Some(Zeroizing::new(
            String::from_utf8_lossy(&step.saved(saved).await?).into_owned(),
        )),
    };
    // It had these flags when the agent first admitted it, before it set the password.
    let line = match (line, flags) {
        (Some(line), Some(flags)) => Some(samba::with_flags(&line, flags)),
        (line, _) => line,
    };
    let identity = wanted_identity(past, now);
    let has_line = now.is_some_and(|now| match (&line, flags) {
        (Some(line), _) => *line == now.line,
        (None, Some(flags)) => samba::has_flags(&now.line, flags),
        (None, None) => true,
    });
    let identity_now = now.and_then(|now| now.identity.as_ref());
    let has_identity = match (&identity, identity_now) {
        (Some(wanted), Some(now)) => wanted.is_in(now),
        (wanted, _) => wanted.is_none(),
    };
    if has_line && has_identity {
        return Ok(Undone::Already);
    }
    // An undo that was cut off may have restored the line and the flags alone.
    let was_cut_off = past.last().is_some_and(|last| last.undoes && !last.done);
    if let Some(kept) = kept(past, name, now).filter(|_| !(was_cut_off && has_line)) {
        return Ok(kept);
    }
    if now.is_none() && line.is_none() {
        let gone = format!("the Samba account {name} was removed by somebody since");
        return Ok(Undone::Kept(gone));
    }
    let effect = OnSambaUser::RestoreSambaUser {
        name: name.to_owned(),
        identity: identity.clone(),
    };
    step.effect(effect, |permit| async move {
        match (&line, flags) {
            (Some(line), _) => samba::restore_user(&permit, line).await?,
            (None, Some(flags)) => samba::set_flags(&permit, name, flags).await?,
            (None, None) => {}
        }
        match identity {
            Some(identity) => identity::identify(&permit, name, &identity).await,
            None => Ok(()),
        }
    })
    .await?;
    Ok(Undone::Restored("as it was before".to_owned()))
}

/// The flags before the agent's first change, unless the first line has them.
fn first_flags<'a>(past: &[Past<'a, OnSambaUser>]) -> Option<&'a str> {
    let ours = past.iter().map(|one| one.effect);
    let mut ours = ours.filter(|one| !matches!(one, OnSambaUser::RestoreSambaUser { .. }));
    match ours.next()? {
        OnSambaUser::AdmitSambaUser { before, .. } => Some(&before.flags),
        _ => None,
    }
}

/// The identity with which the account is restored: as an undo that was cut off began to, or else as it is now, with
/// what kept it out before.
fn wanted_identity(past: &[Past<'_, OnSambaUser>], now: Option<&Account>) -> Option<Identity> {
    if let Some(begun) = first_identity(past) {
        return Some(begun.clone());
    }
    let mut identity = now?.identity.clone()?;
    if let Some(barred) = first_barred(past) {
        let expires = barred.expires.and_then(|at| at.try_into().ok());
        identity.kickoff = expires.or(identity.kickoff);
        identity.workstations = barred.workstations.clone().or(identity.workstations);
    }
    Some(identity)
}

/// The identity that the account had when an undo first began to restore it.
fn first_identity<'a>(past: &[Past<'a, OnSambaUser>]) -> Option<&'a Identity> {
    past.iter().find_map(|one| match one.effect {
        OnSambaUser::RestoreSambaUser { identity, .. } => identity.as_ref(),
        OnSambaUser::SetSambaPassword { .. } | OnSambaUser::AdmitSambaUser { .. } => None,
    })
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
    let since_1970 = |at: SystemTime| at.duration_since(UNIX_EPOCH).ok();
    Barred {
        flags: samba::flags_in(line).to_owned(),
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
    use crate::effect::{Address, Kind};

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

    fn account(time: &str, flags: &str, kickoff: Option<u32>, only: &str) -> Account {
        Account {
            line: Zeroizing::new(format!("user1:996:X:AA:[{flags}]:LCT-{time}:\n")),
            identity: Some(Identity {
                sid: "S-1-5-21-1-2-3-5555".to_owned(),
                full_name: String::new(),
                description: String::new(),
                kickoff,
                workstations: Some(only.to_owned()),
            }),
        }
    }

    #[test]
    fn what_somebody_has_set_since_is_seen() {
        let left = account("1", "UX", Some(7), "").state();
        let since = |now: Account| changed_since(Some(&left), Some(&now.state()));
        assert_eq!(since(account("1", "UX", Some(7), "")), None);
        // Samba locks an account by itself, and a database that is being written is not read.
        assert_eq!(since(account("1", "ULX", Some(7), "")), None);
        assert_eq!(since(account("1", "UX", None, "")), None);
        for other in [
            account("2", "UX", Some(7), ""),
            account("1", "DUX", Some(7), ""),
            account("1", "UX", Some(8), ""),
            account("1", "UX", Some(7), "PC1"),
        ] {
            assert!(since(other).unwrap().contains("stays"));
        }
        assert!(
            changed_since(Some(&left), None)
                .unwrap()
                .contains("removed")
        );
        // Older agents recorded less, or nothing.
        let now = account("1", "UX", Some(8), "PC1").state();
        assert_eq!(changed_since(Some("[UX]:LCT-1"), Some(&now)), None);
        assert!(changed_since(Some("[UX]:LCT-2"), Some(&now)).is_some());
        assert_eq!(changed_since(None, None), None);
    }

    fn set() -> OnSambaUser {
        OnSambaUser::SetSambaPassword {
            name: "user1".to_owned(),
            before: Some(Sha256::of(b"line")),
        }
    }

    fn admit() -> OnSambaUser {
        OnSambaUser::AdmitSambaUser {
            name: "user1".to_owned(),
            before: Barred {
                flags: "DU".to_owned(),
                expires: Some(1_000_000_000),
                workstations: Some("PC1".to_owned()),
            },
        }
    }

    fn past<'a>(
        resource: &'a Address,
        all: &[(&'a OnSambaUser, Option<&'a str>)],
    ) -> Vec<Past<'a, OnSambaUser>> {
        let one = |&(effect, left)| Past {
            effect,
            resource,
            undoes: false,
            done: true,
            left,
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn the_flags_are_those_before_the_first_change() {
        let (set, admit) = (set(), admit());
        let user = Address::new(Kind::SambaUser, "user1");
        let admitted = past(&user, &[(&admit, None), (&set, None)]);
        assert_eq!(first_flags(&admitted), Some("DU"));
        // The line has them: once the password is set, the account is enabled.
        let both = past(&user, &[(&set, None), (&admit, None)]);
        assert_eq!(first_flags(&both), None);
        let now = account("1", "UX", Some(7), "");
        let wanted = wanted_identity(&both, Some(&now)).unwrap();
        assert_eq!(wanted.kickoff, Some(1_000_000_000));
        assert_eq!(wanted.workstations.as_deref(), Some("PC1"));
    }

    #[test]
    fn a_password_is_seen_to_be_another_after_an_admission_was_cut_off() {
        let (set, admit) = (set(), admit());
        let user = Address::new(Kind::SambaUser, "user1");
        let left = account("1", "UX", Some(7), "").state();
        let cut_off = past(&user, &[(&set, Some(&left)), (&admit, None)]);
        let left = known(&cut_off);
        let since = |now: Account| changed_since(left.as_deref(), Some(&now.state()));
        assert_eq!(since(account("1", "DU", Some(8), "PC1")), None);
        assert!(since(account("2", "UX", Some(7), "")).is_some());
        let unknown = past(&user, &[(&set, None), (&admit, None)]);
        assert_eq!(known(&unknown), None);
    }
}
