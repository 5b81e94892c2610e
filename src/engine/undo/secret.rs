//! Secrets of podman's, which have no history of their own: what one held is in our record, and whether somebody
//! changed it since shows in its value alone.

use super::Undone;
use crate::engine::Step;
use crate::engine::effect::{Effect, Sha256};
use crate::engine::journal;
use crate::error::Result;
use crate::host::podman_secret;

/// Gives a secret of podman's what it held before, if it still holds what it got of us.
pub(super) async fn undo_secret(step: &Step, name: &str, effects: &[&Effect]) -> Result<Undone> {
    let values = |effect: &&Effect| match effect {
        Effect::SetSecret { before, after, .. } => Some((before.clone(), after.clone())),
        _ => None,
    };
    let Some((before, _)) = effects.iter().find_map(values) else {
        return Ok(Undone::Already);
    };
    let found = podman_secret::look_up(name).await?;
    let now = found.as_ref().map(|found| Sha256::of(&found.value));
    if before == now {
        return Ok(Undone::Already);
    }
    let mut known = effects.iter().filter_map(values);
    let is_known = known.any(|(before, after)| before == now || Some(after) == now);
    // One that is gone may be so because a change of ours was cut off.
    if found.is_some_and(|found| !found.is_ours || !is_known) {
        return Ok(Undone::Kept(format!(
            "podman's secret {name} was changed by somebody since, and is kept"
        )));
    }
    if let Some(before) = before {
        let value = zeroize::Zeroizing::new(journal::saved(&before)?);
        step.set_secret(name, value).await?;
        return Ok(Undone::Restored("as it was before".to_owned()));
    }
    let effect = Effect::RemoveSecret {
        name: name.to_owned(),
    };
    step.effect(effect, |permit| async move {
        podman_secret::remove(&permit, name).await
    })
    .await?;
    Ok(Undone::Restored("removed".to_owned()))
}
