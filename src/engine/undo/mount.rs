//! Mounts: ours goes, if nothing is mounted below it. What was mounted there before comes back by its entry of
//! fstab(5) or by hand, for nobody else knows its options.

use std::path::{Path, PathBuf};

use super::Undone;
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::error::{Error, Result};
use crate::host::blocking;
use crate::host::mount::{mount_at, mounts};

pub(super) async fn undo_mount(
    step: &Step,
    mount_point: &Path,
    effects: &[&Effect],
) -> Result<Undone> {
    let at = mount_point.to_owned();
    let first = effects.first();
    let Some(mounted) = blocking(move || mount_at(&at)).await? else {
        return Ok(match first {
            Some(Effect::Unmount { by_fstab: true, .. }) => Undone::Already,
            Some(Effect::Unmount { source, .. }) => Undone::Kept(format!(
                "{source} was mounted on {} before; mount it again by hand",
                mount_point.display()
            )),
            _ => Undone::Already,
        });
    };
    // The first effect tells whether something was mounted there before us.
    let ours = effects.iter().any(|effect| {
        matches!(effect, Effect::Mount { source, .. } if source_is(source, &mounted.source))
    });
    let stays = format!(
        "{} stays mounted on {}",
        mounted.source,
        mount_point.display()
    );
    if !ours {
        return Ok(Undone::Kept(stays));
    }
    if let Some(Effect::Unmount {
        by_fstab: false,
        source,
        ..
    }) = first
    {
        return Ok(Undone::Kept(format!(
            "{stays}, with other options than {source}, which was mounted there by hand before"
        )));
    }
    let below = mount_point.to_owned();
    let inner: Option<PathBuf> = blocking(mounts).await?.into_iter().find_map(|other| {
        (other.mount_point != below && other.mount_point.starts_with(&below))
            .then_some(other.mount_point)
    });
    if let Some(inner) = inner {
        return Err(
            Error::new(format!("{} is mounted below it", inner.display())).hint(format!(
                "unmount {} first, and revert again",
                inner.display()
            )),
        );
    }
    step.unmount(mount_point, &mounted.source).await?;
    Ok(Undone::Restored("unmounted".to_owned()))
}

/// Whether an entry of fstab(5), which is back by the end, had mounted what was there.
pub(super) fn was_by_fstab(effects: &[&Effect]) -> bool {
    matches!(
        effects.first(),
        Some(Effect::Unmount { by_fstab: true, .. })
    )
}

/// A device has several names.
fn source_is(recorded: &str, mounted: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    recorded == mounted || (recorded.starts_with("/dev/") && real(recorded) == real(mounted))
}
