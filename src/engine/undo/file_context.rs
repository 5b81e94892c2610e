//! SELinux's rules for the labels of files: a rule of ours goes. The labels that it gave stay until somebody runs
//! restorecon(8), as `kept` says.

use super::Undone;
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::error::Result;
use crate::host::{blocking, selinux};

/// Removes a rule of ours, if it still says what we had it say.
pub(super) async fn undo_file_context(
    step: &Step,
    specification: &str,
    effects: &[&Effect],
) -> Result<Undone> {
    let ours = effects.iter().find_map(|effect| match effect {
        Effect::AddFileContext { label, .. } => Some(label),
        _ => None,
    });
    let of = specification.to_owned();
    match blocking(move || selinux::local_rule(&of)).await? {
        None => Ok(Undone::Already),
        Some(now) if Some(&now) != ours => Ok(Undone::Kept(format!(
            "the SELinux rule {specification} was changed by somebody to {now}, and is kept"
        ))),
        Some(_) => {
            let effect = Effect::RemoveFileContext {
                specification: specification.to_owned(),
            };
            step.effect(effect, |permit| async move {
                selinux::remove_rule(&permit, specification).await
            })
            .await?;
            Ok(Undone::Restored("removed".to_owned()))
        }
    }
}
