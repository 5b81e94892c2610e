//! A VM made from an image of a WAS that serves, and a WAS that gets another name while it serves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wasagent_lab::process::until;
use wasagent_lab::progress::say;
use wasagent_lab::soak::stage::{Image, Stage};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Guest, Release, agent};

const APPLY: &str = "wasagent-apply.service";
const CONTAINER: &str = "nodejs-server.service";
/// How long a boot and an apply may take on a busy machine.
const BOOT: Duration = Duration::from_secs(600);

/// What an image of a VM goes through until another boots from it: the name and the address are the other's, the machine ID
/// is made at the boot.
const CLONE: &str = r#"
systemctl disable --quiet lab-boot.service
echo was-07 >/etc/hostname
sed -i 's,192.168.2.11/24,192.168.2.17/24,' /etc/systemd/network/20-service.network
: >/etc/machine-id
sync
"#;

#[test]
#[ignore = "three boots of a guest: run it by its name"]
fn a_clone_has_its_own_name() -> Result<()> {
    let stage = Stage::was(&agent::build()?, Release::Bookworm, Image::There)?;
    let was = &stage.guest;
    stage.apply(None)?;
    ensure!(host_name(was)? == "was-container-1");
    was.ok(["sh", "-eu", "-c", CLONE])?;
    was.reboot()?;
    nothing_runs_under_the_old_name(was)?;

    let unit = was.answer(["wasagent", "boot-unit"])?;
    let file = format!("/usr/lib/systemd/system/{APPLY}");
    was.write(&file, unit, 0o644)?;
    was.ok(["systemctl", "enable", APPLY])?;
    was.reboot()?;
    let begun = Instant::now();
    until("the clone to serve", BOOT, || {
        let served = was.run(["wasagent", "plan"])?.status == 0;
        Ok((served && host_name(was)? == "was-container-7").then_some(()))
    })?;
    say(format!(
        "the clone serves {:.0} s after it could be reached",
        begun.elapsed().as_secs_f64()
    ));
    let journal = was.answer(["journalctl", "--boot", "--unit", CONTAINER])?;
    say(journal);
    comes_back_under_another_name(was)
}

/// Until an apply has run.
fn nothing_runs_under_the_old_name(was: &Guest) -> Result<()> {
    until("the container's unit to wait", BOOT, || {
        let told = was.answer(["systemctl", "show", "-P", "StatusText", CONTAINER])?;
        Ok(told.contains("set up on the VM was-01").then_some(()))
    })?;
    ensure!(was.answer(["podman", "ps", "--quiet"])?.is_empty());
    let health = was.run(["wasagent", "health"])?;
    let told = "set up on the VM was-01 and waits on this one, was-07";
    ensure!(
        health.status == 3 && health.stdout.contains(told),
        "{health}"
    );
    say(format!("health of a clone: {}", health.stdout.trim_end()));
    Ok(())
}

/// Only a boot asks for the name: systemd restarts the container here as on any other VM.
fn comes_back_under_another_name(was: &Guest) -> Result<()> {
    let runs_anew = |not: &str| {
        until("the container to run", BOOT, || {
            let invocation = was.answer(["systemctl", "show", "-P", "InvocationID", CONTAINER])?;
            let state = was.answer(["systemctl", "show", "-P", "ActiveState", CONTAINER])?;
            Ok((state == "active" && invocation != not).then_some(invocation))
        })
    };
    was.ok(["hostname", "was-09"])?;
    let first = runs_anew("")?;
    was.ok(["podman", "kill", "nodejs-server"])?;
    let second = runs_anew(&first)?;
    was.ok(["systemctl", "stop", CONTAINER])?;
    was.ok(["systemctl", "start", "--no-block", CONTAINER])?;
    runs_anew(&second)?;
    ensure!(host_name(was)? == "was-container-7");
    Apply::on(was).ok()?;
    ensure!(host_name(was)? == "was-container-9");
    Ok(())
}

/// The container's.
fn host_name(was: &Guest) -> Result<String> {
    let format = "--format={{.Config.Hostname}}";
    was.answer(["podman", "inspect", format, "nodejs-server"])
}
