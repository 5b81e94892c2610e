//! What takes minutes to build and is the same next time, outside the checkout.
//!
//! Each artefact is a directory named after its kind and the hash of its recipe: a changed recipe is another
//! artefact. It is built under another name and renamed when complete, so a directory with the right name is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::progress;

/// The cache directory of this user.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// `$WASAGENT_LAB_CACHE`, else `wasagent-lab` in the XDG cache directory.
    pub fn open() -> Result<Cache> {
        let directory = location().context(
            "set WASAGENT_LAB_CACHE, XDG_CACHE_HOME or HOME: the lab's cache needs a place",
        )?;
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        Ok(Cache { directory })
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The artefact of this kind and recipe; built by `build` into the directory it is given, if it is not there yet.
    pub fn artefact(
        &self,
        kind: &str,
        recipe: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let name = format!("{kind}-{}", short_hash(recipe));
        let whole = self.directory.join(&name);
        if whole.exists() {
            return Ok(whole);
        }
        let lock = self.directory.join(format!("{kind}.lock"));
        let _held = Flock::lock(File::create(&lock)?, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", lock.display()))?;
        if whole.exists() {
            return Ok(whole);
        }
        self.build(&name, &whole, build)?;
        Ok(whole)
    }

    /// Whether the artefact is there.
    pub fn has(&self, kind: &str, recipe: &str) -> bool {
        self.directory
            .join(format!("{kind}-{}", short_hash(recipe)))
            .exists()
    }

    fn build(
        &self,
        name: &str,
        whole: &Path,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let part = tempfile::Builder::new()
            .prefix(&format!("{name}.part-"))
            .tempdir_in(&self.directory)?;
        // The root of a guest passes through: 0700, as temporary directories have it, would lock its daemons out.
        fs::set_permissions(
            part.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        progress::timed(&format!("building {name}"), || build(part.path()))?;
        fs::rename(part.path(), whole).with_context(|| format!("rename to {}", whole.display()))?;
        let _ = part.keep();
        Ok(())
    }
}

fn location() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("WASAGENT_LAB_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("wasagent-lab")))
        .or_else(|| set("HOME").map(|base| base.join(".cache/wasagent-lab")))
}

fn short_hash(recipe: &str) -> String {
    Sha256::digest(recipe.as_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
