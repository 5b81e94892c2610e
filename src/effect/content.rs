//! A revision of the content, from the repository to the place where it is served. The files stay at an undo: they are
//! data by then. What lies beside the shared directory goes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Extent, Halt, Past, Reversible, Step, Undo, Undone};
use crate::deploy::manifest::{self, Intent};
use crate::deploy::staging::Staging;
use crate::deploy::switch::{self, Names};
use crate::deploy::{build, servers};
use crate::error::Result;
use crate::host::blocking;
use crate::host::start_lock::NoStart;
use crate::host::systemd::Job;
use crate::host::tree::Dir;

/// How long a client may know of files what it was told before: the kernel's cifs keeps attributes and
/// closed files for a second each (`actimeo` and `closetimeo` in mount.cifs(8)), and nothing by a
/// lease (the share's `oplocks = no`).
const CLIENTS_FORGET: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnContent {
    FetchContent {
        commit: String,
    },
    /// Files of a revision are put together beside the shared directory.
    StageContent {
        path: PathBuf,
        commit: String,
    },
    /// They are built.
    BuildContent {
        path: PathBuf,
        commit: String,
    },
    /// They take the place of the files of before.
    DeployContent {
        path: PathBuf,
        commit: String,
    },
    /// What was written to the files of before meanwhile is moved over.
    SettleContent {
        path: PathBuf,
        commit: String,
    },
    /// What lies beside the shared directory is removed.
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

impl Reversible for OnContent {
    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(Self::StageContent { path, .. } | Self::DeployContent { path, .. }) =
            past.first().map(|first| first.effect)
        else {
            return Ok(Undone::Already);
        };
        // A share that goes on being served may have somebody who reads a tree that was replaced.
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

/// Does what may have to wait for an application that starts, and says so then.
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

/// Has the share's servers go over to the new tree, and moves over what came late. Applications may
/// start again as soon as no client knows anything of the old tree any more.
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

/// Which trees that were replaced are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trees {
    /// Those that nobody has open.
    Unused,
    All,
}

/// Stops a build that outlived its apply, and removes what was being put together and trees that
/// were replaced.
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

/// Finishes an exchange that an apply which was cut off had come to, since files may have come
/// late; and removes what else it left, and trees that were replaced.
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
