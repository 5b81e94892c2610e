//! A container of the application's name that somebody runs by hand: made by `podman run`, with a
//! service that podman generated (podman-generate-systemd(1)). The agent refuses it. If asked to, the
//! agent stops it and keeps it under another name, so that revert can bring back the same container.

use std::path::{Path, PathBuf};

use crate::effect::container::OnContainer;
use crate::engine::{Diff, Disturbance, Step};
use crate::error::{Error, Result};
use crate::host::fs::read_regular;
use crate::host::mark;
use crate::host::podman::{self, ContainerState};
use crate::host::starters::{By, is_it, is_named, starters};
use crate::host::systemd::{Job, UnitState};
use crate::host::{Host, blocking};

const MAX_UNIT: u64 = 1 << 20;

/// What stands in the place of the agent's container.
#[derive(Debug)]
pub struct ByHand {
    name: String,
    container: Option<ContainerState>,
    service: Option<Service>,
    /// The name under which the container would be kept is taken.
    is_kept_already: bool,
    /// Services of another name that start the same container.
    other_services: Vec<PathBuf>,
}

/// A service of the container's name that the agent did not make.
#[derive(Debug)]
struct Service {
    file: PathBuf,
    is_enabled: bool,
    is_active: bool,
    /// What it does besides running this container, if anything.
    does_more: Option<String>,
    /// It makes a new container at each start.
    makes_its_own: bool,
}

impl ByHand {
    /// Looks for what the agent did not make. `unit_file` is the file of the service that is there now,
    /// if that file is somebody else's.
    pub async fn observe(
        host: &Host,
        name: &str,
        unit: &UnitState,
        unit_file: Option<PathBuf>,
    ) -> Result<Option<Self>> {
        let container = podman::container(name).await?;
        let kept = podman::container(&kept_as(name)).await?;
        if container.is_none() && unit_file.is_none() {
            return Ok(None);
        }
        // A service may know the container by its id alone. After a run that was cut off, the container
        // may still have its other name.
        let known = container.as_ref().or(kept.as_ref());
        let id = known.map(|container| container.id.clone());
        let service = match unit_file {
            None => None,
            Some(file) => {
                let at = file.clone();
                let read = blocking(move || read_regular(&at, MAX_UNIT)).await?;
                let text = read.map_or_else(String::new, |read| {
                    String::from_utf8_lossy(&read.contents).into_owned()
                });
                let does = Does::of(&text, name, id.as_deref());
                let drop_in = unit.drop_ins.first();
                Some(Service {
                    makes_its_own: does == Does::MakeContainer,
                    does_more: match does {
                        Does::Other(what) => Some(what),
                        _ => drop_in.map(|drop_in| format!("what {drop_in} adds")),
                    },
                    is_enabled: unit.file_state == "enabled",
                    is_active: unit.is_active() || unit.active == "activating",
                    file,
                })
            }
        };
        let own = [unit_of(name)];
        let of_name = name.to_owned();
        let instances = host.systemd.instances().await?;
        let others =
            blocking(move || Ok(starters(&of_name, id.as_deref(), &own, &instances))).await?;
        let services = others
            .into_iter()
            .filter(|other| matches!(other.by, By::Service(_)));
        let other_services = services.map(|other| other.file).collect();
        Ok(Some(Self {
            name: name.to_owned(),
            container,
            service,
            is_kept_already: kept.is_some(),
            other_services,
        }))
    }

    /// The error for what must not be touched unasked.
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

    /// Adds what is taken over. Fails if that is more than a container and its service.
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
            if let Some(what) = &service.does_more {
                return Err(Error::new(format!(
                    "{} does more than run the container {name}: {what}",
                    service.file.display()
                ))
                .hint("remove it, or name the container otherwise: was.container.name"));
            }
            diff.adopt("service", service.file.display(), None);
        }
        if let Some(other) = self.other_services.first() {
            let unit = other.file_name().unwrap_or_default().to_string_lossy();
            return Err(Error::new(format!(
                "{} starts the container {name} as well",
                other.display()
            ))
            .hint(format!(
                "keep one of them: systemctl disable --now {unit}, remove {}, and apply again",
                other.display()
            )));
        }
        if let Some(container) = &self.container {
            if container.goes_when_stopped && !self.is_made_by_service() {
                return Err(Error::new(format!(
                    "the container {name} was made with --rm: it is gone once it is stopped, and no revert could \
                     bring it back"
                ))
                .hint(format!("if nobody needs it: podman stop {name}, and apply again")));
            }
            let now = if container.is_running {
                "running"
            } else {
                "stopped"
            };
            diff.adopt(
                "container",
                format!("{name}, {now}"),
                (!self.is_made_by_service()).then(|| format!("{kept_as}, stopped")),
            );
            if self.would_start_at_boot() {
                diff.adopt(
                    "boot",
                    format!("podman-restart.service starts {kept_as}"),
                    Some(format!("all but that, by {AT_BOOT}")),
                );
            }
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

    /// A container that its own service makes is not kept: the service will make it again.
    fn is_made_by_service(&self) -> bool {
        self.service.as_ref().is_some_and(|s| s.makes_its_own)
    }

    fn would_start_at_boot(&self) -> bool {
        let container = self.container.as_ref();
        container.is_some_and(|c| c.restarts_at_boot) && !self.is_made_by_service()
    }

    /// Makes room for the agent's unit file at `own`.
    pub async fn set_aside(&self, step: &Step, own: &Path) -> Result<()> {
        let unit = unit_of(&self.name);
        if self.would_start_at_boot() {
            let text = mark::marked(&only_others_at_boot(&self.name));
            step.write_text(Path::new(AT_BOOT), &text).await?;
        }
        let active = self.service.as_ref().filter(|service| service.is_active);
        let effect = OnContainer::SetAsideContainer {
            name: self.name.clone(),
            kept_as: kept_as(&self.name),
            was_running: self.is_running(),
            service: active.map(|_| unit.clone()),
            makes_its_own: self.is_made_by_service(),
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
            step.disable(&unit_of(&self.name)).await?;
        }
        if service.file != own {
            step.remove_file(&service.file).await?;
        }
        Ok(())
    }
}

fn unit_of(name: &str) -> String {
    format!("{name}.service")
}

/// The name under which a container that was set aside is kept.
fn kept_as(name: &str) -> String {
    format!("{name}-by-hand")
}

/// At each boot podman-restart.service starts every container that was made with `--restart always`. It
/// would also start the container that was set aside, which would take the port of the new one.
const AT_BOOT: &str = "/etc/systemd/system/podman-restart.service.d/50-wasagent.conf";

fn only_others_at_boot(name: &str) -> String {
    format!(
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'podman ps --all --filter restart-policy=always \
         --format \"{{{{.Names}}}}\" | grep --invert-match --line-regexp --fixed-strings {} \
         | xargs --no-run-if-empty podman start'\n",
        kept_as(name)
    )
}

/// What a service does with a container.
#[derive(Debug, PartialEq, Eq)]
enum Does {
    /// It starts an existing container.
    StartContainer,
    /// It makes the container at its start, and the container goes at its end.
    MakeContainer,
    /// It does something else, too; the text says what.
    Other(String),
}

impl Does {
    /// Reads a unit file. A unit of podman-generate-systemd(1) has one start command, and before it
    /// only the removal of an old id file.
    fn of(unit: &str, name: &str, id: Option<&str>) -> Self {
        let mut does = None;
        for (key, command) in commands(unit) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let one = match (key, &words[..]) {
                ("ExecStartPre", [rm, "-f", files @ ..]) if is_program(rm, "rm") => {
                    let of_this_unit = |file: &&str| file.starts_with("%t/%n");
                    if !files.is_empty() && files.iter().all(of_this_unit) {
                        continue;
                    }
                    None
                }
                ("ExecStart", [podman, "start", started]) if is_program(podman, "podman") => {
                    is_it(started, name, id).then_some(Self::StartContainer)
                }
                ("ExecStart", [podman, "run", arguments @ ..]) if is_program(podman, "podman") => {
                    is_named(arguments, name).then_some(Self::MakeContainer)
                }
                // podman decides how the container is stopped, and after the stop these commands no
                // longer matter.
                ("ExecStop" | "ExecStopPost" | "ExecReload", _) => continue,
                _ => None,
            };
            match one {
                Some(one) if does.is_none() => does = Some(one),
                _ => return Self::Other(format!("{key}={command}")),
            }
        }
        does.unwrap_or_else(|| Self::Other("it has no ExecStart=".to_owned()))
    }
}

/// The commands of a service, in order: the key, and what comes after it.
fn commands(unit: &str) -> Vec<(&'static str, String)> {
    const KEYS: [&str; 7] = [
        "ExecStartPre",
        "ExecStart",
        "ExecStartPost",
        "ExecCondition",
        "ExecStop",
        "ExecStopPost",
        "ExecReload",
    ];
    let lines = unit.replace("\\\n", " ");
    let mut commands = Vec::new();
    for line in lines.lines() {
        let Some((key, command)) = line.trim().split_once('=') else {
            continue;
        };
        if let Some(key) = KEYS.into_iter().find(|known| *known == key.trim()) {
            commands.push((key, command.trim().to_owned()));
        }
    }
    commands
}

fn is_program(word: &str, program: &str) -> bool {
    word.rsplit('/').next() == Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_podmans_own_making_is_known() {
        let id = "9f3e".repeat(16);
        let does = |unit: &str| Does::of(unit, "nodejs-server", Some(&id));
        for unit in [
            format!(
                "[Service]\nType=forking\nExecStart=/usr/bin/podman start {id}\nExecStop=/usr/bin/podman stop -t 10 {id}\n"
            ),
            "ExecStart=/usr/bin/podman start nodejs-server\n".to_owned(),
        ] {
            assert_eq!(does(&unit), Does::StartContainer, "{unit}");
        }
        let makes = "ExecStartPre=/bin/rm -f %t/%n.ctr-id\nExecStart=/usr/bin/podman run \\\n\t--cidfile=%t/%n.ctr-id \\\n\t\
                     -d --name nodejs-server image\n";
        assert_eq!(does(makes), Does::MakeContainer);
        for unit in [
            "",
            "ExecStart=/usr/bin/podman start other\n",
            "ExecStart=/usr/bin/podman start nodejs-server other\n",
            "ExecStart=/usr/bin/podman run --name other image nodejs-server\n",
            "ExecStart=/usr/local/bin/start nodejs-server\n",
            "ExecStart=/usr/bin/podman start nodejs-server\nExecStart=/usr/bin/mount-it nodejs-server\n",
            "ExecStartPre=/bin/rm -f /run/lock/x\nExecStart=/usr/bin/podman start nodejs-server\n",
            "ExecStart=/usr/bin/podman start nodejs-server\nExecStartPost=/usr/bin/tell-them\n",
        ] {
            assert!(matches!(does(unit), Does::Other(_)), "{unit}");
        }
    }

    #[test]
    fn what_is_kept_is_not_started_at_a_boot() {
        insta::assert_snapshot!(only_others_at_boot("nodejs-server"));
    }
}
