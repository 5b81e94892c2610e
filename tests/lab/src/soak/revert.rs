//! Apply and revert, on guests of both releases and both roles: the guest is as it was, but for what [`STAYS`] lists.
//!
//! Four courses: on a fresh guest; on one where an operator had done some of it before, to the byte, mode, owner and time;
//! with files that somebody changes after the apply; and with an apply that fails and rolls itself back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stage::{Image, Machine, Stage};
use super::{Scope, Tally};
use crate::agent;
use crate::guest::Guest;
use crate::progress::say;
use crate::release::Release;
use crate::snapshot::{Except, Snapshot, same};
use crate::tier::{Role, SHARE_PASSWORD_FILE};
use crate::wasagent::Apply;

/// For a program of the operator's.
const LIMIT: Duration = Duration::from_secs(60);

/// What differs after apply and revert, on purpose; the documentation has the same list.
pub const STAYS: &[Except] = &[
    Except::new(
        "path /var/lib/wasagent*",
        "the history, and the application's repository",
    ),
    Except::new("time of path /etc/passwd", REWRITTEN),
    Except::new("time of path /etc/group", REWRITTEN),
    Except::new("time of path /etc/shadow", REWRITTEN),
    Except::new("time of path /etc/gshadow", REWRITTEN),
    Except::new("path /etc/passwd-", COPY),
    Except::new("path /etc/group-", COPY),
    Except::new("path /etc/shadow-", COPY),
    Except::new("path /etc/gshadow-", COPY),
    Except::new("time of path /etc/passwd-", COPY),
    Except::new("time of path /etc/group-", COPY),
    Except::new("time of path /etc/shadow-", COPY),
    Except::new("time of path /etc/gshadow-", COPY),
    Except::new("path /etc/cni/net.d/cni.lock", NETWORKS),
    Except::new("path /etc/containers/networks*", NETWORKS),
];

const NETWORKS: &str = "podman keeps its networks there from its first container on";
const REWRITTEN: &str = "userdel(8) writes it anew when it removes the account";
pub const COPY: &str =
    "what made and removed the account keeps a copy of the file before its last change";

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("revert");
    for (role, release) in scope.guests() {
        let mut stage = None;
        for course in &COURSES {
            let name = format!("{role} on {release}, {}", course.name);
            if !scope.means(&name) {
                continue;
            }
            let held = tally.point(&name, || {
                if stage.is_none() {
                    stage = Some(new_stage(&agent, role, release)?);
                }
                stage.as_ref().map_or(Ok(()), course.run)
            });
            if !held {
                stage = None;
            }
        }
    }
    tally.end()
}

fn new_stage(agent: &Path, role: Role, release: Release) -> Result<Stage> {
    match role {
        Role::Storage => Stage::storage(agent, Machine::Container, release),
        Role::Was => Stage::was(agent, release, Image::There),
    }
}

/// What happens around an apply and its revert.
struct Course {
    name: &'static str,
    run: fn(&Stage) -> Result<()>,
}

/// Each leaves the guest as it found it, but for the last.
const COURSES: [Course; 4] = [
    Course {
        name: "a fresh guest",
        run: fresh,
    },
    Course {
        name: "changed by hand since",
        run: changed_by_hand,
    },
    Course {
        name: "rolled back",
        run: rolled_back,
    },
    Course {
        name: "an operator's own before",
        run: operators_own,
    },
];

fn fresh(stage: &Stage) -> Result<()> {
    apply_and_revert(stage)?;
    // The role is forgotten, and there is nothing more to undo.
    let plan = stage.guest.run(["wasagent", "plan"])?;
    ensure!(
        ![0, 2].contains(&plan.status),
        "the role outlives the revert: {plan}"
    );
    let before = now(stage)?;
    stage.revert()?;
    same("a second revert", &before, &now(stage)?, STAYS)
}

/// Applies, reverts, and holds the guest against what it was.
fn apply_and_revert(stage: &Stage) -> Result<()> {
    let before = now(stage)?;
    stage.apply(None)?;
    let reverted = stage.revert()?;
    let after = now(stage)?;
    let stays: Vec<String> = before
        .differences(&after)
        .iter()
        .map(ToString::to_string)
        .collect();
    say(format!("stays: {stays:#?}"));
    same("after revert", &before, &after, STAYS).with_context(|| reverted.to_string())?;
    stage.blank()
}

/// Files that the agent wrote or changed, and what else stays if they do.
struct ByHand {
    files: &'static [&'static str],
    with_them: &'static [Except],
}

fn by_hand(stage: &Stage) -> Result<ByHand> {
    const KEPT: &str = "the changed file is kept";
    const STORAGE: [Except; 4] = [
        Except::new("path /etc/samba/wasagent.conf", KEPT),
        Except::new("text /etc/samba/wasagent.conf", KEPT),
        Except::new("path /etc/samba/smb.conf", KEPT),
        Except::new("time of path /etc/samba/smb.conf", KEPT),
    ];
    const QUADLET: [Except; 4] = [
        Except::new("path /etc/containers/systemd*", KEPT),
        Except::new("text /etc/containers/systemd*", KEPT),
        Except::new(
            "unit-file nodejs-server.service",
            "the unit of the kept file",
        ),
        Except::new("unit nodejs-server.service", "the unit of the kept file"),
    ];
    const SERVICE: [Except; 4] = [
        Except::new("path /etc/systemd/system/nodejs-server.service", KEPT),
        Except::new("text /etc/systemd/system/nodejs-server.service", KEPT),
        Except::new(
            "unit-file nodejs-server.service",
            "the unit of the kept file",
        ),
        Except::new("unit nodejs-server.service", "the unit of the kept file"),
    ];
    let quadlet = "/etc/containers/systemd/nodejs-server.container";
    Ok(match stage.role {
        Role::Storage => ByHand {
            files: &["/etc/samba/wasagent.conf", "/etc/samba/smb.conf"],
            with_them: &STORAGE,
        },
        Role::Was if stage.guest.run(["test", "-e", quadlet])?.success() => ByHand {
            files: &["/etc/containers/systemd/nodejs-server.container"],
            with_them: &QUADLET,
        },
        Role::Was => ByHand {
            files: &["/etc/systemd/system/nodejs-server.service"],
            with_them: &SERVICE,
        },
    })
}

fn changed_by_hand(stage: &Stage) -> Result<()> {
    let guest = &stage.guest;
    guest.ok(["cp", "-a", "/etc/samba", "/root/samba-before"])?;
    let before = now(stage)?;
    stage.apply(None)?;
    let by_hand = by_hand(stage)?;
    let mut texts = Vec::new();
    for file in by_hand.files {
        let mut text = guest.read(file)?;
        text.extend(b"# by hand\n");
        // In place, as an editor may do: owner and mode stay.
        let written = guest.run_with(["tee", file], &text, LIMIT)?;
        ensure!(written.success(), "{written}");
        texts.push((file, text));
    }
    let reverted = stage.revert()?;
    for (file, text) in &texts {
        ensure!(
            guest.read(file)? == *text,
            "{file} was reverted over: {reverted}"
        );
        ensure!(
            reverted.stdout.contains(**file) || reverted.stderr.contains(**file),
            "a kept {file} is not reported: {reverted}"
        );
    }
    let except: Vec<Except> = STAYS.iter().chain(by_hand.with_them).copied().collect();
    same("after revert", &before, &now(stage)?, &except).with_context(|| reverted.to_string())?;

    for file in by_hand.files {
        guest.ok(["rm", file])?;
    }
    guest.ok(["cp", "-a", "/root/samba-before/.", "/etc/samba"])?;
    guest.ok(["systemctl", "daemon-reload"])?;
    stage.blank()
}

/// An apply that fails for a real reason, late, with `--rollback-on-failure`.
fn rolled_back(stage: &Stage) -> Result<()> {
    let guest = &stage.guest;
    const DROP_IN: &str = "/etc/systemd/system/smbd.service.d/operator.conf";
    match stage.role {
        Role::Storage => {
            guest.write(DROP_IN, "[Service]\nExecStartPre=/bin/false\n", 0o644)?;
            guest.ok(["systemctl", "daemon-reload"])?;
        }
        Role::Was => {
            guest.ok(["cp", "-a", SHARE_PASSWORD_FILE, "/root/password-before"])?;
            guest.write(SHARE_PASSWORD_FILE, "not the password\n", 0o600)?;
        }
    }
    let before = now(stage)?;
    let applied = Apply::on(guest)
        .role(stage.role)
        .run_with(&["--rollback-on-failure"])?;
    ensure!(applied.output.status == 1, "{}", applied.output);
    ensure!(
        !applied.changed().is_empty(),
        "nothing was there to roll back: {}",
        applied.output
    );
    same("after the rollback", &before, &now(stage)?, STAYS)
        .with_context(|| applied.output.to_string())?;
    match stage.role {
        Role::Storage => {
            guest.ok(["rm", "-r", "/etc/systemd/system/smbd.service.d"])?;
            guest.ok(["systemctl", "daemon-reload"])?;
            guest.ok(["systemctl", "reset-failed"])?;
        }
        Role::Was => {
            guest.ok(["cp", "-a", "/root/password-before", SHARE_PASSWORD_FILE])?;
        }
    }
    stage.blank()
}

/// What an apply would do is partly there before: it stays, with its bytes, mode, owner and time.
fn operators_own(stage: &Stage) -> Result<()> {
    match stage.role {
        Role::Storage => storage_before(&stage.guest)?,
        Role::Was => was_before(&stage.guest)?,
    }
    apply_and_revert(stage)
}

fn storage_before(guest: &Guest) -> Result<()> {
    let rule = r#"--add-rich-rule=rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept"#;
    guest.ok([
        "useradd",
        "--system",
        "--shell",
        "/usr/sbin/nologin",
        "user1",
    ])?;
    // Another password, which apply changes and revert brings back.
    let password = b"operator\noperator\n";
    let added = guest.run_with(["smbpasswd", "-a", "-s", "user1"], password, LIMIT)?;
    ensure!(added.success(), "{added}");
    guest.ok([
        "sh",
        "-c",
        "printf '\n[operator]\n\tpath = /srv\n' >>/etc/samba/smb.conf && chown root:adm /etc/samba/smb.conf \
         && chmod 640 /etc/samba/smb.conf && touch --date=2001-02-03 /etc/samba/smb.conf && mkdir -m 711 /mnt/data",
    ])?;
    guest.ok(["firewall-cmd", rule])?;
    guest.ok(["firewall-cmd", "--permanent", rule])?;
    guest.ok(["systemctl", "enable", "--now", "smbd"]).map(drop)
}

fn was_before(guest: &Guest) -> Result<()> {
    let credentials = "/etc/wasagent/share.cred";
    guest.write(credentials, "username=operator\npassword=own\n", 0o640)?;
    guest.ok(["touch", "--date=2001-02-03", credentials])?;
    guest.ok(["mkdir", "-p", "-m", "711", "/mnt/data/shared_folder"])?;
    for settings in [
        &["firewall-cmd"] as &[&str],
        &["firewall-cmd", "--permanent"],
    ] {
        let mut words = settings.to_vec();
        words.push("--add-port=5000/tcp");
        guest.ok(words)?;
    }
    Ok(())
}

fn now(stage: &Stage) -> Result<Snapshot> {
    Snapshot::take(&stage.guest, stage.role)
}
