//! The starts of a container in the last minutes. They are kept in its service's runtime directory,
//! which systemd keeps until the service is stopped (systemd.exec(5), `RuntimeDirectory=`).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::fs;
use crate::error::{Doing, Error, Result};

/// Far more than is ever written.
const MAX_BYTES: u64 = 64 * 1024;

/// Part of the status of a service that delays its next start because of the earlier ones.
pub const PAUSES: &str = "the next start waits";

/// The directory's name below `/run`, for a container of this name.
pub fn runtime_directory(container: &str) -> String {
    format!("wasagent-{container}")
}

/// One start of a container by its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// `CLOCK_BOOTTIME` of clock_gettime(2): setting the clock does not change it, and suspending
    /// the VM does not stop it.
    at: Duration,
    /// How often systemd had restarted the service by itself (`NRestarts`).
    restarts: u32,
    /// When the share that it started on was mounted.
    mounted: Option<SystemTime>,
}

impl Start {
    pub fn now(restarts: u32, mounted: Option<SystemTime>) -> Result<Self> {
        let at = clock_gettime(ClockId::CLOCK_BOOTTIME).doing("read the time since the boot")?;
        Ok(Self {
            at: at.into(),
            restarts,
            mounted,
        })
    }

    /// Whether only the end of the container lies between the two starts. If somebody started it,
    /// systemd did not count that start; if the share went away, its mount time differs.
    fn comes_after(&self, last: &Self) -> bool {
        last.restarts.checked_add(1) == Some(self.restarts) && last.mounted == self.mounted
    }
}

/// The starts of a container with nothing between them but its end.
#[derive(Debug)]
pub struct RecentStarts {
    file: PathBuf,
}

impl RecentStarts {
    pub fn of(container: &str) -> Self {
        Self::below(Path::new("/run"), container)
    }

    fn below(run: &Path, container: &str) -> Self {
        Self {
            file: run.join(runtime_directory(container)).join("starts"),
        }
    }

    /// The starts that led to this one and are no older than `window`.
    pub fn before(&self, start: &Start, window: Duration) -> Result<Vec<Start>> {
        let mut starts = self.read()?;
        if !starts.last().is_some_and(|last| start.comes_after(last)) {
            starts.clear();
        }
        starts.retain(|earlier| earlier.at + window >= start.at);
        Ok(starts)
    }

    pub fn write(&self, starts: &[Start]) -> Result<()> {
        let text = serde_json::to_vec(starts)
            .map_err(|error| Error::new(format!("write the starts: {error}")))?;
        fs::write_own(&self.file, &text)
    }

    /// Makes the next start count as the first.
    pub fn forget(&self) -> Result<()> {
        fs::remove_own(&self.file)
    }

    /// A file that cannot be understood counts as empty: the next start is the first.
    fn read(&self) -> Result<Vec<Start>> {
        let file = fs::read_regular(&self.file, MAX_BYTES)?;
        let starts = file.and_then(|file| serde_json::from_slice(&file.contents).ok());
        Ok(starts.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn start(at: u64, restarts: u32, mounted: u64) -> Start {
        Start {
            at: Duration::from_secs(at),
            restarts,
            mounted: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(mounted)),
        }
    }

    #[test]
    fn what_ends_again_and_again_is_counted_and_nothing_else() {
        let run = tempfile::tempdir().unwrap();
        let starts = RecentStarts::below(run.path(), "nodejs-server");
        let before = |start: &Start| starts.before(start, WINDOW).unwrap().len();
        assert_eq!(before(&start(1000, 1, 7)), 0);

        let known = [start(100, 0, 7), start(400, 1, 7), start(900, 2, 7)];
        starts.write(&known).unwrap();
        assert_eq!(before(&start(700, 3, 7)), 3);
        // The first is too long ago.
        assert_eq!(before(&start(1000, 3, 7)), 2);
        // Somebody started it (twice), the share was mounted anew, or a start by systemd failed
        // before this was recorded.
        for other in [
            start(700, 0, 7),
            start(700, 2, 7),
            start(700, 3, 8),
            start(700, 4, 7),
        ] {
            assert_eq!(before(&other), 0, "{other:?}");
        }

        fs::write_own(&starts.file, b"what").unwrap();
        assert_eq!(before(&start(700, 3, 7)), 0);
        starts.write(&known).unwrap();
        starts.forget().unwrap();
        starts.forget().unwrap();
        assert_eq!(before(&start(700, 3, 7)), 0);
    }
}
