//! The storage role, and all that needs no kernel of the guest's own, on container guests of both releases.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use wasagent_lab::process::until;
use wasagent_lab::tier::{
    Role, SHARE_PASSWORD, SHARE_PASSWORD_FILE, TIER_FILE, apply, install_repository,
    install_tier_file, tier_file, with_disk_of,
};
use wasagent_lab::wasagent::{Apply, Plan};
use wasagent_lab::{Disk, Guest, Lab, Output, Release, Spec, agent, progress, smb, trace};

/// A storage guest with the agent, the tier file, the repository and a blank disk; nothing is applied yet.
fn storage_guest(lab: &Lab, release: Release) -> Result<Guest> {
    let binary = agent::build()?;
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    guest.install_agent(&binary)?;
    install_tier_file(&guest, &tier_file_of(&guest))?;
    install_repository(lab, &guest)?;
    Ok(guest)
}

fn tier_file_of(guest: &Guest) -> String {
    with_disk_of(guest, &tier_file())
}

/// What of the guest an apply could have touched, as one text.
fn state(guest: &Guest) -> Result<String> {
    guest.answer([
        "sh",
        "-c",
        "find /etc /mnt /var/lib/wasagent /var/lib/samba -xdev -type f 2>/dev/null | sort | xargs -r sha256sum;\
         findmnt --noheadings --output TARGET,SOURCE; systemctl list-unit-files --state=enabled --no-legend;\
         systemctl list-units --state=active --plain --no-legend --type=service,mount | cut -d' ' -f1 | sort;\
         firewall-cmd --list-all; firewall-cmd --permanent --list-all; cat /etc/passwd",
    ])
}

/// Fails with the lines that differ.
fn unchanged(by: &str, before: &str, after: &str) -> Result<()> {
    let lines = |text: &str| {
        text.lines()
            .map(str::to_owned)
            .collect::<BTreeSet<String>>()
    };
    let (before, after) = (lines(before), lines(after));
    let differing: Vec<&String> = before.symmetric_difference(&after).collect();
    ensure!(
        differing.is_empty(),
        "{by} changed the guest: {differing:#?}"
    );
    Ok(())
}

/// Lists the share as a client with this password sees it.
fn smb_client(guest: &Guest, password: &str) -> Result<Output> {
    smb::client(guest, "user1", ("user1", password), "ls")
}

#[test]
fn storage_on_bookworm() -> Result<()> {
    storage_role(Release::Bookworm)
}

#[test]
fn storage_on_trixie() -> Result<()> {
    storage_role(Release::Trixie)
}

fn storage_role(release: Release) -> Result<()> {
    let lab = Lab::new()?;
    let guest = storage_guest(&lab, release)?;

    // A plan touches nothing, and names every resource of a blank guest.
    let before = state(&guest)?;
    let plan = guest.run(["wasagent", "plan", "--role", "storage", "--format", "json"])?;
    ensure!(plan.status == 2, "plan of a blank guest: {plan}");
    let plan = Plan::parse(plan)?;
    let planned = plan.changes.unwrap_or_default();
    for resource in [
        "disk:/mnt/data",
        "mount:/mnt/data",
        "account:user1",
        "directory:/mnt/data/shared_folder",
        "content:/mnt/data/shared_folder",
        "samba-user:user1",
        "file:/etc/samba/wasagent.conf",
        "file:/etc/samba/smb.conf",
        "unit:smbd.service",
        "firewall:public",
    ] {
        ensure!(
            planned.contains(resource),
            "{resource} is not in {planned:?}"
        );
    }
    unchanged("plan", &before, &state(&guest)?)?;

    let applied = apply(&guest, Role::Storage)?;
    ensure!(
        !applied.output.stdout.contains(SHARE_PASSWORD)
            && !plan.output.stdout.contains(SHARE_PASSWORD)
    );

    // What a user of the share would notice.
    ensure!(guest.answer(["findmnt", "-no", "FSTYPE", "/mnt/data"])? == "xfs");
    ensure!(
        guest.answer(["stat", "-c", "%U:%G %a", "/mnt/data/shared_folder"])? == "user1:user1 2770"
    );
    ensure!(
        guest
            .answer(["getent", "passwd", "user1"])?
            .ends_with("/usr/sbin/nologin")
    );
    let listing = smb_client(&guest, SHARE_PASSWORD)?;
    ensure!(
        listing.success() && listing.stdout.contains("server.js"),
        "{listing}"
    );
    smb::refused(&guest, "user1", ("user1", "another"))?;
    ensure!(
        guest.answer(["cat", "/mnt/data/shared_folder/server.js"])?
            == std::fs::read_to_string(agent::checkout().join("tests/lab/sample-app/server.js"))?
                .trim_end()
    );
    let rule = r#"rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept"#;
    let query = format!("--query-rich-rule={rule}");
    guest.ok(["firewall-cmd", &query])?;
    guest.ok(["firewall-cmd", "--permanent", &query])?;
    ensure!(guest.answer(["systemctl", "is-enabled", "smbd"])? == "enabled");
    ensure!(guest.answer(["systemctl", "is-enabled", "mnt-data.mount"])? == "enabled");
    guest.ok(["wasagent", "health"])?;

    nothing_is_changed_twice(&guest)?;
    what_drifts_is_mended(&guest)?;
    uploads_stay(&guest)?;
    what_is_no_longer_said_is_closed(&guest)?;
    Ok(())
}

/// An opening that an apply made and the tier file no longer says lets nobody in.
fn what_is_no_longer_said_is_closed(guest: &Guest) -> Result<()> {
    let query = |network: &str, how: &[&str]| -> Result<bool> {
        let rule = format!(
            r#"--query-rich-rule=rule family="ipv4" source address="{network}" port port="445" protocol="tcp" accept"#
        );
        Ok(guest
            .run([&["firewall-cmd"], how, &[rule.as_str()]].concat())?
            .success())
    };
    let moved = tier_file_of(guest).replace("192.168.2.0/24", "192.168.3.0/24");
    install_tier_file(guest, &moved)?;
    Apply::on(guest).ok()?;
    for how in [[].as_slice(), &["--permanent"]] {
        ensure!(query("192.168.3.0/24", how)?, "{how:?}: not opened");
        ensure!(!query("192.168.2.0/24", how)?, "{how:?}: still open");
    }
    Ok(())
}

fn nothing_is_changed_twice(guest: &Guest) -> Result<()> {
    let main_pid = || guest.answer(["systemctl", "show", "-P", "MainPID", "smbd"]);
    let (before, pid) = (state(guest)?, main_pid()?);
    let again = Apply::on(guest).ok()?;
    let summary = again.summary()?;
    ensure!(summary["changed"] == 0, "{summary}");
    ensure!(
        state(guest)? == before && main_pid()? == pid,
        "a second apply changed something"
    );
    let messages = trace::apply_that_does_nothing(guest)?;
    progress::say(format!(
        "{}: a second apply took {} ms, {} ms as a process; no helper program, nothing written, {messages} messages to D-Bus",
        guest.release(),
        summary["took_ms"],
        again.output.took.as_millis(),
    ));
    Ok(())
}

/// Every resource that can drift while the guest runs, how it is made to, and its address.
fn what_drifts_is_mended(guest: &Guest) -> Result<()> {
    let rule = r#"--remove-rich-rule=rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept"#;
    let drifts: &[(&[&str], &str)] = &[
        (&["umount", "--lazy", "/mnt/data"], "mount:/mnt/data"),
        (
            &["systemctl", "disable", "mnt-data.mount"],
            "mount:/mnt/data",
        ),
        (
            &["chmod", "777", "/mnt/data/shared_folder"],
            "directory:/mnt/data/shared_folder",
        ),
        (
            &["rm", "/mnt/data/shared_folder/server.js"],
            "content:/mnt/data/shared_folder",
        ),
        (&["pdbedit", "-x", "user1"], "samba-user:user1"),
        (
            &[
                "sed",
                "-i",
                "s/read only = no/read only = yes/",
                "/etc/samba/wasagent.conf",
            ],
            "file:/etc/samba/wasagent.conf",
        ),
        (
            &["sed", "-i", "/wasagent.conf/d", "/etc/samba/smb.conf"],
            "file:/etc/samba/smb.conf",
        ),
        (&["systemctl", "stop", "smbd"], "unit:smbd.service"),
        (&["firewall-cmd", rule], "firewall:public"),
        (&["firewall-cmd", "--permanent", rule], "firewall:public"),
    ];
    for &(drift, resource) in drifts {
        guest.ok(drift)?;
        if drift[0] == "umount" {
            // The bare directory is not served: Samba goes with the mount, once systemd has seen that.
            until("Samba's end", Duration::from_secs(20), || {
                let state = guest.run(["systemctl", "is-active", "smbd"])?;
                Ok((state.stdout.trim() == "inactive").then_some(()))
            })?;
        }
        let mended = Apply::on(guest).ok()?;
        ensure!(
            mended.changed().contains(resource),
            "after {drift:?}, {resource} is not mended: {}",
            mended.output
        );
    }
    // A server that reads its configuration again serves what it says.
    let listing = smb_client(guest, SHARE_PASSWORD)?;
    ensure!(
        listing.success() && listing.stdout.contains("server.js"),
        "{listing}"
    );
    Ok(())
}

fn uploads_stay(guest: &Guest) -> Result<()> {
    let root = "/mnt/data/shared_folder";
    guest.write(&format!("{root}/public/upload.txt"), "a user's", 0o660)?;
    guest.write(&format!("{root}/server.js"), "// by hand\n", 0o660)?;
    let applied = Apply::on(guest).ok()?;
    ensure!(
        applied
            .notes()
            .iter()
            .any(|note| note.contains("server.js was changed by somebody")),
        "{}",
        applied.output
    );
    ensure!(guest.answer(["cat", &format!("{root}/server.js")])? == "// by hand");
    ensure!(guest.answer(["cat", &format!("{root}/public/upload.txt")])? == "a user's");
    Ok(())
}

#[test]
fn what_the_guest_lacks_is_named_before_the_first_change() -> Result<()> {
    let lab = Lab::new()?;
    let guest = storage_guest(&lab, Release::Bookworm)?;
    let programs = ["/usr/sbin/mkfs.xfs", "/usr/bin/pdbedit", "/usr/bin/git"];
    for program in programs {
        guest.ok(["mv", program, &format!("{program}.away")])?;
    }
    guest.ok(["systemctl", "stop", "firewalld"])?;
    let before = state(&guest).unwrap_or_default();
    let lacking = Apply::on(&guest).role(Role::Storage).run()?.output;
    ensure!(lacking.status == 1, "{lacking}");
    for word in [
        "mkfs.xfs",
        "pdbedit",
        "a running firewalld",
        "apt-get install git samba xfsprogs",
        "systemctl enable --now firewalld",
    ] {
        ensure!(
            lacking.stderr.contains(word),
            "{word:?} is missing: {lacking}"
        );
    }
    unchanged(
        "a refused apply",
        &before,
        &state(&guest).unwrap_or_default(),
    )?;

    let named = tier_file_of(&guest).replace("was-container-{index}", "was-container");
    guest.write(TIER_FILE, named, 0o644)?;
    let before = state(&guest).unwrap_or_default();
    for program in ["/usr/bin/podman", "/usr/sbin/mount.cifs"] {
        guest.ok(["mv", program, &format!("{program}.away")])?;
    }
    let lacking = Apply::on(&guest).role(Role::Was).run()?.output;
    ensure!(lacking.status == 1, "{lacking}");
    for word in [
        "podman",
        "mount.cifs",
        "apt-get install cifs-utils podman &&",
    ] {
        ensure!(
            lacking.stderr.contains(word),
            "{word:?} is missing: {lacking}"
        );
    }
    unchanged(
        "a refused apply",
        &before,
        &state(&guest).unwrap_or_default(),
    )
}

/// A broken tier file: what is wrong with it, its bytes, its mode, and what the error has to say.
struct Broken {
    fault: &'static str,
    bytes: Vec<u8>,
    mode: u32,
    said: &'static [&'static str],
}

fn broken_tier_files() -> Vec<Broken> {
    let good = tier_file();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from:?} is not in the tier file");
        good.replacen(from, to, 1).into_bytes()
    };
    let broken = |fault, bytes, said| Broken {
        fault,
        bytes,
        mode: 0o644,
        said,
    };
    let line = format!("password_file = \"{SHARE_PASSWORD_FILE}\"");
    vec![
        broken(
            "misspelt key",
            with("password_file", "pasword_file"),
            &[":5:1:", "pasword_file", "password_file"],
        ),
        broken(
            "wrong type",
            with("[\"5000:3000\"]", "5000"),
            &["publish", "5000"],
        ),
        broken(
            "address that is none",
            with("192.168.2.13", "192.168.2.300"),
            &[":3:", "192.168.2.300"],
        ),
        broken(
            "missing secret file",
            with(SHARE_PASSWORD_FILE, "/etc/wasagent/nowhere"),
            &[":5:", "/etc/wasagent/nowhere"],
        ),
        broken(
            "world-readable file with a password",
            with(&line, "password = \"SeCrEt\""),
            &[":5:", "0600"],
        ),
        broken(
            "overlapping ports",
            with("[\"5000:3000\"]", "[\"5000:3000\", \"5000:3001\"]"),
            &["5000"],
        ),
        broken(
            "relative path",
            with(
                "path = \"/mnt/data/shared_folder\"",
                "path = \"shared_folder\"",
            ),
            &["shared_folder", "absolute"],
        ),
        broken(
            "empty name",
            with("name          = \"user1\"", "name          = \"\""),
            &[":2:", "empty"],
        ),
        broken(
            "unknown dialect",
            with("[was]\n", "[was]\nvers = \"2.1\"\n"),
            &["2.1", "3.1.1"],
        ),
        broken(
            "not UTF-8",
            [good.as_bytes(), b"# \xff\n"].concat(),
            &["UTF-8"],
        ),
    ]
}

#[test]
fn a_broken_tier_file_is_refused_with_its_place() -> Result<()> {
    let lab = Lab::new()?;
    let guest = storage_guest(&lab, Release::Bookworm)?;
    for broken in broken_tier_files() {
        guest.write(TIER_FILE, &broken.bytes, broken.mode)?;
        let before = state(&guest)?;
        for role in [Role::Storage, Role::Was] {
            let refused = Apply::on(&guest).role(role).run()?.output;
            let fault = broken.fault;
            ensure!(refused.status == 78, "{fault}: {refused}");
            ensure!(
                refused.stderr.contains("/etc/wasagent/tier.toml:"),
                "{fault}: no place: {refused}"
            );
            ensure!(
                !refused.stderr.contains("SeCrEt"),
                "{fault}: the password is shown: {refused}"
            );
            for word in broken.said {
                ensure!(
                    refused.stderr.contains(word),
                    "{fault}: {word:?} is not said: {refused}"
                );
            }
        }
        unchanged(broken.fault, &before, &state(&guest)?)?;
        progress::say(format!("{}: refused", broken.fault));
    }
    Ok(())
}

#[test]
fn an_apply_starts_no_shell_and_enters_no_nss() -> Result<()> {
    for release in Release::BOTH {
        let lab = Lab::new()?;
        let guest = storage_guest(&lab, release)?;
        let helpers = trace::apply_without_shell_or_nss(&guest, Role::Storage)?;
        ensure!(helpers.contains("/usr/sbin/mkfs.xfs") && helpers.contains("/usr/bin/pdbedit"));
    }
    Ok(())
}
