//! The start of the container, and what is said if the application ends at once.

use std::time::{Duration, SystemTime};

use super::{Container, RESTART_SECONDS, START_COMMANDS, START_SECONDS};
use crate::engine::Step;
use crate::error::{Error, Result};
use crate::host::http;
use crate::host::recent_starts::{PAUSES, RecentStarts};
use crate::host::systemd::{Job, UnitState, printed_by_container};
use crate::host::{Answer, blocking, until};

/// How long a started container is watched if it does not answer, and how often it is looked at. On an emulated
/// processor, an application has been seen to take half a minute to end.
const LONGEST_WATCH: Duration = Duration::from_secs(60);
const WATCH_PAUSE: Duration = Duration::from_millis(250);

impl Container {
    /// Starts the container, and waits until the application answers, or at least has not ended for a while. For
    /// systemd, a container is up as soon as its first process is there.
    pub(super) async fn comes_up(&self, step: &Step, job: Job) -> Result<()> {
        let name = self.unit_name();
        let begun = SystemTime::now();
        if let Err(error) = self.start_anew(step, job).await {
            // If the container ended during its start, its own output says more than systemd's error.
            let words = printed_by_container(&self.name, begun).await;
            return Err(if words.is_empty() {
                error
            } else {
                self.ended_at_once(&words)
            });
        }
        let started = step.systemd.unit(&name).await?;
        let answers = || async {
            let unit = step.systemd.unit(&name).await?;
            if !unit.is_active() || unit.invocation != started.invocation {
                let words = printed_by_container(&self.name, begun).await;
                return Err(self.ended_at_once(&words));
            }
            let answer = self.answers_at().map(|at| http::get(at, "/"));
            let answer = async { answer?.await.ok() };
            let answer = tokio::time::timeout(WATCH_PAUSE, answer).await;
            Ok(Answer::is(matches!(answer, Ok(Some(_)))))
        };
        until(WATCH_PAUSE, LONGEST_WATCH, answers).await.map(drop)
    }

    fn ended_at_once(&self, words: &str) -> Error {
        Error::new(format!(
            "the application ended as soon as it had started{words}"
        ))
        .hint(format!(
            "systemd goes on trying, more and more seldom: mend the image, the files of the share \
             or was.container.env; journalctl CONTAINER_NAME={} has more",
            self.name
        ))
    }

    /// Forgets the recent starts, and runs a job that starts the container.
    pub(super) async fn start_anew(&self, step: &Step, job: Job) -> Result<()> {
        let starts = RecentStarts::of(&self.name);
        blocking(move || starts.forget()).await?;
        step.job(job, &self.unit_name()).await
    }

    /// Whether a start is under way that neither systemd nor the unit itself has put off.
    pub(super) async fn is_being_started(&self, step: &Step, unit: &UnitState) -> Result<bool> {
        // Before it starts podman, the unit may also wait for a change of revision.
        let pauses =
            unit.sub == "start-pre" && step.systemd.status_text(&unit.id).await?.contains(PAUSES);
        Ok(unit.is_being_started() && !pauses)
    }

    /// Waits for the end of a start that is under way.
    pub(super) async fn start_is_over(&self, step: &Step) -> Result<()> {
        let name = self.unit_name();
        // systemd gives the start up before that.
        let longest =
            Duration::from_secs((START_COMMANDS * START_SECONDS + RESTART_SECONDS).into());
        let is_over = || async {
            let unit = step.systemd.unit(&name).await?;
            Ok(Answer::is(!self.is_being_started(step, &unit).await?))
        };
        until(WATCH_PAUSE, longest, is_over).await.map(drop)
    }
}
