//! How a revision takes its place in one step. Everything in the shared directory but the agent's
//! own files is linked into the new tree. Then the two directories are exchanged by one
//! `renameat2(2)`. What was written to the old tree meanwhile is moved over. The old tree stays
//! whole for as long as anybody has it open: a reader that began with a revision reads it to its
//! end.
//!
//! Directories that lie very deep, which only others make, are not entered: they are moved over as
//! a whole right after the exchange.
//!
//! A file of the agent's is never in two trees. Any other file is the same file in both trees, so
//! it may be written at any time.
//!
//! The file is long because no file is lost only if the parts keep to one order, so they are read together.

use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;

use super::manifest::{self, Carried, Intent, KEPT, Linked, Look, Manifest};
use super::staging::{NEW, Staging};
use crate::error::{Error, Result};
use crate::host::Permit;
use crate::host::health_file;
use crate::host::tree::{DEEPEST, Dir, FileType, Metadata};

/// How often late files are looked for while a tree is removed. Whoever goes on writing to a tree
/// has it open, and an open tree is not removed.
const TRIES: u32 = 5;

/// A directory of the target tree, made when the first file goes there.
struct Target<'t> {
    /// The target above, and the directory that serves as the model for this one.
    above: Option<(&'t Target<'t>, &'t Dir)>,
    name: OsString,
    open: OnceCell<Dir>,
    made: Cell<bool>,
}

impl<'t> Target<'t> {
    fn root(dir: Dir) -> Self {
        Self {
            above: None,
            name: OsString::new(),
            open: OnceCell::from(dir),
            made: Cell::new(false),
        }
    }

    fn below(&'t self, name: &OsStr, like: &'t Dir) -> Self {
        Self {
            above: Some((self, like)),
            name: name.to_owned(),
            open: OnceCell::new(),
            made: Cell::new(false),
        }
    }

    /// The directory; `None` if something else has its place.
    fn get(&self, permit: &Permit) -> Result<Option<&Dir>> {
        if let Some(dir) = self.open.get() {
            return Ok(Some(dir));
        }
        let Some((above, like)) = self.above else {
            return Ok(None);
        };
        let Some(parent) = above.get(permit)? else {
            return Ok(None);
        };
        let dir = match parent.look(Path::new(&self.name))? {
            None => {
                let dir = parent.make_directory(permit, &self.name, like.found()?.meta)?;
                dir.copy_attributes(permit, like)?;
                self.made.set(true);
                Some(dir)
            }
            Some(_) => parent.directory(Path::new(&self.name))?,
        };
        Ok(match dir {
            Some(dir) => Some(self.open.get_or_init(|| dir)),
            None => None,
        })
    }

    /// Gives a directory that was made the time of its model.
    fn finish(&self, permit: &Permit) -> Result<()> {
        match (self.made.get(), self.open.get(), self.above) {
            (true, Some(dir), Some((_, like))) => dir.copy_attributes(permit, like),
            _ => Ok(()),
        }
    }
}

/// Links everything that is not the agent's from the present tree into the new tree.
pub fn carry(
    permit: &Permit,
    old: &Dir,
    new: &Dir,
    before: &Manifest,
    next: &mut Manifest,
) -> Result<Carried> {
    let mut carrying = Carrying {
        permit,
        old,
        before,
        next,
        carried: Carried::default(),
    };
    let root = new
        .directory(Path::new(""))?
        .ok_or_else(|| Error::new(format!("{} is gone", new.path().display())))?;
    carrying.directory(old, Path::new(""), 0, &Target::root(root))?;
    let carried = carrying.carried;
    new.copy_attributes(permit, old)?;
    Ok(carried)
}

struct Carrying<'c> {
    permit: &'c Permit,
    old: &'c Dir,
    before: &'c Manifest,
    next: &'c mut Manifest,
    carried: Carried,
}

impl Carrying<'_> {
    fn directory(
        &mut self,
        from: &Dir,
        relative: &Path,
        depth: u32,
        to: &Target<'_>,
    ) -> Result<()> {
        for name in from.names()? {
            let path = relative.join(&name);
            if health_file::is_directory_of_a_check(&path) {
                continue;
            }
            let Some(found) = from.look(Path::new(&name))? else {
                continue;
            };
            if found.file_type != FileType::Directory {
                self.file(from, &name, &path, found, to)?;
                continue;
            }
            let own = self.before.has_directory(&path);
            if is_too_deep(depth, own) {
                continue;
            }
            let Some(inner) = from.directory(Path::new(&name))? else {
                continue;
            };
            let target = to.below(&name, &inner);
            if !own {
                // Somebody else's directory is kept even if it is empty.
                target.get(self.permit)?.ok_or_else(|| in_the_way(&path))?;
            }
            self.directory(&inner, &path, depth + 1, &target)?;
            target.finish(self.permit)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        from: &Dir,
        name: &OsStr,
        path: &Path,
        found: Metadata,
        to: &Target<'_>,
    ) -> Result<()> {
        if self.before.is_deployed(self.old, path)? {
            return Ok(());
        }
        let mut kept = self.next.files.get_mut(path);
        if let Some(deployed) = &kept
            && found.file_type == FileType::File
            && !deployed.symlink
            && from.blob(Path::new(name), deployed.size)?.as_ref() == Some(&deployed.blob)
        {
            // Somebody has already changed the file to what the revision has.
            return Ok(());
        }
        let target = to.get(self.permit)?.ok_or_else(|| in_the_way(path))?;
        match target.look(Path::new(name))? {
            None => {}
            Some(there) if there.file_type == FileType::Directory => return Err(in_the_way(path)),
            Some(_) => target.remove_file(self.permit, name)?,
        }
        if let Some(deployed) = &mut kept {
            deployed.modified = KEPT;
        }
        match from.link(self.permit, name, target) {
            // The file was removed meanwhile.
            Err(_) if from.look(Path::new(name))?.is_none() => return Ok(()),
            // The file has all the names that it can have, and is moved over late.
            Ok(false) => return Ok(()),
            linked => linked.map(drop)?,
        }
        let linked = Linked {
            inode: found.inode,
            modified: found.modified,
        };
        self.carried.0.insert(path.to_owned(), linked);
        Ok(())
    }
}

/// Whether a directory in a directory of this depth is moved over as a whole, and never entered.
fn is_too_deep(depth: u32, own: bool) -> bool {
    depth >= DEEPEST && !own
}

fn in_the_way(path: &Path) -> Error {
    Error::new(format!(
        "{} of the revision meets something of another kind that somebody put there",
        path.display()
    ))
    .hint("move it away, and apply again")
}

/// Exchanges the shared directory and the new tree. Fails without a change if either of them is no
/// longer the same directory.
pub fn exchange(permit: &Permit, staging: &Staging, old: &Dir, new: &Dir) -> Result<()> {
    let swap = || {
        staging.dir.rename(
            permit,
            OsStr::new(NEW),
            &staging.above,
            &staging.shared,
            RenameFlags::EXCHANGE,
        )
    };
    swap()?;
    let shared = staging.above.look(Path::new(&staging.shared))?;
    let staged = staging.dir.look(Path::new(NEW))?;
    let inode = |found: Option<Metadata>| found.map(|found| found.inode);
    if inode(shared) != Some(new.found()?.inode) || inode(staged) != Some(old.found()?.inode) {
        swap()?;
        return Err(Error::new(format!(
            "{} was replaced by somebody at this moment",
            old.path().display()
        ))
        .hint("apply again"));
    }
    staging.above.sync()?;
    staging.dir.sync()
}

/// Whether the exchange of an intent has happened.
pub fn has_happened(intent: &Intent) -> Result<bool> {
    let found = Dir::open(&intent.manifest.path)?;
    let inode = found.map(|dir| dir.found()).transpose()?;
    Ok(inode.map(|found| found.inode) == Some(intent.inode))
}

/// What becomes of a name under which a file was linked, if the old tree no longer has the file
/// under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Remove the name: the file was renamed in the old tree.
    Go,
    /// Keep the name: an interrupted [`settle`] may have taken it from the old tree.
    Stay,
}

/// Finishes an exchange: moves over late files, and records that everything is in place. Returns
/// what the operator should know.
pub fn settle(permit: &Permit, intent: &Intent, names: Names) -> Result<Vec<String>> {
    let shared = &intent.manifest.path;
    let mut told = Vec::new();
    if let Some(staging) = Staging::open(shared)? {
        let staged = staging.dir.look(Path::new(NEW))?;
        if staged.is_some_and(|found| found.inode != intent.inode) {
            let before = manifest::read(shared)?;
            staging.set_aside(permit, &before.unwrap_or_default())?;
        }
        let new = staging.open_shared()?;
        for (name, before) in staging.replaced()? {
            if let Some(old) = staging.dir.directory(Path::new(&name))? {
                told.extend(move_late(
                    permit,
                    &old,
                    &new,
                    &before,
                    &intent.manifest,
                    &intent.carried,
                    names,
                )?);
            }
        }
        new.sync_filesystem()?;
    }
    permit.during()?;
    manifest::write(&intent.manifest)?;
    manifest::remove_intent(shared)?;
    Ok(told)
}

/// Whether a change of revision left something to do: it was cut off, or somebody who has a
/// replaced tree open has written to it since.
pub fn is_unfinished(shared: &Path) -> Result<bool> {
    if manifest::read_intent(shared)?.is_some() {
        return Ok(true);
    }
    let Some(staging) = Staging::open(shared)? else {
        return Ok(false);
    };
    for (name, before) in staging.replaced()? {
        if let Some(old) = staging.dir.directory(Path::new(&name))?
            && holds_others(&old, &old, Path::new(""), &before)?
        {
            return Ok(true);
        }
    }
    staging.is_left()
}

/// Removes what a health check that met the change of revision left. `false` if it holds somebody else's files.
fn remove_check(permit: &Permit, from: &Dir, name: &OsStr) -> Result<bool> {
    if let Some(check) = from.directory(Path::new(name))? {
        for file in [health_file::MADE, health_file::RENAMED].map(OsStr::new) {
            if check.look(Path::new(file))?.is_some() {
                check.remove_file(permit, file)?;
            }
        }
    }
    from.remove_directory(permit, name)
}

/// Whether anything in the tree is not the agent's.
fn holds_others(root: &Dir, from: &Dir, relative: &Path, before: &Manifest) -> Result<bool> {
    for name in from.names()? {
        let path = relative.join(&name);
        if health_file::is_directory_of_a_check(&path) {
            continue;
        }
        let own = match from.directory(Path::new(&name))? {
            Some(inner) => {
                before.has_directory(&path) && !holds_others(root, &inner, &path, before)?
            }
            None => before.is_deployed(root, &path)?,
        };
        if !own {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves everything that is not the agent's out of the replaced trees, and removes the trees. A
/// tree that somebody uses stays until another time, unless `all` is set.
pub fn remove_replaced(permit: &Permit, shared: &Path, all: bool) -> Result<Vec<String>> {
    let Some(staging) = Staging::open(shared)? else {
        return Ok(Vec::new());
    };
    let now = manifest::read(shared)?.unwrap_or_default();
    let mut told = Vec::new();
    for (name, before) in staging.replaced()? {
        let Some(old) = staging.dir.directory(Path::new(&name))? else {
            staging.forget(permit, &name)?;
            continue;
        };
        let new = staging.open_shared()?;
        for tries in 1.. {
            let late = move_late(
                permit,
                &old,
                &new,
                &before,
                &now,
                &Carried::default(),
                Names::Stay,
            )?;
            told.extend(late);
            if !all && staging.is_used(&name)? {
                break;
            }
            remove_own(permit, &old, &old, Path::new(""), 0, &before)?;
            if staging.dir.remove_directory(permit, &name)? {
                staging.forget(permit, &name)?;
                break;
            }
            if tries == TRIES {
                return Err(Error::new(format!(
                    "{} does not become empty: somebody goes on writing there",
                    old.path().display()
                ))
                .hint("see who does (fuser -v), stop it, and apply again"));
            }
        }
    }
    staging.remove_if_empty(permit)?;
    Ok(told)
}

/// Removes the agent's own files from a replaced tree, and the directories that this leaves empty.
fn remove_own(
    permit: &Permit,
    root: &Dir,
    from: &Dir,
    relative: &Path,
    depth: u32,
    before: &Manifest,
) -> Result<()> {
    for name in from.names()? {
        let path = relative.join(&name);
        let Some(found) = from.look(Path::new(&name))? else {
            continue;
        };
        if found.file_type == FileType::Directory {
            if is_too_deep(depth, before.has_directory(&path)) {
                continue;
            }
            if let Some(inner) = from.directory(Path::new(&name))? {
                remove_own(permit, root, &inner, &path, depth + 1, before)?;
                from.remove_directory(permit, &name)?;
            }
        } else if before.is_deployed(root, &path)? {
            from.remove_file(permit, &name)?;
        }
    }
    Ok(())
}

/// Moves everything that is not the agent's out of a replaced tree.
fn move_late(
    permit: &Permit,
    old: &Dir,
    new: &Dir,
    before: &Manifest,
    next: &Manifest,
    carried: &Carried,
    names: Names,
) -> Result<Vec<String>> {
    let root = new
        .directory(Path::new(""))?
        .ok_or_else(|| Error::new(format!("{} is gone", new.path().display())))?;
    let mut late = Late {
        permit,
        old,
        new,
        before,
        next,
        carried,
        told: Vec::new(),
        seen: HashMap::new(),
    };
    late.directory(old, Path::new(""), 0, &Target::root(root))?;
    if names == Names::Go {
        late.remove_old_names()?;
    }
    Ok(late.told)
}

struct Late<'l> {
    permit: &'l Permit,
    old: &'l Dir,
    new: &'l Dir,
    before: &'l Manifest,
    next: &'l Manifest,
    carried: &'l Carried,
    told: Vec<String>,
    /// The paths of the files in the old tree, by inode.
    seen: HashMap<u64, HashSet<PathBuf>>,
}

impl Late<'_> {
    fn directory(
        &mut self,
        from: &Dir,
        relative: &Path,
        depth: u32,
        to: &Target<'_>,
    ) -> Result<()> {
        for name in from.names()? {
            let path = relative.join(&name);
            if health_file::is_directory_of_a_check(&path)
                && remove_check(self.permit, from, &name)?
            {
                continue;
            }
            let Some(found) = from.look(Path::new(&name))? else {
                continue;
            };
            if found.file_type != FileType::Directory {
                self.file(from, &name, &path, found, to)?;
                continue;
            }
            let own = self.before.has_directory(&path);
            if is_too_deep(depth, own) {
                self.whole(from, &name, to)?;
                continue;
            }
            let Some(inner) = from.directory(Path::new(&name))? else {
                continue;
            };
            let target = to.below(&name, &inner);
            if !own && target.get(self.permit)?.is_none() {
                self.set_beside(from, &name)?;
                continue;
            }
            self.directory(&inner, &path, depth + 1, &target)?;
            if !own {
                from.remove_directory(self.permit, &name)?;
            }
        }
        Ok(())
    }

    /// Moves a directory with everything below it.
    fn whole(&mut self, from: &Dir, name: &OsStr, to: &Target<'_>) -> Result<()> {
        if let Some(target) = to.get(self.permit)?
            && from.rename(self.permit, name, target, name, RenameFlags::NOREPLACE)?
        {
            return Ok(());
        }
        self.set_beside(from, name)
    }

    fn file(
        &mut self,
        from: &Dir,
        name: &OsStr,
        path: &Path,
        found: Metadata,
        to: &Target<'_>,
    ) -> Result<()> {
        if self.before.is_deployed(self.old, path)? {
            return Ok(());
        }
        if !self.carried.0.is_empty() {
            let paths = self.seen.entry(found.inode).or_default();
            paths.insert(path.to_owned());
        }
        let Some(target) = to.get(self.permit)? else {
            return self.set_beside(from, name);
        };
        let there = target.look(Path::new(name))?;
        // Looked up by path: a file that was linked under another name and renamed since counts as
        // new.
        let linked = self.carried.0.get(path);
        match there {
            None if linked.is_some_and(|linked| linked.inode == found.inode) => {
                // Its owner removed the file from the new tree, into which it was linked.
                from.remove_file(self.permit, name)
            }
            None => {
                let flags = RenameFlags::NOREPLACE;
                if from.rename(self.permit, name, target, name, flags)? {
                    return Ok(());
                }
                self.set_beside(from, name)
            }
            Some(there) if there.inode == found.inode => from.remove_file(self.permit, name),
            Some(there) if there.file_type == FileType::Directory => self.set_beside(from, name),
            Some(_) if self.next.is_deployed(self.new, path)? => {
                // The file was changed by hand while the revision was put together. It is kept, as
                // always.
                let flags = RenameFlags::EXCHANGE;
                from.rename(self.permit, name, target, name, flags)?;
                let ours = match self.next.files.get(path) {
                    Some(deployed) => deployed.look(self.old, path)? == Look::AsDeployed,
                    None => false,
                };
                if ours {
                    from.remove_file(self.permit, name)
                } else {
                    self.set_beside(from, name)
                }
            }
            // Its owner put another file in its place in the new tree.
            Some(_) if linked.is_some_and(|linked| linked.is(&found)) => {
                from.remove_file(self.permit, name)
            }
            // Before the exchange, another file took the place of the linked file.
            Some(there) if linked.is_some_and(|linked| linked.is(&there)) => {
                let flags = RenameFlags::empty();
                from.rename(self.permit, name, target, name, flags)
                    .map(drop)
            }
            Some(_) => self.set_beside(from, name),
        }
    }

    /// Removes from the new tree the old names of linked files that were renamed in the old tree.
    fn remove_old_names(&self) -> Result<()> {
        for (path, linked) in &self.carried.0 {
            let renamed = self.seen.get(&linked.inode);
            if renamed.is_none_or(|paths| paths.contains(path)) {
                continue;
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            let Some(parent) = self.new.directory(parent)? else {
                continue;
            };
            let there = parent.look(Path::new(name))?;
            if there.is_some_and(|there| there.inode == linked.inode) {
                parent.remove_file(self.permit, name)?;
            }
        }
        Ok(())
    }

    /// Moves something whose place in the new tree is taken into the root of that tree, under a
    /// free name.
    fn set_beside(&mut self, from: &Dir, name: &OsStr) -> Result<()> {
        for number in 1..=u32::MAX {
            let mut free = name.to_owned();
            free.push(format!(".kept-{number}"));
            let flags = RenameFlags::NOREPLACE;
            if from.rename(self.permit, name, self.new, &free, flags)? {
                self.told.push(format!(
                    "{} was written while the revision changed, and its name was taken: it is {} now",
                    from.path().join(name).display(),
                    self.new.path().join(&free).display()
                ));
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::staging;
    use crate::host::account::Account;
    use crate::host::git::TreeEntry;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    /// A shared directory and what is deployed in it.
    struct Ground {
        _work: tempfile::TempDir,
        shared: PathBuf,
        now: Manifest,
    }

    /// A change of revision that has come to its exchange.
    struct Change {
        staging: Staging,
        old: Dir,
        new: Dir,
        next: Manifest,
        carried: Carried,
    }

    impl Ground {
        fn new() -> Self {
            let work = tempfile::tempdir().unwrap();
            let shared = work.path().join("shared");
            fs::create_dir(&shared).unwrap();
            Self {
                shared,
                now: Manifest::default(),
                _work: work,
            }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.shared.join(path)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.at(path)).unwrap_or_else(|error| error.to_string())
        }

        /// Puts a revision together and links what is not the agent's into it.
        fn begin(&self, files: &[(&str, &str)]) -> Result<Change> {
            let permit = Permit::for_a_test();
            let staging = Staging::make(&permit, &self.shared)?;
            let found = fs::metadata(&self.shared).unwrap();
            let owner = Account {
                name: String::new(),
                uid: found.uid(),
                gid: found.gid(),
                shell: String::new(),
            };
            let entries: Vec<TreeEntry> = files
                .iter()
                .map(|(path, _)| TreeEntry {
                    path: path.into(),
                    blob: String::new(),
                    size: 0,
                    executable: false,
                })
                .collect();
            let new = staging::begin(&permit, &staging, &owner)?;
            for (entry, (_, text)) in entries.iter().zip(files) {
                staging::write(&permit, &new, entry, &mut text.as_bytes(), &owner)?;
            }
            let old = staging.open_shared()?;
            let mut next = Manifest {
                path: self.shared.clone(),
                files: staging::list(&new)?,
                ..Manifest::default()
            };
            let carried = carry(&permit, &old, &new, &self.now, &mut next)?;
            Ok(Change {
                staging,
                old,
                new,
                next,
                carried,
            })
        }

        /// Finishes the change and returns what the operator is told.
        fn end(&mut self, change: Change) -> Vec<String> {
            let permit = Permit::for_a_test();
            let told = move_late(
                &permit,
                &change.old,
                &change.new,
                &self.now,
                &change.next,
                &change.carried,
                Names::Go,
            )
            .unwrap();
            remove_own(
                &permit,
                &change.old,
                &change.old,
                Path::new(""),
                0,
                &self.now,
            )
            .unwrap();
            let gone = change
                .staging
                .dir
                .remove_directory(&permit, OsStr::new(NEW))
                .unwrap();
            assert!(gone, "{:?}", change.old.names());
            change.staging.remove_if_empty(&permit).unwrap();
            self.now = change.next;
            told
        }

        fn deploy(&mut self, files: &[(&str, &str)]) {
            let change = self.begin(files).unwrap();
            let permit = Permit::for_a_test();
            exchange(&permit, &change.staging, &change.old, &change.new).unwrap();
            assert_eq!(self.end(change), Vec::<String>::new());
        }

        fn look(&self, path: &str) -> Look {
            let root = Dir::open(&self.shared).unwrap().unwrap();
            self.now.files[Path::new(path)]
                .look(&root, Path::new(path))
                .unwrap()
        }
    }

    #[test]
    fn uploads_and_changed_files_survive_a_new_revision() {
        let mut ground = Ground::new();
        ground.put("upload", "a user's");
        ground.put("empty/x", "");
        fs::remove_file(ground.at("empty/x")).unwrap();
        ground.deploy(&[("a", "1"), ("dir/b", "1"), ("gone/c", "1")]);
        ground.put("dir/b", "by hand");
        ground.put("dir/photo", "a photo");
        std::os::unix::fs::symlink("/etc", ground.at("link")).unwrap();
        let pipe = ground.at("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let inode = fs::metadata(ground.at("dir/photo")).unwrap().ino();

        ground.deploy(&[("a", "2"), ("dir/b", "2"), ("upload", "2")]);
        assert_eq!(ground.read("a"), "2");
        assert_eq!(ground.read("dir/b"), "by hand");
        assert_eq!(ground.read("upload"), "a user's");
        assert_eq!(fs::metadata(ground.at("dir/photo")).unwrap().ino(), inode);
        assert!(ground.at("empty").is_dir() && !ground.at("gone").exists());
        assert_eq!(fs::read_link(ground.at("link")).unwrap(), Path::new("/etc"));
        assert!(fs::symlink_metadata(pipe).is_ok());
        assert_eq!(ground.look("a"), Look::AsDeployed);
        assert_eq!(ground.look("dir/b"), Look::Changed);
        assert_eq!(ground.look("upload"), Look::Changed);
    }

    #[test]
    fn what_comes_late_is_moved_over() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1"), ("b", "1"), ("gone/c", "1"), ("d/x", "1")]);
        ground.put("replaced", "before");
        ground.put("removed", "before");
        let change = ground
            .begin(&[("a", "2"), ("b", "2"), ("late", "2")])
            .unwrap();
        // Between the look and the exchange.
        ground.put("b", "by hand, late");
        fs::write(ground.at("fresh"), "after").unwrap();
        fs::rename(ground.at("fresh"), ground.at("replaced")).unwrap();
        ground.put("new/deep/file", "late");
        let permit = Permit::for_a_test();
        exchange(&permit, &change.staging, &change.old, &change.new).unwrap();
        // A process that works in the old tree goes on there.
        let old = change.staging.dir.path().join(NEW);
        fs::write(old.join("gone/upload"), "later").unwrap();
        fs::write(old.join("late"), "later").unwrap();
        fs::remove_file(ground.at("removed")).unwrap();

        let told = ground.end(change);
        assert_eq!(ground.read("a"), "2");
        assert_eq!(ground.read("b"), "by hand, late");
        assert_eq!(ground.read("replaced"), "after");
        assert_eq!(ground.read("new/deep/file"), "late");
        assert_eq!(ground.read("gone/upload"), "later");
        assert_eq!(ground.read("late"), "later");
        assert!(!ground.at("removed").exists() && !ground.at("d").exists());
        assert_eq!(told, Vec::<String>::new());
    }

    /// A directory of somebody's, with `depth` more in each other below it and a file in the last one.
    fn make_deep(ground: &Ground, top: &str, depth: usize) -> PathBuf {
        let permit = Permit::for_a_test();
        fs::create_dir_all(ground.at(top)).unwrap();
        let mut dir = Dir::open(&ground.at(top)).unwrap().unwrap();
        let meta = dir.found().unwrap().meta;
        for _ in 0..depth {
            dir = dir.make_directory(&permit, OsStr::new("d"), meta).unwrap();
        }
        dir.make_file(&permit, OsStr::new("leaf"), b"deep", meta)
            .unwrap();
        let way = std::iter::repeat_n("d", depth).chain(["leaf"]);
        Path::new(top).join(way.collect::<PathBuf>())
    }

    #[test]
    fn a_tree_of_any_depth_is_kept_and_stops_nothing() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1"), ("own/b", "1")]);
        let least = usize::try_from(DEEPEST).unwrap();
        let mut leaves = Vec::new();
        for (top, depth) in [
            ("exactly", least - 1),
            ("one-more", least),
            ("own/far", 700),
            ("farther", 5000),
        ] {
            leaves.push(make_deep(&ground, top, depth));
        }
        let inode = |ground: &Ground, leaf: &Path| {
            let root = Dir::open(&ground.shared).unwrap().unwrap();
            root.look(leaf).unwrap().map(|found| found.inode)
        };
        let was: Vec<_> = leaves.iter().map(|leaf| inode(&ground, leaf)).collect();
        assert!(was.iter().all(Option::is_some));
        ground.deploy(&[("a", "2"), ("own/b", "2")]);
        ground.deploy(&[("a", "3")]);
        let is: Vec<_> = leaves.iter().map(|leaf| inode(&ground, leaf)).collect();
        assert_eq!(was, is);
        assert_eq!(ground.read("a"), "3");
        let above = Dir::open(ground.shared.parent().unwrap()).unwrap().unwrap();
        let shared = ground.shared.file_name().unwrap();
        above.remove_tree(&Permit::for_a_test(), shared).unwrap();
    }

    #[test]
    fn a_file_that_is_renamed_meanwhile_has_its_new_name_alone() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1")]);
        for name in [
            "photo.part",
            "data.json",
            "data.json.tmp",
            "late.part",
            "linked",
        ] {
            ground.put(name, name);
        }
        fs::hard_link(ground.at("linked"), ground.at("twice")).unwrap();
        let change = ground.begin(&[("a", "2")]).unwrap();
        let rename = |root: &Path, from: &str, to: &str| {
            fs::rename(root.join(from), root.join(to)).unwrap();
        };
        rename(&ground.shared, "photo.part", "photo");
        rename(&ground.shared, "data.json.tmp", "data.json");
        let permit = Permit::for_a_test();
        exchange(&permit, &change.staging, &change.old, &change.new).unwrap();
        rename(&change.staging.dir.path().join(NEW), "late.part", "late");

        let told = ground.end(change);
        assert_eq!(ground.read("photo"), "photo.part");
        assert_eq!(ground.read("data.json"), "data.json.tmp");
        assert_eq!(ground.read("late"), "late.part");
        assert_eq!(ground.read("twice"), "linked");
        assert_eq!(ground.read("linked"), "linked");
        for gone in ["photo.part", "data.json.tmp", "late.part"] {
            assert!(!ground.at(gone).exists(), "{gone}");
        }
        assert_eq!(told, Vec::<String>::new());
    }

    #[test]
    fn a_change_that_was_cut_off_is_finished_where_its_disk_is_by_then() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1")]);
        manifest::write(&Manifest {
            path: ground.shared.clone(),
            ..ground.now.clone()
        })
        .unwrap();
        for name in ["data.json", "removed", "stays"] {
            ground.put(name, "before");
        }
        let change = ground.begin(&[("a", "2")]).unwrap();
        let intent = Intent {
            manifest: change.next,
            inode: change.new.found().unwrap().inode,
            carried: change.carried,
        };
        manifest::write_intent(&intent).unwrap();
        let permit = Permit::for_a_test();
        exchange(&permit, &change.staging, &change.old, &change.new).unwrap();
        // The agent is killed, and the application goes on.
        ground.put("fresh", "after");
        fs::rename(ground.at("fresh"), ground.at("data.json")).unwrap();
        fs::remove_file(ground.at("removed")).unwrap();
        let old = change.staging.dir.path().join(NEW);
        fs::write(old.join("late"), "late").unwrap();

        // The disk goes to another VM, where it is mounted elsewhere.
        let above = ground.shared.parent().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let disk = elsewhere.path().join("disk");
        fs::rename(above, &disk).unwrap();
        fs::create_dir(above).unwrap();
        ground.shared = disk.join("shared");

        let intent = manifest::read_intent(&ground.shared).unwrap().unwrap();
        assert!(has_happened(&intent).unwrap());
        let told = settle(&permit, &intent, Names::Stay).unwrap();
        assert_eq!(told, Vec::<String>::new());
        assert_eq!(ground.read("a"), "2");
        assert_eq!(ground.read("data.json"), "after");
        assert_eq!(ground.read("stays"), "before");
        assert_eq!(ground.read("late"), "late");
        assert!(!ground.at("removed").exists());
        assert!(manifest::read_intent(&ground.shared).unwrap().is_none());
        let now = manifest::read(&ground.shared).unwrap().unwrap();
        assert_eq!(now.path, ground.shared);
        ground.now = now;
        assert_eq!(ground.look("a"), Look::AsDeployed);
    }

    #[test]
    fn the_file_of_a_health_check_goes_into_no_revision() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1")]);
        ground.put(".wasagent-health-was-01/made.js", "half");
        ground.put("uploads/.wasagent-health-was-01/made.js", "a user's");
        ground.deploy(&[("a", "2")]);
        assert!(!ground.at(".wasagent-health-was-01").exists());
        assert_eq!(
            ground.read("uploads/.wasagent-health-was-01/made.js"),
            "a user's"
        );
    }

    #[test]
    fn what_has_no_place_is_set_beside_and_told() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1")]);
        let change = ground.begin(&[("a", "2"), ("dir/b", "2")]).unwrap();
        let permit = Permit::for_a_test();
        exchange(&permit, &change.staging, &change.old, &change.new).unwrap();
        fs::write(change.staging.dir.path().join(NEW).join("dir"), "a file").unwrap();
        let told = ground.end(change);
        assert_eq!(ground.read("dir.kept-1"), "a file");
        assert!(told[0].contains("dir.kept-1"), "{told:?}");
    }

    #[test]
    fn another_kind_in_the_way_is_refused_before_anything_shows() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1")]);
        ground.put("b/c", "a user's");
        let refused = ground.begin(&[("b", "2")]).err().unwrap();
        assert!(refused.message.contains('b'), "{refused}");
        assert_eq!(ground.read("a"), "1");
    }

    #[test]
    fn a_directory_that_was_swapped_is_not_exchanged() {
        let mut ground = Ground::new();
        ground.deploy(&[("a", "1")]);
        let change = ground.begin(&[("a", "2")]).unwrap();
        fs::rename(&ground.shared, ground.shared.with_extension("away")).unwrap();
        fs::create_dir(&ground.shared).unwrap();
        let permit = Permit::for_a_test();
        assert!(exchange(&permit, &change.staging, &change.old, &change.new).is_err());
        assert!(change.staging.dir.path().join(NEW).join("a").exists());
        assert!(!ground.at("a").exists());
    }

    #[test]
    fn attributes_of_the_directory_stay() {
        use std::os::unix::fs::PermissionsExt;
        let mut ground = Ground::new();
        let mode = fs::Permissions::from_mode(0o2750);
        fs::set_permissions(&ground.shared, mode).unwrap();
        let was = fs::metadata(&ground.shared).unwrap();
        ground.deploy(&[("a", "1")]);
        let is = fs::metadata(&ground.shared).unwrap();
        assert_eq!(is.mode(), was.mode());
        assert_ne!(is.ino(), was.ino());
    }
}
