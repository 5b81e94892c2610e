//! systemd units: whether they are enabled, whether they run, and the reload of their files.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Halt, Past, Reversible, Step, Undo, Undone};
use crate::error::Result;
use crate::host::Host;
use crate::host::fstab::FSTAB;
use crate::host::systemd::Job;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnit {
    ReloadUnits,
    Enable {
        unit: String,
        /// Whether the unit was active before. A boot may have started it since.
        was_active: bool,
    },
    Disable {
        unit: String,
    },
    Job {
        job: Job,
        unit: String,
        /// ActiveState before.
        before: String,
    },
}

impl fmt::Display for OnUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReloadUnits => f.write_str("reload units"),
            Self::Enable { unit, .. } => write!(f, "enable {unit}"),
            Self::Disable { unit } => write!(f, "disable {unit}"),
            Self::Job { job, unit, .. } => write!(f, "{job} {unit}"),
        }
    }
}

impl Reversible for OnUnit {
    fn target(&self) -> String {
        match self {
            Self::ReloadUnits => self.to_string(),
            Self::Enable { unit, .. } | Self::Disable { unit } => format!("{unit} at boot"),
            Self::Job { unit, .. } => unit.clone(),
        }
    }

    async fn has_happened(&self, host: &Host) -> Option<bool> {
        match self {
            Self::Enable { unit, .. } => {
                let state = host.systemd.unit(unit).await.ok()?;
                Some(state.file_state == "enabled")
            }
            _ => None,
        }
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        match past.first().map(|first| first.effect) {
            None | Some(Self::ReloadUnits) => Ok(Undone::Already),
            Some(Self::Disable { unit }) => Ok(undo_disable(past, undo.step, unit).await?),
            Some(Self::Enable { unit, .. }) => undo_enable(past, undo, unit).await,
            Some(Self::Job { unit, before, .. }) => Ok(undo_job(undo, unit, before).await?),
        }
    }
}

impl Step {
    /// Makes systemd read its unit files again and run its generators.
    pub async fn reload_units(&self) -> Result<()> {
        self.effect(OnUnit::ReloadUnits, |permit| async move {
            self.systemd.daemon_reload(&permit).await
        })
        .await
    }

    /// Enables a unit for every boot.
    pub async fn enable(&self, unit: &str) -> Result<()> {
        let effect = OnUnit::Enable {
            unit: unit.to_owned(),
            was_active: self.systemd.unit(unit).await?.is_active(),
        };
        self.effect(effect, |permit| async move {
            self.systemd.enable(&permit, unit).await
        })
        .await?;
        self.reload_units().await
    }

    /// Disables a unit for every boot.
    pub async fn disable(&self, unit: &str) -> Result<()> {
        let effect = OnUnit::Disable {
            unit: unit.to_owned(),
        };
        self.effect(effect, |permit| async move {
            self.systemd.disable(&permit, unit).await
        })
        .await
    }

    /// Runs a systemd job and waits for its end.
    pub async fn job(&self, job: Job, unit: &str) -> Result<()> {
        let effect = OnUnit::Job {
            job,
            unit: unit.to_owned(),
            before: self.systemd.unit(unit).await?.active,
        };
        self.effect(effect, |permit| async move {
            self.systemd.job(&permit, job, unit).await
        })
        .await
    }
}

/// Enables a unit again that apply has disabled, unless somebody else wants it disabled by now.
async fn undo_disable(past: &[Past<'_, OnUnit>], step: &Step, unit: &str) -> Result<Undone> {
    // The unit's previous file is back by now, and systemd may not have read it: it finds the links by itself.
    let now = step.systemd.file_state(unit).await?;
    match disabled_since(past, &now) {
        Some(why) => Ok(Undone::Kept(format!("{unit} {why}"))),
        None => {
            // The agent's own file may have been enabled elsewhere.
            step.disable(unit).await?;
            step.enable(unit).await?;
            Ok(Undone::Restored("enabled".to_owned()))
        }
    }
}

/// Why the unit is not enabled again. Apply has disabled it, and may then have enabled the agent's own by the same name.
fn disabled_since(past: &[Past<'_, OnUnit>], now: &str) -> Option<&'static str> {
    if now.starts_with("masked") {
        return Some("stays masked, as somebody has since decided");
    }
    let last = past.iter().rev().find(|one| one.done);
    let was_enabled = last.is_some_and(|last| matches!(last.effect, OnUnit::Enable { .. }));
    (was_enabled && now == "disabled")
        .then_some("stays disabled: somebody has disabled it since apply enabled it")
}

async fn undo_enable(
    past: &[Past<'_, OnUnit>],
    undo: Undo<'_>,
    unit: &str,
) -> Result<Undone, Halt> {
    let step = undo.step;
    let now = step.systemd.unit(unit).await?;
    let rested = past
        .iter()
        .any(|one| matches!(one.effect, OnUnit::Enable { was_active, .. } if !was_active));
    // Apply was cut off before it started the unit, and then a boot started it.
    if rested && now.is_active() {
        undo.later.settle_units(step).await?;
        step.job(Job::Stop, unit).await?;
    }
    undo.later.reload_units = true;
    if now.file_state != "enabled" {
        return Ok(Undone::Already);
    }
    step.disable(unit).await?;
    Ok(Undone::Restored("disabled".to_owned()))
}

/// `before` is the state before the first job.
async fn undo_job(undo: Undo<'_>, unit: &str, before: &str) -> Result<Undone> {
    let step = undo.step;
    let now = step.systemd.unit(unit).await?;
    if matches!(before, "active" | "reloading" | "activating") && !unit.ends_with(".mount") {
        // The unit keeps running, and is restarted once its previous configuration is back.
        let restart = (step.address().clone(), unit.to_owned());
        undo.later.restart.push(restart);
        return Ok(Undone::Already);
    }
    // A stop also clears the state `failed`.
    let is_at_rest = now.active == "inactive" || now.active == before;
    if is_at_rest || !now.is_loaded() || unit.ends_with(".mount") {
        return Ok(Undone::Already);
    }
    step.job(Job::Stop, unit).await?;
    Ok(Undone::Restored("stopped".to_owned()))
}

/// Stops a service whose file was not there before the agent. If apply was cut off before it started the service, a
/// boot may have started it since.
pub(super) async fn stop_what_a_boot_has_started(step: &Step, path: &Path) -> Result<()> {
    let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else {
        return Ok(());
    };
    if !(extension == "service" || extension == "container") {
        return Ok(());
    }
    let unit = format!("{}.service", stem.to_string_lossy());
    let now = step.systemd.unit(&unit).await?;
    if now.is_from(path) && now.active != "inactive" {
        step.job(Job::Stop, &unit).await?;
    }
    Ok(())
}

/// Whether systemd makes units from the file, as it also does from fstab(5).
pub(super) fn is_unit_file(path: &Path) -> bool {
    const DIRECTORIES: [&str; 5] = [
        "/etc/systemd/system",
        "/etc/containers/systemd",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    path == Path::new(FSTAB) || DIRECTORIES.iter().any(|above| path.starts_with(above))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Address;

    #[test]
    fn a_unit_that_somebody_has_disabled_since_stays_so() {
        let resource: Address = "container:app".parse().unwrap();
        let disable = OnUnit::Disable {
            unit: "app.service".to_owned(),
        };
        let enable = OnUnit::Enable {
            unit: "app.service".to_owned(),
            was_active: true,
        };
        let past = |effects: &[(&'static str, bool)], now: &str| {
            let effects: Vec<_> = effects
                .iter()
                .map(|(what, done)| Past {
                    effect: if *what == "disable" {
                        &disable
                    } else {
                        &enable
                    },
                    resource: &resource,
                    undoes: false,
                    done: *done,
                    left: None,
                })
                .collect();
            disabled_since(&effects, now)
        };
        assert_eq!(past(&[("disable", true)], "disabled"), None);
        assert_eq!(
            past(&[("disable", true), ("enable", true)], "enabled"),
            None
        );
        // Whether a killed apply enabled it is not known.
        assert_eq!(
            past(&[("disable", true), ("enable", false)], "disabled"),
            None
        );
        let both = [("disable", true), ("enable", true)];
        assert!(
            past(&both, "disabled")
                .unwrap()
                .contains("somebody has disabled it")
        );
        for masked in ["masked", "masked-runtime"] {
            assert!(
                past(&[("disable", true)], masked)
                    .unwrap()
                    .contains("masked")
            );
        }
    }
}
