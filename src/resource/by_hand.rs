//! A container of the application's name that somebody runs by hand: `podman run`, and a service for
//! it of podman's own making (podman-generate-systemd(1)). It is refused, or, when whoever runs this
//! asks for it, stopped and kept under another name, so that revert can bring back the very same.

use std::path::{Path, PathBuf};

use super::ours;
use crate::engine::effect::Effect;
use crate::engine::{Diff, Disturbance, Step};
use crate::error::{Error, Result};
use crate::host::blocking;
use crate::host::fs::read_regular;
use crate::host::podman::{self, ContainerState};
use crate::host::systemd::{Job, UnitState};

const MAX_UNIT: u64 = 1 << 20;

/// What stands in the place of the agent's container.
#[derive(Debug)]
pub struct ByHand {
    name: String,
    container: Option<ContainerState>,
    service: Option<Service>,
    /// The name under which it would be kept is taken.
    is_kept_already: bool,
}

/// A service of the container's name that is not of the agent's making.
#[derive(Debug)]
struct Service {
    file: PathBuf,
    is_enabled: bool,
    is_active: bool,
    /// It does nothing but run this container.
    runs_container: bool,
}

impl ByHand {
    /// Looks for what is not ours. `unit_file` is the one of the service that runs now, where it is
    /// somebody else's.
    pub async fn observe(
        name: &str,
        unit: &UnitState,
        unit_file: Option<PathBuf>,
    ) -> Result<Option<Self>> {
        let container = podman::container(name).await?;
        let kept = podman::container(&kept_as(name)).await?;
        if container.is_none() && unit_file.is_none() {
            return Ok(None);
        }
        let service = match unit_file {
            None => None,
            Some(file) => {
                let at = file.clone();
                let read = blocking(move || read_regular(&at, MAX_UNIT)).await?;
                let text = read.map_or_else(String::new, |read| {
                    String::from_utf8_lossy(&read.contents).into_owned()
                });
                // Its service may know the container by its id alone, also after a run that was cut off
                // when the container had its other name.
                let known = container.as_ref().or(kept.as_ref());
                let id = known.map(|container| container.id.as_str());
                Some(Service {
                    runs_container: runs_container(&text, name, id),
                    is_enabled: unit.file_state == "enabled",
                    is_active: unit.is_active() || unit.active == "activating",
                    file,
                })
            }
        };
        Ok(Some(Self {
            name: name.to_owned(),
            container,
            service,
            is_kept_already: kept.is_some(),
        }))
    }

    /// What must not be touched unasked.
    pub fn refusal(&self) -> Error {
        let Self { name, .. } = self;
        let found = match (&self.container, &self.service) {
            (Some(_), None) => format!("podman has a container {name} that wasagent did not make"),
            (None, Some(service)) => {
                format!("{} was not made by wasagent", service.file.display())
            }
            (_, Some(service)) => format!(
                "podman has a container {name}, and {} a service for it, that wasagent did not make",
                service.file.display()
            ),
            (None, None) => format!("{name} was not made by wasagent"),
        };
        Error::new(found).hint(
            "`wasagent plan --adopt` shows how wasagent would take it over; or remove it, or name this one \
             otherwise: was.container.name",
        )
    }

    /// Adds what is taken over; an error where that is more than a container and its service.
    pub fn diff(&self, diff: &mut Diff) -> Result<()> {
        let (name, kept_as) = (&self.name, kept_as(&self.name));
        if self.is_kept_already && self.container.is_some() {
            return Err(Error::new(format!(
                "podman has a container {kept_as}, as which {name} would be kept"
            ))
            .hint(format!(
                "rename or remove it: podman rename {kept_as} OTHER"
            )));
        }
        if let Some(service) = &self.service {
            if !service.runs_container {
                return Err(Error::new(format!(
                    "{} does not just run the container {name}",
                    service.file.display()
                ))
                .hint("remove it, or name the container otherwise: was.container.name"));
            }
            diff.adopt("service", service.file.display(), None);
        }
        if let Some(container) = &self.container {
            let now = if container.is_running {
                "running"
            } else {
                "stopped"
            };
            diff.adopt(
                "container",
                format!("{name}, {now}"),
                Some(format!("{kept_as}, stopped")),
            );
        }
        if self.is_running() {
            diff.disturb(Disturbance::Restart(format!("{name}.service")));
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.container.as_ref().is_some_and(|c| c.is_running)
            || self.service.as_ref().is_some_and(|s| s.is_active)
    }

    /// Makes room for the agent's unit file at `own`.
    pub async fn set_aside(&self, step: &Step, own: &Path) -> Result<()> {
        let unit = format!("{}.service", self.name);
        if self.container.as_ref().is_some_and(|c| c.restarts_at_boot) {
            let text = ours::marked(&only_others_at_boot(&self.name));
            ours::write(step, Path::new(AT_BOOT), &text).await?;
        }
        let active = self.service.as_ref().filter(|service| service.is_active);
        let effect = Effect::SetAsideContainer {
            name: self.name.clone(),
            kept_as: kept_as(&self.name),
            was_running: self.is_running(),
            service: active.map(|_| unit.clone()),
        };
        step.effect(effect, |permit| async move {
            if active.is_some() {
                step.systemd.job(&permit, Job::Stop, &unit).await?;
            }
            podman::stop_container(&permit, &self.name).await?;
            podman::rename_container(&permit, &self.name, &kept_as(&self.name)).await
        })
        .await?;
        let Some(service) = &self.service else {
            return Ok(());
        };
        if service.is_enabled {
            step.disable(&format!("{}.service", self.name)).await?;
        }
        if service.file != own {
            step.remove_file(&service.file).await?;
        }
        Ok(())
    }
}

/// The name under which a container that was set aside is kept.
fn kept_as(name: &str) -> String {
    format!("{name}-by-hand")
}

/// podman-restart.service starts at each boot whatever was made with `--restart always`: the container
/// that was set aside, too, which would take the port of the one in its place.
const AT_BOOT: &str = "/etc/systemd/system/podman-restart.service.d/50-wasagent.conf";

fn only_others_at_boot(name: &str) -> String {
    format!(
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'podman ps --all --filter restart-policy=always \
         --format \"{{{{.Names}}}}\" | grep --invert-match --line-regexp --fixed-strings {} \
         | xargs --no-run-if-empty podman start'\n",
        kept_as(name)
    )
}

/// Whether the service does nothing but start or run this container.
fn runs_container(unit: &str, name: &str, id: Option<&str>) -> bool {
    let lines = unit.replace("\\\n", " ");
    let mut starts = lines
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("ExecStart="))
        .peekable();
    starts.peek().is_some()
        && starts.all(|command| {
            let mut words = command.split_whitespace();
            let program = words.next().unwrap_or_default();
            program.rsplit('/').next() == Some("podman")
                && words.any(|word| {
                    word == name || Some(word) == id || word == format!("--name={name}")
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_podmans_own_making_is_known() {
        let id = "9f3e".repeat(16);
        let runs = |unit: &str| runs_container(unit, "nodejs-server", Some(&id));
        for unit in [
            format!("[Service]\nType=forking\nExecStart=/usr/bin/podman start {id}\nExecStop=/usr/bin/podman stop -t 10 {id}\n"),
            "ExecStart=/usr/bin/podman start nodejs-server\n".to_owned(),
            "ExecStart=/usr/bin/podman run \\\n\t--cidfile=%t/%n.ctr-id \\\n\t-d --name nodejs-server image\n".to_owned(),
        ] {
            assert!(runs(&unit), "{unit}");
        }
        for unit in [
            "",
            "ExecStart=/usr/bin/podman start other\n",
            "ExecStart=/usr/local/bin/start nodejs-server\n",
            "ExecStart=/usr/bin/podman start nodejs-server\nExecStart=/usr/bin/mount-it nodejs-server\n",
        ] {
            assert!(!runs(unit), "{unit}");
        }
    }

    #[test]
    fn what_is_kept_is_not_started_at_a_boot() {
        insta::assert_snapshot!(only_others_at_boot("nodejs-server"));
    }
}
