//! Units that run beside a container's unit. Each does one thing that the container's own unit cannot.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::{Diff, Step};
use crate::error::{Error, Result};
use crate::host::mark::{self, OurFile};
use crate::host::systemd::{Job, UnitState};
use crate::host::{Answer, Host, blocking, until};

/// How long, and how often, a companion that is about to run is looked at.
const LONGEST_START: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

/// Longer than systemd's default limit for a stop (systemd-system.conf(5), `DefaultTimeoutStopSec=`), after which systemd
/// kills what is left.
const LONGEST_STOP: Duration = Duration::from_secs(120);

/// A service that a container's unit wants.
#[derive(Debug)]
pub struct Companion {
    /// `NAME.service`
    pub unit: String,
    /// The unit file, without the mark.
    pub body: String,
}

#[derive(Debug, Default)]
pub struct Observed {
    file: Option<OurFile>,
    unit: UnitState,
}

impl Companion {
    fn path(&self) -> PathBuf {
        format!("/etc/systemd/system/{}", self.unit).into()
    }

    fn text(&self) -> String {
        mark::marked(&self.body)
    }

    pub async fn observe(&self, host: &Host) -> Result<Observed> {
        let path = self.path();
        let file = blocking(move || mark::read(&path));
        let (file, unit) = tokio::try_join!(file, host.systemd.unit(&self.unit))?;
        Ok(Observed { file, unit })
    }

    /// The wanted state beside a running container.
    #[cfg(test)]
    pub fn in_place(&self) -> Observed {
        Observed {
            file: Some(OurFile {
                text: self.text(),
                meta: crate::host::fs::FileMeta::root(0o644),
                modified: std::time::SystemTime::UNIX_EPOCH,
            }),
            unit: UnitState {
                active: "active".to_owned(),
                ..UnitState::default()
            },
        }
    }

    /// Adds to `diff` what differs. If the container does not run, the companion will start with it.
    pub fn diff(&self, observed: &Observed, is_running: bool, diff: &mut Diff) {
        match &observed.file {
            None => diff.field(&self.unit, None, self.text()),
            // The agent of another version wrote it: it does the same in another way.
            Some(file) => diff.improvement(&self.unit, file.text.clone(), self.text()),
        }
        if observed.unit.need_daemon_reload {
            let field = format!("{} loaded", self.unit);
            diff.field(&field, Some("an older text"), "the file");
        }
        if is_running {
            let field = format!("{} active", self.unit);
            diff.field(&field, Some(observed.unit.active.as_str()), "active");
        }
    }

    /// Writes the unit. Returns whether systemd still has to read it.
    pub async fn write(&self, step: &Step, observed: &Observed) -> Result<bool> {
        let text = self.text();
        let rewrite = observed.file.as_ref().map(|file| &file.text) != Some(&text);
        if rewrite {
            step.write_text(&self.path(), &text).await?;
        }
        Ok(rewrite || observed.unit.need_daemon_reload)
    }

    /// Waits for the end of a stop that is under way, and returns whether there was one. The stop may hit a container
    /// that was started in the meantime: that container answers first and is gone afterwards.
    pub async fn stop_is_over(&self, step: &Step) -> Result<bool> {
        let stops = async || {
            let unit = step.systemd.unit(&self.unit).await?;
            Ok::<_, Error>(unit.active == "deactivating" || (unit.is_active() && unit.has_job))
        };
        if !stops().await? {
            return Ok(false);
        }
        let is_over = || async { Ok::<_, Error>(Answer::is(!stops().await?)) };
        until(PAUSE, LONGEST_STOP, is_over).await?;
        Ok(true)
    }

    /// Makes sure that the companion runs beside a running container. Most often the container's unit has started it.
    pub async fn start(&self, step: &Step) -> Result<()> {
        let runs = || async {
            match step.systemd.unit(&self.unit).await?.active.as_str() {
                "active" => Ok(Answer::Settled(())),
                "activating" | "deactivating" => Ok(Answer::NotYet(())),
                _ => step.job(Job::Start, &self.unit).await.map(Answer::Settled),
            }
        };
        until(PAUSE, LONGEST_START, runs).await.map(drop)
    }
}
