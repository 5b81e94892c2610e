//! The agent's packages, built as a distribution builds them: from an archive of the sources and one of all crates, in a
//! root of Debian's tools, without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::progress::{say, timed};
use crate::{agent, host_packages};

pub mod bundled;
pub mod debian;
pub mod el;
mod source;
mod workshop;

pub use source::Source;
pub use workshop::Workshop;

/// An optimised build of all crates, and their unit tests, on a machine that does other things besides.
const LONGEST_BUILD: Duration = Duration::from_secs(3600);

/// The program that goes into the packages.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// Built from the vendored sources; with `check` the unit tests run as well, as a distribution has them run.
    FromSource { check: bool },
    /// This one: for tests of the packages alone.
    Built(&'a Path),
}

/// Both formats from the last commit, into `target/packages/`: `cargo lab package`.
pub fn run(check: bool) -> Result<()> {
    host_packages::ensure()?;
    let source = Source::last_commit(agent::checkout())?;
    if source.is_changed()? {
        say("what is not committed is not in the packages");
    }
    let target = agent::checkout().join("target");
    let scratch = target.join("package-build");
    let packages = build(&source, Program::FromSource { check }, &scratch)?;
    let into = target.join("packages");
    empty(&into)?;
    for package in packages {
        let to = into.join(package.file_name().context("a package has a name")?);
        fs::copy(&package, &to)?;
        println!("{}", to.display());
    }
    fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))
}

/// Builds all packages below a directory of their own, and says where they are.
pub fn build(source: &Source, program: Program, scratch: &Path) -> Result<Vec<PathBuf>> {
    let cache = Cache::open()?;
    let mut workshop = Workshop::get(&cache)?;
    if matches!(program, Program::FromSource { .. }) {
        workshop = workshop.for_programs(&cache)?;
    }
    empty(scratch)?;
    source.write_archives(&cache, scratch)?;
    if let Program::Built(path) = program {
        fs::copy(path, scratch.join("program"))
            .with_context(|| format!("copy {}", path.display()))?;
    }
    let environment = [
        ("SOURCE_DATE_EPOCH", source.epoch.as_str()),
        // The spec runs the same tests on the same sources.
        ("DEB_BUILD_OPTIONS", "nocheck"),
        ("WASAGENT_PREBUILT", prebuilt(program)),
        ("CHECK", checked(program)),
        ("NAME", &source.name()),
    ];
    timed("the RPMs", || {
        workshop.run(scratch, RPM, &environment, LONGEST_BUILD)
    })?;
    timed("the debs", || {
        workshop.run(scratch, DEB, &environment, LONGEST_BUILD)
    })?;
    let mut packages = Vec::new();
    for entry in fs::read_dir(scratch.join("packages"))? {
        packages.push(entry?.path());
    }
    packages.sort();
    ensure!(
        packages.len() == 6,
        "not three RPMs and three debs: {packages:?}"
    );
    Ok(packages)
}

const RPM: &str = include_str!("rpm.sh");
const DEB: &str = include_str!("deb.sh");

fn prebuilt(program: Program) -> &'static str {
    match program {
        Program::Built(_) => "1",
        Program::FromSource { .. } => "",
    }
}

fn checked(program: Program) -> &'static str {
    match program {
        Program::FromSource { check: true } => "1",
        _ => "",
    }
}

fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))
}
