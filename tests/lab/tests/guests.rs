//! What the lab promises its tests: guests of both kinds and releases, their disks, links, reboots and power cuts.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wasagent_lab::{Disk, Guest, Lab, Release, Spec, progress};

const SERIAL: &str = "0123456789abcdef0123";

fn reaches(from: &Guest, to: &Guest) -> Result<bool> {
    let address = to.address().to_string();
    Ok(from
        .run(["ping", "-c", "1", "-W", "2", &address])?
        .success())
}

fn is_up(guest: &Guest) -> Result<()> {
    let state = guest.run(["systemctl", "is-system-running"])?;
    let failed = guest.answer(["systemctl", "--failed", "--no-legend", "--plain"])?;
    ensure!(
        state.stdout.trim() == "running",
        "{} is {} ({failed})",
        guest.name(),
        state.stdout.trim()
    );
    ensure!(guest.answer(["hostname"])? == guest.name());
    ensure!(guest.run(["systemctl", "is-active", "smbd"])?.stdout.trim() == "inactive");
    ensure!(guest.answer(["firewall-cmd", "--get-default-zone"])? == "public");
    progress::say(format!(
        "{} ({}) runs {}",
        guest.name(),
        guest.release(),
        guest.answer(["uname", "-r"])?
    ));
    Ok(())
}

fn takes_files(guest: &Guest) -> Result<()> {
    let odd = "/etc/wasagent/it's $odd";
    guest.write(odd, b"a\0b\n", 0o600)?;
    ensure!(guest.read(odd)? == b"a\0b\n");
    ensure!(guest.answer(["stat", "-c", "%a %U", odd])? == "600 root");
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    guest.copy_tree(&sources, "/srv/a tree")?;
    guest.ok(["test", "-s", "/srv/a tree/lib.rs"])?;
    ensure!(guest.run(["false"])?.status == 1);
    Ok(())
}

fn cutting_the_link_cuts(one: &Guest, other: &Guest) -> Result<()> {
    ensure!(
        reaches(one, other)?,
        "{} does not reach {}",
        one.name(),
        other.name()
    );
    other.cut_link()?;
    ensure!(
        !reaches(one, other)?,
        "{} reaches {} although it is cut off",
        one.name(),
        other.name()
    );
    other.restore_link()?;
    ensure!(
        reaches(one, other)?,
        "{} does not reach {} again",
        one.name(),
        other.name()
    );
    Ok(())
}

fn timed<T>(what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let done = step()?;
    progress::say(format!("{what}: {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(done)
}

#[test]
fn container_guests() -> Result<()> {
    let lab = Lab::new()?;
    let was = lab.container(&Spec::was(1, Release::Bookworm))?;
    let storage =
        lab.container(&Spec::storage(Release::Trixie).disk(Disk::of_the_guide(SERIAL)))?;
    for guest in [&was, &storage] {
        is_up(guest)?;
        takes_files(guest)?;
    }
    cutting_the_link_cuts(&was, &storage)?;

    let device = &storage.devices()[0];
    storage.ok(["mkfs.xfs", "-q", device])?;
    storage.ok(["mount", device, "/mnt"])?;
    storage.ok(["sh", "-c", "echo kept >/mnt/file && sync"])?;
    storage.grow(0, 120 << 30)?;
    storage.ok(["xfs_growfs", "/mnt"])?;
    timed("reboot of a container", || storage.reboot())?;
    is_up(&storage)?;
    ensure!(reaches(&was, &storage)?);
    storage.ok(["mount", device, "/mnt"])?;
    ensure!(storage.answer(["cat", "/mnt/file"])? == "kept");

    was.power_cut();
    was.power_on()?;
    timed("boot of a container after a power cut", || {
        was.wait_ready(Duration::from_secs(120))
    })?;
    is_up(&was)?;
    ensure!(reaches(&was, &storage)?);
    Ok(())
}

/// The tiers of `vm_guest` boot, cut off and reboot VMs in every run; this adds growing disks and power cuts, for
/// whoever changes the lab's VMs: `cargo test -p wasagent-lab --features guests --test guests -- --ignored`.
#[test]
#[ignore = "three minutes; the tiers cover most of it"]
fn vm_guests() -> Result<()> {
    let lab = Lab::new()?;
    let was = lab.vm(&Spec::was(1, Release::Bookworm))?;
    let storage = lab.vm(&Spec::storage(Release::Trixie).disk(Disk::of_the_guide(SERIAL)))?;
    for guest in [&was, &storage] {
        is_up(guest)?;
        takes_files(guest)?;
        guest.ok(["modprobe", "cifs"])?;
        let skew = guest
            .answer(["date", "+%s"])?
            .parse::<i64>()?
            .abs_diff(now());
        ensure!(skew < 30, "the clock of {} is {skew} s off", guest.name());
    }
    cutting_the_link_cuts(&was, &storage)?;

    let device = format!("/dev/disk/by-id/virtio-{SERIAL}");
    ensure!(
        storage
            .answer([
                "lsblk",
                "--noheadings",
                "--nodeps",
                "--output",
                "SIZE,SERIAL",
                &device
            ])?
            .contains(SERIAL)
    );
    storage.ok(["mkfs.xfs", "-q", &device])?;
    storage.ok(["mount", &device, "/mnt"])?;
    storage.ok(["sh", "-c", "echo kept >/mnt/file && sync"])?;
    storage.grow(0, 120 << 30)?;
    storage.ok(["xfs_growfs", "/mnt"])?;

    timed("reboot of a VM (trixie)", || storage.reboot())?;
    is_up(&storage)?;
    ensure!(reaches(&was, &storage)?);
    storage.grow(0, 130 << 30)?;
    storage.power_cut();
    storage.power_on()?;
    timed("cold boot of a VM after a power cut (trixie)", || {
        storage.wait_ready(Duration::from_secs(600))
    })?;
    is_up(&storage)?;
    ensure!(reaches(&was, &storage)?);
    storage.ok(["mount", &device, "/mnt"])?;
    ensure!(storage.answer(["cat", "/mnt/file"])? == "kept");
    Ok(())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|time| time.as_secs() as i64).unwrap_or_default()
}
