//! Why nobody, or an account, can write in a directory of a local file system.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::account::Account;
use super::mount::mount_of;
use crate::error::{Doing, Result};

/// Why no new file can be made in a directory, whoever asks: `None` if the file system is no hindrance.
///
/// # Errors
/// When the directory or the mounts cannot be looked at.
pub fn no_room(directory: &Path) -> Result<Option<String>> {
    let shown = directory.display();
    if let Some(mount) = mount_of(directory)?.filter(|mount| mount.has_flag("ro")) {
        return Ok(Some(format!(
            "{} is mounted read-only",
            mount.mount_point.display()
        )));
    }
    let room = statvfs(directory).doing(format_args!("look at the file system of {shown}"))?;
    Ok(if room.blocks_available() == 0 {
        Some(format!("the file system of {shown} has no space left"))
    } else if room.files() > 0 && room.files_available() == 0 {
        Some(format!("the file system of {shown} has no inodes left"))
    } else {
        None
    })
}

/// The directory on the way to `directory`, or itself, whose owner and mode stop the account, in words. Lists of access
/// rights (acl(5)) and further groups are not looked at, so this explains a refusal and predicts none.
pub fn what_stops(account: &Account, directory: &Path) -> Option<String> {
    let mut way: Vec<&Path> = directory.ancestors().collect();
    way.reverse();
    way.into_iter().find_map(|path| {
        let Ok(found) = std::fs::metadata(path) else {
            return Some(format!("{} is not there", path.display()));
        };
        // Enter every directory on the way; write in the last.
        let wanted = if path == directory { 0o3 } else { 0o1 };
        let class = match (found.uid() == account.uid, found.gid() == account.gid) {
            (true, _) => 6,
            (_, true) => 3,
            _ => 0,
        };
        let lacks = found.mode() >> class & wanted != wanted;
        lacks.then(|| {
            format!(
                "{} has owner {}, group {} and mode {:04o}, which stop {}",
                path.display(),
                found.uid(),
                found.gid(),
                found.mode() & 0o7777,
                account.name
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_stops_an_account_is_named() {
        let root = tempfile::tempdir().unwrap();
        set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let shared = root.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let own = std::fs::metadata(&shared).unwrap();
        let account = |uid| Account {
            name: "user1".to_owned(),
            uid,
            gid: 60_000,
            shell: String::new(),
        };
        for (mode, owner, stops) in [
            (0o2770, own.uid(), false),
            (0o550, own.uid(), true),
            (0o700, own.uid() + 1, true),
            (0o777, own.uid() + 1, false),
        ] {
            set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let said = what_stops(&account(owner), &shared);
            assert_eq!(said.is_some(), stops, "{mode:o}: {said:?}");
        }
        let gone = what_stops(&account(own.uid()), &root.path().join("gone")).unwrap();
        assert!(gone.ends_with("gone is not there"), "{gone}");
    }

    #[test]
    fn a_file_system_with_room_is_no_hindrance() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(no_room(root.path()).unwrap(), None);
    }
}
