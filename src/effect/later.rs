//! What undoing puts off until something needs it, or to the end: systemd reads the unit files once for all of them,
//! and what was there by hand starts when the rest is as it was.

use std::path::PathBuf;

use super::{Address, Halt, Kind, Step};
use crate::error::Result;
use crate::host::podman;
use crate::host::systemd::Job;

#[derive(Debug, Default)]
pub struct Later {
    /// Unit files have changed since systemd read them.
    pub reload_units: bool,
    /// Services that ran before us, and run with a configuration that is undone by now.
    pub restart: Vec<(Address, String)>,
    /// What was there by hand before us and starts once all is as it was: a mount before the container
    /// that sees it, so the one that was found last comes first.
    pub start_last: Vec<(Address, LastStart)>,
    /// Unit files of ours that stay, since somebody changed them.
    pub kept_units: Vec<PathBuf>,
}

/// What is started at the very end.
#[derive(Debug)]
pub enum LastStart {
    Unit(String),
    Container(String),
}

impl Later {
    /// Lets systemd see the unit files that are left, and restarts what is to run with its
    /// configuration of before. What fails stays to be done.
    pub async fn settle_units(&mut self, step: &Step) -> Result<(), Halt> {
        if self.reload_units {
            // What reloads after others is told under this name.
            let systemd = Address::new(Kind::Unit, "systemd");
            let reloaded = step.for_resource(&systemd).reload_units().await;
            reloaded.map_err(|error| Halt::Needs(systemd, error))?;
            self.reload_units = false;
        }
        while let Some((address, unit)) = self.restart.first().cloned() {
            let restarted = step.for_resource(&address).job(Job::Restart, &unit).await;
            restarted.map_err(|error| Halt::Needs(address, error))?;
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
