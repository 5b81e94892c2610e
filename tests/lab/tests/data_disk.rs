//! The data disk on container guests: what is refused, and a volume that grows under a share that is written to.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasagent_lab::foreign::{SIZE, TABLE};
use wasagent_lab::process::{command, ok};
use wasagent_lab::snapshot::{Snapshot, same};
use wasagent_lab::tier::{Role, apply, install_tier_file, with_disk_of, without_content};
use wasagent_lab::wasagent::{Apply, Plan};
use wasagent_lab::writer::Writer;
use wasagent_lab::{Disk, Guest, Lab, Release, Spec, agent, progress};

/// A guest with the agent, a disk of this size, and a tier file for it.
fn storage_guest(lab: &Lab, release: Release, size: u64, filesystem: &str) -> Result<Guest> {
    let binary = agent::build()?;
    let disk = Disk {
        serial: String::new(),
        size,
    };
    let guest = lab.container(&Spec::storage(release).disk(disk))?;
    guest.install_agent(&binary)?;
    let tier_file =
        with_disk_of(&guest, &without_content()).replace("\"xfs\"", &format!("{filesystem:?}"));
    install_tier_file(&guest, &tier_file)?;
    Ok(guest)
}

#[test]
fn a_disk_that_holds_anything_is_refused_on_bookworm() -> Result<()> {
    each_row_is_refused(Release::Bookworm)
}

#[test]
fn a_disk_that_holds_anything_is_refused_on_trixie() -> Result<()> {
    each_row_is_refused(Release::Trixie)
}

fn each_row_is_refused(release: Release) -> Result<()> {
    let lab = Lab::new()?;
    let guest = storage_guest(&lab, release, SIZE, "xfs")?;
    let device = guest.devices()[0].clone();
    let file = guest.disk_file(0);
    let checksum = || checksum(&device, &file);
    let before = Snapshot::take(&guest, Role::Storage)?;
    for row in TABLE {
        row.make(&device)?;
        let disk = checksum()?;
        let refused = Apply::on(&guest)
            .role(Role::Storage)
            .run()
            .context(row.what)?;
        let said = &refused.output;
        ensure!(said.status == 1, "{}: {said}", row.what);
        // In the agent's own words: mkfs has a net of its own, which is not what is tried here.
        let refusal = format!("disk:/mnt/data: {device} is not blank: it holds ");
        let sentence = said.stderr.lines().find(|line| line.contains(&refusal));
        let sentence = sentence.with_context(|| format!("{}: {said}", row.what))?;
        ensure!(
            sentence.to_lowercase().contains(&row.named.to_lowercase()),
            "{}: {:?} is not named: {said}",
            row.what,
            row.named
        );
        ensure!(checksum()? == disk, "{}: the disk was changed", row.what);
        progress::say(format!("{}: {}", row.what, sentence.trim()));
    }
    let after = Snapshot::take(&guest, Role::Storage)?;
    same("after all refusals", &before, &after, &[])?;
    progress::say(format!("{release}: {} rows refused", TABLE.len()));
    Ok(())
}

/// Of the whole disk, as it is below what the kernel keeps of it in memory.
fn checksum(device: &str, file: &Path) -> Result<String> {
    ok(command(["blockdev", "--flushbufs", device]))?;
    Ok(ok(command([OsStr::new("b2sum"), file.as_os_str()]))?.stdout)
}

#[test]
fn a_volume_grows_under_a_writing_client() -> Result<()> {
    // Not ext4: to grow that takes CAP_SYS_RESOURCE, which a machine that is a guest itself may not have.
    for release in Release::BOTH {
        grows_under_a_writing_client(release, "xfs")?;
    }
    Ok(())
}

fn grows_under_a_writing_client(release: Release, filesystem: &str) -> Result<()> {
    const SIZE: u64 = 4 << 30;
    let lab = Lab::new()?;
    let guest = storage_guest(&lab, release, SIZE, filesystem)?;
    apply(&guest, Role::Storage)?;
    let writer = Writer::start(&guest, &guest)?;
    guest.grow(0, 2 * SIZE)?;

    let plan = Plan::parse(guest.run(["wasagent", "plan", "--format", "json"])?)?;
    for words in ["4 GiB (4294967296 bytes)", "8 GiB (8589934592 bytes)"] {
        ensure!(plan.output.stdout.contains(words), "{}", plan.output);
    }
    // Room that is not used yet is no reason to take the share out of service.
    guest.ok(["wasagent", "health"])?;
    let grown = Apply::on(&guest).ok()?;
    let changed = grown.changed();
    ensure!(
        changed.len() == 1 && changed.contains("mount:/mnt/data"),
        "{changed:?}"
    );
    writer.goes_on(Duration::from_secs(30))?;
    let written = writer.end(&guest)?;

    let size: u64 = guest
        .answer(["stat", "-f", "-c", "%b %S", "/mnt/data"])?
        .split_whitespace()
        .map(str::parse::<u64>)
        .product::<Result<_, _>>()?;
    // The tables of ext4 and the log of xfs are no room for files.
    ensure!(size > 2 * SIZE - (256 << 20), "{filesystem}: {size} bytes");
    ensure!(guest.answer(["wasagent", "history"])?.contains("size"));
    guest.ok(["systemctl", "stop", "smbd"])?;
    let reverted = guest.ok(["wasagent", "revert"])?;
    ensure!(
        reverted.stdout.contains("it cannot shrink"),
        "what revert leaves is not told: {reverted}"
    );
    progress::say(format!(
        "{release}: {filesystem} grew to {size} bytes under {written} writes"
    ));
    Ok(())
}
