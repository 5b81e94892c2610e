//! Files and directories, written so that a power cut leaves the old or the new and never half of
//! one. A symbolic link or a device in the place of a file is never followed: this agent runs as
//! root, and a link in a directory that others may write would lead it anywhere.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Doing, Error, Result};

/// Extended attribute in which SELinux keeps the label of a file (`xattr(7)`).
const SELINUX_XATTR: &str = "security.selinux";

/// Permission bits and owner of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Something else, in words: `a symbolic link`, `a regular file` …
    Other(&'static str),
}

/// Writes a file so that it is there in whole, with its mode and owner, or not at all: a temporary
/// file in the same directory, owner and mode set while nobody knows its name, contents synced,
/// renamed over the target, the directory synced.
///
/// The SELinux label of a file that exists is kept. A new file gets the label that the policy
/// gives to new files of that directory; nothing is set.
///
/// # Errors
/// When the target is anything but a regular file or nothing, and when a system call fails.
pub fn write_atomic(path: &Path, contents: &[u8], meta: FileMeta) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let directory = parent(path)?;
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

    // tempfile opens with O_EXCL, and removes the file when a step below fails.
    let mut temporary = tempfile::Builder::new()
        .prefix(".wasagent-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .doing(format_args!(
            "write {}: temporary file in {}",
            path.display(),
            directory.display()
        ))?;
    temporary.write_all(contents).doing(doing())?;
    // Owner before mode: chown(2) clears the set-id bits.
    std::os::unix::fs::fchown(temporary.as_file(), Some(meta.uid), Some(meta.gid)).doing(
        format_args!("write {}: owner {}:{}", path.display(), meta.uid, meta.gid),
    )?;
    temporary
        .as_file()
        .set_permissions(fs::Permissions::from_mode(meta.mode))
        .doing(format_args!(
            "write {}: mode {:04o}",
            path.display(),
            meta.mode
        ))?;
    if let Some(label) = label {
        set_selinux_label(temporary.path(), &label)?;
    }
    temporary.as_file().sync_all().doing(doing())?;
    temporary
        .persist(path)
        .map_err(|error| error.error)
        .doing(doing())?;
    sync_directory(directory)
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
    // One byte more than allowed tells a file that is too long, also while it grows.
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
/// On a network file system that is dead this may hang: ask [`crate::host::mount::mount_at`] first.
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

/// Makes a directory with this mode and owner, and its missing ancestors as 0755 of root; each is
/// synced into its parent. Returns the directories that were made, outermost first, for undo. A
/// directory that exists gets mode and owner; its ancestors stay as they are.
///
/// # Errors
/// When the path is not absolute, has `..`, when something else stands in the way (a symbolic link
/// at the last place too; above it links are followed, as `/home` may be one), or a call fails.
pub fn make_dirs(path: &Path, meta: FileMeta) -> Result<Vec<PathBuf>> {
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return Err(Error::new(format!(
            "make directory {}: not an absolute path without ..",
            path.display()
        )));
    }
    let mut missing: Vec<&Path> = path
        .ancestors()
        .take_while(|ancestor| {
            matches!(fs::metadata(ancestor), Err(error) if error.kind() == ErrorKind::NotFound)
        })
        .collect();
    missing.reverse();
    let mut made = Vec::new();
    for directory in missing {
        make_one(directory)?;
        made.push(directory.to_path_buf());
        let own = if directory == path {
            meta
        } else {
            FileMeta::root(0o755)
        };
        set_dir_meta(directory, own)?;
    }
    match dir_state(path)? {
        DirState::Directory(_) => Ok(made),
        DirState::Absent => Err(Error::new(format!(
            "make directory {}: gone while it was made",
            path.display()
        ))),
        DirState::Other(what) => Err(Error::new(format!(
            "make directory {}: {what} stands there",
            path.display()
        ))
        .hint(format!("move {} away, and apply again", path.display()))),
    }
}

/// Sets owner and mode of a directory that exists, by its descriptor, and syncs it.
///
/// # Errors
/// When it is not a directory (a symbolic link neither), and when a system call fails.
pub fn set_dir_meta(path: &Path, meta: FileMeta) -> Result<()> {
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

/// Removes a file or symbolic link and syncs its directory; `false` when there was none.
///
/// # Errors
/// When `unlink(2)` fails with anything but "no such file".
pub fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)?).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(format_args!("remove {}", path.display())),
    }
}

/// Removes a directory if it is empty; `false` when it is not there or holds something.
///
/// # Errors
/// When `rmdir(2)` fails otherwise: EBUSY says that something is mounted on it.
pub fn remove_empty_dir(path: &Path) -> Result<bool> {
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

/// SELinux label of a file, of a link itself and not of its target; `None` where the file system
/// or the kernel keeps none.
///
/// # Errors
/// When `lgetxattr(2)` fails otherwise, or the label is not UTF-8.
pub fn selinux_label(path: &Path) -> Result<Option<String>> {
    let doing = || format!("read the SELinux label of {}", path.display());
    // A label with every category of a range stays far below 4 KiB, the page that the policy caps it to.
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

/// Sets the SELinux label of a file, of a link itself and not of its target.
///
/// # Errors
/// When `lsetxattr(2)` fails: EINVAL says that the policy knows no such label.
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

/// Makes the entries of a directory durable (`fsync(2)`: syncing a file does not sync its entry).
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .doing(format_args!("sync directory {}", path.display()))
}

fn make_one(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => sync_directory(parent(directory)?),
        Err(error) => Err(error).doing(format_args!("make directory {}", directory.display())),
    }
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

    #[test]
    fn a_write_replaces_contents_mode_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smb.conf");
        write_atomic(&path, b"one", me(0o644)).unwrap();
        write_atomic(&path, b"two", me(0o600)).unwrap();
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
        let error = write_atomic(&link, b"x", me(0o600)).unwrap_err();
        assert!(error.message.contains("a symbolic link stands there"));
        let error = write_atomic(directory.path(), b"x", me(0o600)).unwrap_err();
        assert!(error.message.contains("a directory stands there"));
        assert_eq!(names(directory.path()), ["link"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone/file");
        assert!(write_atomic(&path, b"x", me(0o600)).is_err());
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
        let error = make_dirs(&file, me(0o755)).unwrap_err();
        assert!(error.message.contains("a regular file stands there"));
        assert!(make_dirs(Path::new("/tmp/../x"), me(0o755)).is_err());
        assert!(make_dirs(Path::new("x"), me(0o755)).is_err());
    }

    #[test]
    fn directories_are_made_with_their_ancestors_as_root() {
        if !nix::unistd::getuid().is_root() {
            return; // giving a directory to root takes root
        }
        let directory = tempfile::tempdir().unwrap();
        let leaf = directory.path().join("a/b/c");
        let meta = FileMeta {
            mode: 0o2770,
            uid: 1234,
            gid: 1235,
        };
        let made = make_dirs(&leaf, meta).unwrap();
        assert_eq!(made.len(), 3);
        assert_eq!(dir_state(&leaf).unwrap(), DirState::Directory(meta));
        assert_eq!(
            dir_state(&directory.path().join("a/b")).unwrap(),
            DirState::Directory(FileMeta::root(0o755))
        );
        assert_eq!(make_dirs(&leaf, meta).unwrap(), Vec::<PathBuf>::new());
        assert!(!remove_empty_dir(&directory.path().join("a")).unwrap());
        assert!(remove_empty_dir(&leaf).unwrap());
        assert_eq!(dir_state(&leaf).unwrap(), DirState::Absent);
    }
}
