//! The programs that the lab needs on the machine it runs on, installed from Debian where they are missing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::{Output, ok, run_with};
use crate::progress::say;

/// Debian packages, each with a file that shows that it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("qemu-utils", "/usr/bin/qemu-img"),
    ("systemd-container", "/usr/bin/systemd-nspawn"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    (
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
    ("iproute2", "/usr/sbin/bridge"),
    ("openssh-client", "/usr/bin/ssh"),
    ("haproxy", "/usr/sbin/haproxy"),
    ("docker-registry", "/usr/bin/docker-registry"),
    ("skopeo", "/usr/bin/skopeo"),
    ("curl", "/usr/bin/curl"),
    ("npm", "/usr/bin/npm"),
    ("python3", "/usr/bin/python3"),
    ("python3-pip", "/usr/bin/pip3"),
    // The server and the client alone: mariadb-server makes a database of the machine's when it is installed.
    ("mariadb-server-core", "/usr/sbin/mariadbd"),
    ("mariadb-client-core", "/usr/bin/mariadb"),
    ("nftables", "/usr/sbin/nft"),
    ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
    ("xfsprogs", "/usr/sbin/mkfs.xfs"),
    // What a disk may hold that is not ours (foreign.rs).
    ("dosfstools", "/usr/sbin/mkfs.vfat"),
    ("exfatprogs", "/usr/sbin/mkfs.exfat"),
    ("ntfs-3g", "/usr/sbin/mkfs.ntfs"),
    ("btrfs-progs", "/usr/bin/btrfs"),
    ("squashfs-tools", "/usr/bin/mksquashfs"),
    ("lvm2", "/usr/sbin/pvcreate"),
    ("cryptsetup-bin", "/usr/sbin/cryptsetup"),
    ("fdisk", "/usr/sbin/sfdisk"),
    ("genisoimage", "/usr/bin/genisoimage"),
    ("mtools", "/usr/bin/mcopy"),
    ("mount", "/usr/sbin/losetup"),
    ("file", "/usr/bin/file"),
    ("strace", "/usr/bin/strace"),
    ("zstd", "/usr/bin/zstd"),
    // What builds the kernel of User-Mode Linux, of Debian's source package.
    ("gcc", "/usr/bin/gcc"),
    ("libc6-dev", "/usr/include/stdlib.h"),
    ("make", "/usr/bin/make"),
    ("flex", "/usr/bin/flex"),
    ("bison", "/usr/bin/bison"),
    ("bc", "/usr/bin/bc"),
    ("xz-utils", "/usr/bin/xz"),
    ("binutils", "/usr/bin/strip"),
];

const LIMIT: Duration = Duration::from_secs(900);

/// Installs what is missing; where that cannot be done, names it.
pub fn ensure() -> Result<()> {
    // apt takes away what the new does not go with, such as qemu-utils from backports when qemu-system-x86 comes from
    // the release: so look once more.
    for _ in 0..2 {
        let missing = missing();
        if missing.is_empty() {
            return Ok(());
        }
        add(&missing)?;
    }
    let missing = missing();
    if !missing.is_empty() {
        bail!(
            "these packages are not there after apt-get installed them: {}",
            missing.join(" ")
        );
    }
    Ok(())
}

fn add(missing: &[&str]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "the lab needs root on Debian and these packages: {}",
            missing.join(" ")
        );
    }
    say(format!("installing {}", missing.join(" ")));
    // Where no apt list has been fetched yet, the first attempt fails for want of a name, so fetch and try again.
    if attempt(missing)? || (update()? && attempt(missing)?) {
        return Ok(());
    }
    bail!(
        "apt-get could not install {}; install them by hand",
        missing.join(" ")
    )
}

fn missing() -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(name, _)| *name)
        .collect()
}

fn attempt(packages: &[&str]) -> Result<bool> {
    let plain = install(&[], packages)?;
    if plain.success() {
        return Ok(true);
    }
    // qemu-utils from backports breaks the release's own qemu-system-common, and apt does not go back by itself:
    // name the release's version, which is the one that fits the emulator.
    let ours = format!("qemu-utils/{}", codename()?);
    let mut with_downgrade: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| *name != "qemu-utils")
        .collect();
    with_downgrade.push(&ours);
    let second = install(&["--allow-downgrades"], &with_downgrade)?;
    if !second.success() {
        say(format!("apt-get: {second}"));
    }
    Ok(second.success())
}

fn install(options: &[&str], packages: &[&str]) -> Result<Output> {
    let mut command = apt();
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(options)
        .args(packages);
    // A server package starts its service when installed. The lab wants the program only: a runlevel of 1 makes
    // invoke-rc.d(8) refuse to start anything, also on a machine without systemd.
    command.env("RUNLEVEL", "1");
    run_with(command, b"", LIMIT)
}

fn update() -> Result<bool> {
    let mut command = apt();
    command.arg("update");
    Ok(run_with(command, b"", LIMIT)?.success())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // Somebody else may be installing: wait for the lock instead of failing.
    command
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The machine's own release, from os-release(5).
fn codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release")?;
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match found {
        Some(name) => Ok(name.trim_matches('"').to_owned()),
        None => bail!("/etc/os-release names no VERSION_CODENAME"),
    }
}

/// Removes nothing, changes nothing: the version line of QEMU, for reports.
pub fn qemu_version() -> Result<String> {
    let mut command = Command::new("qemu-system-x86_64");
    command.arg("--version");
    Ok(ok(command)?
        .stdout
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}
