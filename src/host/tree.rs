//! Work inside a directory tree that another account may change at any moment. Every step uses the
//! descriptor of a directory and one name below it, or an `openat2(2)` that leaves neither the tree
//! nor its file system and follows no symbolic link. Of what is not a directory, only regular files
//! are opened.
//!
//! The file is long because every call that works below an open directory is here, one short function each.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use sha1::{Digest, Sha1};

use super::fs::{FileMeta, SELINUX_XATTR};
use super::permit::Permit;
use crate::error::{Doing, Error, Result};

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::RDONLY);
/// Opening a FIFO must not wait for a writer.
const FILE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::RDONLY)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// How many directories deep a tree is walked with one open directory a level. A process may have
/// 1024 files open (systemd's default), and some walks open two a level.
pub const DEEPEST: u32 = 200;

/// The longest path that a system call takes, with its NUL (`PATH_MAX` in the kernel's limits.h).
const PATH_MAX: usize = 4096;

/// The longest attribute of a directory, and the longest list of attribute names: 64 KiB
/// (`XATTR_SIZE_MAX` in the kernel's limits.h).
const XATTR_MAX: usize = 1 << 16;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    File,
    Directory,
    Symlink,
    /// A FIFO, a socket, a device.
    Other,
}

/// What lstat(2) says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    pub file_type: FileType,
    pub size: u64,
    /// In nanoseconds since 1970.
    pub modified: i128,
    pub inode: u64,
    pub meta: FileMeta,
}

impl Metadata {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            file_type: match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::RegularFile => FileType::File,
                rustix::fs::FileType::Directory => FileType::Directory,
                rustix::fs::FileType::Symlink => FileType::Symlink,
                _ => FileType::Other,
            },
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
            inode: stat.st_ino,
            meta: FileMeta {
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
            },
        }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

impl Dir {
    /// Opens a directory by a path that only root can change; `None` where there is none.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: path.to_owned(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing(format_args!("open directory {}", path.display())),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The directory `relative`; `None` where there is none, or where the path has a symbolic link.
    ///
    /// # Errors
    /// When something is mounted on it or above it within the tree, or a system call fails.
    pub fn directory(&self, relative: &Path) -> Result<Option<Self>> {
        let relative = not_empty(relative);
        if is_long(relative) {
            return self.far_directory(relative);
        }
        match rustix::fs::openat2(&self.fd, relative, DIRECTORY, Mode::empty(), BENEATH) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: self.at(relative),
            })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.failure(relative, error)),
        }
    }

    /// A directory whose path is longer than the kernel takes at once.
    fn far_directory(&self, relative: &Path) -> Result<Option<Self>> {
        let mut parts = relative.components();
        let mut there = self.directory(Path::new(""))?;
        while let (Some(directory), Some(part)) = (&there, parts.next()) {
            there = directory.directory(Path::new(&part))?;
        }
        Ok(there)
    }

    fn failure(&self, relative: &Path, error: Errno) -> Error {
        let path = self.at(relative);
        if error == Errno::XDEV {
            return Error::new(format!(
                "{}: something is mounted there, within the shared directory",
                path.display()
            ))
            .hint("mount it outside of storage.path, and apply again");
        }
        let failed: Result<(), Errno> = Err(error);
        match failed.doing(format_args!("open {}", path.display())) {
            Err(error) => error,
            Ok(()) => Error::new(format!("open {}", path.display())),
        }
    }

    /// What is at `relative`, without following a symbolic link; `None` where nothing is.
    pub fn look(&self, relative: &Path) -> Result<Option<Metadata>> {
        let relative = not_empty(relative);
        if is_long(relative)
            && let (Some(parent), Some(name)) = (relative.parent(), relative.file_name())
        {
            return match self.directory(parent)? {
                Some(parent) => parent.look(Path::new(name)),
                None => Ok(None),
            };
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), BENEATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(self.failure(relative, error)),
        };
        let stat = rustix::fs::fstat(&fd)
            .doing(format_args!("look at {}", self.at(relative).display()))?;
        Ok(Some(Metadata::of(&stat)))
    }

    /// What lstat(2) says of this directory itself.
    pub fn found(&self) -> Result<Metadata> {
        rustix::fs::fstat(&self.fd)
            .map(|stat| Metadata::of(&stat))
            .doing(format_args!("look at {}", self.path.display()))
    }

    /// The device number of its file system.
    pub fn device(&self) -> Result<u64> {
        rustix::fs::fstat(&self.fd)
            .map(|stat| stat.st_dev)
            .doing(format_args!("look at {}", self.path.display()))
    }

    /// The names in it, sorted, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let doing = || format!("read directory {}", self.path.display());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).doing(doing())? {
            let entry = entry.doing(doing())?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The bytes of a regular file of exactly this size, or of a symbolic link; `None` for anything
    /// else.
    pub fn read(&self, relative: &Path, size: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let whole = self.stream(relative, size, |piece| bytes.extend_from_slice(piece))?;
        Ok(whole.then_some(bytes))
    }

    /// git's name for the bytes of a file, or for the target of a symbolic link, of exactly this
    /// size; `None` for anything else.
    pub fn blob(&self, relative: &Path, size: u64) -> Result<Option<String>> {
        let mut hash = begin_blob(size);
        let whole = self.stream(relative, size, |piece| hash.update(piece))?;
        Ok(whole.then(|| end_blob(hash)))
    }

    /// Opens a regular file to read, write or lock it; `None` where there is none.
    pub fn open_file(&self, relative: &Path) -> Result<Option<File>> {
        let flags = FILE | OFlags::RDWR;
        let fd = match rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), BENEATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Ok(None);
            }
            Err(error) => return Err(self.failure(relative, error)),
        };
        let stat = rustix::fs::fstat(&fd)
            .doing(format_args!("look at {}", self.at(relative).display()))?;
        Ok((Metadata::of(&stat).file_type == FileType::File).then(|| File::from(fd)))
    }

    fn stream(&self, relative: &Path, size: u64, mut take: impl FnMut(&[u8])) -> Result<bool> {
        let doing = || format!("read {}", self.at(relative).display());
        let Some(found) = self.look(relative)?.filter(|found| found.size == size) else {
            return Ok(false);
        };
        match found.file_type {
            FileType::Symlink => {
                let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else {
                    return Ok(false);
                };
                let Some(parent) = self.directory(parent)? else {
                    return Ok(false);
                };
                let target = rustix::fs::readlinkat(&parent.fd, name, Vec::new()).doing(doing())?;
                take(target.to_bytes());
                Ok(target.to_bytes().len() as u64 == size)
            }
            FileType::File => {
                let fd = match rustix::fs::openat2(&self.fd, relative, FILE, Mode::empty(), BENEATH)
                {
                    Ok(fd) => fd,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                    Err(error) => return Err(self.failure(relative, error)),
                };
                // The file may have been replaced since.
                let stat = rustix::fs::fstat(&fd).doing(doing())?;
                if Metadata::of(&stat).file_type != FileType::File {
                    return Ok(false);
                }
                // One byte more than expected reveals a file that grows.
                let mut file = File::from(fd).take(size + 1);
                let mut piece = vec![0; 1 << 16];
                let mut length = 0;
                loop {
                    let read = file.read(&mut piece).doing(doing())?;
                    if read == 0 {
                        return Ok(length == size);
                    }
                    length += read as u64;
                    take(&piece[..read]);
                }
            }
            FileType::Directory | FileType::Other => Ok(false),
        }
    }

    /// Makes a directory and sets its owner before its mode.
    pub fn make_directory(&self, _permit: &Permit, name: &OsStr, meta: FileMeta) -> Result<Self> {
        let doing = || format!("make directory {}", self.at(name).display());
        rustix::fs::mkdirat(&self.fd, name, Mode::RWXU).doing(doing())?;
        let made = self
            .directory(Path::new(name))?
            .ok_or_else(|| Error::new(format!("{}: it is gone at once", doing())))?;
        set_meta(&made.fd, meta).doing(doing())?;
        Ok(made)
    }

    /// Makes a new file; an existing one is an error.
    pub fn make_file(
        &self,
        permit: &Permit,
        name: &OsStr,
        contents: &[u8],
        meta: FileMeta,
    ) -> Result<()> {
        self.make_file_by(permit, name, meta, |file| file.write_all(contents))
    }

    /// Makes a new file of what `write` writes; an existing one is an error.
    pub fn make_file_by(
        &self,
        _permit: &Permit,
        name: &OsStr,
        meta: FileMeta,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        let doing = || format!("write {}", self.at(name).display());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR).doing(doing())?;
        let mut file = File::from(fd);
        write(&mut file).doing(doing())?;
        set_meta(&file, meta).doing(doing())
    }

    /// Sets the owner and mode of a regular file or directory; `false` where there is none.
    pub fn set_meta(&self, _permit: &Permit, name: &OsStr, meta: FileMeta) -> Result<bool> {
        let path = Path::new(name);
        let fd = match rustix::fs::openat2(&self.fd, path, FILE, Mode::empty(), BENEATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
            Err(error) => return Err(self.failure(path, error)),
        };
        let doing = || format!("set owner and mode of {}", self.at(name).display());
        let found = Metadata::of(&rustix::fs::fstat(&fd).doing(doing())?);
        let fits = matches!(found.file_type, FileType::File | FileType::Directory);
        if fits && found.meta != meta {
            set_meta(&fd, meta).doing(doing())?;
        }
        Ok(fits)
    }

    /// Where a symbolic link leads, as it is written.
    pub fn link_target(&self, name: &OsStr) -> Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .doing(format_args!("read link {}", self.at(name).display()))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.to_bytes())))
    }

    /// Whether what `relative` stands for, with every symbolic link followed, stays below this
    /// directory. What leads nowhere stays.
    pub fn stays_below(&self, relative: &Path) -> Result<bool> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve) {
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                Ok(true)
            }
            Err(Errno::XDEV) => Ok(false),
            Err(error) => Err(self.failure(relative, error)),
        }
    }

    /// Copies a regular file of exactly this size whose bytes git names `blob`; `false` where there is
    /// no such file.
    pub fn copy_file(
        &self,
        permit: &Permit,
        relative: &Path,
        (size, blob): (u64, &str),
        (to, name): (&Self, &OsStr),
        meta: FileMeta,
    ) -> Result<bool> {
        let mut hash = begin_blob(size);
        let mut copied = Ok(false);
        to.make_file_by(permit, name, meta, |file| {
            let mut written = Ok(());
            copied = self.stream(relative, size, |piece| {
                hash.update(piece);
                written =
                    std::mem::replace(&mut written, Ok(())).and_then(|()| file.write_all(piece));
            });
            written
        })?;
        let same = copied? && end_blob(hash) == blob;
        if !same {
            to.remove_file(permit, name)?;
        }
        Ok(same)
    }

    /// Makes a new symbolic link; an existing one is an error.
    pub fn make_symlink(&self, _permit: &Permit, name: &OsStr, target: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(OsStr::from_bytes(target), &self.fd, name)
            .doing(format_args!("make link {}", self.at(name).display()))
    }

    /// Makes a hard link to `name`, with the same name in another directory. `false` where the file
    /// has as many names as its file system allows.
    pub fn link(&self, _permit: &Permit, name: &OsStr, other: &Self) -> Result<bool> {
        // Without AT_SYMLINK_FOLLOW a symbolic link itself is linked.
        match rustix::fs::linkat(&self.fd, name, &other.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK) => Ok(false),
            Err(error) => Err(error).doing(format_args!(
                "link {} to {}",
                self.at(name).display(),
                other.at(name).display()
            )),
        }
    }

    /// Renames. `false` where the new name exists already, unless `flags` say otherwise.
    pub fn rename(
        &self,
        _permit: &Permit,
        name: &OsStr,
        other: &Self,
        new: &OsStr,
        flags: RenameFlags,
    ) -> Result<bool> {
        match rustix::fs::renameat_with(&self.fd, name, &other.fd, new, flags) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error).doing(format_args!(
                "move {} to {}",
                self.at(name).display(),
                other.at(new).display()
            )),
        }
    }

    pub fn remove_file(&self, _permit: &Permit, name: &OsStr) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .doing(format_args!("remove {}", self.at(name).display()))
    }

    /// Removes a directory if it is empty; `false` where it holds something.
    pub fn remove_directory(&self, _permit: &Permit, name: &OsStr) -> Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => {
                Err(error).doing(format_args!("remove directory {}", self.at(name).display()))
            }
        }
    }

    /// Removes a tree that belongs to the agent alone. Does nothing where there is none. However deep
    /// the tree is, few directories are open at a time: what lies deep is moved up first.
    pub fn remove_tree(&self, permit: &Permit, name: &OsStr) -> Result<()> {
        let mut removal = Removal {
            permit,
            top: self,
            name,
            number: 0,
            left: vec![name.to_owned()],
        };
        while let Some(next) = removal.left.pop() {
            let left = removal.left.len();
            removal.remove(self, &next, 0)?;
            if removal.left.len() > left {
                // It can be empty once what was moved up is gone.
                removal.left.insert(left, next);
            }
        }
        Ok(())
    }

    /// Gives this directory the owner, mode, label, access control lists, other attributes and
    /// times of another.
    pub fn copy_attributes(&self, _permit: &Permit, other: &Self) -> Result<()> {
        let doing = || {
            format!(
                "give {} the attributes of {}",
                self.path.display(),
                other.path.display()
            )
        };
        for name in attributes(&other.fd).doing(doing())? {
            let mut value = vec![0; XATTR_MAX];
            let length = match rustix::fs::fgetxattr(&other.fd, &name, &mut value[..]) {
                Ok(length) => length,
                // Removed meanwhile, or readable by nobody.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
                Err(error) => return Err(error).doing(doing()),
            };
            rustix::fs::fsetxattr(&self.fd, &name, &value[..length], XattrFlags::empty())
                .doing(doing())?;
        }
        let stat = rustix::fs::fstat(&other.fd).doing(doing())?;
        set_meta(&self.fd, Metadata::of(&stat).meta).doing(doing())?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: stat.st_atime,
                tv_nsec: stat.st_atime_nsec as _,
            },
            last_modification: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as _,
            },
        };
        rustix::fs::futimens(&self.fd, &times).doing(doing())
    }

    /// Gives this directory the SELinux label of another, where there are labels. What is made in
    /// it later inherits the label.
    pub fn label_as(&self, _permit: &Permit, other: &Self) -> Result<()> {
        let mut label = vec![0; XATTR_MAX];
        match rustix::fs::fgetxattr(&other.fd, SELINUX_XATTR, &mut label[..]) {
            Ok(length) => rustix::fs::fsetxattr(
                &self.fd,
                SELINUX_XATTR,
                &label[..length],
                XattrFlags::empty(),
            ),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error),
        }
        .doing(format_args!("label {}", self.path.display()))
    }

    /// Syncs its whole file system.
    pub fn sync_filesystem(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).doing(format_args!("sync {}", self.path.display()))
    }

    /// Syncs its own entries.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).doing(format_args!("sync {}", self.path.display()))
    }
}

/// The removal of a tree.
struct Removal<'r> {
    permit: &'r Permit,
    /// The directory that the tree lies in.
    top: &'r Dir,
    name: &'r OsStr,
    /// The number in the last name that was given in `top`.
    number: u64,
    /// The names in `top` that are to be removed, the last one first.
    left: Vec<OsString>,
}

impl Removal<'_> {
    fn remove(&mut self, from: &Dir, name: &OsStr, depth: u32) -> Result<()> {
        match from.look(Path::new(name))? {
            None => return Ok(()),
            Some(found) if found.file_type != FileType::Directory => {
                return from.remove_file(self.permit, name);
            }
            Some(_) if depth > DEEPEST => return self.move_up(from, name),
            Some(_) => {}
        }
        if let Some(directory) = from.directory(Path::new(name))? {
            for inner in directory.names()? {
                self.remove(&directory, &inner, depth + 1)?;
            }
        }
        from.remove_directory(self.permit, name).map(drop)
    }

    fn move_up(&mut self, from: &Dir, name: &OsStr) -> Result<()> {
        loop {
            self.number += 1;
            let mut free = self.name.to_owned();
            free.push(format!(".deep-{}", self.number));
            let flags = RenameFlags::NOREPLACE;
            if from.rename(self.permit, name, self.top, &free, flags)? {
                self.left.push(free);
                return Ok(());
            }
        }
    }
}

/// git's name for these bytes (gitformat-pack(5): `blob`, a blank, the size, NUL, the bytes).
pub fn blob(bytes: &[u8]) -> String {
    let mut hash = begin_blob(bytes.len() as u64);
    hash.update(bytes);
    end_blob(hash)
}

pub(super) fn begin_blob(size: u64) -> Sha1 {
    let mut hash = Sha1::new();
    hash.update(format!("blob {size}\0"));
    hash
}

pub(super) fn end_blob(hash: Sha1) -> String {
    let digest = hash.finalize();
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_long(relative: &Path) -> bool {
    relative.as_os_str().len() >= PATH_MAX && relative.components().count() > 1
}

/// `openat2(2)` takes no empty path.
fn not_empty(relative: &Path) -> &Path {
    if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    }
}

/// Owner before mode: chown(2) clears the set-id bits.
fn set_meta(fd: impl AsFd, meta: FileMeta) -> Result<(), Errno> {
    rustix::fs::fchown(
        &fd,
        Some(Uid::from_raw(meta.uid)),
        Some(Gid::from_raw(meta.gid)),
    )?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode))
}

fn attributes(fd: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut list = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(&fd, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let names = list[..length].split(|&byte| byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect())
}

/// Whether something is mounted at this path, as the kernel says; `false` where the path does not
/// exist.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error).doing(format_args!("look at {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(path: &Path) -> Dir {
        Dir::open(path).unwrap().unwrap()
    }

    #[test]
    fn a_blob_is_named_as_git_names_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "hello\n").unwrap();
        let dir = open(root.path());
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(
            dir.blob(Path::new("a"), 6).unwrap().as_deref(),
            Some("ce013625030ba8dba906f756967f9e9ca394464a")
        );
        assert_eq!(dir.blob(Path::new("a"), 5).unwrap(), None);
        assert_eq!(dir.blob(Path::new("b"), 0).unwrap(), None);
    }

    /// Makes directories in each other, deeper than any path reaches.
    fn make_deep(root: &Path, name: &str, depth: usize) {
        let permit = Permit::for_a_test();
        let meta = open(root).found().unwrap().meta;
        let mut dir = open(root);
        for _ in 0..depth {
            dir = dir.make_directory(&permit, OsStr::new(name), meta).unwrap();
        }
        dir.make_file(&permit, OsStr::new("leaf"), b"x", meta)
            .unwrap();
    }

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for name in ["a", "b"] {
            make_deep(&tree, name, 3000);
        }
        let dir = open(root.path());
        dir.remove_tree(&Permit::for_a_test(), OsStr::new("tree"))
            .unwrap();
        assert_eq!(dir.names().unwrap(), Vec::<OsString>::new());
    }

    #[test]
    fn a_path_longer_than_a_system_call_takes_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        make_deep(root.path(), &name, 30);
        let far: PathBuf = (0..30).map(|_| name.as_str()).collect();
        let dir = open(root.path());
        assert!(dir.directory(&far).unwrap().is_some());
        assert!(dir.look(&far.join("leaf")).unwrap().is_some());
        assert!(dir.look(&far.join("none")).unwrap().is_none());
        assert!(dir.look(&far.join(&far)).unwrap().is_none());
    }

    #[test]
    fn a_link_that_leads_out_is_known() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("d")).unwrap();
        for (name, target, stays) in [
            ("d/up", "../d", true),
            ("d/out", "../..", false),
            ("through", "d/out/x", false),
            ("round", "../x", false),
            ("absolute", "/etc/hostname", false),
            ("nowhere", "no/such", true),
            ("loop", "loop", true),
        ] {
            symlink(target, at(name)).unwrap();
            let dir = open(root.path());
            assert_eq!(dir.stays_below(Path::new(name)).unwrap(), stays, "{name}");
        }
    }

    #[test]
    fn nothing_is_followed_waited_for_or_left() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("real")).unwrap();
        fs::write(at("real/a"), "x").unwrap();
        symlink("real", at("link")).unwrap();
        symlink("/etc/hostname", at("out")).unwrap();
        let pipe = at("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let dir = open(root.path());
        assert!(dir.directory(Path::new("link")).unwrap().is_none());
        assert_eq!(dir.look(Path::new("link/a")).unwrap(), None);
        assert_eq!(dir.read(Path::new("link/a"), 1).unwrap(), None);
        assert!(dir.directory(Path::new("../")).is_err());
        assert_eq!(dir.read(Path::new("pipe"), 0).unwrap(), None);
        let look = |name: &str| dir.look(Path::new(name)).unwrap().unwrap().file_type;
        assert_eq!(look("out"), FileType::Symlink);
        assert_eq!(look("pipe"), FileType::Other);
        assert_eq!(look("real"), FileType::Directory);
        assert_eq!(
            dir.read(Path::new("out"), 13).unwrap().as_deref(),
            Some(b"/etc/hostname".as_slice())
        );
    }
}
