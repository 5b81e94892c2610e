//! Debian's compiler, make and node's headers, for a guest that builds native addons of npm. No other guest has them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::guest::Guest;
use crate::node;
use crate::release::System;
use crate::root::Root;

const PACKAGES: &str = "g++,make,libnode-dev";

/// What no compiler reads, and what only link-time optimisation does.
const NOT_NEEDED: [&str; 4] = ["share", "sbin", "lto1", "lto-dump"];

/// Puts the compiler of its own release on one guest.
pub fn install(cache: &Cache, guest: &Guest) -> Result<()> {
    let System::Debian(release) = guest.release() else {
        bail!(
            "{}: a cloud image gets its compiler by itself",
            guest.name()
        );
    };
    let root = Root::get(cache, *release)?;
    guest.copy_tree(&beside(cache, &root)?, "/usr")
}

/// What the compiler needs and the root lacks, as a directory to be laid over `/usr`.
fn beside(cache: &Cache, root: &Root) -> Result<PathBuf> {
    let recipe = [include_str!("compiler.rs"), &root.recipe].concat();
    let artefact = cache.artefact(&format!("compiler-{}", root.release), &recipe, |into| {
        let work = tempfile::tempdir_in(into)?;
        let unpacked = work.path().join("root");
        node::extract(root.release, PACKAGES, &unpacked)?;
        let to = into.join("usr");
        move_lacking(&unpacked.join("usr"), &root.tree().join("usr"), &to)?;
        // What Debian's scripts would set up (update-alternatives(1)).
        symlink("gcc", to.join("bin/cc"))?;
        symlink("g++", to.join("bin/c++"))?;
        Ok(())
    })?;
    Ok(artefact.join("usr"))
}

/// Moves what one tree has and the other lacks into a third.
fn move_lacking(from: &Path, there: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if NOT_NEEDED.iter().any(|one| name == *one) {
            continue;
        }
        let (there, to) = (there.join(&name), to.join(&name));
        if entry.file_type()?.is_dir() {
            move_lacking(&entry.path(), &there, &to)?;
        } else if there.symlink_metadata().is_err() {
            fs::rename(entry.path(), &to).with_context(|| format!("move {}", to.display()))?;
        }
    }
    Ok(())
}
