//! The debs as apt gets them: what lintian says, and two repositories, of which the second has an upgrade.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Source, Workshop};
use crate::guest::Guest;

/// Repositories of the packages that were built in one directory.
#[derive(Debug)]
pub struct Repositories {
    scratch: PathBuf,
}

/// A repository as a site has it.
#[derive(Debug)]
pub struct Signed {
    /// The directory to serve.
    pub directory: PathBuf,
    /// The public key, in ASCII armour.
    pub key: String,
}

impl Signed {
    /// Of the packages that were built in `scratch`.
    pub fn of(workshop: &Workshop, scratch: &Path) -> Result<Signed> {
        let script = include_str!("deb-repository.sh");
        workshop.run(scratch, script, &[], Duration::from_secs(300))?;
        let key = scratch.join("key.asc");
        Ok(Signed {
            directory: scratch.join("site"),
            key: fs::read_to_string(&key).with_context(|| format!("read {}", key.display()))?,
        })
    }
}

impl Repositories {
    /// # Errors
    /// When the upgrade cannot be built. What lintian says is the test's to judge.
    pub fn of(workshop: &Workshop, source: &Source, scratch: &Path) -> Result<Repositories> {
        let name = source.name();
        let environment = [
            ("NAME", name.as_str()),
            ("SOURCE_DATE_EPOCH", &source.epoch),
            ("DEB_BUILD_OPTIONS", "nocheck"),
            ("WASAGENT_PREBUILT", "1"),
        ];
        let script = include_str!("deb-life.sh");
        workshop.run(scratch, script, &environment, Duration::from_secs(600))?;
        Ok(Repositories {
            scratch: scratch.to_owned(),
        })
    }

    /// One of the files that deb-life.sh writes; in `lintian`, with the tags that the package overrides.
    pub fn found(&self, name: &str) -> Result<String> {
        let path = self.scratch.join("found").join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Makes this repository, 1 or 2, the only one that a guest's apt knows.
    pub fn offer(&self, guest: &Guest, number: u8) -> Result<()> {
        let here = self.scratch.join(format!("repository/debs-{number}"));
        let there = format!("/srv/debs-{number}");
        guest.copy_tree(&here, &there)?;
        guest.ok([
            "sh",
            "-c",
            "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*",
        ])?;
        let line = format!("deb [trusted=yes] file:{there} ./\n");
        guest.write("/etc/apt/sources.list.d/wasagent.list", line, 0o644)?;
        guest.ok(["apt-get", "--quiet", "update"]).map(drop)
    }
}
