//! A service that the distribution ships: enabled, active, and running with the configuration
//! that is on the disk.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::engine::{Address, Diff, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::systemd::{Job, UnitState};
use crate::host::{Host, blocking};

/// A unit, and the files that it reads when it starts or reloads.
#[derive(Debug, Clone)]
pub struct Unit {
    pub name: String,
    pub configuration: Vec<PathBuf>,
    /// What brings the unit.
    pub requirements: Vec<Requirement>,
}

#[derive(Debug)]
pub struct Observed {
    state: UnitState,
    /// When the newest of the configuration files was written.
    configured: Option<SystemTime>,
}

impl Observed {
    /// Whether the unit last started or reloaded before its configuration was written. This is
    /// seen from outside, so that an apply that was killed between the write and the reload is
    /// made good by the next one.
    fn is_stale(&self) -> bool {
        match (self.configured, self.state.state_changed) {
            // A time in the future is one that a clock was set back from: it says nothing.
            (Some(configured), Some(changed)) => {
                configured > changed && configured <= SystemTime::now()
            }
            _ => false,
        }
    }
}

impl Resource for Unit {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Unit, &self.name)
    }

    fn requirements(&self) -> Vec<Requirement> {
        self.requirements.clone()
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let files = self.configuration.clone();
        let configured = blocking(move || {
            Ok(files
                .iter()
                .filter_map(|file| std::fs::symlink_metadata(file).ok()?.modified().ok())
                .max())
        })
        .await?;
        Ok(Observed {
            state: host.systemd.unit(&self.name).await?,
            configured,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let state = &observed.state;
        if state.load == "masked" {
            return Err(Error::new(format!("{} is masked", self.name))
                .hint(format!("run: systemctl unmask {}", self.name)));
        }
        if !state.is_loaded() {
            return Err(
                Error::new(format!("systemd cannot load {}: {}", self.name, state.load))
                    .hint(format!("run: systemctl status {}", self.name)),
            );
        }
        let mut diff = Diff::update("the service must run, now and after every boot");
        diff.field(
            "enabled",
            Some(state.file_state.as_str()).filter(|s| !s.is_empty()),
            "enabled",
        );
        diff.field("active", Some(state.active.as_str()), "active");
        if state.need_daemon_reload {
            diff.field("definition", Some("changed on disk"), "loaded");
        }
        if state.is_active() && observed.is_stale() {
            diff.field("configuration", Some("changed on disk"), "loaded");
        }
        Ok(diff)
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        if observed.state.need_daemon_reload {
            step.reload_units().await?;
        }
        if observed.state.file_state != "enabled" {
            step.enable(&self.name).await?;
        }
        if !observed.state.is_active() {
            step.job(Job::Start, &self.name).await?;
        } else if observed.is_stale() {
            step.job(Job::ReloadOrRestart, &self.name).await?;
        }
        Ok(())
    }
}
