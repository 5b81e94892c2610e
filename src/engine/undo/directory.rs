//! Directories: one that apply made goes if nothing is in it, since what is in it is data; one that was there gets
//! its owner and mode back.

use std::path::Path;

use super::Undone;
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::error::Result;
use crate::host::blocking;
use crate::host::fs::{self, DirState, FileMeta};
use crate::host::mount::mount_at;

pub(super) async fn undo_directory(
    step: &Step,
    path: &Path,
    effects: &[&Effect],
) -> Result<Undone> {
    step.remove_leftover(path).await?;
    let at = path.to_owned();
    let DirState::Directory(now) = blocking(move || fs::dir_state(&at)).await? else {
        return Ok(Undone::Already);
    };
    if effects
        .iter()
        .any(|effect| matches!(effect, Effect::MakeDirectory { .. }))
    {
        if blocking({
            let path = path.to_owned();
            move || mount_at(&path)
        })
        .await?
        .is_some()
        {
            return Ok(Undone::Kept(format!(
                "{} stays: something is mounted there",
                path.display()
            )));
        }
        return Ok(if step.remove_directory(path).await? {
            Undone::Restored("removed".to_owned())
        } else {
            Undone::Kept(format!("{} stays with what is in it", path.display()))
        });
    }
    undo_ownership(step, path, now, effects).await
}

async fn undo_ownership(
    step: &Step,
    path: &Path,
    now: FileMeta,
    effects: &[&Effect],
) -> Result<Undone> {
    let mut changes = effects.iter().filter_map(|effect| match effect {
        Effect::OwnDirectory { before, after, .. } => Some((*before, *after)),
        _ => None,
    });
    let Some((first, mut last)) = changes.next() else {
        return Ok(Undone::Already);
    };
    if let Some((_, after)) = changes.next_back() {
        last = after;
    }
    // Between the change of the owner and that of the mode, which drops the set-id bits.
    let cut_off =
        (now.uid, now.gid) == (last.uid, last.gid) && now.mode & 0o777 == first.mode & 0o777;
    if now == first {
        Ok(Undone::Already)
    } else if now == last || cut_off {
        step.own_directory(path, first).await?;
        Ok(Undone::Restored("owner and mode as before".to_owned()))
    } else {
        Ok(Undone::Kept(format!(
            "owner or mode of {} were changed by somebody since, and are kept",
            path.display()
        )))
    }
}
