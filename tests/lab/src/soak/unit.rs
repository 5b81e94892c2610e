//! The boot's unit: each role is applied within its sandbox, where SELinux enforces too, and what was set up comes back at
//! a boot after the agent's package was removed.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::stage::{Image, Machine, Stage};
use super::{Scope, Tally};
use crate::balancer::http_get;
use crate::guest::Guest;
use crate::progress::say;
use crate::release::Release;
use crate::selinux::{Denials, denials, nothing_is_denied, semanage_by_hand};
use crate::tier::{Role, SHARE_PASSWORD};
use crate::{agent, confinement, smb};

const UNIT: &str = "wasagent-apply.service";
const UNIT_FILE: &str = "/etc/systemd/system/wasagent-apply.service";
const RECORD: &str = "/var/lib/wasagent/record.json";

/// How long the application may take to start on an emulated processor.
const SERVED: Duration = Duration::from_secs(300);

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("unit");
    for role in [Role::Was, Role::Storage] {
        for release in [
            Release::Bookworm,
            Release::Trixie,
            Release::BookwormSelinux,
            Release::TrixieSelinux,
        ] {
            if scope.role.is_none_or(|only| only == role)
                && scope.release.is_none_or(|only| only == release)
            {
                tally.point(&format!("{role} on {release}"), || {
                    applied_by_the_unit(&agent, role, release)
                });
            }
        }
    }
    tally.end()
}

fn applied_by_the_unit(agent: &Path, role: Role, release: Release) -> Result<()> {
    let stage = match role {
        Role::Storage => Stage::storage(agent, Machine::Vm, release)?,
        Role::Was => Stage::was(agent, release, Image::There)?,
    };
    let guest = &stage.guest;
    installed(guest, role, release)?;
    let denied = denied_before(guest, role, release)?;
    let started = guest.run(["systemctl", "start", UNIT])?;
    ensure!(
        started.success(),
        "{started}\n{}",
        guest.answer(["journalctl", "--no-pager", "-u", UNIT])?
    );
    say(format!(
        "{release}: {role} by the unit: {:.1} s",
        started.took.as_secs_f64()
    ));
    if role == Role::Storage {
        // On the stage, the WAS's application answers before it is asked, which health takes for a fault.
        guest.ok(["wasagent", "health"])?;
    }
    stage.serves()?;
    if let Some(before) = &denied {
        nothing_is_denied(guest, before, "an apply by the unit")?;
    }
    // What an erase of the package does, without its words.
    guest.ok(["systemctl", "disable", UNIT])?;
    guest.ok(["rm", "/usr/bin/wasagent", UNIT_FILE])?;
    guest.reboot()?;
    stage.serves()
}

/// The unit as a package brings it, and the role as the first apply records it.
fn installed(guest: &Guest, role: Role, release: Release) -> Result<()> {
    let unit = agent::checkout().join("systemd").join(UNIT);
    guest.write(UNIT_FILE, std::fs::read(unit)?, 0o644)?;
    guest.ok(["mkdir", "--mode=0700", "--parents", "/var/lib/wasagent"])?;
    let record = format!(r#"{{"version":1,"role":"{role}","succeeded":false}}"#);
    guest.write(RECORD, record, 0o600)?;
    if release.enforces() {
        // As rpm and dpkg label what they install.
        let paths = [UNIT_FILE, "/usr/bin/wasagent", "/var/lib/wasagent"];
        guest.ok([&["restorecon", "-R", "-F"][..], &paths].concat())?;
    }
    guest.ok(["systemctl", "daemon-reload"])?;
    guest.ok(["systemctl", "enable", UNIT]).map(drop)
}

fn denied_before(guest: &Guest, role: Role, release: Release) -> Result<Option<Denials>> {
    if !release.enforces() {
        return Ok(None);
    }
    ensure!(guest.answer(["getenforce"])? == "Enforcing");
    if role == Role::Storage {
        semanage_by_hand(guest)?;
    }
    denials(guest).map(Some)
}

impl Stage {
    fn serves(&self) -> Result<()> {
        match self.role {
            Role::Storage => {
                let kind = ["findmnt", "-no", "FSTYPE", "/mnt/data"];
                ensure!(self.guest.answer(kind)? == "xfs");
                let login = ("user1", SHARE_PASSWORD);
                let listing = smb::client(&self.guest, "user1", login, "ls")?;
                ensure!(listing.stdout.contains("server.js"), "{listing}");
                Ok(())
            }
            Role::Was => {
                self.container_answers()?;
                let kind = ["findmnt", "-no", "FSTYPE", "/mnt/data/shared_folder"];
                ensure!(self.guest.answer(kind)? == "cifs");
                confinement::is_confined(&self.guest)
            }
        }
    }

    fn container_answers(&self) -> Result<()> {
        let url = format!("http://{}:5000/", self.guest.address());
        let begun = Instant::now();
        loop {
            let answer = http_get(self.lab.network().name(), &url, Duration::from_secs(20));
            match answer {
                Ok((204, _)) => return Ok(()),
                _ if begun.elapsed() < SERVED => thread::sleep(Duration::from_secs(1)),
                other => bail!(
                    "{url}: {other:?}\n{}",
                    self.guest.answer([
                        "journalctl",
                        "--no-pager",
                        "-b",
                        "-u",
                        "nodejs-server*"
                    ])?
                ),
            }
        }
    }
}
