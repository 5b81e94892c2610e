//! A fresh guest for one contestant in one run, and what happens to it.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::contestant::{self, AGENT, Contestant, Phase};
use super::judge::{Case, Faults};
use super::stopwatch::{self, Counted, LIMIT, Taken};
use crate::guest::{Disk, Guest, Spec};
use crate::lab::Lab;
use crate::release::Release;
use crate::sample_app::{BRANCH, SUBDIR};
use crate::tier::{REPOSITORY, SHARE_PASSWORD, install_repository};

/// Where all contestants find the share's password.
pub(super) const PASSWORD_FILE: &str = "/root/share.password";
const NEW_PASSWORD: &str = "Another, \"one\" 47 % $HOME";

/// The hashes of the revision's files, for the judge. `REPOSITORY TREE`.
const LIST_REVISION: &str = r#"
mkdir /root/bench/tree
git -c safe.directory='*' --git-dir="$1" archive "$2" | tar --extract --directory /root/bench/tree
cd /root/bench/tree
find . -type f -print0 | sort -z | xargs -0 sha256sum >/root/bench/revision
rm -r /root/bench/tree"#;

/// An operator who makes the share read-only, wherever the contestant has written it, and lets Samba know.
const EDIT: &str = "file=$(grep -rlF 'read only = no' /etc/samba)\n\
                    sed -i 's/read only = no/read only = yes/' $file\n\
                    smbcontrol smbd reload-config";

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
}

impl Ground<'_> {
    /// All phases on a fresh guest. After one that failed there is no sense in those that follow.
    pub fn run(&self, contestant: &Contestant, note: Note) -> Result<Told> {
        let guest = self.guest(contestant)?;
        let disk = guest.devices().first().cloned().context("a data disk")?;
        let version = guest.shell(contestant.version)?;
        let mut phases = Vec::new();
        for phase in Phase::ALL {
            let one = phase_on(&guest, &disk, contestant, phase, note)
                .with_context(|| format!("{}, {phase}", contestant.name))?;
            let failed = matches!(one, Ended::Failed(_));
            phases.push((phase, one));
            if failed {
                break;
            }
        }
        Ok(Told { version, phases })
    }

    /// A guest with a blank disk, the repository, the password and the contestant's own programs.
    fn guest(&self, contestant: &Contestant) -> Result<Guest> {
        let spec = Spec::storage(self.release).disk(Disk::of_the_guide(""));
        let guest = self.lab.container(&spec)?;
        install_repository(self.lab, &guest)?;
        stopwatch::install(self.stopwatch, &guest)?;
        let tree = format!("{BRANCH}:{SUBDIR}");
        guest.ok(["sh", "-ec", LIST_REVISION, "sh", REPOSITORY, &tree])?;
        guest.write(PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)?;
        if contestant.name == AGENT {
            guest.install_agent(self.agent)?;
        }
        let disk = guest.devices().first().cloned().context("a data disk")?;
        for (path, text) in &contestant.files {
            guest.write(path, text.replace("@disk@", &disk), 0o644)?;
        }
        // What was written for the guest is on the disk before the clock runs.
        guest.ok(["sync"])?;
        Ok(guest)
    }
}

/// A guest on which the agent has nothing to change.
pub(super) fn applied(lab: &Lab, agent: &Path, release: Release) -> Result<Guest> {
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    guest.install_agent(agent)?;
    install_repository(lab, &guest)?;
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

fn phase_on(
    guest: &Guest,
    disk: &str,
    contestant: &Contestant,
    phase: Phase,
    note: Note,
) -> Result<Ended> {
    let command = match contestant.command(phase) {
        Ok(command) => command,
        Err(why) => return Ok(Ended::Left(why)),
    };
    let (right, wrong) = match phase {
        Phase::First | Phase::Nothing | Phase::Plan => (SHARE_PASSWORD, NEW_PASSWORD),
        Phase::Change | Phase::Drift => (NEW_PASSWORD, SHARE_PASSWORD),
    };
    let case = Case {
        guest,
        disk,
        password: right,
        another: wrong,
    };
    match phase {
        Phase::First | Phase::Nothing | Phase::Plan => {}
        Phase::Change => guest.write(PASSWORD_FILE, format!("{NEW_PASSWORD}\n"), 0o600)?,
        Phase::Drift => {
            guest.shell(EDIT)?;
            case.must_fail()?;
        }
    }
    let (output, ended) = match note {
        Note::Time => {
            let (output, taken) = stopwatch::measured(guest, command)?;
            (output, Ended::Taken(taken))
        }
        Note::Counts => {
            let (output, counted) = stopwatch::counted(guest, command)?;
            (output, Ended::Counted(counted))
        }
    };
    let mut faults = case.judge()?;
    if !contestant.good.contains(&output.status) {
        faults.push(format!("{output}"));
    }
    Ok(if faults.is_empty() {
        ended
    } else {
        Ended::Failed(faults)
    })
}
