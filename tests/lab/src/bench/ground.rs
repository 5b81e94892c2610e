//! A fresh guest for one contestant in one run, and what happens to it.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::contestant::{self, AGENT, Contestant, Phase};
use super::judge::{Case, Faults};
use super::stopwatch::{self, Counted, LIMIT, Taken};
use crate::guest::{Disk, Guest, Spec};
use crate::lab::Lab;
use crate::registry::Registry;
use crate::release::Release;
use crate::sample_app::{BRANCH, SUBDIR};
use crate::tier::{REPOSITORY, Role, SHARE_PASSWORD, install_repository, registry};

/// Where all contestants find the share's password.
pub(super) const PASSWORD_FILE: &str = "/root/share.password";
const NEW_PASSWORD: &str = "Another, \"one\" 47 % $HOME";

/// Where the application is published, and where after the change.
const PORT: &str = "5000";
const NEW_PORT: &str = "5001";

/// The hashes of the revision's files, for the judge. `REPOSITORY TREE`.
const LIST_REVISION: &str = r#"
mkdir -p /root/bench/tree
git -c safe.directory='*' --git-dir="$1" archive "$2" | tar --extract --directory /root/bench/tree
cd /root/bench/tree
find . -type f -print0 | sort -z | xargs -0 sha256sum >/root/bench/revision
rm -r /root/bench/tree"#;

/// An operator who makes the share read-only, wherever the contestant has written it, and lets Samba know.
const EDIT: &str = "file=$(grep -rlF 'read only = no' /etc/samba)\n\
                    sed -i 's/read only = no/read only = yes/' $file\n\
                    smbcontrol smbd reload-config";

/// An operator who stops the application.
const STOP: &str = "systemctl stop nodejs-server.service";

/// What is noted of a program's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Time,
    Counts,
}

/// How one phase of one run ended.
#[derive(Clone, Debug)]
pub enum Ended {
    Taken(Taken),
    Counted(Counted),
    /// It did not reach the wanted state: what was wrong.
    Failed(Faults),
    /// The phase is none of this contestant's.
    Left(&'static str),
}

/// What one run of a contestant gave.
pub struct Told {
    /// What it says of its version, and of its parts'.
    pub version: String,
    pub phases: Vec<(Phase, Ended)>,
}

/// Where it happens.
pub struct Ground<'a> {
    pub lab: &'a Lab,
    pub agent: &'a Path,
    pub stopwatch: &'a Path,
    pub release: Release,
    pub role: Role,
}

/// What serves a WAS VM its share and its image, for as long as this lives.
pub struct Around {
    _server: Guest,
    _registry: Registry,
}

impl Ground<'_> {
    /// What has to be there before the first guest: nothing, or a storage VM and a registry.
    pub fn around(&self) -> Result<Option<Around>> {
        if self.role == Role::Storage {
            return Ok(None);
        }
        let registry = registry(self.lab)?;
        Ok(Some(Around {
            _server: applied(self.lab, self.agent, self.release)?,
            _registry: registry,
        }))
    }

    /// All phases on a fresh guest. After one that failed there is no sense in those that follow.
    pub fn run(&self, contestant: &Contestant, note: Note) -> Result<Told> {
        let stand = self.stand(contestant)?;
        let version = stand.guest.shell(contestant.version)?;
        let mut phases = Vec::new();
        for phase in Phase::ALL {
            let one = stand
                .phase(contestant, phase, note)
                .with_context(|| format!("{}, {phase}", contestant.name))?;
            let failed = matches!(one, Ended::Failed(_));
            phases.push((phase, one));
            if failed {
                break;
            }
        }
        Ok(Told { version, phases })
    }

    /// A guest with the password and the contestant's own programs, and with what its role begins with.
    fn stand(&self, contestant: &Contestant) -> Result<Stand> {
        let guest = match self.role {
            Role::Storage => storage_guest(self.lab, self.release)?,
            Role::Was => self.lab.vm(&Spec::was(1, self.release))?,
        };
        stopwatch::install(self.stopwatch, &guest)?;
        guest.write(PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)?;
        if contestant.name == AGENT {
            guest.install_agent(self.agent)?;
        }
        let disk = guest.devices().first().cloned().unwrap_or_default();
        let stand = Stand {
            guest,
            role: self.role,
            disk,
        };
        stand.install(contestant, PORT)?;
        // What was written for the guest is on the disk before the clock runs.
        stand.guest.ok(["sync"])?;
        Ok(stand)
    }
}

/// A guest with a blank disk, the repository, and a list of the revision's files for the judge.
fn storage_guest(lab: &Lab, release: Release) -> Result<Guest> {
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    install_repository(lab, &guest)?;
    let tree = format!("{BRANCH}:{SUBDIR}");
    guest.ok(["sh", "-ec", LIST_REVISION, "sh", REPOSITORY, &tree])?;
    Ok(guest)
}

/// A guest of one contestant.
struct Stand {
    guest: Guest,
    role: Role,
    /// The data disk of a storage VM.
    disk: String,
}

impl Stand {
    /// Writes the contestant's programs, which publish this port.
    fn install(&self, contestant: &Contestant, port: &str) -> Result<()> {
        for (path, text) in &contestant.files {
            let text = text.replace("@disk@", &self.disk).replace("@port@", port);
            self.guest.write(path, text, 0o644)?;
        }
        Ok(())
    }

    fn phase(&self, contestant: &Contestant, phase: Phase, note: Note) -> Result<Ended> {
        let command = match contestant.command(phase) {
            Ok(command) => command,
            Err(why) => return Ok(Ended::Left(why)),
        };
        let case = self.case(phase);
        match phase {
            Phase::First | Phase::Nothing | Phase::Plan => {}
            Phase::Change => self.change(contestant)?,
            Phase::Drift => {
                self.spoil()?;
                case.must_fail()?;
            }
        }
        let (output, ended) = match note {
            Note::Time => {
                let (output, taken) = stopwatch::measured(&self.guest, command)?;
                (output, Ended::Taken(taken))
            }
            Note::Counts => {
                let (output, counted) = stopwatch::counted(&self.guest, command)?;
                (output, Ended::Counted(counted))
            }
        };
        let mut faults = case.judge()?;
        if !contestant.good.contains(&output.status) {
            faults.push(format!("{output}"));
        }
        Ok(match faults.is_empty() {
            true => ended,
            false => Ended::Failed(faults),
        })
    }

    /// What the judge has to look for after a phase.
    fn case(&self, phase: Phase) -> Case<'_> {
        let changed = [Phase::Change, Phase::Drift].contains(&phase);
        match (self.role, changed) {
            (Role::Storage, false) => {
                Case::storage(&self.guest, &self.disk, SHARE_PASSWORD, NEW_PASSWORD)
            }
            (Role::Storage, true) => {
                Case::storage(&self.guest, &self.disk, NEW_PASSWORD, SHARE_PASSWORD)
            }
            (Role::Was, false) => Case::was(&self.guest, PORT, NEW_PORT, SHARE_PASSWORD),
            (Role::Was, true) => Case::was(&self.guest, NEW_PORT, PORT, SHARE_PASSWORD),
        }
    }

    /// Somebody wants another value.
    fn change(&self, contestant: &Contestant) -> Result<()> {
        match self.role {
            Role::Storage => {
                let text = format!("{NEW_PASSWORD}\n");
                self.guest.write(PASSWORD_FILE, text, 0o600)
            }
            Role::Was => self.install(contestant, NEW_PORT),
        }
    }

    /// Somebody does something by hand.
    fn spoil(&self) -> Result<()> {
        let line = match self.role {
            Role::Storage => EDIT,
            Role::Was => STOP,
        };
        self.guest.shell(line).map(drop)
    }
}

/// A guest on which the agent has nothing to change.
pub(super) fn applied(lab: &Lab, agent: &Path, release: Release) -> Result<Guest> {
    let guest = storage_guest(lab, release)?;
    guest.install_agent(agent)?;
    guest.write(PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)?;
    let disk = guest.devices().first().cloned().context("a data disk")?;
    let wasagent = contestant::wasagent();
    for (path, text) in &wasagent.files {
        guest.write(path, text.replace("@disk@", &disk), 0o644)?;
    }
    // The second one is the first that finds nothing to change.
    for _ in 0..2 {
        let output = guest.run_unchecked(&wasagent.apply, b"", LIMIT)?;
        ensure!(output.success(), "apply: {output}");
    }
    Ok(guest)
}
