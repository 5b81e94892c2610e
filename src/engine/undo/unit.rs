//! Units of systemd: whether they are enabled, whether they run, and their files, which systemd has to read anew.
//! That and the restarts that follow are put off until something needs them, or to the end: once for all files.

use std::path::Path;
use std::time::Instant;

use super::{Halt, Undoing, Undone};
use crate::engine::effect::Effect;
use crate::engine::{Address, Kind, Step};
use crate::error::Result;
use crate::host::systemd::Job;
use crate::resource::FSTAB;

/// What reloads and restarts after others are told under.
fn systemd() -> Address {
    Address::new(Kind::Unit, "systemd")
}

impl Undoing<'_> {
    pub(super) async fn undo_enablement(
        &mut self,
        step: &Step,
        unit: &str,
        effects: &[&Effect],
    ) -> Result<Undone, Halt> {
        if let Some(Effect::Disable { .. }) = effects.first() {
            // Its file is back by now; our own may have been enabled elsewhere.
            step.disable(unit).await?;
            step.enable(unit).await?;
            return Ok(Undone::Restored("enabled".to_owned()));
        }
        let now = step.systemd.unit(unit).await?;
        let rested = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Enable { was_active, .. } if !was_active));
        // An apply that was cut off before it started the unit, and then a boot that did.
        if rested && now.is_active() {
            self.settle_units().await?;
            step.job(Job::Stop, unit).await?;
        }
        self.reload_units = true;
        if now.file_state != "enabled" {
            return Ok(Undone::Already);
        }
        step.disable(unit).await?;
        Ok(Undone::Restored("disabled".to_owned()))
    }

    pub(super) async fn undo_job(
        &mut self,
        step: &Step,
        unit: &str,
        effects: &[&Effect],
    ) -> Result<Undone> {
        let before = effects.iter().find_map(|effect| match effect {
            Effect::Job { before, .. } => Some(before.as_str()),
            _ => None,
        });
        let now = step.systemd.unit(unit).await?;
        if matches!(before, Some("active" | "reloading" | "activating"))
            && !unit.ends_with(".mount")
        {
            // It goes on, with its configuration of before, once that is back.
            self.restart.push((step.address().clone(), unit.to_owned()));
            return Ok(Undone::Already);
        }
        // A stop also takes the mark of a failed start away.
        let is_at_rest = now.active == "inactive" || Some(now.active.as_str()) == before;
        if is_at_rest || !now.is_loaded() || unit.ends_with(".mount") {
            return Ok(Undone::Already);
        }
        step.job(Job::Stop, unit).await?;
        Ok(Undone::Restored("stopped".to_owned()))
    }

    /// Lets systemd see the unit files that are left, and restarts what is to run with its
    /// configuration of before. What fails is told of under its own name, and stays to be done.
    pub(super) async fn settle_units(&mut self) -> Result<(), Halt> {
        let started = Instant::now();
        if self.reload_units {
            if let Err(error) = self.step(&systemd()).reload_units().await {
                self.failed(&systemd(), started, error);
                return Err(Halt::Needs(systemd()));
            }
            self.reload_units = false;
        }
        while let Some((address, unit)) = self.restart.first().cloned() {
            let step = self.step(&address);
            if let Err(error) = step.job(Job::Restart, &unit).await {
                self.failed(&address, started, error);
                return Err(Halt::Needs(address));
            }
            self.restart.remove(0);
        }
        Ok(())
    }
}

/// Stops a service whose file was not there before us: where apply was cut off before it started it,
/// a boot may have done so since.
pub(super) async fn stop_what_a_boot_has_started(
    step: &Step,
    path: &Path,
    effects: &[&Effect],
) -> Result<()> {
    let was_absent = matches!(
        effects.first(),
        Some(Effect::WriteFile { before: None, .. })
    );
    let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else {
        return Ok(());
    };
    if !was_absent || !(extension == "service" || extension == "container") {
        return Ok(());
    }
    let unit = format!("{}.service", stem.to_string_lossy());
    let now = step.systemd.unit(&unit).await?;
    if now.is_from(path) && now.active != "inactive" {
        step.job(Job::Stop, &unit).await?;
    }
    Ok(())
}

/// systemd makes units of fstab(5), too.
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
