//! The manifest says what is deployed. It tells the agent's own files from changed files, and a run
//! without a change reads no file. The intent says what is about to take its place, and is on the
//! disk before anything of the change shows. Both lie beside the shared directory, because they
//! belong to it: they move to another VM with their data disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::beside;
use crate::error::{Doing, Error, Result};
use crate::host::fs::{read_regular, sync_directory, write_own};
use crate::host::sha256::Sha256;
use crate::host::tree::{Dir, FileType, Metadata};

/// What is appended to the name of the staging directory.
const MANIFEST: &str = ".json";
const INTENT: &str = ".next.json";
const MAX_SIZE: u64 = 256 << 20;

/// The revision in a directory, and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub path: PathBuf,
    pub commit: String,
    pub subdir: Option<PathBuf>,
    /// The command that built it; empty: none.
    #[serde(default)]
    pub build: Vec<String>,
    /// A salted digest of what was set in its files, with the values. The manifest lies where only
    /// root can read, like the password itself.
    #[serde(default)]
    pub edits: Option<Edits>,
    /// The files that were edited before. If somebody has changed such a file since, it still holds
    /// the values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub once_edited: BTreeSet<PathBuf>,
    #[serde(deserialize_with = "from_sorted")]
    pub files: BTreeMap<PathBuf, Deployed>,
}

/// Reads a map that was written in order. The standard way compares each path with many others on its way to its place,
/// and a plan reads every file of a revision.
fn from_sorted<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<PathBuf, Deployed>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = BTreeMap<PathBuf, Deployed>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of files")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = map.next_entry()? {
                files.push(file);
            }
            Ok(files.into_iter().collect())
        }
    }
    deserializer.deserialize_map(Files)
}

/// Equal for equal edits; the digest reveals nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    pub salt: String,
    pub digest: Sha256,
    /// The files that hold values of the tier file, each with its text before the edits. They are
    /// never shown.
    pub files: BTreeMap<PathBuf, String>,
}

/// The `modified` time of a file that was kept although it differs from the revision's.
pub const KEPT: i128 = 0;

/// A file as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// git's ID of its bytes.
    pub blob: String,
    pub size: u64,
    /// The modification time at the last look, in nanoseconds since 1970. A file with this size and
    /// time is taken for unchanged. [`KEPT`] for a file that was kept although it differs from the
    /// revision's.
    pub modified: i128,
    /// Whether it is a symbolic link that the build made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub symlink: bool,
}

/// A revision that is about to take its place. It is written to the disk before that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Intent {
    pub manifest: Manifest,
    /// The inode of the directory that holds the revision. Once the revision is in place, the
    /// shared directory has this inode.
    pub inode: u64,
    /// The files that are in both trees. When a change that was cut off is finished, they tell what
    /// happened to these files since.
    #[serde(default)]
    pub carried: Carried,
}

/// What was linked into the new tree, by its path.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Carried(
    #[serde(serialize_with = "with_text_paths")] pub(super) HashMap<PathBuf, Linked>,
);

/// A file as it was when it was linked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Linked {
    pub(super) inode: u64,
    pub(super) modified: i128,
}

impl Linked {
    /// Whether the found file is this file, with nothing written to it since.
    pub(super) fn is(&self, found: &Metadata) -> bool {
        self.inode == found.inode && self.modified == found.modified
    }
}

/// JSON holds only paths that are text. A file that is left out counts as not linked: it is kept
/// twice where it could have been kept once.
fn with_text_paths<S: Serializer>(
    carried: &HashMap<PathBuf, Linked>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        carried
            .iter()
            .filter_map(|(path, linked)| Some((path.to_str()?, linked))),
    )
}

/// How a file compares with what was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    AsDeployed,
    Missing,
    Changed,
}

impl Deployed {
    /// Compares the file. Its bytes are read only if its size is the same and its time differs.
    pub fn look(&self, root: &Dir, relative: &Path) -> Result<Look> {
        let Some(found) = root.look(relative)? else {
            return Ok(Look::Missing);
        };
        let file_type = if self.symlink {
            FileType::Symlink
        } else {
            FileType::File
        };
        if found.file_type != file_type || found.size != self.size {
            return Ok(Look::Changed);
        }
        if found.modified == self.modified && self.modified != KEPT {
            return Ok(Look::AsDeployed);
        }
        Ok(match root.blob(relative, self.size)? {
            Some(blob) if blob == self.blob => Look::AsDeployed,
            Some(_) => Look::Changed,
            // The file was replaced between the two looks.
            None => Look::Changed,
        })
    }
}

impl Manifest {
    /// The files that may hold values of the tier file, from this edit or from an earlier one.
    pub fn all_edited(&self) -> BTreeSet<PathBuf> {
        let edited = self.edits.iter().flat_map(|edits| edits.files.keys());
        edited.chain(&self.once_edited).cloned().collect()
    }

    /// Whether the file is as this revision has it.
    pub fn is_deployed(&self, root: &Dir, relative: &Path) -> Result<bool> {
        match self.files.get(relative) {
            Some(deployed) => Ok(deployed.look(root, relative)? == Look::AsDeployed),
            None => Ok(false),
        }
    }

    /// Whether the revision has files below this directory.
    pub fn has_directory(&self, relative: &Path) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = (Excluded(relative.to_owned()), Unbounded);
        // Paths are ordered by component, so what is below the directory comes right after it.
        self.files
            .range::<PathBuf, _>(from)
            .next()
            .is_some_and(|(path, _)| path.starts_with(relative))
    }
}

/// The file with this suffix beside a shared directory.
fn file(shared: &Path, suffix: &str) -> Result<PathBuf> {
    let mut name = beside::path(shared)?.into_os_string();
    name.push(suffix);
    Ok(name.into())
}

/// What is deployed in a shared directory, wherever its disk is mounted now.
pub fn read(shared: &Path) -> Result<Option<Manifest>> {
    let manifest: Option<Manifest> = read_json(&file(shared, MANIFEST)?)?;
    Ok(manifest.map(|manifest| Manifest {
        path: shared.to_owned(),
        ..manifest
    }))
}

pub fn write(manifest: &Manifest) -> Result<()> {
    write_json(&file(&manifest.path, MANIFEST)?, manifest)
}

/// A change that was begun in a shared directory and not finished.
pub fn read_intent(shared: &Path) -> Result<Option<Intent>> {
    let mut intent: Option<Intent> = read_json(&file(shared, INTENT)?)?;
    if let Some(intent) = &mut intent {
        intent.manifest.path = shared.to_owned();
    }
    Ok(intent)
}

pub fn write_intent(intent: &Intent) -> Result<()> {
    write_json(&file(&intent.manifest.path, INTENT)?, intent)
}

pub fn remove_intent(shared: &Path) -> Result<()> {
    let path = file(shared, INTENT)?;
    match std::fs::remove_file(&path) {
        Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).doing(format_args!("remove {}", path.display())),
    }
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(file) = read_regular(path, MAX_SIZE)? else {
        return Ok(None);
    };
    if file.meta.uid != 0 && !cfg!(test) || file.meta.mode & 0o077 != 0 {
        return Err(Error::new(format!(
            "{} is there, and is not root's alone as the agent makes it",
            path.display()
        ))
        .hint("move it away, and apply again"));
    }
    serde_json::from_slice(&file.contents)
        .map(Some)
        .doing(format_args!("read {}", path.display()))
        .map_err(|e| {
            e.or_hint("the file was changed by hand, or written by a newer version of wasagent")
        })
}

pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).doing("write down what is deployed")?;
    write_own(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_the_first_version_is_taken_over() {
        let old = r#"{"path":"/srv/a","commit":"c","subdir":null,
            "files":{"x":{"blob":"b","size":1,"modified":1700000000000000000}}}"#;
        let manifest: Manifest = serde_json::from_str(old).unwrap();
        assert!(manifest.build.is_empty() && manifest.edits.is_none());
        let file = &manifest.files[Path::new("x")];
        assert_eq!((file.size, file.symlink), (1, false));
    }

    #[test]
    fn a_directory_of_the_revision_is_known_by_what_is_below_it() {
        let deployed = Deployed {
            blob: String::new(),
            size: 0,
            modified: 0,
            symlink: false,
        };
        let mut manifest = Manifest::default();
        for path in ["a/b/c", "a-b", "d"] {
            manifest.files.insert(path.into(), deployed.clone());
        }
        for (path, there) in [("a", true), ("a/b", true), ("a/c", false), ("d", false)] {
            assert_eq!(manifest.has_directory(Path::new(path)), there, "{path}");
        }
    }
}
