//! A revision of the content, from the repository to the place where it is served. An undo keeps the served files,
//! which are data by then, and removes what lies beside the shared directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Effect, Extent, Halt, Past, Recorded, Reversible, Step, Undo, Undone, history};
use crate::deploy::manifest::{self, Intent};
use crate::deploy::staging::Staging;
use crate::deploy::switch::{self, Names};
use crate::deploy::{build, servers};
use crate::error::Result;
use crate::host::blocking;
use crate::host::start_lock::NoStart;
use crate::host::systemd::Job;
use crate::host::tree::Dir;

/// How long a client may go on using what it cached about files: the kernel's cifs keeps attributes and closed files
/// for a second each (`actimeo` and `closetimeo` in mount.cifs(8)), and the share grants no lease (`oplocks = no`).
const CLIENTS_FORGET: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnContent {
    FetchContent {
        commit: String,
    },
    /// Assembles a revision's files beside the shared directory.
    StageContent {
        path: PathBuf,
        commit: String,
    },
    /// Builds them.
    BuildContent {
        path: PathBuf,
        commit: String,
    },
    /// Puts them in the place of the previous files.
    DeployContent {
        path: PathBuf,
        commit: String,
    },
    /// Moves over what was written to the previous files meanwhile.
    SettleContent {
        path: PathBuf,
        commit: String,
    },
    /// Removes what lies beside the shared directory.
    ClearContent {
        path: PathBuf,
    },
}

impl fmt::Display for OnContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchContent { commit } => write!(f, "fetch {commit}"),
            Self::StageContent { commit, .. } => write!(f, "stage {commit}"),
            Self::BuildContent { commit, .. } => write!(f, "build {commit}"),
            Self::DeployContent { commit, .. } => write!(f, "deploy {commit}"),
            Self::SettleContent { commit, .. } => write!(f, "settle {commit}"),
            Self::ClearContent { path } => write!(f, "clear beside {}", path.display()),
        }
    }
}

impl OnContent {
    /// The shared directory that it changes, or what lies beside that.
    fn shared(&self) -> Option<&Path> {
        match self {
            Self::FetchContent { .. } => None,
            Self::StageContent { path, .. }
            | Self::BuildContent { path, .. }
            | Self::DeployContent { path, .. }
            | Self::SettleContent { path, .. }
            | Self::ClearContent { path } => Some(path),
        }
    }
}

impl Reversible for OnContent {
    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(Self::StageContent { path, .. } | Self::DeployContent { path, .. }) =
            past.first().map(|first| first.effect)
        else {
            return Ok(Undone::Already);
        };
        // While the share is still served, somebody may be reading a replaced tree.
        let trees = match undo.extent {
            Extent::OneRun => Trees::Unused,
            Extent::Everything => Trees::All,
        };
        tidy_up(undo.step, path, trees).await?;
        Ok(match past.first().map(|first| first.effect) {
            Some(Self::DeployContent { .. }) => {
                Undone::Kept(format!("the files in {} stay", path.display()))
            }
            _ => Undone::Already,
        })
    }
}

/// Whether a run was cut off after the exchange, before it had cleared what lies beside the shared directory. A tree that
/// a whole run left there is in use, and goes with the next change.
pub fn is_cut_off(record: &Path, shared: &Path) -> Result<bool> {
    if Staging::open(shared)?.is_none() {
        return Ok(false);
    }
    let effects = history::open_effects(&history::runs(record)?);
    Ok(!ends_cleared(&effects, shared))
}

/// Whether the last effect on this directory is a clearing that ended well, if there was any.
fn ends_cleared(effects: &[Recorded], shared: &Path) -> bool {
    let mut last = effects.iter().rev();
    let last = last.find_map(|recorded| match &recorded.effect {
        Effect::Content(effect) if effect.shared() == Some(shared) => Some((effect, recorded.done)),
        _ => None,
    });
    matches!(last, None | Some((OnContent::ClearContent { .. }, true)))
}

/// Does work that may have to wait while an application starts, and reports that wait.
pub async fn telling<T>(
    step: &Step,
    mut waits: UnboundedReceiver<()>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(()) = waits.recv() => {
                step.progress("an application that starts on the share is waited for".to_owned());
            }
        }
    }
}

/// Moves the share's servers to the new tree, and moves over what was written late to the old one.
/// Applications may start again once no client caches anything of the old tree.
pub async fn settle(
    step: &Step,
    intent: Intent,
    names: Names,
    no_start: Option<NoStart>,
) -> Result<()> {
    let effect = OnContent::SettleContent {
        path: intent.manifest.path.clone(),
        commit: intent.manifest.commit.clone(),
    };
    let (tell, waits) = unbounded_channel();
    let work = step.effect(effect, |permit| {
        blocking(move || {
            let shared = &intent.manifest.path;
            let no_start = match (no_start, Dir::open(shared)?) {
                (None, Some(shared)) => NoStart::begin(&shared, &|| {
                    let _ = tell.send(());
                })?,
                (no_start, _) => no_start,
            };
            servers::leave(&permit, shared)?;
            if no_start.is_some() {
                std::thread::sleep(CLIENTS_FORGET);
            }
            drop(no_start);
            switch::settle(&permit, &intent, names)
        })
    });
    for note in telling(step, waits, work).await? {
        step.progress(note);
    }
    Ok(())
}

/// Which replaced trees are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trees {
    /// Only those that nobody has open.
    Unused,
    All,
}

/// Stops a build that outlived its apply, and removes staged files and replaced trees.
pub async fn clear(step: &Step, shared: &Path, extent: Trees) -> Result<()> {
    let build = step.systemd.unit(build::UNIT).await?;
    let runs = !matches!(build.active.as_str(), "inactive" | "failed");
    let path = shared.to_owned();
    let idle = blocking(move || {
        Ok(manifest::read_intent(&path)?.is_none() && Staging::open(&path)?.is_none())
    });
    if !runs && idle.await? {
        return Ok(());
    }
    let effect = OnContent::ClearContent {
        path: shared.to_owned(),
    };
    let shared = shared.to_owned();
    let told = step.effect(effect, |permit| async move {
        if runs {
            step.systemd.job(&permit, Job::Stop, build::UNIT).await?;
        }
        blocking(move || {
            manifest::remove_intent(&shared)?;
            if let Some(staging) = Staging::open(&shared)? {
                staging.clear(&permit)?;
            }
            switch::remove_replaced(&permit, &shared, extent == Trees::All)
        })
        .await
    });
    for note in told.await? {
        step.progress(note);
    }
    Ok(())
}

/// If an apply was cut off after its exchange, finishes that exchange, since files may have been
/// written late. Removes whatever else the apply left, and replaced trees.
pub async fn tidy_up(step: &Step, shared: &Path, extent: Trees) -> Result<()> {
    let path = shared.to_owned();
    let intent = blocking(move || {
        Ok(match manifest::read_intent(&path)? {
            Some(intent) if switch::has_happened(&intent)? => Some(intent),
            _ => None,
        })
    });
    if let Some(intent) = intent.await? {
        settle(step, intent, Names::Stay, None).await?;
    }
    clear(step, shared, extent).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::samples::recorded;

    #[test]
    fn a_change_that_was_killed_before_its_clearing_is_cut_off() {
        let shared = Path::new("/mnt/data/shared");
        let settle = || OnContent::SettleContent {
            path: shared.to_owned(),
            commit: "1".to_owned(),
        };
        let clear = |done| Recorded {
            done,
            ..recorded(
                OnContent::ClearContent {
                    path: shared.to_owned(),
                },
                false,
            )
        };
        let settled = recorded(settle(), false);
        assert!(ends_cleared(&[], shared));
        assert!(!ends_cleared(std::slice::from_ref(&settled), shared));
        assert!(!ends_cleared(&[settled.clone(), clear(false)], shared));
        assert!(ends_cleared(&[settled.clone(), clear(true)], shared));
        assert!(ends_cleared(&[settled], Path::new("/mnt/other")));
    }
}
