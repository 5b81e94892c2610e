//! The small file that a health check writes, reads back and deletes on the share. Its name ends like one of the
//! application's files, so settings that forbid such names are noticed. Its directory begins with a dot, so the
//! application's file watchers do not see it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Doing, Error, Result};

const PREFIX: &str = ".wasagent-health-";

/// The name under which the file is made, and the one that it gets then.
pub const MADE: &str = "made.js";
pub const RENAMED: &str = "renamed.js";

/// The directory of the VM `node` in the share. Each VM has its own, so that no VM removes another's.
pub fn directory(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// Whether a path in the share is the directory of a health check. A killed check leaves it behind until the next one.
pub fn is_directory_of_a_check(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.starts_with(PREFIX.as_bytes()) && !bytes.contains(&b'/')
}

/// What the file holds: no two checks write the same.
///
/// # Errors
/// When `/dev/urandom` cannot be read.
pub fn contents() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .doing("read /dev/urandom")?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("// wasagent health {digits}\n"))
}

/// Writes, renames, reads back and deletes the file below `shared`, a mount of the share. Each call may block for as
/// long as the server is silent.
///
/// # Errors
/// The first step that failed, with the kernel's error.
pub fn write_and_read_back(shared: &Path, node: &str) -> Result<()> {
    let directory = shared.join(directory(node));
    let contents = contents()?;
    let tried = in_directory(&directory, &contents);
    // What could not be removed stays until the next check: the error that counts is the first.
    let removed = remove(&directory);
    tried.and(removed)
}

fn in_directory(directory: &Path, contents: &str) -> Result<()> {
    let [made, renamed] = [MADE, RENAMED].map(|name| directory.join(name));
    let shown = directory.display();
    match fs::DirBuilder::new().mode(0o770).create(directory) {
        // An interrupted check left it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        tried => tried.doing(format_args!("make the directory {shown}"))?,
    }
    create(&made, contents).doing(format_args!("write a file in {shown}"))?;
    fs::rename(&made, &renamed).doing(format_args!("rename a file in {shown}"))?;
    let read = fs::read(&renamed).doing(format_args!("read a file in {shown} back"))?;
    if read != contents.as_bytes() {
        return Err(Error::new(format!(
            "a file in {shown} was read back with other contents than were written"
        )));
    }
    fs::remove_file(&renamed).doing(format_args!("delete a file in {shown}"))
}

fn create(path: &Path, contents: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o660)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(contents.as_bytes())?;
    // A server without space may say so only now.
    file.sync_all()
}

fn remove(directory: &Path) -> Result<()> {
    for name in [MADE, RENAMED] {
        let _ = fs::remove_file(directory.join(name));
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        tried => tried.doing(format_args!("delete the directory {}", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nothing_stays_after_a_check_or_an_interrupted_one() {
        let shared = tempfile::tempdir().unwrap();
        write_and_read_back(shared.path(), "was-01").unwrap();
        let left = shared.path().join(directory("was-01"));
        assert!(!left.exists());
        fs::create_dir(&left).unwrap();
        fs::write(left.join(RENAMED), "half").unwrap();
        fs::write(left.join(MADE), "").unwrap();
        write_and_read_back(shared.path(), "was-01").unwrap();
        assert_eq!(fs::read_dir(shared.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_may_not_be_written_is_told() {
        let shared = tempfile::tempdir().unwrap();
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o550)).unwrap();
        let tried = write_and_read_back(shared.path(), "was-01");
        if nix::unistd::geteuid().is_root() {
            // root may write everywhere.
            return;
        }
        let said = tried.unwrap_err().to_string();
        assert!(said.contains("make the directory"), "{said}");
    }

    #[test]
    fn only_the_directory_of_a_check_is_known_as_one() {
        let is_one = |path: &str| is_directory_of_a_check(Path::new(path));
        assert!(is_one(&directory("was-01")));
        for other in [
            ".wasagent.lock",
            "uploads",
            ".wasagent-health-was-01/made.js",
        ] {
            assert!(!is_one(other), "{other}");
        }
    }
}
