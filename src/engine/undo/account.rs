//! Accounts of the system and of Samba. Both may have been there before us: the one that apply made is known by its
//! shell, and Samba's goes back to the line that its database had.

use super::Undone;
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::engine::journal;
use crate::error::Result;
use crate::host::{account, samba};

pub(super) async fn undo_account(step: &Step, name: &str) -> Result<Undone> {
    let Some(found) = account::look_up(name).await? else {
        return Ok(Undone::Already);
    };
    if found.shell != crate::host::account::NO_LOGIN {
        return Ok(Undone::Kept(format!(
            "the account {name} stays: its shell is {} now, which apply did not give it",
            found.shell
        )));
    }
    let effect = Effect::RemoveAccount {
        name: name.to_owned(),
    };
    step.effect(effect, |permit| async move {
        account::remove(&permit, name).await
    })
    .await?;
    Ok(Undone::Restored("removed".to_owned()))
}

pub(super) async fn undo_samba_user(
    step: &Step,
    name: &str,
    effects: &[&Effect],
) -> Result<Undone> {
    let before = effects.iter().find_map(|effect| match effect {
        Effect::SetSambaPassword { before, .. } => Some(before.as_ref()),
        _ => None,
    });
    let now = samba::smbpasswd_line(name).await?;
    let was = match before.flatten() {
        None => None,
        Some(saved) => Some(zeroize::Zeroizing::new(
            String::from_utf8_lossy(&journal::saved(saved)?).into_owned(),
        )),
    };
    if now.as_deref().map(String::as_str) == was.as_deref().map(String::as_str) {
        return Ok(Undone::Already);
    }
    let effect = Effect::RestoreSambaUser {
        name: name.to_owned(),
    };
    let restored = was.is_some();
    step.effect(effect, |permit| async move {
        match was {
            None => samba::remove_user(&permit, name).await,
            Some(line) => samba::restore_user(&permit, &line).await,
        }
    })
    .await?;
    Ok(Undone::Restored(
        if restored {
            "as it was before"
        } else {
            "removed"
        }
        .to_owned(),
    ))
}
