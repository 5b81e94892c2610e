//! Who uses a directory tree: by a working directory, an open directory or file, or a mount of it
//! in any mount namespace. The agent does not take away what is in use.
//!
//! proc(5) is the only source: no system call tells this.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};

use super::mount;
use crate::error::{Doing, Result};

/// The processes, as `name (PID)`, that have something of the tree open, except this one. `root` is
/// the tree's path as this process sees it, `inodes` the inodes of its directories.
pub fn of(root: &Path, inodes: &HashSet<u64>) -> Result<Vec<String>> {
    let metadata = fs::metadata(root).doing(format_args!("look at {}", root.display()))?;
    let device = metadata.dev();
    let mut namespaces = HashSet::new();
    let mut holders = Vec::new();
    for entry in fs::read_dir("/proc").doing("read /proc")? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let process = entry.path();
        // A process may end meanwhile. It then holds nothing.
        let in_tree = |link: &Path| {
            is_directory_of(link, device, inodes)
                || fs::read_link(link).is_ok_and(|target| target.starts_with(root))
        };
        let open = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| in_tree(&fd.path()));
        let new_namespace = fs::read_link(process.join("ns/mnt"))
            .is_ok_and(|namespace| namespaces.insert(namespace));
        if open
            || in_tree(&process.join("cwd"))
            || in_tree(&process.join("root"))
            || (new_namespace && mounts(&process, device, inodes))
        {
            let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
            holders.push(format!("{} ({pid})", comm.trim()));
        }
    }
    Ok(holders)
}

/// Whether a process has this file open, this process included.
pub fn has_open(file: &Path) -> bool {
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let descriptors = processes
        .map(|process| process.path().join("fd"))
        .filter_map(|descriptors| fs::read_dir(descriptors).ok());
    let mut descriptors = descriptors.flatten().flatten();
    descriptors.any(|one| fs::read_link(one.path()).is_ok_and(|target| target == file))
}

/// Whether the path leads to one of these directories. The server of a network file system is not
/// asked: if it is dead, the answer never comes.
fn is_directory_of(path: &Path, device: u64, inodes: &HashSet<u64>) -> bool {
    let flags = AtFlags::STATX_DONT_SYNC;
    statx(CWD, path, flags, StatxFlags::TYPE | StatxFlags::INO).is_ok_and(|found| {
        makedev(found.stx_dev_major, found.stx_dev_minor) == device
            && FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory
            && inodes.contains(&found.stx_ino)
    })
}

/// Whether a mount namespace has a directory of the tree mounted somewhere.
fn mounts(process: &Path, device: u64, inodes: &HashSet<u64>) -> bool {
    let Ok(text) = fs::read(process.join("mountinfo")) else {
        return false;
    };
    let number = format!(
        "{}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let text = String::from_utf8_lossy(&text);
    let mut mounts = text.lines().filter_map(mount::parse_line);
    mounts.any(|mount| {
        // /proc/PID/root shows paths as that process sees them.
        let inside = mount.mount_point.strip_prefix("/");
        let seen = process
            .join("root")
            .join(inside.unwrap_or(&mount.mount_point));
        mount.major_minor == number && is_directory_of(&seen, device, inodes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn an_open_file_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory
            .path()
            .canonicalize()
            .unwrap()
            .join("000001.jsonl");
        let file = fs::File::create(&path).unwrap();
        assert!(has_open(&path));
        drop(file);
        assert!(!has_open(&path));
    }

    #[test]
    fn who_works_in_a_tree_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let inodes = HashSet::from([fs::metadata(root.path()).unwrap().ino()]);
        assert_eq!(of(root.path(), &inodes).unwrap(), Vec::<String>::new());
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(root.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let holders = of(root.path(), &inodes).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(holders, [format!("sleep ({})", child.id())]);
    }
}
