//! Directories. One that apply made is removed if it is empty, since anything in it is data. One that was there before
//! gets its owner and mode back.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Halt, Past, Reversible, Step, Undo, Undone};
use crate::error::{Error, Result};
use crate::host::blocking;
use crate::host::fs::{self, DirState, FileMeta};
use crate::host::mount::mount_at;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDirectory {
    MakeDirectory {
        path: PathBuf,
    },
    RemoveDirectory {
        path: PathBuf,
    },
    OwnDirectory {
        path: PathBuf,
        before: FileMeta,
        after: FileMeta,
    },
}

impl OnDirectory {
    fn path(&self) -> &Path {
        match self {
            Self::MakeDirectory { path }
            | Self::RemoveDirectory { path }
            | Self::OwnDirectory { path, .. } => path,
        }
    }
}

impl fmt::Display for OnDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::MakeDirectory { .. } => "make",
            Self::RemoveDirectory { .. } => "remove",
            Self::OwnDirectory { .. } => "own",
        };
        write!(f, "{verb} directory {}", self.path().display())
    }
}

impl Reversible for OnDirectory {
    fn target(&self) -> String {
        self.path().display().to_string()
    }

    fn made_beside(&self) -> Option<&Path> {
        match self {
            Self::MakeDirectory { path } => Some(path),
            _ => None,
        }
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(path) = past.first().map(|first| first.effect.path()) else {
            return Ok(Undone::Already);
        };
        let step = undo.step;
        step.remove_leftover(path).await?;
        let at = path.to_owned();
        let DirState::Directory(now) = blocking(move || fs::dir_state(&at)).await? else {
            return Ok(Undone::Already);
        };
        let mut effects = past.iter().map(|one| one.effect);
        if effects.any(|effect| matches!(effect, Self::MakeDirectory { .. })) {
            Ok(undo_make(step, path).await?)
        } else {
            Ok(undo_ownership(step, path, now, past).await?)
        }
    }
}

impl Step {
    /// Makes a directory with this mode and owner. Missing parents are made as root's, with mode
    /// 0755. An existing directory is left as it is.
    pub async fn make_directories(&self, path: &Path, meta: FileMeta) -> Result<()> {
        let wanted = path.to_owned();
        for directory in blocking(move || fs::missing_directories(&wanted)).await? {
            let meta = if directory == path {
                meta
            } else {
                FileMeta::root(0o755)
            };
            let effect = OnDirectory::MakeDirectory {
                path: directory.clone(),
            };
            self.effect(effect, |permit| {
                blocking(move || fs::make_directory(&permit, &directory, meta))
            })
            .await?;
        }
        Ok(())
    }

    /// Sets owner and mode of an existing directory.
    pub async fn own_directory(&self, path: &Path, meta: FileMeta) -> Result<()> {
        let at = path.to_owned();
        let DirState::Directory(before) = blocking(move || fs::dir_state(&at)).await? else {
            return Err(Error::new(format!("{} is no directory", path.display())));
        };
        let path = path.to_owned();
        let effect = OnDirectory::OwnDirectory {
            path: path.clone(),
            before,
            after: meta,
        };
        self.effect(effect, |permit| {
            blocking(move || fs::set_directory_meta(&permit, &path, meta))
        })
        .await
    }

    /// Removes a directory if it is empty; `false` when it holds something.
    async fn remove_directory(&self, path: &Path) -> Result<bool> {
        let path = path.to_owned();
        let effect = OnDirectory::RemoveDirectory { path: path.clone() };
        self.effect(effect, |permit| {
            blocking(move || fs::remove_empty_directory(&permit, &path))
        })
        .await
    }
}

async fn undo_make(step: &Step, path: &Path) -> Result<Undone> {
    let at = path.to_owned();
    if blocking(move || mount_at(&at)).await?.is_some() {
        return Ok(Undone::Kept(format!(
            "{} stays: something is mounted there",
            path.display()
        )));
    }
    Ok(if step.remove_directory(path).await? {
        Undone::Restored("removed".to_owned())
    } else {
        Undone::Kept(format!("{} stays with what is in it", path.display()))
    })
}

async fn undo_ownership(
    step: &Step,
    path: &Path,
    now: FileMeta,
    past: &[Past<'_, OnDirectory>],
) -> Result<Undone> {
    let mut changes = past.iter().filter_map(|one| match one.effect {
        OnDirectory::OwnDirectory { before, after, .. } => Some((*before, *after)),
        _ => None,
    });
    let Some((first, mut last)) = changes.next() else {
        return Ok(Undone::Already);
    };
    if let Some((_, after)) = changes.next_back() {
        last = after;
    }
    // Cut off between chown(2) and chmod(2): the set-id bits may be dropped.
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
