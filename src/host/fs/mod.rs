//! Files and directories, written so that a power cut leaves the old or the new version, never a
//! part. A symbolic link or a device in the place of a file is never followed: the agent runs as
//! root, and a link in a directory that others may write would lead it anywhere.

mod directory;
mod label;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use directory::{
    DirState, dir_state, make_directory, make_own_directory, missing_directories,
    remove_empty_directory, set_directory_meta,
};
pub(super) use label::SELINUX_XATTR;
pub use label::{selinux_label, set_selinux_label};

use super::permit::Permit;
use crate::error::{Doing, Error, Result};

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

/// A regular file as it was read. `Debug` does not show the contents: they may be a secret, and are
/// wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct RegularFile {
    pub contents: Zeroizing<Vec<u8>>,
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

/// Removes a file of the agent's own state, if it is there.
///
/// # Errors
/// When `unlink(2)` fails with anything but "no such file".
pub fn remove_own(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.doing(format_args!("remove {}", path.display())),
    }
}

/// Writes a file in the agent's own directory, as [`write_atomic`] does. It takes no permit: the
/// file is part of the record of effects and no effect itself.
pub fn write_own(path: &Path, contents: &[u8]) -> Result<()> {
    make_own_directory(parent(path)?)?;
    let file = NewFile::new(contents, FileMeta::root(0o600));
    write_whole(path, &file, || Ok(()))
}

fn write_whole(
    path: &Path,
    file: &NewFile<'_>,
    before_rename: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let label = if refuse_irregular(path)? {
        selinux_label(path)?
    } else {
        None
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

/// Whether a regular file stands at `path`.
///
/// # Errors
/// When something else stands there, a symbolic link too: it is not written over.
pub(super) fn refuse_irregular(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(found) => Err(not_regular(path, "write", kind_in_words(&found))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(format_args!("write {}", path.display())),
    }
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
        // A socket cannot be opened.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(not_regular(path, "read", "a socket or a device"));
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(not_regular(path, "read", "a symbolic link"));
        }
        Err(error) => return Err(error).doing(doing()),
    };
    let metadata = file.metadata().doing(doing())?;
    if !metadata.is_file() {
        return Err(not_regular(path, "read", kind_in_words(&metadata)));
    }
    // Allocated once, so that no copy is left behind. One byte more than allowed reveals a file that
    // is too long, even while it grows.
    let room = usize::try_from(metadata.len().min(max_len)).unwrap_or_default();
    let mut contents = Zeroizing::new(Vec::with_capacity(room + 32));
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

/// The error for something else in a file's place, with a command that makes room or makes it a file.
fn not_regular(path: &Path, doing: &str, what: &str) -> Error {
    let file = path.display();
    let target = fs::read_link(path).ok();
    if let (Some("/dev/null"), Some(unit)) = (
        target.as_deref().and_then(Path::to_str),
        path.file_name().and_then(|name| name.to_str()),
    ) && path.parent() == Some(Path::new("/etc/systemd/system"))
    {
        // What systemctl(1) calls a masked unit.
        return Error::new(format!("{unit} is masked: {file} leads to /dev/null"))
            .hint(format!("run: systemctl unmask {unit}, and apply again"));
    }
    let real = fs::canonicalize(path).ok().filter(|real| real.is_file());
    let way_out = match (&target, real) {
        (None, _) => format!("mv {file} {file}.away"),
        (Some(_), Some(real)) => format!(
            "cp --preserve --remove-destination {} {file}",
            real.display()
        ),
        (Some(_), None) => format!("rm {file}"),
    };
    let target = target.map_or(String::new(), |to| {
        format!("; it leads to {}", to.display())
    });
    Error::new(format!(
        "{doing} {file}: {what} stands there, not a regular file{target}"
    ))
    .hint(format!("run: {way_out}, and apply again"))
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
        assert_eq!(*read.contents, b"two");
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
    fn what_stands_in_a_files_place_comes_with_the_command_that_helps() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("real"), "text").unwrap();
        for (name, target) in [("link", "real"), ("dangling", "nowhere")] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        fs::create_dir(at("directory")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, said, becomes) in [
            ("link", "it leads to real", Some("text")),
            ("dangling", "it leads to nowhere", None),
            ("directory", "a directory stands there", None),
            ("socket", "a socket or a device stands there", None),
        ] {
            let error = read_regular(&at(name), 9).unwrap_err();
            assert!(error.message.contains(said), "{error}");
            let hint = error.hint.unwrap();
            let command = hint.strip_prefix("run: ").unwrap();
            let (command, _) = command.split_once(", and").unwrap();
            let mut shell = std::process::Command::new("sh");
            assert!(shell.args(["-c", command]).status().unwrap().success());
            let read = read_regular(&at(name), 9).unwrap();
            assert_eq!(
                read.map(|file| file.contents),
                becomes.map(|text| text.as_bytes().to_vec().into()),
                "{name}"
            );
        }
    }

    #[test]
    fn debug_of_a_file_does_not_show_its_contents() {
        let file = RegularFile {
            contents: b"hunter2".to_vec().into(),
            meta: FileMeta::root(0o600),
            modified: SystemTime::UNIX_EPOCH,
        };
        assert!(!format!("{file:?}").contains("hunter2"));
        assert!(format!("{file:?}").contains("(7 bytes)"));
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
}
