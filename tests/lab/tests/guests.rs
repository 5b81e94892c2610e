//! What the lab promises its tests: guests of both kinds and releases, their disks, links, reboots and power cuts.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wasagent_lab::kind::Need;
use wasagent_lab::process::until;
use wasagent_lab::{Disk, Guest, Lab, Release, Spec, progress};

/// How long a boot may take on a busy machine.
const BOOT: Duration = Duration::from_secs(600);
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

/// What each kind of guest with a kernel of its own must do, whichever the lab takes here.
fn does_what_tests_ask_of_it(was: &Guest, storage: &Guest) -> Result<()> {
    for guest in [was, storage] {
        is_up(guest)?;
        takes_files(guest)?;
        // A module of the distribution's kernel, and built into the other.
        let cifs = "grep -qw cifs /proc/filesystems || modprobe cifs";
        guest.ok(["sh", "-c", cifs])?;
        let skew = guest
            .answer(["date", "+%s"])?
            .parse::<i64>()?
            .abs_diff(now());
        ensure!(skew < 30, "the clock of {} is {skew} s off", guest.name());
    }
    cutting_the_link_cuts(was, storage)?;

    let device = storage.device(0)?;
    storage.ok(["mkfs.xfs", "-q", &device])?;
    storage.ok(["mount", &device, "/mnt"])?;
    storage.ok(["sh", "-c", "echo kept >/mnt/file && sync"])?;
    timed("a reboot", || storage.reboot())?;
    is_up(storage)?;
    ensure!(reaches(was, storage)?);

    // What nobody has synced is gone with the power, and what somebody has stays.
    storage.ok(["mount", &device, "/mnt"])?;
    storage.ok(["sh", "-c", "echo lost >/mnt/lost"])?;
    storage.power_cut();
    ensure!(!reaches(was, storage)?, "{} has no power", storage.name());
    storage.power_on()?;
    timed("a boot after a power cut", || storage.wait_ready(BOOT))?;
    is_up(storage)?;
    ensure!(reaches(was, storage)?);
    storage.ok(["mount", &device, "/mnt"])?;
    ensure!(storage.answer(["cat", "/mnt/file"])? == "kept");
    ensure!(!storage.run(["test", "-s", "/mnt/lost"])?.success());

    // A volume is attached, taken out and put back while the guest runs.
    let second = Disk {
        serial: "0123456789abcdef0124".to_owned(),
        size: 1 << 30,
    };
    storage.plug(&second)?;
    let device = storage.device(1)?;
    appears(storage, &device)?;
    storage.ok(["sh", "-c", &format!("echo ours >{device}")])?;
    let taken = storage.detach(1)?;
    until("the end of the disk", Duration::from_secs(60), || {
        let there = storage.run(["test", "-b", &device])?;
        Ok((!there.success()).then_some(()))
    })?;
    storage.attach(taken)?;
    let device = storage.device(1)?;
    appears(storage, &device)?;
    ensure!(storage.answer(["head", "-c4", &device])? == "ours");
    Ok(())
}

fn appears(guest: &Guest, device: &str) -> Result<()> {
    until("the disk", Duration::from_secs(60), || {
        Ok(guest.run(["test", "-b", device])?.success().then_some(()))
    })
}

#[test]
fn guests_with_a_kernel_of_their_own() -> Result<()> {
    let lab = Lab::new()?;
    for [was, storage] in [
        [Release::Bookworm, Release::Trixie],
        [Release::Trixie, Release::Bookworm],
    ] {
        let was = Spec::was(1, was);
        let storage = Spec::storage(storage).disk(Disk::of_the_guide(SERIAL));
        let [was, storage] = lab.vms([&was, &storage])?;
        does_what_tests_ask_of_it(&was, &storage)?;
    }
    Ok(())
}

/// The same on QEMU, and what only it has, for whoever changes the lab's VMs:
/// `cargo test -p wasagent-lab --features guests --test guests -- --ignored`.
#[test]
#[ignore = "minutes; the tests on the distribution's kernels cover most of it"]
fn guests_of_qemu() -> Result<()> {
    let lab = Lab::new()?;
    let was = Spec::was(1, Release::Bookworm).needs(&[Need::DistributionKernel]);
    let storage = Spec::storage(Release::Trixie)
        .disk(Disk::of_the_guide(SERIAL))
        .needs(&[Need::DiskSerial, Need::DiskGrowth]);
    let [was, storage] = lab.vms([&was, &storage])?;
    let device = storage.device(0)?;
    let seen = storage.answer([
        "lsblk",
        "--noheadings",
        "--nodeps",
        "--output=SERIAL",
        &device,
    ])?;
    ensure!(seen == SERIAL, "{seen}");
    does_what_tests_ask_of_it(&was, &storage)?;
    storage.grow(0, 120 << 30)?;
    storage.ok(["xfs_growfs", "/mnt"]).map(drop)
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|time| time.as_secs() as i64).unwrap_or_default()
}
