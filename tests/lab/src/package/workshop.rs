//! A root with the tools of both package formats: those of Debian 12, which has rpm and dnf as well. The compiler is the
//! machine's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::process::{Output, command, ok, ok_with, run_with};
use crate::root::mirror;

const PACKAGES: &[&str] = &[
    "rpm",
    "rpmlint",
    "dnf",
    "createrepo-c",
    "debhelper",
    "dpkg-dev",
    "lintian",
    "apt-utils",
    "gcc",
    "git",
    "libc6-dev",
    "busybox-static",
    "fish",
    "mandoc",
    "zsh",
    "zstd",
    "xfsprogs",
    "xz-utils",
    "systemd",
];

/// What an Enterprise Linux has and Debian's rpm lacks.
const MACROS: &str = include_str!("macros.el");

/// Lists the crates of a program in the program.
const CARGO_AUDITABLE: &str = "0.7.7";

/// Until the packages of the root are fetched and unpacked.
const UNPACKING: Duration = Duration::from_secs(1800);

/// The root, to run things in.
#[derive(Debug)]
pub struct Workshop {
    tree: PathBuf,
    toolchain: PathBuf,
    /// cargo-auditable(1), where programs are built.
    auditable: Option<PathBuf>,
}

impl Workshop {
    /// The workshop, from the cache or built now (2 to 3 minutes).
    pub fn get(cache: &Cache) -> Result<Workshop> {
        let recipe = format!("{} {MACROS}", PACKAGES.join(" "));
        let root = cache.artefact("workshop", &recipe, build)?;
        let mut sysroot = Command::new("rustc");
        sysroot.args(["--print", "sysroot"]);
        Ok(Workshop {
            tree: root.join("tree"),
            toolchain: ok(sysroot)?.stdout.trim_end().into(),
            auditable: None,
        })
    }

    /// With what lists the crates of a program in the program.
    pub fn for_programs(mut self, cache: &Cache) -> Result<Workshop> {
        self.auditable = Some(cargo_auditable(cache)?.join("bin"));
        Ok(self)
    }

    /// Runs a script that must exit with 0, in a copy of the root that is thrown away. `directory` is /build there. There is
    /// no network.
    pub fn run(
        &self,
        directory: &Path,
        script: &str,
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Output> {
        let directory = directory.canonicalize()?;
        let mut nspawn = command([
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--as-pid2",
            "--private-network",
            // Two may run in the same root at once: each writes to memory of its own.
            "--read-only",
            "--volatile=overlay",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ]);
        nspawn
            .arg(format!("--directory={}", self.tree.display()))
            .arg(format!("--machine=workshop{}", std::process::id()))
            .arg(format!("--bind={}:/build", directory.display()))
            .arg(format!("--bind-ro={}:/opt/rust", self.toolchain.display()))
            .arg("--setenv=PATH=/opt/rust/bin:/opt/auditable:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("--setenv=LC_ALL=C.UTF-8");
        if let Some(auditable) = &self.auditable {
            nspawn.arg(format!("--bind-ro={}:/opt/auditable", auditable.display()));
        }
        for (name, value) in environment {
            nspawn.arg(format!("--setenv={name}={value}"));
        }
        nspawn.args(["sh", "-eu"]);
        let output = run_with(nspawn, script.as_bytes(), limit)?;
        if !output.success() {
            bail!("{}: {output}", script.lines().next().unwrap_or_default());
        }
        Ok(output)
    }
}

fn build(into: &Path) -> Result<()> {
    let tree = into.join("tree");
    let mut mmdebstrap = command(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg("bookworm")
        .arg(&tree);
    if let Some(mirror) = mirror()? {
        // A mirror that is a snapshot of some day is as good as today's.
        mmdebstrap
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("deb {mirror} bookworm main"));
    }
    ok_with(mmdebstrap, b"", UNPACKING)?;
    // No package of Debian's makes the directory.
    let directory = tree.join("etc/rpm");
    fs::create_dir_all(&directory)?;
    let macros = directory.join("macros.el");
    fs::write(&macros, MACROS).with_context(|| format!("write {}", macros.display()))
}

/// It is static, since the root's libc is not the machine's.
fn cargo_auditable(cache: &Cache) -> Result<PathBuf> {
    cache.artefact("cargo-auditable", CARGO_AUDITABLE, |into| {
        let mut install = Command::new(env!("CARGO"));
        install
            .args(["install", "cargo-auditable", "--quiet", "--locked"])
            .args(["--version", CARGO_AUDITABLE, "--root"])
            .arg(into)
            // Not the settings of this checkout.
            .current_dir(into)
            .env("RUSTFLAGS", "-C target-feature=+crt-static");
        ok_with(install, b"", UNPACKING).map(drop)
    })
}
