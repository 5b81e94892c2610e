//! The data disk on VM guests, where it is really attached, enlarged, pulled out, missing at a boot, and put into
//! another VM: one life of one disk, each step of which begins where the last one ended.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Scope, Tally};
use crate::kind::Need;
use crate::process::until;
use crate::tier::{Role, install_tier_file, without_content};
use crate::wasagent::Apply;
use crate::writer::Writer;
use crate::{Disk, Guest, Lab, Release, Spec, agent, progress};

const SERIAL: &str = "5a0dd3f2c1b74e6a8f90";
const SIZE: u64 = 20 << 30;

/// How long what comes without a hand may take on an emulated processor.
const BY_ITSELF: Duration = Duration::from_secs(600);
/// How long a boot may take, which waits for no disk.
const BOOT: Duration = Duration::from_secs(900);

pub fn run(scope: &Scope) -> Result<()> {
    let mut tally = Tally::new("disk");
    for (_, release) in scope
        .guests()
        .into_iter()
        .filter(|(role, _)| *role == Role::Storage)
    {
        // One file system on each: they grow by different system calls.
        let filesystem = match release {
            Release::Bookworm => "xfs",
            _ => "ext4",
        };
        tally.point(&format!("{filesystem} on {release}"), || {
            the_life_of_a_disk(release, filesystem)
        });
    }
    tally.end()
}

fn the_life_of_a_disk(release: Release, filesystem: &str) -> Result<()> {
    let lab = Lab::new()?;
    let binary = agent::build()?;
    let tier_file = without_content().replace("\"xfs\"", &format!("{filesystem:?}"));
    let spec = Spec::storage(release).needs(&[Need::DiskSerial, Need::DiskGrowth]);
    let guest = lab.vm(&spec)?;
    guest.install_agent(&binary)?;
    install_tier_file(&guest, &tier_file)?;
    // An emulated processor with others beside it may need more than systemd's 90 s to boot firewalld.
    let patience = "[Service]\nTimeoutStartSec=15min\n";
    guest.write(
        "/etc/systemd/system/firewalld.service.d/lab.conf",
        patience,
        0o644,
    )?;
    guest.ok(["systemctl", "daemon-reload"])?;

    is_waited_for(&guest)?;
    guest.write("/mnt/data/shared_folder/kept", "a user's", 0o660)?;
    grows_under_a_writing_client(&lab, &guest, filesystem)?;
    goes_and_comes_back(&guest)?;
    is_missing_at_a_boot(&guest)?;
    is_used_on_another_vm(&lab, release, guest, &binary, &tier_file)
}

/// The volume arrives after apply has begun.
fn is_waited_for(guest: &Guest) -> Result<()> {
    let disk = Disk {
        serial: SERIAL.to_owned(),
        size: SIZE,
    };
    let applied = Apply::on(guest)
        .role(Role::Storage)
        .ok_beside(&["--timeout", "5m"], || {
            thread::sleep(Duration::from_secs(10));
            guest.plug(&disk)
        })?;
    ensure!(
        applied.changed().contains("disk:/mnt/data"),
        "{}",
        applied.output
    );
    Ok(())
}

fn grows_under_a_writing_client(lab: &Lab, guest: &Guest, filesystem: &str) -> Result<()> {
    let client = lab.container(&Spec::was(1, Release::Trixie))?;
    let writer = Writer::start(&client, guest)?;
    guest.grow(0, 2 * SIZE)?;
    until("the larger disk", BY_ITSELF, || {
        let size = guest.answer(["lsblk", "-bdno", "SIZE", &by_id()])?;
        Ok((size.trim() == (2 * SIZE).to_string()).then_some(()))
    })?;
    // Room that is not used yet is no reason to take the share out of service.
    let health = guest.run(["wasagent", "health"])?;
    ensure!(
        health.stdout.contains("/mnt/data is as the tier file says"),
        "{health}"
    );
    let changed = Apply::on(guest).ok()?.changed();
    ensure!(
        changed.iter().eq(["mount:/mnt/data"]),
        "{changed:?} were changed"
    );
    writer.goes_on(BY_ITSELF)?;
    let written = writer.end(guest)?;
    let size: u64 = guest
        .answer(["df", "--output=size", "-B1", "/mnt/data"])?
        .lines()
        .last()
        .context("df says nothing")?
        .trim()
        .parse()?;
    // The tables of ext4 and the log of xfs are no room for files.
    ensure!(size > 2 * SIZE / 100 * 95, "{filesystem}: {size} bytes");
    progress::say(format!("{filesystem}: {size} bytes under {written} writes"));
    Ok(())
}

fn by_id() -> String {
    format!("/dev/disk/by-id/virtio-{SERIAL}")
}

/// Pulled out of a running VM, and put in again under another name.
fn goes_and_comes_back(guest: &Guest) -> Result<()> {
    let disk = guest.detach(0)?;
    nothing_is_served(guest)?;
    guest.attach(disk)?;
    all_is_well_again(guest)
}

fn is_missing_at_a_boot(guest: &Guest) -> Result<()> {
    let _ = guest.run(["systemctl", "poweroff"]);
    guest.wait_ended(BOOT)?;
    guest.power_cut();
    let disk = guest.detach(0)?;
    guest.power_on()?;
    progress::timed("a boot without the disk", || guest.wait_ready(BOOT))?;
    nothing_is_served(guest)?;
    guest.attach(disk)?;
    all_is_well_again(guest)
}

/// Not the bare directory either; and health says why.
fn nothing_is_served(guest: &Guest) -> Result<()> {
    until("Samba's end", BY_ITSELF, || {
        let state = guest.run(["systemctl", "is-active", "smbd"])?;
        Ok(["inactive", "failed"]
            .contains(&state.stdout.trim())
            .then_some(()))
    })?;
    let mounted = guest.run(["findmnt", "/mnt/data"])?;
    ensure!(!mounted.success(), "still mounted: {mounted}");
    let health = guest.run(["wasagent", "health"])?;
    ensure!(
        health.status == 3
            && health.stdout.contains("the data disk of /mnt/data")
            && health.stdout.contains("is missing"),
        "{health}"
    );
    Ok(())
}

fn all_is_well_again(guest: &Guest) -> Result<()> {
    let took = progress::timed("a disk that came back", || {
        until("health", BY_ITSELF, || {
            Ok(guest.run(["wasagent", "health"])?.success().then_some(()))
        })
    });
    took.with_context(|| {
        let states =
            "wasagent health; systemctl --failed; systemctl status --no-pager mnt-data.mount smbd";
        let states = guest.run(["sh", "-c", states]);
        states.map_or_else(|error| error.to_string(), |states| states.stdout)
    })?;
    ensure!(guest.answer(["cat", "/mnt/data/shared_folder/kept"])? == "a user's");
    let plan = guest.run(["wasagent", "plan"])?;
    ensure!(plan.status == 0, "{plan}");
    Ok(())
}

/// A fresh VM with two blank disks does not guess; with ours beside them it uses ours, and they stay blank.
fn is_used_on_another_vm(
    lab: &Lab,
    release: Release,
    guest: Guest,
    binary: &Path,
    tier_file: &str,
) -> Result<()> {
    let sums = "cd /mnt/data/shared_folder && find . -type f | sort | xargs sha256sum";
    let before = guest.answer(["sh", "-c", sums])?;
    let disk = guest.detach(0)?;
    guest.power_cut();
    drop(guest);

    let blank = ["00000000000000000001", "00000000000000000002"];
    let mut spec =
        Spec::new("was-storage-new", release, [192, 168, 2, 13].into()).needs(&[Need::DiskSerial]);
    for serial in blank {
        spec = spec.disk(Disk {
            serial: serial.to_owned(),
            size: SIZE,
        });
    }
    let other = lab.vm(&spec)?;
    other.install_agent(binary)?;
    install_tier_file(&other, tier_file)?;
    let refused = Apply::on(&other).role(Role::Storage).run()?.output;
    ensure!(
        refused.status == 1 && blank.iter().all(|serial| refused.stderr.contains(serial)),
        "{refused}"
    );

    other.attach(disk)?;
    until("the disk", BY_ITSELF, || {
        let seen = other.run(["test", "-b", &by_id()])?;
        Ok(seen.success().then_some(()))
    })?;
    let applied = Apply::on(&other)
        .role(Role::Storage)
        .ok_beside(&["--timeout", "2m"], || Ok(()))?;
    ensure!(
        !applied.changed().contains("disk:/mnt/data"),
        "{}",
        applied.output
    );
    ensure!(other.answer(["sh", "-c", sums])? == before);
    for index in 0..blank.len() {
        let written = std::fs::metadata(other.disk_file(index))?.blocks();
        ensure!(written == 0, "blank disk {index} was written to");
    }
    Ok(())
}
