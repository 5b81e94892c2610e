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
        let name = name(kind, recipe);
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
        self.remove_parts(kind)?;
        self.build(&name, &whole, build)?;
        Ok(whole)
    }

    /// Removes what builds of this kind have left that were killed. The caller holds its lock.
    fn remove_parts(&self, kind: &str) -> Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if is_part(&entry.file_name().to_string_lossy(), kind) {
                // Somebody who outlives a build may still write there: the next one removes it.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Whether the artefact is there.
    pub fn has(&self, kind: &str, recipe: &str) -> bool {
        self.directory.join(name(kind, recipe)).exists()
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

/// Whether a directory has the name of an artefact of this kind that is being built: `KIND-HASH.part-…`.
fn is_part(name: &str, kind: &str) -> bool {
    let hash = name
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.split_once(".part-"))
        .map(|(hash, _)| hash);
    // Another kind's name may begin with this one's.
    hash.is_some_and(|hash| !hash.contains('-'))
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

fn name(kind: &str, recipe: &str) -> String {
    format!("{kind}-{}", short_hash(recipe))
}

fn short_hash(recipe: &str) -> String {
    Sha256::digest(recipe.as_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache {
            directory: directory.path().to_owned(),
        };
        let others = ["root-selinux-0123.part-a", "root-0123", "key-0123.part-b"];
        for name in ["root-0123.part-c", "root-4567.part-d"]
            .iter()
            .chain(&others)
        {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        assert!(!cache.has("root", "recipe"));
        cache.artefact("root", "recipe", |_| Ok(())).unwrap();
        assert!(cache.has("root", "recipe"));
        for name in others {
            assert!(directory.path().join(name).exists(), "{name}");
        }
        let mut names = fs::read_dir(directory.path()).unwrap();
        assert!(names.all(|entry| !is_part(&entry.unwrap().file_name().to_string_lossy(), "root")));
    }
}
