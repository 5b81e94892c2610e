//! A container made by hand, set aside for the agent's own. An undo gives it its name back. Nothing that makes a
//! container of that name may be left by then.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::later::LastStart;
use super::{Halt, Past, Reversible, Step, Undo, Undone};
use crate::error::{Error, Result};
use crate::host::podman;
use crate::host::systemd::Job;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnContainer {
    /// Stops a container that somebody made by hand, and keeps it under another name.
    SetAsideContainer {
        name: String,
        kept_as: String,
        was_running: bool,
        /// The service that started the container, if one did.
        service: Option<String>,
        /// The service makes the container anew at each start, so none is kept. Missing in older records.
        #[serde(default)]
        makes_its_own: bool,
    },
    /// Gives the container its name back.
    TakeBackContainer {
        name: String,
        kept_as: String,
    },
    StartContainer {
        name: String,
    },
}

impl OnContainer {
    fn name(&self) -> &str {
        match self {
            Self::SetAsideContainer { name, .. }
            | Self::TakeBackContainer { name, .. }
            | Self::StartContainer { name } => name,
        }
    }
}

impl fmt::Display for OnContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetAsideContainer { name, .. } => write!(f, "set container {name} aside"),
            Self::TakeBackContainer { name, .. } => write!(f, "take container {name} back"),
            Self::StartContainer { name } => write!(f, "start container {name}"),
        }
    }
}

impl Reversible for OnContainer {
    fn target(&self) -> String {
        format!("container {}", self.name())
    }

    fn adopts(&self) -> bool {
        matches!(self, Self::SetAsideContainer { .. })
    }

    /// Stops the container that took its place, whatever started that container.
    async fn before_undo(past: &[Past<'_, Self>], step: &Step) -> Result<()> {
        for one in past {
            if let Self::SetAsideContainer { name, kept_as, .. } = one.effect
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

    /// Gives the container its name back. It starts last, once everything else is restored.
    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(Self::SetAsideContainer {
            name,
            kept_as,
            was_running,
            service,
            makes_its_own,
        }) = past.first().map(|first| first.effect)
        else {
            return Ok(Undone::Already);
        };
        if let Some(file) = unit_that_would_replace(name, &undo.later.kept_units) {
            let file = file.display();
            return Err(Error::new(format!(
                "{file} was changed by somebody and stays: started, it would put a container of its own in the place \
                 of the one that was there by hand ({kept_as})"
            ))
            .hint(format!("remove {file}, and revert again"))
            .into());
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
            .hint(format!("remove or rename {name}, and revert again"))
            .into());
        }
        if *was_running {
            let start = match service {
                Some(unit) => LastStart::Unit(unit.clone()),
                None => LastStart::Container(name.clone()),
            };
            let address = undo.step.address().clone();
            undo.later.start_last.push((address, start));
        }
        if !is_kept {
            return Ok(Undone::Already);
        }
        let effect = Self::TakeBackContainer {
            name: name.clone(),
            kept_as: kept_as.clone(),
        };
        let rename = |permit| async move { podman::rename_container(&permit, kept_as, name).await };
        undo.step.effect(effect, rename).await?;
        Ok(Undone::Restored(format!("it is {name} again")))
    }
}

impl Step {
    /// Starts an existing container.
    pub async fn start_container(&self, name: &str) -> Result<()> {
        let effect = OnContainer::StartContainer {
            name: name.to_owned(),
        };
        let start = |permit| async move { podman::start_container(&permit, name).await };
        self.effect(effect, start).await
    }
}

/// A kept unit file that makes containers of that name.
fn unit_that_would_replace<'a>(name: &str, kept_units: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let mut kept = kept_units.iter();
    kept.find(|file| file.file_stem().is_some_and(|stem| stem == name))
}
