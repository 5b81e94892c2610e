//! Work that an undo puts off until something needs it, or to the end. systemd reads the unit files once for all of
//! them, and what was there by hand starts once everything else is restored.

use std::path::PathBuf;
use std::time::Instant;

use super::{Address, Halt, Kind, Step};
use crate::error::Result;
use crate::host::podman;
use crate::host::systemd::Job;

#[derive(Debug, Default)]
pub struct Later {
    /// Unit files have changed since systemd read them.
    pub reload_units: bool,
    /// Services that ran before the agent changed them, and still run with a configuration that is undone by now.
    pub restart: Vec<(Address, String)>,
    /// What was there by hand, and starts once everything else is restored. The last entry starts first, so that a
    /// mount starts before the container that uses it.
    pub start_last: Vec<(Address, LastStart)>,
    /// The resources that are not undone: their undo has failed, or was skipped.
    pub not_undone: Vec<Address>,
    /// The agent's unit files that stay, since somebody changed them.
    pub kept_units: Vec<PathBuf>,
}

/// What is started at the very end.
#[derive(Debug)]
pub enum LastStart {
    Unit(String),
    Container(String),
}

impl Later {
    /// Has systemd reload the remaining unit files, and restarts services with their previous
    /// configuration. What fails stays to be done.
    pub async fn settle_units(&mut self, step: &Step) -> Result<(), Halt> {
        let begun = Instant::now();
        let failed = |first, error| Halt::Needs {
            first,
            error,
            took: begun.elapsed(),
        };
        if self.reload_units {
            // The reload serves several resources, so it is reported under this address.
            let systemd = Address::new(Kind::Unit, "systemd");
            let reloaded = step.for_resource(&systemd).reload_units().await;
            reloaded.map_err(|error| failed(systemd, error))?;
            self.reload_units = false;
        }
        while let Some((address, unit)) = self.restart.first().cloned() {
            let restarted = step.for_resource(&address).job(Job::Restart, &unit).await;
            restarted.map_err(|error| failed(address, error))?;
            self.restart.remove(0);
        }
        Ok(())
    }
}

impl LastStart {
    pub async fn start(&self, step: &Step) -> Result<()> {
        match self {
            Self::Unit(unit) if step.systemd.unit(unit).await?.is_active() => Ok(()),
            Self::Unit(unit) => step.job(Job::Start, unit).await,
            Self::Container(name) => {
                if podman::container(name).await?.is_some_and(|c| c.is_running) {
                    return Ok(());
                }
                step.start_container(name).await
            }
        }
    }
}
