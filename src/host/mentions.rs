//! Who else uses a file: the units, scripts, cron jobs and automounter maps of this guest that name it. Before the agent
//! removes a file that an operator made, it looks for such a name. A doubt counts as one.

use std::fs;
use std::path::{Path, PathBuf};

use super::fstab::FSTAB;
use super::mount;
use crate::error::Result;

/// Where units, scripts and their like are kept.
const PLACES: [&str; 9] = [
    "/etc",
    "/root",
    "/usr/local",
    "/usr/lib/systemd/system",
    "/run/systemd/system",
    "/var/spool/cron",
    "/opt",
    "/srv",
    "/home",
];

/// What only remembers that somebody once typed the name.
const MEMORIES: [&str; 4] = ["_history", ".viminfo", ".lesshst", ".python_history"];

/// A longer file is no unit and no script.
const LONGEST: u64 = 1 << 20;

/// How many files and directories are looked at. With more, nobody can tell.
const MOST: usize = 50_000;

/// File systems of which a look cannot hang on a server.
const LOCAL: [&str; 8] = [
    "ext4", "ext3", "ext2", "xfs", "btrfs", "overlay", "tmpfs", "f2fs",
];

/// What may use `file` apart from fstab(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mention {
    Nowhere,
    /// The first file that names it.
    In(PathBuf),
    /// There is too much to look at.
    Unknown,
}

/// Looks for the name of `file` in everything on this guest that may mount.
///
/// # Errors
/// When the mounts cannot be read.
pub fn of(file: &Path) -> Result<Mention> {
    let remote: Vec<PathBuf> = mount::mounts()?
        .into_iter()
        .filter(|mount| !LOCAL.contains(&mount.fs_type.as_str()))
        .map(|mount| mount.mount_point)
        .collect();
    let places = PLACES.map(PathBuf::from).to_vec();
    Ok(below(places, file, &remote, MOST))
}

/// By the name alone: a script may say `$HOME/.smb.cred`.
fn below(mut places: Vec<PathBuf>, file: &Path, remote: &[PathBuf], most: usize) -> Mention {
    let Some(name) = file.file_name().map(|name| name.as_encoded_bytes()) else {
        return Mention::Unknown;
    };
    let mut looked_at = 0;
    while let Some(place) = places.pop() {
        if remote.contains(&place) {
            continue;
        }
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > most {
                return Mention::Unknown;
            }
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                places.push(path);
            } else if kind.is_file() && path != file && names(&path, name) {
                return Mention::In(path);
            }
        }
    }
    Mention::Nowhere
}

fn names(path: &Path, name: &[u8]) -> bool {
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let is_memory = MEMORIES.iter().any(|memory| own.ends_with(memory));
    let is_short = fs::metadata(path).is_ok_and(|found| found.len() <= LONGEST);
    if is_memory || !is_short || path == Path::new(FSTAB) {
        return false;
    }
    let text = zeroize::Zeroizing::new(fs::read(path).unwrap_or_default());
    text.windows(name.len()).any(|words| words == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_names_the_file_is_found() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let credentials = at("root/.smb.cred");
        let look = || below(vec![root.path().to_owned()], &credentials, &[], MOST);
        for directory in ["root", "etc/systemd/system", "etc/cron.d", "remote"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(&credentials, "username=.smb.cred\n").unwrap();
        fs::write(at("root/.bash_history"), "vi /root/.smb.cred\n").unwrap();
        fs::write(at("etc/other"), "credentials=/root/.smb.credentials2\n").unwrap();
        fs::remove_file(at("etc/other")).unwrap();
        assert_eq!(look(), Mention::Nowhere);
        for user in [
            "etc/systemd/system/srv-x.mount",
            "etc/cron.d/mount",
            "root/mount.sh",
            "etc/auto.misc",
        ] {
            fs::write(at(user), "-o credentials=$HOME/.smb.cred,vers=3.0\n").unwrap();
            assert_eq!(look(), Mention::In(at(user)));
            fs::remove_file(at(user)).unwrap();
        }
        fs::write(at("remote/mount.sh"), "/root/.smb.cred").unwrap();
        let local = below(
            vec![root.path().to_owned()],
            &credentials,
            &[at("remote")],
            MOST,
        );
        assert_eq!(local, Mention::Nowhere);
        let few = below(vec![root.path().to_owned()], &credentials, &[], 2);
        assert_eq!(few, Mention::Unknown);
    }
}
