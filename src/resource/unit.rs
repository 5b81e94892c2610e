//! A service that the distribution ships: enabled, active, and running with the configuration
//! that is on the disk.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::engine::{
    Address, ChangedNeeds, Diff, Disturbance, GuideStep, Kind, Requirement, Resource, Step,
};
use crate::error::{Error, Result};
use crate::host::systemd::{Job, UnitState};
use crate::host::{Host, blocking, way};

/// Where systemd makes the links of an enabled unit.
const UNIT_DIRECTORY: &str = "/etc/systemd/system";

/// The values of a field that says what the unit has read.
const CHANGED: &str = "changed on disk";
const LOADED: &str = "loaded";

/// A unit, and the files that it reads when it starts or reloads.
#[derive(Debug, Clone)]
pub struct Unit {
    pub name: String,
    pub configuration: Vec<PathBuf>,
    /// The agent's own drop-ins, read with the unit.
    pub drop_ins: Vec<PathBuf>,
    /// What provides the unit.
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
    /// judged from outside, so that the next apply makes good an apply that was killed between the
    /// write and the reload.
    fn is_stale(&self) -> bool {
        match (self.configured, self.state.state_changed) {
            // A time in the future means that the clock was set back: it tells nothing.
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
        let drop_ins = self.drop_ins.clone();
        let looked_at = blocking(move || {
            let configured = files
                .iter()
                .filter_map(|file| std::fs::symlink_metadata(file).ok()?.modified().ok())
                .max();
            let there = drop_ins.into_iter().filter(|drop_in| drop_in.exists());
            Ok((configured, there.collect::<Vec<_>>()))
        });
        let ((configured, drop_ins), mut state) =
            tokio::try_join!(looked_at, host.systemd.unit(&self.name))?;
        // Up to version 255, systemd does not report a drop-in in a directory that is newer than
        // its cache of paths (unit_find_dropin_paths() in src/core/load-dropin.h).
        state.need_daemon_reload |= drop_ins
            .iter()
            .any(|drop_in| !state.drop_ins.iter().any(|read| drop_in == Path::new(read)));
        Ok(Observed { state, configured })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let state = &observed.state;
        state.refuse_masked(&self.name)?;
        if !state.is_loaded() {
            return Err(
                Error::new(format!("systemd cannot load {}: {}", self.name, state.load))
                    .hint(format!("run: systemctl status {}", self.name)),
            );
        }
        // Nothing enables these (systemctl(1), `is-enabled`).
        if ["static", "transient", "bad"].contains(&state.file_state.as_str()) {
            return Err(Error::new(format!(
                "{} cannot be enabled: systemd calls its file {}",
                self.name, state.file_state
            ))
            .hint(format!(
                "compare it with the one of its package: systemctl cat {}",
                self.name
            )));
        }
        let mut diff = Diff::update("the service must run, now and after every boot");
        diff.field(
            "enabled",
            Some(state.file_state.as_str()).filter(|s| !s.is_empty()),
            "enabled",
        );
        diff.field("active", Some(state.active.as_str()), "active");
        let runs = diff.is_empty();
        // What runs goes on as it did, so neither is a reason to call it unhealthy.
        if state.need_daemon_reload {
            diff.improvement("definition", CHANGED.to_owned(), LOADED.to_owned());
        }
        if state.is_active() && observed.is_stale() {
            diff.improvement("configuration", CHANGED.to_owned(), LOADED.to_owned());
            diff.disturb(Disturbance::Reload(self.name.clone()));
        }
        if runs && diff.changes("configuration") {
            diff.because("its configuration is newer than its last start or reload");
        } else if runs {
            diff.because("systemd has read an older definition of it");
        }
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        if observed.state.file_state == "enabled" {
            return Ok(());
        }
        let link = Path::new(UNIT_DIRECTORY).join(&self.name);
        // Where a file of its own stands, only the links to it are made beside it.
        blocking(move || way::to_file(&link.with_extension("wants"))).await
    }

    fn foresee(&self, changed: &ChangedNeeds<'_>, diff: &mut Diff) {
        let changes = |file: &&PathBuf| changed.get(Kind::File, file.display()).is_some();
        if let Some(file) = self.drop_ins.iter().find(changes) {
            let why = format!("systemd must read {} again", file.display());
            diff.foresee("definition", CHANGED, LOADED, why);
        }
        // A unit that does not run reads its configuration when it starts.
        if !diff.changes("active")
            && let Some(file) = self.configuration.iter().find(changes)
        {
            let why = format!("it must read {} again", file.display());
            diff.foresee("configuration", CHANGED, LOADED, why);
            diff.disturb(Disturbance::Reload(self.name.clone()));
        }
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        let verbs = [
            ("enabled", "enable"),
            ("active", "start"),
            // The guide does not cover a later change; this is how to do it.
            ("definition", "daemon-reload"),
            ("configuration", "reload"),
        ];
        let differs = verbs.iter().filter(|(field, _)| diff.changes(field));
        differs
            .map(|(_, verb)| match *verb {
                "daemon-reload" => GuideStep::new(12, "systemctl daemon-reload"),
                verb => GuideStep::new(12, format!("systemctl {verb} {}", self.name)),
            })
            .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn unit() -> Unit {
        Unit {
            name: "smbd.service".to_owned(),
            configuration: vec!["/etc/samba/smb.conf".into()],
            drop_ins: Vec::new(),
            requirements: Vec::new(),
        }
    }

    fn at(second: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
    }

    /// The state of a unit that started in second 10.
    fn observed(active: &str, need_daemon_reload: bool, configured: u64) -> Observed {
        Observed {
            state: UnitState {
                load: "loaded".to_owned(),
                active: active.to_owned(),
                file_state: "enabled".to_owned(),
                need_daemon_reload,
                state_changed: at(10),
                ..UnitState::default()
            },
            configured: at(configured),
        }
    }

    #[test]
    fn only_a_running_unit_with_newer_configuration_is_disturbed() {
        for (observed, fields, disturbs) in [
            (observed("active", false, 5), vec![], vec![]),
            (
                observed("active", false, 15),
                vec!["configuration"],
                vec!["reload smbd.service"],
            ),
            (observed("active", true, 5), vec!["definition"], vec![]),
            (observed("inactive", false, 15), vec!["active"], vec![]),
        ] {
            let diff = unit().diff(&observed).unwrap();
            let found: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
            let disturbed: Vec<String> = diff.disturbs.iter().map(ToString::to_string).collect();
            assert_eq!(
                (found, disturbed),
                (fields, disturbs.iter().map(ToString::to_string).collect())
            );
            // A server that runs serves on.
            let wants_start = observed.state.active == "inactive";
            assert_eq!(!diff.harmful().is_empty(), wants_start, "{:?}", diff.fields);
        }
    }

    #[test]
    fn the_guides_steps_are_those_of_what_differs() {
        let steps = |observed| {
            let diff = unit().diff(&observed).unwrap();
            let steps = Resource::guide(&unit(), &diff).into_iter();
            steps.map(|step| step.command).collect::<Vec<_>>()
        };
        assert_eq!(
            steps(observed("inactive", false, 5)),
            ["systemctl start smbd.service"]
        );
        assert_eq!(
            steps(observed("active", false, 15)),
            ["systemctl reload smbd.service"]
        );
    }
}
