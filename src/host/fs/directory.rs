//! Directories. They are made and changed by their descriptors, and never through a symbolic link.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::{FileMeta, kind_in_words, parent, sync_directory, temporary_name};
use crate::error::{Doing, Error, Result};
use crate::host::permit::Permit;

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

#[cfg(test)]
mod tests {
    use super::*;

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
