//! The sources as a distribution gets them: an archive of a commit, and one of all crates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process::{command, ok, ok_with};

/// Until crates that this machine does not have yet are fetched, and all are packed.
const VENDORING: Duration = Duration::from_secs(900);

/// A commit of a checkout.
#[derive(Debug)]
pub struct Source {
    checkout: PathBuf,
    commit: String,
    pub version: String,
    /// When the commit was made, in seconds: the time of every file in the packages.
    pub epoch: String,
}

impl Source {
    /// What `git clone` would get.
    pub fn last_commit(checkout: &Path) -> Result<Source> {
        Source::of(checkout, git(checkout, &["rev-parse", "HEAD"])?)
    }

    /// The files as they are now, as far as git knows them.
    pub fn as_it_is(checkout: &Path) -> Result<Source> {
        // Empty where nothing is changed (git-stash(1)).
        let changed = git(checkout, &["stash", "create"])?;
        if changed.is_empty() {
            return Source::last_commit(checkout);
        }
        Source::of(checkout, changed)
    }

    fn of(checkout: &Path, commit: String) -> Result<Source> {
        let manifest = git(checkout, &["show", &format!("{commit}:Cargo.toml")])?;
        let version = manifest
            .lines()
            .find_map(|line| line.strip_prefix("version = "))
            .context("Cargo.toml says no version")?;
        Ok(Source {
            version: version.trim_matches('"').to_owned(),
            epoch: git(checkout, &["log", "-1", "--format=%ct", &commit])?,
            checkout: checkout.to_owned(),
            commit,
        })
    }

    /// Whether the checkout has changes that the last commit has not.
    pub fn is_changed(&self) -> Result<bool> {
        Ok(!git(&self.checkout, &["status", "--porcelain"])?.is_empty())
    }

    /// The name of the archive and of the directory in it.
    pub fn name(&self) -> String {
        format!("wasagent-{}", self.version)
    }

    /// Writes `NAME.tar.gz` and `NAME-vendor.tar.zst`.
    pub fn write_archives(&self, cache: &Cache, into: &Path) -> Result<()> {
        let name = self.name();
        let archive = into.join(format!("{name}.tar.gz"));
        git(
            &self.checkout,
            &[
                "archive",
                "--format=tar.gz",
                &format!("--prefix={name}/"),
                &format!("--output={}", archive.display()),
                &self.commit,
            ],
        )?;
        let lock = git(
            &self.checkout,
            &["show", &format!("{}:Cargo.lock", self.commit)],
        )?;
        let vendor = cache.artefact("vendor", &lock, |into| vendor(&archive, into))?;
        let to = into.join(format!("{name}-vendor.tar.zst"));
        fs::copy(vendor.join("vendor.tar.zst"), &to)
            .with_context(|| format!("write {}", to.display()))?;
        Ok(())
    }
}

/// All crates that Cargo.lock names, with their checksums.
fn vendor(archive: &Path, into: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(into)?;
    let mut unpack = command(["tar", "--extract", "--strip-components=1", "--file"]);
    unpack.arg(archive).arg("--directory").arg(work.path());
    ok(unpack)?;
    let mut vendor = Command::new(env!("CARGO"));
    vendor
        .args([
            "vendor",
            "--quiet",
            "--locked",
            "--versioned-dirs",
            "vendor",
        ])
        .current_dir(work.path());
    ok_with(vendor, b"", VENDORING)?;
    let mut pack = command([
        "tar",
        "--create",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--zstd",
        "--file",
    ]);
    pack.arg(into.join("vendor.tar.zst"))
        .arg("vendor")
        .current_dir(work.path());
    ok_with(pack, b"", VENDORING).map(drop)
}

fn git(checkout: &Path, arguments: &[&str]) -> Result<String> {
    let mut git = command(["git", "-C"]);
    git.arg(checkout).args(arguments);
    Ok(ok(git)?.stdout.trim_end().to_owned())
}
