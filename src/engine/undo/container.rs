//! A container that was there by hand and was set aside for ours: it gets its name back, and nothing that makes a
//! container of that name may be left by then.

use std::path::PathBuf;

use super::last_start::LastStart;
use super::{Undoing, Undone};
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::engine::journal::Recorded;
use crate::error::{Error, Result};
use crate::host::podman;
use crate::host::systemd::Job;

impl Undoing<'_> {
    /// Gives a container that was set aside its name again. It starts when the rest is as it was.
    pub(super) async fn undo_set_aside(
        &mut self,
        step: &Step,
        effects: &[&Effect],
    ) -> Result<Undone> {
        let Some(Effect::SetAsideContainer {
            name,
            kept_as,
            was_running,
            service,
            makes_its_own,
        }) = effects.first()
        else {
            return Ok(Undone::Already);
        };
        if let Some(file) = self.unit_that_would_replace(name) {
            return Err(Error::new(format!(
                "{} was changed by somebody and stays: started, it would put a container of its own in the place \
                 of the one that was there by hand ({kept_as})",
                file.display()
            ))
            .hint(format!("remove {}, and revert again", file.display())));
        }
        let is_kept = podman::exists("container", kept_as).await?;
        let has_its_name = podman::exists("container", name).await?;
        if !is_kept && !has_its_name && !makes_its_own {
            return Ok(Undone::Kept(format!(
                "the container {name} that was there by hand is gone: somebody removed {kept_as}"
            )));
        }
        if is_kept && has_its_name {
            return Err(Error::new(format!(
                "podman has a container {name} again, and the one of before is {kept_as}"
            ))
            .hint(format!("remove or rename {name}, and revert again")));
        }
        if *was_running {
            let start = match service {
                Some(unit) => LastStart::Unit(unit.clone()),
                None => LastStart::Container(name.clone()),
            };
            self.start_last.push((step.address().clone(), start));
        }
        if !is_kept {
            return Ok(Undone::Already);
        }
        let effect = Effect::TakeBackContainer {
            name: name.clone(),
            kept_as: kept_as.clone(),
        };
        step.effect(effect, |permit| async move {
            podman::rename_container(&permit, kept_as, name).await
        })
        .await?;
        Ok(Undone::Restored(format!("it is {name} again")))
    }

    /// A unit file that stays and makes containers of that name.
    fn unit_that_would_replace(&self, name: &str) -> Option<&PathBuf> {
        let mut kept = self.kept_units.iter();
        kept.find(|file| file.file_stem().is_some_and(|stem| stem == name))
    }
}

/// Stops what stands in the place of a container that was set aside, whatever has started it.
pub(super) async fn stop_what_took_its_place(step: &Step, effects: &[&Recorded]) -> Result<()> {
    for recorded in effects {
        if let Effect::SetAsideContainer { name, kept_as, .. } = &recorded.effect
            && podman::exists("container", kept_as).await?
        {
            let unit = format!("{name}.service");
            if step.systemd.unit(&unit).await?.active != "inactive" {
                return step.job(Job::Stop, &unit).await;
            }
        }
    }
    Ok(())
}
