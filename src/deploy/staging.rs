//! Where a revision is put together before it shows: a directory of root's beside the shared
//! directory. Both are on the same file system, so that they can be exchanged and files can be
//! linked. Replaced trees stay there too, until nobody uses them any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::beside::{names, path};
use super::carriable;
use super::manifest::{self, Look, Manifest};
use crate::error::{Error, Result};
use crate::host::account::Account;
use crate::host::fs::FileMeta;
use crate::host::git::TreeEntry;
use crate::host::tree::{DEEPEST, Dir, FileType, Metadata, blob, is_mount_point};
use crate::host::{Permit, holders};

const FILE_MODE: u32 = 0o660;
const EXECUTABLE_MODE: u32 = 0o770;
const DIRECTORY_MODE: u32 = 0o2770;

/// The tree that is put together; after the exchange, the replaced tree.
pub const NEW: &str = "new";
/// `HOME` of a build.
pub const HOME: &str = "home";
/// A replaced tree is `old-N`, and its manifest is `old-N.json`.
const OLD: &str = "old-";
const KNOWN: &str = ".json";

/// The places around a shared directory.
#[derive(Debug)]
pub struct Staging {
    /// The directory that holds the shared one.
    pub above: Dir,
    /// The shared directory's name in it.
    pub shared: OsString,
    name: OsString,
    /// The staging directory itself.
    pub dir: Dir,
}

/// Why a revision cannot take the place of this directory in one step; `None` if it can.
pub fn obstacle(shared: &Path) -> Result<Option<Error>> {
    Ok(is_mount_point(shared)?.then(|| no_exchange(shared)))
}

/// A mount point cannot be renamed (rename(2), EBUSY).
pub fn no_exchange(shared: &Path) -> Error {
    Error::new(format!(
        "{} is itself where something is mounted: a revision cannot take its place at once and whole",
        shared.display()
    ))
    .hint("set storage.path to a directory below it, and move the files that are to be shared there")
}

impl Staging {
    /// Opens the staging directory; `None` where there is none.
    pub fn open(shared: &Path) -> Result<Option<Self>> {
        let (above, shared, name) = names(shared)?;
        let Some(above) = Dir::open(above)? else {
            return Ok(None);
        };
        let Some(dir) = above.directory(Path::new(&name))? else {
            return Ok(None);
        };
        let meta = dir.found()?.meta;
        if meta.uid != 0 && !cfg!(test) || meta.mode & 0o077 != 0 {
            return Err(Error::new(format!(
                "{} is there, and is not root's alone as the agent makes it",
                dir.path().display()
            ))
            .hint("move it away, and apply again"));
        }
        Ok(Some(Self {
            above,
            shared: shared.to_owned(),
            name,
            dir,
        }))
    }

    /// Like [`Self::open`], but makes the directory if there is none.
    pub fn make(permit: &Permit, shared: &Path) -> Result<Self> {
        if let Some(staging) = Self::open(shared)? {
            return Ok(staging);
        }
        let (above, _, name) = names(shared)?;
        if let Some(above) = Dir::open(above)? {
            let root = FileMeta {
                mode: 0o700,
                ..above.found()?.meta
            };
            let meta = if cfg!(test) {
                root
            } else {
                FileMeta::root(0o700)
            };
            let dir = above.make_directory(permit, &name, meta)?;
            // What is made and kept in the directory may be shared later, so it gets the shared
            // directory's label wherever it lies.
            if let Some(shared) = Dir::open(shared)? {
                dir.label_as(permit, &shared)?;
            }
            above.sync()?;
        }
        Self::open(shared)?
            .ok_or_else(|| Error::new(format!("{} is gone", path_of(shared).display())))
    }

    /// The shared directory.
    pub fn open_shared(&self) -> Result<Dir> {
        self.above
            .directory(Path::new(&self.shared))?
            .ok_or_else(|| {
                Error::new(format!(
                    "{} is no directory",
                    self.above.path().join(&self.shared).display()
                ))
            })
    }

    /// The replaced trees with their manifests, oldest first.
    pub fn replaced(&self) -> Result<Vec<(OsString, Manifest)>> {
        let mut replaced: Vec<(u32, OsString)> = self
            .dir
            .names()?
            .into_iter()
            .filter_map(|name| Some((number(&name)?, name)))
            .collect();
        replaced.sort();
        let trees = replaced.into_iter().map(|(_, name)| {
            let known = manifest::read_json(&self.dir.path().join(known(&name)))?;
            Ok((name, known.unwrap_or_default()))
        });
        trees.collect()
    }

    /// Whether somebody has a replaced tree open.
    pub fn is_used(&self, name: &OsStr) -> Result<bool> {
        let Some(tree) = self.dir.directory(Path::new(name))? else {
            return Ok(false);
        };
        let holders = holders::of(&self.dir.path().join(name), &directories(&tree)?)?;
        tracing::debug!(?name, ?holders, "a replaced revision");
        Ok(!holders.is_empty())
    }

    /// Sets the replaced tree aside, with its manifest.
    pub fn set_aside(&self, permit: &Permit, before: &Manifest) -> Result<()> {
        let last = self
            .dir
            .names()?
            .iter()
            .filter_map(|name| number(name))
            .max();
        let name = OsString::from(format!("{OLD}{}", last.unwrap_or_default() + 1));
        manifest::write_json(&self.dir.path().join(known(&name)), before)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        self.dir
            .rename(permit, OsStr::new(NEW), &self.dir, &name, flags)?;
        self.dir.sync()
    }

    /// Whether an apply that was cut off left something here. Replaced trees do not count: the next
    /// change removes them.
    pub fn is_left(&self) -> Result<bool> {
        let names = self.dir.names()?;
        let replaced = |name: &OsString| number(name).is_some() || is_known(name);
        Ok(names.is_empty() || !names.iter().all(replaced))
    }

    /// Removes the manifest of a tree that is gone.
    pub fn forget(&self, permit: &Permit, name: &OsStr) -> Result<()> {
        let known = known(name);
        match self.dir.look(Path::new(&known))? {
            Some(_) => self.dir.remove_file(permit, &known),
            None => Ok(()),
        }
    }

    /// Removes what was being put together, and the manifests of trees that are gone.
    pub fn clear(&self, permit: &Permit) -> Result<()> {
        let names = self.dir.names()?;
        for name in &names {
            let of = name.to_str().and_then(|name| name.strip_suffix(KNOWN));
            let unknown = match of {
                Some(of) => !names.iter().any(|name| name == of),
                None => number(name).is_none(),
            };
            if unknown {
                self.dir.remove_tree(permit, name)?;
            }
        }
        self.dir.sync()
    }

    /// Removes the staging directory if nothing is left in it.
    pub fn remove_if_empty(self, permit: &Permit) -> Result<()> {
        if self.above.remove_directory(permit, &self.name)? {
            self.above.sync()?;
        }
        Ok(())
    }
}

fn path_of(shared: &Path) -> PathBuf {
    path(shared).unwrap_or_else(|_| shared.to_owned())
}

fn number(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix(OLD)?.parse().ok()
}

fn known(tree: &OsStr) -> OsString {
    let mut name = tree.to_owned();
    name.push(KNOWN);
    name
}

fn is_known(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.ends_with(KNOWN))
}

/// Makes the new, empty tree.
pub fn begin(permit: &Permit, staging: &Staging, owner: &Account) -> Result<Dir> {
    let new = staging
        .dir
        .make_directory(permit, OsStr::new(NEW), owned(owner, 0o700))?;
    // Done while the tree is empty: new files inherit the label and the access control list of
    // their directory.
    new.copy_attributes(permit, &staging.open_shared()?)?;
    Ok(new)
}

fn owned(owner: &Account, mode: u32) -> FileMeta {
    FileMeta {
        mode,
        uid: owner.uid,
        gid: owner.gid,
    }
}

/// The directory of a file that is to be made, and the file's name in it.
fn place<'p>(
    permit: &Permit,
    new: &Dir,
    path: &'p Path,
    owner: &Account,
) -> Result<(Dir, &'p OsStr)> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(format!("{} is no file", path.display())))?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let directory = make_directories(permit, new, parent, owned(owner, DIRECTORY_MODE))?;
    Ok((directory, name))
}

fn mode(executable: bool) -> u32 {
    if executable {
        EXECUTABLE_MODE
    } else {
        FILE_MODE
    }
}

/// Writes a file of a revision into the new tree, with the attributes of files in the shared
/// directory.
pub fn write(
    permit: &Permit,
    new: &Dir,
    entry: &TreeEntry,
    bytes: &mut dyn Read,
    owner: &Account,
) -> Result<()> {
    let (directory, name) = place(permit, new, &entry.path, owner)?;
    let meta = owned(owner, mode(entry.executable));
    directory.make_file_by(permit, name, meta, |file| {
        std::io::copy(bytes, file).map(drop)
    })
}

/// Writes the deployed files once more, as they were built, without the edits. A file that somebody
/// changed is left out.
pub fn copy(
    permit: &Permit,
    staging: &Staging,
    deployed: &Manifest,
    owner: &Account,
) -> Result<()> {
    let old = staging.open_shared()?;
    let new = begin(permit, staging, owner)?;
    let texts = deployed.edits.as_ref().map(|edits| &edits.files);
    for (path, file) in &deployed.files {
        let Some(found) = old.look(path)? else {
            continue;
        };
        let text = texts.and_then(|texts| texts.get(path));
        if text.is_none() && file.look(&old, path)? != Look::AsDeployed {
            continue;
        }
        let (directory, name) = place(permit, &new, path, owner)?;
        if let Some(text) = text {
            let meta = owned(owner, mode(found.meta.mode & 0o100 != 0));
            directory.make_file(permit, name, text.as_bytes(), meta)?;
        } else if file.symlink {
            if let Some(target) = old.read(path, file.size)?.filter(|b| blob(b) == file.blob) {
                directory.make_symlink(permit, name, &target)?;
            }
        } else {
            // The account may have put another file in its place between the look and the reading,
            // so only permission bits are taken over.
            let meta = owned(owner, found.meta.mode & 0o777);
            let bytes = (file.size, file.blob.as_str());
            old.copy_file(permit, path, bytes, (&directory, name), meta)?;
        }
    }
    Ok(())
}

/// Gives everything that a build made the owner and the modes of the shared directory, whatever the
/// build did to them, and refuses what the share cannot carry.
pub fn dress(permit: &Permit, new: &Dir, owner: &Account) -> Result<()> {
    let mut directories = BTreeSet::from([PathBuf::new()]);
    while let Some(relative) = directories.pop_first() {
        let Some(directory) = new.directory(&relative)? else {
            continue;
        };
        for name in directory.names()? {
            let path = relative.join(&name);
            carriable::path(&path)?;
            let Some(found) = directory.look(Path::new(&name))? else {
                continue;
            };
            let mode = match found.file_type {
                FileType::Directory => DIRECTORY_MODE,
                FileType::File => mode(found.meta.mode & 0o111 != 0),
                FileType::Symlink => {
                    carriable::link(permit, new, &directory, &path)?;
                    continue;
                }
                FileType::Other => return Err(carriable::no_file(&path)),
            };
            directory.set_meta(permit, &name, owned(owner, mode))?;
            if found.file_type == FileType::Directory {
                directories.insert(path);
            }
        }
    }
    Ok(())
}

fn make_directories(permit: &Permit, root: &Dir, relative: &Path, meta: FileMeta) -> Result<Dir> {
    if let Some(there) = root.directory(relative)? {
        return Ok(there);
    }
    let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else {
        return Err(Error::new(format!("{} is gone", root.path().display())));
    };
    make_directories(permit, root, parent, meta)?.make_directory(permit, name, meta)
}

/// The inodes of the directories of a tree, as deep as a change of revision enters it.
pub fn directories(root: &Dir) -> Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    let mut add = |dir: &Dir| {
        dir.found()
            .map(|found| inodes.insert(found.inode))
            .map(drop)
    };
    each_directory(root, 0, &mut add)?;
    Ok(inodes)
}

fn each_directory(dir: &Dir, depth: u32, see: &mut impl FnMut(&Dir) -> Result<()>) -> Result<()> {
    see(dir)?;
    if depth == DEEPEST {
        return Ok(());
    }
    for name in dir.names()? {
        if let Some(inner) = dir.directory(Path::new(&name))? {
            each_directory(&inner, depth + 1, see)?;
        }
    }
    Ok(())
}

/// The files of a tree that belongs to the agent, each as it is now.
pub fn list(root: &Dir) -> Result<BTreeMap<PathBuf, manifest::Deployed>> {
    let mut files = BTreeMap::new();
    let mut directories = BTreeSet::from([PathBuf::new()]);
    while let Some(relative) = directories.pop_first() {
        let Some(directory) = root.directory(&relative)? else {
            continue;
        };
        for name in directory.names()? {
            let path = relative.join(&name);
            let Some(found) = directory.look(Path::new(&name))? else {
                continue;
            };
            match found.file_type {
                FileType::Directory => {
                    directories.insert(path);
                }
                FileType::File | FileType::Symlink => {
                    let file = deployed(&directory, Path::new(&name), &found)?;
                    files.insert(path, file);
                }
                FileType::Other => return Err(carriable::no_file(&path)),
            }
        }
    }
    Ok(files)
}

/// Lists files again that were written since.
pub fn list_again<'p>(
    root: &Dir,
    paths: impl IntoIterator<Item = &'p PathBuf>,
    files: &mut BTreeMap<PathBuf, manifest::Deployed>,
) -> Result<()> {
    for path in paths {
        if let Some(found) = root.look(path)? {
            files.insert(path.clone(), deployed(root, path, &found)?);
        }
    }
    Ok(())
}

fn deployed(dir: &Dir, path: &Path, found: &Metadata) -> Result<manifest::Deployed> {
    let blob = dir.blob(path, found.size)?.ok_or_else(|| {
        let path = dir.path().join(path);
        Error::new(format!("{} changes while it is read", path.display()))
    })?;
    Ok(manifest::Deployed {
        blob,
        size: found.size,
        modified: found.modified,
        symlink: found.file_type == FileType::Symlink,
    })
}
