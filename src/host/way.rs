//! What stands in the way of a file or directory that is to be written. A plan looks with these functions, so that it
//! promises nothing that apply then cannot do. They change nothing.

use std::fs;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::fs::{dir_state, missing_directories, refuse_irregular};
use crate::error::{Doing, Error, Result};

/// Looks whether a directory can be made at `path`, with the missing ones above it, or is there already.
///
/// # Errors
/// When something else stands there or above it, or the file system takes nothing new.
pub fn to_directory(path: &Path) -> Result<()> {
    match missing_directories(path)?.first() {
        Some(outermost) => takes_entries(outermost),
        None => Ok(()),
    }
}

/// Looks whether a regular file can be written at `path`, as [`super::fs::write_atomic`] does it.
///
/// # Errors
/// When something other than a regular file stands there, a directory above it cannot be made, or the
/// file system takes nothing new.
pub fn to_file(path: &Path) -> Result<()> {
    if let Some(directory) = path.parent() {
        to_directory(directory)?;
    }
    refuse_irregular(path)?;
    if path.exists() {
        // It is replaced by a rename, which an immutable file forbids.
        is_writable(path)?;
    }
    takes_entries(path)
}

/// Looks whether the nearest directory above `path` takes a new entry.
fn takes_entries(path: &Path) -> Result<()> {
    let mut above = path.ancestors().skip(1);
    let Some(directory) = above.find(|directory| fs::symlink_metadata(directory).is_ok()) else {
        return Ok(());
    };
    if !dir_state(directory)?.is_directory() && !directory.is_dir() {
        let directory = directory.display();
        return Err(Error::new(format!("{directory} is no directory"))
            .hint(format!("move {directory} away, and apply again")));
    }
    is_writable(directory)?;
    has_room(directory)
}

/// Root may write everywhere, except where the file system or the file's own attributes forbid it: access(2) tells.
fn is_writable(path: &Path) -> Result<()> {
    access(path, Access::WRITE_OK).doing(format_args!("write to {}", path.display()))
}

fn has_room(directory: &Path) -> Result<()> {
    let found = statvfs(directory).doing(format_args!("look at {}", directory.display()))?;
    // Some file systems make inodes as they need them, and show 0 of 0.
    let lacks_inodes = found.f_files > 0 && found.f_ffree == 0;
    let lacks_space = found.f_blocks > 0 && found.f_bfree == 0;
    let what = match (lacks_space, lacks_inodes) {
        (true, _) => "space",
        (_, true) => "inodes",
        _ => return Ok(()),
    };
    let directory = directory.display();
    Err(
        Error::new(format!("the file system of {directory} has no {what} left"))
            .hint("free some there (df -h, df -i), and apply again"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_stands_in_the_way_is_told_before_anything_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(at("directory"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();

        for path in ["new", "new/below", "directory", "directory/new", "link/new"] {
            assert_eq!(to_directory(&at(path)), Ok(()), "{path}");
        }
        for path in ["file", "file/below", "link", "dangling", "dangling/below"] {
            let refused = to_directory(&at(path)).expect_err(path);
            assert!(refused.message.contains(directory.path().to_str().unwrap()));
        }
        for path in ["new", "file", "new/below", "directory/new"] {
            assert_eq!(to_file(&at(path)), Ok(()), "{path}");
        }
        for path in ["directory", "link", "link/new", "dangling", "file/below"] {
            assert!(to_file(&at(path)).is_err(), "{path}");
        }
    }
}
