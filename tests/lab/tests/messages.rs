//! What an operator reads on a storage VM, or on one that is to be a WAS, when something on it is not as it should be:
//! what is wrong, and a way out that works when it is typed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasagent_lab::process::until;
use wasagent_lab::tier::{
    REPOSITORY, Role, TIER_FILE, install_repository, install_tier_file, tier_file, with_disk_of,
};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{
    Disk, Guest, Lab, Output, Release, Spec, agent, image, progress, sample_app, way_out,
};

#[test]
fn each_fault_comes_with_a_way_out_that_works() -> Result<()> {
    Release::BOTH.into_iter().try_for_each(|release| {
        let lab = Lab::new()?;
        let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
        guest.install_agent(&agent::build()?)?;
        install_tier_file(&guest, &tier_of(&guest))?;
        install_repository(&lab, &guest)?;
        what_stops_a_service(&guest)?;
        what_is_no_container(&guest)?;
        what_is_no_revision(&guest)?;
        what_another_user_is_told(&guest)?;
        a_run_is_seen_while_it_runs(&guest)
    })
}

fn tier_of(guest: &Guest) -> String {
    with_disk_of(guest, &tier_file()).replace("was-container-{index}", "was-container")
}

const CLONE: &str = "lab-clone.service";

/// What a WAS's unit does before it starts podman, on a VM of another name, and for longer than one start takes.
const CLONE_UNIT: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=all
RuntimeDirectory=wasagent-lab-clone
RuntimeDirectoryPreserve=restart
ExecStartPre=-/usr/bin/wasagent back-off --mount=/mnt --node=another lab-clone
ExecStartPre=/usr/bin/test ! -e /run/wasagent-lab-clone/waits
ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep infinity'
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
";

/// Only a container that has not run since the boot waits for the VM's name, for as long as it takes; then it starts by
/// itself. One that has run comes back under any name.
#[test]
fn a_copy_of_another_vm_waits_for_an_apply() -> Result<()> {
    Release::BOTH.into_iter().try_for_each(|release| {
        let lab = Lab::new()?;
        let guest = lab.container(&Spec::was(1, release))?;
        guest.install_agent(&agent::build()?)?;
        let waited = waits_for_its_name(&guest);
        waited.with_context(|| {
            guest
                .answer(["journalctl", "--no-pager", "--unit", CLONE])
                .unwrap_or_default()
        })
    })
}

fn waits_for_its_name(guest: &Guest) -> Result<()> {
    let shown = |property: &str| guest.answer(["systemctl", "show", "-P", property, CLONE]);
    let runs = |not: &str| {
        until("the unit to run", Duration::from_secs(60), || {
            let invocation = shown("InvocationID")?;
            let is_another = shown("ActiveState")? == "active" && invocation != not;
            Ok(is_another.then_some(invocation))
        })
    };
    let file = format!("/etc/systemd/system/{CLONE}");
    guest.write(&file, CLONE_UNIT, 0o644)?;
    // What nothing wants, systemd forgets once it is stopped.
    guest.ok(["systemctl", "enable", CLONE])?;
    guest.ok(["systemctl", "start", "--no-block", CLONE])?;
    until(
        "the unit to say why it waits",
        Duration::from_secs(60),
        || {
            let told = shown("StatusText")?;
            Ok(told.contains("set up on the VM another").then_some(()))
        },
    )?;
    progress::say(shown("StatusText")?);
    // No start goes on for ever, which would keep a boot from its end.
    until("a start to end", Duration::from_secs(60), || {
        Ok((shown("NRestarts")? != "0").then_some(()))
    })?;
    ensure!(shown("ActiveState")? == "activating");
    guest.ok(["hostname", "another.example"])?;
    let first = runs("")?;
    ensure!(!shown("StatusText")?.contains("another"));

    guest.ok(["hostname", "a-third"])?;
    guest.ok(["systemctl", "kill", "--signal=KILL", CLONE])?;
    let second = runs(&first)?;
    guest.ok(["systemctl", "stop", CLONE])?;
    guest.ok(["systemctl", "start", "--no-block", CLONE])?;
    runs(&second).map(drop)
}

/// Runs plan and apply of a role, which must be refused with these words.
fn refused(guest: &Guest, role: Role, words: &[&str]) -> Result<Output> {
    let refused = Apply::on(guest).role(role).run()?.output;
    says(&refused, 1, words)?;
    Ok(refused)
}

fn says(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    ensure!(output.status == status, "{output}");
    for word in words {
        ensure!(
            output.stderr.contains(word),
            "{word:?} is not said: {output}"
        );
    }
    progress::say(output.stderr.trim());
    Ok(())
}

/// The role is known from the first try on, and each command works.
fn what_stops_a_service(guest: &Guest) -> Result<()> {
    let unknown = guest.run(["wasagent", "health"])?;
    says(&unknown, 64, &["no role was applied"])?;

    guest.ok(["systemctl", "mask", "--now", "firewalld"])?;
    let masked = refused(guest, Role::Storage, &["a running firewalld", "masked"])?;
    let health = guest.run(["wasagent", "health"])?;
    ensure!(health.status == 3, "{health}");
    ensure!(health.stdout.contains("its unit is masked"), "{health}");
    says(&guest.run(["wasagent", "plan"])?, 1, &["masked"])?;
    way_out::take(guest, &masked)?;
    ensure!(guest.answer(["firewall-cmd", "--state"])? == "running");

    for how in [&["mask"][..], &["mask", "--runtime"]] {
        guest.ok([&["systemctl"], how, &["smbd"]].concat())?;
        let masked = refused(guest, Role::Storage, &["smbd.service is masked"])?;
        way_out::take(guest, &masked)?;
    }

    let conf = "/etc/samba/smb.conf";
    guest.ok(["mv", conf, "/srv/smb.conf"])?;
    guest.ok(["ln", "-s", "/srv/smb.conf", conf])?;
    let link = refused(guest, Role::Storage, &["a symbolic link", "/srv/smb.conf"])?;
    way_out::take(guest, &link)?;
    guest.ok(["rm", conf])?;
    let missing = refused(guest, Role::Storage, &["smb.conf is missing"])?;
    way_out::take(guest, &missing)?;
    guest.ok(["wasagent", "check"])?;
    let plan = guest.run(["wasagent", "plan"])?;
    ensure!(plan.status == 2, "the commands did not help: {plan}");
    Ok(())
}

fn what_is_no_container(guest: &Guest) -> Result<()> {
    let good = tier_of(guest);
    let archive = good.replace(image::NAME, "docker-archive:/srv");
    guest.write(TIER_FILE, archive, 0o644)?;
    refused(guest, Role::Was, &["/srv is a directory", "podman save"])?;
    guest.write(TIER_FILE, &good, 0o644)?;
    for unit in ["nodejs-server.service", "mnt-data-shared_folder.mount"] {
        guest.ok(["systemctl", "mask", unit])?;
        let masked = Apply::on(guest).role(Role::Was).run()?.output;
        says(&masked, 1, &[&format!("{unit} is masked")])?;
        way_out::take(guest, &masked)?;
        let free = guest.run(["wasagent", "plan", "--role", "was"])?;
        ensure!(!free.stderr.contains("masked"), "{free}");
    }
    Ok(())
}

fn what_is_no_revision(guest: &Guest) -> Result<()> {
    let good = tier_of(guest);
    let with = |from: &str, to: &str| -> Result<()> {
        ensure!(good.contains(from), "{from} is not in the tier file");
        guest.write(TIER_FILE, good.replace(from, to), 0o644)
    };
    let file = format!("HEAD:{}/server.js", sample_app::SUBDIR);
    guest.ok(["git", "-C", REPOSITORY, "tag", "a-file", &file])?;
    let rev = format!("rev    = {:?}", sample_app::BRANCH);
    with(&rev, "rev    = \"a-file\"")?;
    refused(guest, Role::Storage, &["\"a-file\" names a blob"])?;

    with(REPOSITORY, "git@192.168.2.99:x.git")?;
    guest.ok(["mv", "/usr/bin/ssh", "/usr/bin/ssh.away"])?;
    refused(
        guest,
        Role::Storage,
        &["lacks ssh", "apt-get install openssh-client"],
    )?;
    guest.ok(["mv", "/usr/bin/ssh.away", "/usr/bin/ssh"])?;

    let misspelt = sample_app::SUBDIR.replacen('l', "", 1);
    with(
        &format!("{:?}", sample_app::SUBDIR),
        &format!("{misspelt:?}"),
    )?;
    let nearest = format!("the nearest is {}", sample_app::SUBDIR);
    let failed = Apply::on(guest).role(Role::Storage).run()?.output;
    says(&failed, 1, &[&nearest])?;
    guest.write(TIER_FILE, &good, 0o644)
}

fn what_another_user_is_told(guest: &Guest) -> Result<()> {
    guest.ok(["chmod", "0600", TIER_FILE])?;
    let as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "wasagent",
        "check",
    ];
    says(
        &guest.run(as_nobody)?,
        78,
        &["permission denied", "as root"],
    )?;
    guest.ok(["chmod", "0644", TIER_FILE])?;
    says(&guest.run(as_nobody)?, 78, &["share.password", "as root"])?;
    guest.ok(["wasagent", "check"]).map(drop)
}

/// Also, which resources are unchanged is told to scripts.
fn a_run_is_seen_while_it_runs(guest: &Guest) -> Result<()> {
    let subdir = format!("subdir = {:?}", sample_app::SUBDIR);
    let slow = format!("{subdir}\nbuild  = [\"sleep\", \"5\"]");
    guest.write(TIER_FILE, tier_of(guest).replace(&subdir, &slow), 0o644)?;
    let shown = |format: &str| guest.answer(["wasagent", "history", "--format", format]);
    Apply::on(guest).ok_beside(&[], || {
        until("a run in the history", Duration::from_secs(60), || {
            let running = shown("json")?.contains("\"outcome\":null,\"running\":true");
            Ok(running.then_some(()))
        })?;
        let text = shown("text")?;
        ensure!(text.contains("--role storage  running"), "{text}");
        Ok(())
    })?;
    let text = shown("text")?;
    ensure!(!text.contains("running") && text.contains("done"), "{text}");
    let plan = guest.answer(["wasagent", "plan", "--all", "--format", "json"])?;
    let plan: serde_json::Value = serde_json::from_str(&plan)?;
    let listed = plan["unchanged_resources"].as_array();
    let listed = listed.map(|resources| resources.len() as u64);
    ensure!(
        listed.is_some() && listed == plan["unchanged"].as_u64(),
        "{plan}"
    );
    Ok(())
}
