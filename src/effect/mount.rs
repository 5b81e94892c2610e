//! Mounts. The agent's mount is unmounted if nothing is mounted below it. What was mounted there before comes back by
//! its fstab(5) entry or by hand, since nobody else knows its options.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::later::LastStart;
use super::{Halt, Past, Reversible, Step, Undo, Undone};
use crate::error::{Error, Result};
use crate::host::mount::{self, mount_at, mounts};
use crate::host::systemd::mount_unit_name;
use crate::host::{Permit, blocking};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnMount {
    Mount {
        mount_point: PathBuf,
        source: String,
    },
    Unmount {
        mount_point: PathBuf,
        source: String,
        /// An fstab(5) entry, which the agent takes over, had mounted it. Missing in older records.
        #[serde(default)]
        by_fstab: bool,
    },
}

impl OnMount {
    fn mount_point(&self) -> &Path {
        match self {
            Self::Mount { mount_point, .. } | Self::Unmount { mount_point, .. } => mount_point,
        }
    }

    fn ends_one_by_fstab(&self) -> bool {
        matches!(self, Self::Unmount { by_fstab: true, .. })
    }
}

impl fmt::Display for OnMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Mount { .. } => "mount",
            Self::Unmount { .. } => "unmount",
        };
        write!(f, "{verb} {}", self.mount_point().display())
    }
}

impl Reversible for OnMount {
    fn target(&self) -> String {
        format!("mount on {}", self.mount_point().display())
    }

    fn adopts(&self) -> bool {
        self.ends_one_by_fstab()
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(first) = past.first().map(|first| first.effect) else {
            return Ok(Undone::Already);
        };
        // A service that serves files of the mount would keep it busy.
        undo.later.settle_units(undo.step).await?;
        let undone = undo_mount(undo.step, first, past).await?;
        // Its fstab(5) entry is back by the end.
        if first.ends_one_by_fstab() {
            let start = LastStart::Unit(mount_unit_name(first.mount_point()));
            let address = undo.step.address().clone();
            undo.later.start_last.push((address, start));
        }
        Ok(undone)
    }
}

impl Step {
    /// Mounts something by `act`.
    pub async fn mount<'a, F: Future<Output = Result<()>> + Send + 'a>(
        &'a self,
        mount_point: &Path,
        source: &str,
        act: impl FnOnce(Permit) -> F + Send + 'a,
    ) -> Result<()> {
        let effect = OnMount::Mount {
            mount_point: mount_point.to_owned(),
            source: source.to_owned(),
        };
        self.effect(effect, act).await
    }

    /// Unmounts what is mounted there.
    async fn unmount(&self, mount_point: &Path, source: &str) -> Result<()> {
        let mount_point = mount_point.to_owned();
        let effect = OnMount::Unmount {
            mount_point: mount_point.clone(),
            source: source.to_owned(),
            by_fstab: false,
        };
        self.effect(effect, |permit| {
            blocking(move || mount::unmount(&permit, &mount_point))
        })
        .await
    }

    /// Detaches a share at once, even if it is in use or its server is gone; processes that use it keep it. `by_fstab`
    /// says that an fstab(5) entry mounted the share, and will again once this is undone. Never for a local file
    /// system.
    pub async fn detach(&self, mount_point: &Path, source: &str, by_fstab: bool) -> Result<()> {
        let mount_point = mount_point.to_owned();
        let effect = OnMount::Unmount {
            mount_point: mount_point.clone(),
            source: source.to_owned(),
            by_fstab,
        };
        self.effect(effect, |permit| {
            blocking(move || mount::detach(&permit, &mount_point))
        })
        .await
    }
}

async fn undo_mount(step: &Step, first: &OnMount, past: &[Past<'_, OnMount>]) -> Result<Undone> {
    let mount_point = first.mount_point();
    let at = mount_point.to_owned();
    let Some(mounted) = blocking(move || mount_at(&at)).await? else {
        return Ok(match first {
            OnMount::Unmount {
                by_fstab: false,
                source,
                ..
            } => Undone::Kept(format!(
                "{source} was mounted on {} before; mount it again by hand",
                mount_point.display()
            )),
            _ => Undone::Already,
        });
    };
    let ours = past.iter().any(|one| {
        matches!(one.effect, OnMount::Mount { source, .. } if source_is(source, &mounted.source))
    });
    let stays = format!(
        "{} stays mounted on {}",
        mounted.source,
        mount_point.display()
    );
    if !ours {
        return Ok(Undone::Kept(stays));
    }
    // The first effect tells whether something was mounted there before us.
    if let OnMount::Unmount {
        by_fstab: false,
        source,
        ..
    } = first
    {
        return Ok(Undone::Kept(format!(
            "{stays}, with other options than {source}, which was mounted there by hand before"
        )));
    }
    let all = blocking(mounts).await?;
    let mut inner = all.into_iter().map(|other| other.mount_point);
    if let Some(inner) = inner.find(|at| at != mount_point && at.starts_with(mount_point)) {
        let inner = inner.display();
        return Err(Error::new(format!("{inner} is mounted below it"))
            .hint(format!("unmount {inner} first, and revert again")));
    }
    step.unmount(mount_point, &mounted.source).await?;
    Ok(Undone::Restored("unmounted".to_owned()))
}

/// Whether both name the same source: a device has several names.
fn source_is(recorded: &str, mounted: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    recorded == mounted || (recorded.starts_with("/dev/") && real(recorded) == real(mounted))
}
