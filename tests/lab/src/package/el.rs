//! The RPMs' life, from install to erase, in a root that stands for Enterprise Linux: packages that are stubs, and rpm's and
//! dnf's real work.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Source, Workshop};

const LIFE: &str = concat!(
    "cat >/stubs.spec <<'STUBS'\n",
    include_str!("stubs.spec"),
    "STUBS\n",
    include_str!("el.sh")
);

/// What was found on the way.
#[derive(Debug)]
pub struct Life {
    found: PathBuf,
}

impl Life {
    /// Goes through it with the packages that were built in `scratch`.
    pub fn of(workshop: &Workshop, source: &Source, scratch: &Path) -> Result<Life> {
        let environment = [
            ("NAME", source.name()),
            ("SOURCE_DATE_EPOCH", source.epoch.clone()),
        ];
        let environment = environment
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        workshop.run(scratch, LIFE, &environment, Duration::from_secs(600))?;
        Ok(Life {
            found: scratch.join("found"),
        })
    }

    /// One of the files that el.sh writes.
    pub fn found(&self, name: &str) -> Result<String> {
        let path = self.found.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }
}
