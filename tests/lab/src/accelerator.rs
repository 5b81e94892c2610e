//! Whether QEMU can use the machine's processor, or has to emulate one.
//!
//! `/dev/kvm` opens on machines where no kernel boots under it (nested virtualisation that lacks a feature), so the
//! only answer worth having is a boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process::{Daemon, command, ok_with, until};
use crate::progress::say;
use crate::release::Release;
use crate::root::mirror;

/// What runs the instructions of QEMU's guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    /// QEMU's translator; ten times slower and the same everywhere.
    Tcg,
}

impl Accelerator {
    /// KVM if a kernel boots under it; the answer is kept until the machine is booted again. `kernel` is asked for only
    /// where there is no answer yet.
    pub fn probe(cache: &Cache, kernel: impl FnOnce() -> Result<PathBuf>) -> Result<Accelerator> {
        if fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Ok(Accelerator::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let answer = cache.artefact("accelerator", &boot, |into| {
            let name = if boots_under_kvm(&kernel()?)? {
                "kvm"
            } else {
                "tcg"
            };
            Ok(fs::write(into.join("name"), name)?)
        })?;
        Ok(if fs::read_to_string(answer.join("name"))? == "kvm" {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        })
    }

    /// QEMU's arguments for it.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            // One processor: more of them cost locking between translators, and the machine's are shared by all guests.
            Accelerator::Tcg => &[
                "-accel",
                "tcg,thread=multi,tb-size=512",
                "-cpu",
                "max",
                "-smp",
                "1",
            ],
        }
    }
}

/// Debian's kernel alone, for a lab that has no root to take one from.
pub(crate) fn kernel(cache: &Cache) -> Result<PathBuf> {
    let release = Release::Trixie.codename();
    let artefact = cache.artefact("kernel", release, |into| {
        let work = tempfile::tempdir_in(into)?;
        let tree = work.path().join("tree");
        let mut mmdebstrap = command([
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            "--include=linux-image-amd64",
            release,
        ]);
        mmdebstrap.arg(&tree);
        if let Some(mirror) = mirror()? {
            // A mirror that is a snapshot of some day is as good as today's.
            mmdebstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
            mmdebstrap.arg(format!("deb {mirror} {release} main"));
        }
        ok_with(mmdebstrap, b"", Duration::from_secs(600))?;
        let found = fs::read_dir(tree.join("boot"))?
            .filter_map(|entry| entry.ok())
            .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
            .context("no vmlinuz-* in the kernel's package")?;
        fs::copy(found.path(), into.join("vmlinuz"))?;
        Ok(())
    })?;
    Ok(artefact.join("vmlinuz"))
}

fn boots_under_kvm(kernel: &Path) -> Result<bool> {
    let log = tempfile::NamedTempFile::new()?;
    let mut qemu = command([
        "qemu-system-x86_64",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "512",
        "-nodefaults",
    ]);
    qemu.args([
        "-display",
        "none",
        "-vga",
        "none",
        "-no-reboot",
        "-append",
        "console=ttyS0 panic=-1",
        "-kernel",
    ]);
    qemu.arg(kernel)
        .arg("-serial")
        .arg(format!("file:{}", log.path().display()));
    qemu.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut daemon = Daemon::start(qemu)?;
    // A kernel without a root file system comes to this point and panics.
    let reached = until("a boot under KVM", Duration::from_secs(10), || {
        let ended = daemon.ended().is_some();
        let booted = fs::read_to_string(log.path())
            .is_ok_and(|text| text.contains("Unable to mount root fs"));
        Ok((ended || booted).then_some(booted))
    });
    let works = reached.unwrap_or(false);
    say(if works {
        "a kernel boots under KVM"
    } else {
        "no kernel boots under KVM here"
    });
    Ok(works)
}
