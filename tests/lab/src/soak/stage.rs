//! The guest of a campaign, on which one role is applied and reverted again and again: a container for storage; for was a
//! VM, because a container cannot mount CIFS, with a storage container that serves it.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::guest::{Disk, Guest, Spec};
use crate::image;
use crate::kind::Need;
use crate::lab::Lab;
use crate::process::{Output, command, ok};
use crate::progress::timed;
use crate::registry::Registry;
use crate::release::Release;
use crate::tier::{
    DISK_SERIAL, REPOSITORY, Role, SHARE_PASSWORD, SHARE_PASSWORD_FILE, apply, install_tier_file,
    registry, tier_file,
};
use crate::wasagent::{Applied, Apply};
use crate::{sample_app, snapshot};

/// The tier file after a change that touches as many resources as one can. It is not put in the place of the first, so
/// that /etc stays the agent's to change.
pub const CHANGED_TIER_FILE: &str = "/root/changed.toml";
const CHANGED_PASSWORD_FILE: &str = "/root/changed.password";

/// In place of the sample application, whose start takes an emulated processor longer than all that the agent does.
const IDLE: &str = "process.once('SIGTERM', () => process.exit());
require('net').createServer((socket) => socket.end('HTTP/1.1 204 No Content\\r\\n\\r\\n')).listen(3000);
";

/// Whether the operator has pulled the application's image before the first apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    There,
    Absent,
}

/// What a guest runs on, where the role leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    Container,
    Vm,
}

pub struct Stage {
    // In this order they go: the guests before what they are on.
    pub guest: Guest,
    pub role: Role,
    /// The data disk of a storage guest.
    disk: Option<String>,
    /// What serves a WAS guest its share.
    pub server: Option<Guest>,
    pub registry: Option<Registry>,
    pub lab: Lab,
}

impl Stage {
    /// A storage guest with a blank disk, nothing applied.
    pub fn storage(agent: &Path, machine: Machine, release: Release) -> Result<Stage> {
        let lab = Lab::new()?;
        let (guest, disk) = storage_guest(&lab, machine, release)?;
        install_storage(&lab, &guest, agent, machine, &disk)?;
        Ok(Stage {
            guest,
            role: Role::Storage,
            disk: Some(disk),
            server: None,
            registry: None,
            lab,
        })
    }

    /// A WAS guest whose share is served by a container, nothing applied.
    pub fn was(agent: &Path, release: Release, image: Image) -> Result<Stage> {
        Self::was_served_by(agent, Machine::Container, release, image, &[])
    }

    /// The same with a server of either kind (a container has no udev to mount its data disk at a boot), and a WAS guest
    /// that has what is needed.
    pub fn was_served_by(
        agent: &Path,
        machine: Machine,
        release: Release,
        image: Image,
        needs: &[Need],
    ) -> Result<Stage> {
        let lab = Lab::new()?;
        let registry = registry(&lab)?;
        let (server, disk) = storage_guest(&lab, machine, release)?;
        install_storage(&lab, &server, agent, machine, &disk)?;
        apply(&server, Role::Storage)?;
        server.write("/mnt/data/shared_folder/server.js", IDLE, 0o644)?;

        let guest = lab.vm(&Spec::was(1, release).needs(needs))?;
        guest.install_agent(agent)?;
        install_tier_file(&guest, &tier_file())?;
        guest.write(CHANGED_TIER_FILE, changed_for_was(&tier_file()), 0o644)?;
        if image == Image::There {
            timed("the image is pulled by hand", || {
                guest.ok(["podman", "pull", "--quiet", image::NAME])
            })?;
        }
        Ok(Stage {
            guest,
            role: Role::Was,
            disk: None,
            server: Some(server),
            registry: Some(registry),
            lab,
        })
    }

    /// Whether its state can be kept: QEMU keeps none of the disks that are not in its own format.
    pub fn has_states(&self) -> bool {
        self.guest.is_qemu() && self.disk.is_none()
    }

    pub fn keep(&self, state: &str) -> Result<()> {
        self.guest.keep(state)
    }

    /// Goes back to a state of the guest's. The server drops its connections, because of those the guest knows an earlier
    /// end than the server does, and neither would reset the other's for half a minute.
    pub fn go_back(&self, state: &str) -> Result<()> {
        if let Some(server) = &self.server {
            server.ok(["systemctl", "restart", "smbd.service"])?;
        }
        self.guest.go_back(state)
    }

    /// The command line of an apply by this tier file, or by the usual one.
    pub fn apply_command<'a>(&self, config: Option<&'a str>) -> Vec<&'a str> {
        let role = match self.role {
            Role::Storage => "storage",
            Role::Was => "was",
        };
        let mut words = vec!["wasagent", "apply", "--role", role];
        words.extend(config.into_iter().flat_map(|path| ["--config", path]));
        words
    }

    /// An apply that must succeed.
    pub fn apply(&self, config: Option<&str>) -> Result<Applied> {
        let options: Vec<&str> = config
            .into_iter()
            .flat_map(|path| ["--config", path])
            .collect();
        Apply::on(&self.guest).role(self.role).with(&options).ok()
    }

    /// A revert that must succeed, and leave nothing half-written.
    pub fn revert(&self) -> Result<Output> {
        let reverted = self.guest.run(["wasagent", "revert"])?;
        ensure!(reverted.success(), "revert: {reverted}");
        let left = snapshot::leftovers(&self.guest)?;
        ensure!(left.is_empty(), "a revert left {left:?}: {reverted}");
        Ok(reverted)
    }

    /// Makes the data disk blank, which no revert does, because it holds data by then: the next apply is a first one.
    pub fn blank(&self) -> Result<()> {
        match self.role {
            Role::Storage => self.guest.erase(0),
            Role::Was => Ok(()),
        }
    }
}

/// A guest with a blank disk, and the disk's path in it.
fn storage_guest(lab: &Lab, machine: Machine, release: Release) -> Result<(Guest, String)> {
    match machine {
        Machine::Container => {
            let spec = Spec::storage(release.for_containers());
            let guest = lab.container(&spec.disk(Disk::of_the_guide("")))?;
            let disk = guest.devices()[0].clone();
            Ok((guest, disk))
        }
        Machine::Vm => {
            let disk = Disk::of_the_guide(DISK_SERIAL);
            let guest = lab.vm(&Spec::storage(release).disk(disk))?;
            let device = guest.device(0)?;
            Ok((guest, device))
        }
    }
}

/// The agent, both tier files with their secrets, and the application's repository with two revisions.
fn install_storage(
    lab: &Lab,
    guest: &Guest,
    agent: &Path,
    machine: Machine,
    disk: &str,
) -> Result<()> {
    guest.install_agent(agent)?;
    let scratch = tempfile::tempdir()?;
    let repository = scratch.path().join("repository.git");
    sample_app::copy(&sample_app::repository(lab.cache())?, &repository)?;
    let first = revision(&repository)?;
    let changed = format!("{}/server.js", sample_app::SUBDIR);
    sample_app::commit_change(
        &repository,
        &changed,
        b"// the second revision\n",
        "Change the server",
    )?;
    guest.copy_tree(&repository, REPOSITORY)?;

    let mut text = tier_file();
    if machine == Machine::Container {
        // A container sees the names of its machine's disks, which are none of its business.
        text = replaced(&text, "= \"auto\"", &format!("= {disk:?}"));
    }
    let pinned = replaced(
        &text,
        &format!("rev    = \"{}\"", sample_app::BRANCH),
        &format!("rev    = \"{first}\""),
    );
    install_tier_file(guest, &pinned)?;
    let changed = replaced(
        &replaced(&text, SHARE_PASSWORD_FILE, CHANGED_PASSWORD_FILE),
        "[\"192.168.2.0/24\"]",
        "[\"192.168.2.0/24\", \"192.168.3.0/24\"]",
    );
    guest.write(CHANGED_TIER_FILE, changed, 0o644)?;
    guest.write(
        CHANGED_PASSWORD_FILE,
        format!("{SHARE_PASSWORD} too\n"),
        0o600,
    )
}

/// Another dialect, which needs a new mount, and another container.
fn changed_for_was(text: &str) -> String {
    let text = replaced(text, "[was]\n", "[was]\nvers = \"3.0.2\"\n");
    replaced(&text, "NODE_ENV", "LAB = \"changed\", NODE_ENV")
}

/// A replacement that found nothing to replace would leave a campaign without its change.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the tier file");
    text.replacen(from, to, 1)
}

fn revision(repository: &Path) -> Result<String> {
    let mut git = command(["git", "-c", "safe.directory=*", "--git-dir"]);
    git.arg(repository).args(["rev-parse", sample_app::BRANCH]);
    Ok(ok(git)?.stdout.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changed_tier_file_is_another_one() {
        let text = changed_for_was(&tier_file());
        assert!(
            text.contains("vers = \"3.0.2\"") && text.contains("{ LAB = \"changed\", NODE_ENV")
        );
    }
}
