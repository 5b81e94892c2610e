//! Files and directories, written so that a power cut leaves the old or the new version, never a
//! part. A symbolic link or a device in the place of a file is never followed: the agent runs as
//! root, and a link in a directory that others may write would lead it anywhere.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::permit::Permit;
use crate::error::{Doing, Error, Result};

/// Extended attribute in which SELinux keeps the label of a file (`xattr(7)`).
pub(super) const SELINUX_XATTR: &str = "security.selinux";

/// Permission bits and owner of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileMeta {
    /// Permission bits including set-id and sticky (`0o7777`), without the file type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl FileMeta {
    /// Owned by root, with these permission bits.
    pub const fn root(mode: u32) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
        }
    }

    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }
}

/// A regular file as it was read. `Debug` does not show the contents: they may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct RegularFile {
    pub contents: Vec<u8>,
    pub meta: FileMeta,
    pub modified: SystemTime,
}

impl fmt::Debug for RegularFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegularFile")
            .field("contents", &format_args!("({} bytes)", self.contents.len()))
            .field("meta", &self.meta)
            .field("modified", &self.modified)
            .finish()
    }
}

/// What stands where a directory should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirState {
    Absent,
    Directory(FileMeta),
    /// Something else; the text says what: `a symbolic link`, `a regular file` …
    Other(&'static str),
}

impl DirState {
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

/// A file to write.
pub struct NewFile<'a> {
    pub contents: &'a [u8],
    pub meta: FileMeta,
    /// SELinux label. `None` keeps the label of an existing file; a new file gets what the policy
    /// gives.
    pub label: Option<&'a str>,
    /// Time of the last change; `None` is now.
    pub modified: Option<SystemTime>,
}

impl<'a> NewFile<'a> {
    pub fn new(contents: &'a [u8], meta: FileMeta) -> Self {
        Self {
            contents,
            meta,
            label: None,
            modified: None,
        }
    }
}

/// The name at which a file or directory is made before it is renamed to `path`. It is one fixed
/// name in the same directory, so the next run overwrites what an interrupted run left.
pub fn temporary_name(path: &Path) -> Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(
        path.file_name()
            .ok_or_else(|| Error::new(format!("{} is no name of a file", path.display())))?,
    );
    name.push(".wasagent");
    Ok(parent(path)?.join(name))
}

/// Writes a file in whole, with its mode and owner, or not at all. A temporary file in the same
/// directory gets its owner and mode before anybody can see it. Its contents are synced, it is
/// renamed over the target, and the directory is synced.
///
/// # Errors
/// When the target is anything but a regular file or nothing, and when a system call fails.
pub fn write_atomic(permit: &Permit, path: &Path, file: &NewFile<'_>) -> Result<()> {
    write_whole(path, file, || permit.during())
}

/// Writes a file in the agent's own directory, as [`write_atomic`] does. It takes no permit: the
/// file is part of the record of effects and no effect itself.
pub fn write_own(path: &Path, contents: &[u8]) -> Result<()> {
    make_own_directory(parent(path)?)?;
    let file = NewFile::new(contents, FileMeta::root(0o600));
    write_whole(path, &file, || Ok(()))
}

/// Makes a directory of the agent's own, readable by root alone, and the missing ones above it.
pub fn make_own_directory(directory: &Path) -> Result<()> {
    for missing in missing_directories(directory)? {
        // Several steps may make it at the same time.
        match DirBuilder::new().mode(0o700).create(&missing) {
            Ok(()) => sync_directory(parent(&missing)?)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).doing(format_args!("make directory {}", missing.display()));
            }
        }
    }
    Ok(())
}

fn write_whole(
    path: &Path,
    file: &NewFile<'_>,
    before_rename: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let label = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => selinux_label(path)?,
        Ok(found) => {
            return Err(Error::new(format!(
                "write {}: {} stands there, not a regular file",
                path.display(),
                kind_in_words(&found)
            ))
            .hint(format!("move {} away, and apply again", path.display())));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).doing(doing()),
    };
    let temporary = temporary_name(path)?;
    let written = write_temporary(&temporary, file, file.label.or(label.as_deref()))
        .map_err(|error| error.while_doing(doing()))
        .and_then(|()| before_rename())
        .and_then(|()| fs::rename(&temporary, path).doing(doing()));
    if let Err(error) = written {
        // The next run overwrites what is left, so the first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(parent(path)?)
}

fn write_temporary(temporary: &Path, file: &NewFile<'_>, label: Option<&str>) -> Result<()> {
    // It may be left by an interrupted run, or be a trap: never write through it, always make it
    // anew.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).doing("remove an unfinished file");
        }
        _ => {}
    }
    let mut handle = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .doing("temporary file")?;
    handle.write_all(file.contents).doing("contents")?;
    // Owner before mode: chown(2) clears the set-id bits.
    std::os::unix::fs::fchown(&handle, Some(file.meta.uid), Some(file.meta.gid))
        .doing(format_args!("owner {}:{}", file.meta.uid, file.meta.gid))?;
    handle
        .set_permissions(fs::Permissions::from_mode(file.meta.mode))
        .doing(format_args!("mode {:04o}", file.meta.mode))?;
    if let Some(label) = label {
        set_selinux_label(temporary, label)?;
    }
    if let Some(modified) = file.modified {
        handle.set_modified(modified).doing("time")?;
    }
    handle.sync_all().doing("sync")
}

/// Reads a regular file of at most `max_len` bytes; `None` when there is no such file.
///
/// # Errors
/// When something else stands there (a symbolic link too), when it is longer, and when a system
/// call fails. No error shows the contents.
pub fn read_regular(path: &Path, max_len: u64) -> Result<Option<RegularFile>> {
    let doing = || format!("read {}", path.display());
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(not_regular(path, "a symbolic link"));
        }
        Err(error) => return Err(error).doing(doing()),
    };
    let metadata = file.metadata().doing(doing())?;
    if !metadata.is_file() {
        return Err(not_regular(path, kind_in_words(&metadata)));
    }
    let mut contents = Vec::new();
    // One byte more than allowed reveals a file that is too long, even while it grows.
    file.take(max_len.saturating_add(1))
        .read_to_end(&mut contents)
        .doing(doing())?;
    if contents.len() as u64 > max_len {
        return Err(Error::new(format!(
            "read {}: longer than the {max_len} bytes that make sense here",
            path.display()
        )));
    }
    Ok(Some(RegularFile {
        contents,
        meta: FileMeta::of(&metadata),
        modified: metadata.modified().doing(doing())?,
    }))
}

/// What stands at `path`, without following a symbolic link.
///
/// This may hang on a dead network file system: ask [`crate::host::mount::mount_at`] first.
///
/// # Errors
/// When `lstat(2)` fails with anything but "no such file".
pub fn dir_state(path: &Path) -> Result<DirState> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(DirState::Directory(FileMeta::of(&found))),
        Ok(found) => Ok(DirState::Other(kind_in_words(&found))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(DirState::Absent),
        Err(error) => Err(error).doing(format_args!("look at {}", path.display())),
    }
}

/// Those of `path` and the directories above it that are missing, outermost first.
///
/// # Errors
/// When the path is not absolute, has `..`, or something else stands in the way. A symbolic link as
/// the last component is an error too; links above it are followed, as `/home` may be one.
pub fn missing_directories(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return Err(Error::new(format!(
            "make directory {}: not an absolute path without ..",
            path.display()
        )));
    }
    let mut missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|ancestor| {
            matches!(fs::symlink_metadata(ancestor), Err(error) if error.kind() == ErrorKind::NotFound)
        })
        .map(Path::to_path_buf)
        .collect();
    missing.reverse();
    let above = match missing.first() {
        Some(outermost) => parent(outermost)?,
        None => path,
    };
    match fs::metadata(above).doing(format_args!("look at {}", above.display()))? {
        found if found.is_dir() && (above != path || dir_state(path)?.is_directory()) => {
            Ok(missing)
        }
        found => Err(Error::new(format!(
            "make directory {}: {} stands there",
            above.display(),
            if above == path {
                kind_in_words(&fs::symlink_metadata(path).doing("look again")?)
            } else {
                kind_in_words(&found)
            }
        ))
        .hint(format!("move {} away, and apply again", above.display()))),
    }
}

/// Makes one directory below an existing one. It appears with its owner and mode, or not at all.
///
/// # Errors
/// When something stands there already, and when a system call fails.
pub fn make_directory(_permit: &Permit, directory: &Path, meta: FileMeta) -> Result<()> {
    make_one(directory, meta)
}

/// Sets owner and mode of an existing directory by its descriptor, and syncs it.
///
/// # Errors
/// When it is not a directory (a symbolic link to one is an error too), and when a system call
/// fails.
pub fn set_directory_meta(_permit: &Permit, path: &Path, meta: FileMeta) -> Result<()> {
    set_meta(path, meta)
}

fn set_meta(path: &Path, meta: FileMeta) -> Result<()> {
    let doing = || {
        format!(
            "set owner {}:{} and mode {:04o} of {}",
            meta.uid,
            meta.gid,
            meta.mode,
            path.display()
        )
    };
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .doing(doing())?;
    std::os::unix::fs::fchown(&directory, Some(meta.uid), Some(meta.gid)).doing(doing())?;
    directory
        .set_permissions(fs::Permissions::from_mode(meta.mode))
        .doing(doing())?;
    directory.sync_all().doing(doing())
}

/// Removes a file or symbolic link and syncs its directory; `false` when there was nothing.
///
/// # Errors
/// When `unlink(2)` fails with anything but "no such file".
pub fn remove_file(_permit: &Permit, path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)?).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(format_args!("remove {}", path.display())),
    }
}

/// Removes a directory if it is empty; `false` when it is not there or holds something.
///
/// # Errors
/// When `rmdir(2)` fails otherwise. EBUSY means that something is mounted on it.
pub fn remove_empty_directory(_permit: &Permit, path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => sync_directory(parent(path)?).map(|()| true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).doing(format_args!("remove directory {}", path.display())),
    }
}

/// Removes what an interrupted write or creation of `path` left beside it: a temporary file or an
/// empty directory with the agent's own name. It holds nobody else's data.
///
/// # Errors
/// When the leftover cannot be removed.
pub fn remove_leftover(path: &Path) -> Result<()> {
    let temporary = temporary_name(path)?;
    let removed = match fs::symlink_metadata(&temporary) {
        Ok(found) if found.is_dir() => fs::remove_dir(&temporary),
        Ok(_) => fs::remove_file(&temporary),
        Err(_) => return Ok(()),
    };
    removed.doing(format_args!("remove {}", temporary.display()))
}

/// SELinux label of a file, or of a link itself and not its target. `None` where the file system or
/// the kernel keeps no labels.
///
/// # Errors
/// When `lgetxattr(2)` fails otherwise, or the label is not UTF-8.
pub fn selinux_label(path: &Path) -> Result<Option<String>> {
    let doing = || format!("read the SELinux label of {}", path.display());
    // A label stays far below 4 KiB even with every category of a range; the policy caps it at this
    // page.
    let mut label = vec![0; 4096];
    match rustix::fs::lgetxattr(path, SELINUX_XATTR, &mut label[..]) {
        Ok(length) => {
            label.truncate(length);
            // The kernel stores and returns the terminating NUL.
            while label.last() == Some(&0) {
                label.pop();
            }
            String::from_utf8(label).map(Some).doing(doing())
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error).doing(doing()),
    }
}

/// Sets the SELinux label of a file, or of a link itself and not its target.
///
/// # Errors
/// When `lsetxattr(2)` fails. EINVAL means that the policy knows no such label.
pub fn set_selinux_label(path: &Path, label: &str) -> Result<()> {
    let mut value = label.as_bytes().to_vec();
    value.push(0);
    rustix::fs::lsetxattr(path, SELINUX_XATTR, &value, rustix::fs::XattrFlags::empty()).map_err(
        |error| {
            let failed = Error::new(format!(
                "set the SELinux label of {} to {label}: {error}",
                path.display()
            ));
            match error {
                rustix::io::Errno::INVAL => {
                    failed.hint("the loaded SELinux policy knows no such label")
                }
                _ => failed,
            }
        },
    )
}

/// Makes a file that another program has written durable, with its directory entry. A missing file
/// needs no sync.
///
/// # Errors
/// When the file or its directory cannot be opened or synced.
pub fn sync_file(path: &Path) -> Result<()> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Ok(()) => sync_directory(parent(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).doing(format_args!("sync {}", path.display())),
    }
}

/// Makes the entries of a directory durable (`fsync(2)`: syncing a file does not sync its entry).
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .doing(format_args!("sync directory {}", path.display()))
}

fn make_one(directory: &Path, meta: FileMeta) -> Result<()> {
    let doing = || format!("make directory {}", directory.display());
    let temporary = temporary_name(directory)?;
    match fs::remove_dir(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).doing(doing()),
        _ => {}
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&temporary)
        .doing(doing())?;
    set_meta(&temporary, meta)?;
    // NOREPLACE, because a plain rename(2) replaces an empty directory.
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        &temporary,
        rustix::fs::CWD,
        directory,
        rustix::fs::RenameFlags::NOREPLACE,
    )
    .doing(doing())?;
    sync_directory(parent(directory)?)
}

fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(Error::new(format!(
            "{} has no parent directory",
            path.display()
        ))),
    }
}

fn not_regular(path: &Path, what: &str) -> Error {
    Error::new(format!(
        "read {}: {what} stands there, not a regular file",
        path.display()
    ))
}

fn kind_in_words(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_file() {
        "a regular file"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "something unknown"
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn me(mode: u32) -> FileMeta {
        FileMeta {
            mode,
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
        }
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    fn write(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
        write_atomic(
            &Permit::for_a_test(),
            path,
            &NewFile::new(contents, me(mode)),
        )
    }

    #[test]
    fn a_write_replaces_contents_mode_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smb.conf");
        write(&path, b"one", 0o644).unwrap();
        write(&path, b"two", 0o600).unwrap();
        let read = read_regular(&path, 100).unwrap().unwrap();
        assert_eq!(read.contents, b"two");
        assert_eq!(read.meta, me(0o600));
        assert_eq!(names(directory.path()), ["smb.conf"]);
    }

    #[test]
    fn a_write_refuses_what_is_no_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = write(&link, b"x", 0o600).unwrap_err();
        assert!(error.message.contains("a symbolic link stands there"));
        let error = write(directory.path(), b"x", 0o600).unwrap_err();
        assert!(error.message.contains("a directory stands there"));
        assert_eq!(names(directory.path()), ["link"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone/file");
        assert!(write(&path, b"x", 0o600).is_err());
        assert_eq!(names(directory.path()), Vec::<OsString>::new());
    }

    #[test]
    fn reading_tells_absent_long_and_foreign_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read_regular(&path, 3).unwrap(), None);
        fs::write(&path, "1234").unwrap();
        assert!(read_regular(&path, 4).unwrap().is_some());
        assert!(
            read_regular(&path, 3)
                .unwrap_err()
                .message
                .contains("longer than the 3 bytes")
        );
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let error = read_regular(&link, 9).unwrap_err();
        assert!(error.message.contains("a symbolic link stands there"));
        let error = read_regular(directory.path(), 9).unwrap_err();
        assert!(error.message.contains("a directory stands there"));
    }

    #[test]
    fn debug_of_a_file_does_not_show_its_contents() {
        let file = RegularFile {
            contents: b"hunter2".to_vec(),
            meta: FileMeta::root(0o600),
            modified: SystemTime::UNIX_EPOCH,
        };
        assert!(!format!("{file:?}").contains("hunter2"));
        assert!(format!("{file:?}").contains("(7 bytes)"));
    }

    #[test]
    fn directories_refuse_what_stands_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = missing_directories(&file).unwrap_err();
        assert!(error.message.contains("a regular file stands there"));
        assert!(missing_directories(Path::new("/tmp/../x")).is_err());
        assert!(missing_directories(Path::new("x")).is_err());
    }

    #[test]
    fn what_an_interrupted_run_left_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smb.conf");
        fs::write(temporary_name(&path).unwrap(), "half").unwrap();
        write(&path, b"whole", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let made = directory.path().join("made");
        fs::create_dir(temporary_name(&made).unwrap()).unwrap();
        make_directory(&Permit::for_a_test(), &made, me(0o750)).unwrap();
        assert_eq!(names(directory.path()), ["made", "smb.conf"]);
        assert_eq!(dir_state(&made).unwrap(), DirState::Directory(me(0o750)));
        assert!(make_directory(&Permit::for_a_test(), &made, me(0o750)).is_err());
    }

    #[test]
    fn a_file_comes_back_with_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let modified =
            SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        let file = NewFile {
            modified: Some(modified),
            ..NewFile::new(b"x", me(0o640))
        };
        write_atomic(&Permit::for_a_test(), &path, &file).unwrap();
        assert_eq!(read_regular(&path, 9).unwrap().unwrap().modified, modified);
    }

    #[test]
    fn the_directories_that_are_missing_are_named_outermost_first() {
        let directory = tempfile::tempdir().unwrap();
        let leaf = directory.path().join("a/b");
        let missing = missing_directories(&leaf).unwrap();
        assert_eq!(missing, [directory.path().join("a"), leaf.clone()]);
        fs::create_dir_all(&leaf).unwrap();
        assert_eq!(missing_directories(&leaf).unwrap(), Vec::<PathBuf>::new());
        assert!(
            !remove_empty_directory(&Permit::for_a_test(), &directory.path().join("a")).unwrap()
        );
        assert!(remove_empty_directory(&Permit::for_a_test(), &leaf).unwrap());
    }
}
