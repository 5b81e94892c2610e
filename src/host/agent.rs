//! The program that runs: units start it by its path, at boots when nobody is there to look for it.

use std::path::{Path, PathBuf};

use super::mount::{self, MountInfo};
use super::selinux;
use crate::error::{Error, Result};

/// Where a program of the tier's is looked for by everybody.
const USUAL: &str = "/usr/bin/wasagent";

/// Directories that a boot empties, or that are not the machine's own.
const PASSING: [&str; 7] = [
    "/tmp", "/var/tmp", "/run", "/var/run", "/dev", "/proc", "/media",
];

/// File systems that a boot begins anew, or that come with a network or a login.
const PASSING_TYPES: [&str; 10] = [
    "tmpfs", "ramfs", "cifs", "smb3", "nfs", "nfs4", "9p", "virtiofs", "iso9660", "squashfs",
];

/// The agent's own program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub path: PathBuf,
    /// Why a boot may not find it; `None` if it will.
    pub unfit: Option<String>,
}

impl Agent {
    /// # Errors
    /// When /proc/self/exe cannot be read.
    pub fn running() -> Result<Self> {
        let path = std::env::current_exe()
            .map_err(|e| Error::new(format!("find the program that runs: {e}")))?;
        let mount = mount::mount_of(&path).ok().flatten();
        let unfit = unfit(&path, mount.as_ref(), selinux::is_on());
        Ok(Self { path, unfit })
    }

    /// The error for a program that no unit may name.
    pub fn refusal(&self) -> Option<Error> {
        let why = self.unfit.as_ref()?;
        Some(
            Error::new(format!(
                "the program that runs is {}, and a boot may not find it: {why}",
                self.path.display()
            ))
            .hint(format!("install it, and run it from there: {USUAL}")),
        )
    }
}

/// Why units cannot rely on a program.
fn unfit(path: &Path, mount: Option<&MountInfo>, selinux: bool) -> Option<String> {
    let text = path.to_string_lossy();
    // proc_pid_exe(5)
    if text.ends_with(" (deleted)") || text.starts_with("/memfd:") {
        return Some("its file was removed or replaced while it ran".to_owned());
    }
    if let Some(passing) = PASSING.iter().find(|passing| path.starts_with(passing)) {
        return Some(format!("{passing} does not keep its files"));
    }
    let homes = ["/home", "/root"];
    if let Some(home) = homes.iter().find(|home| selinux && path.starts_with(home)) {
        return Some(format!(
            "SELinux lets no service start a program below {home}"
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.chars().all(plain) {
        return Some("units would read its name in another way".to_owned());
    }
    let mount = mount?;
    let at = mount.mount_point.display();
    if mount.has_flag("noexec") {
        return Some(format!("{at} is mounted noexec"));
    }
    let kind = mount.fs_type.as_str();
    if PASSING_TYPES.contains(&kind) || kind.starts_with("fuse") {
        return Some(format!(
            "{at} is {kind}, which is not there at once, or not as it is now"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_finds_what_is_installed() {
        let mounts = mount::parse(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             23 22 8:2 / /home rw,noexec shared:1 - ext4 /dev/sda2 rw\n\
             24 22 0:40 / /srv/tools rw shared:1 - nfs4 a:/b rw\n\
             25 22 0:41 / /mnt/ram rw shared:1 - tmpfs tmpfs rw\n",
        )
        .unwrap();
        let on = |path: &str| {
            let path = Path::new(path);
            let mut over = mounts
                .iter()
                .filter(|one| path.starts_with(&one.mount_point));
            over.next_back()
        };
        for (path, selinux, fit) in [
            ("/usr/bin/wasagent", true, true),
            ("/usr/local/bin/wasagent", true, true),
            ("/opt/wasagent-0.2/wasagent", true, true),
            ("/root/wasagent", false, true),
            ("/root/wasagent", true, false),
            ("/tmp/wasagent", false, false),
            ("/var/tmp/x/wasagent", false, false),
            ("/run/wasagent", false, false),
            ("/dev/shm/wasagent", false, false),
            ("/usr/bin/wasagent (deleted)", false, false),
            ("/memfd:wasagent (deleted)", false, false),
            ("/home/me/wasagent", false, false),
            ("/srv/tools/wasagent", false, false),
            ("/mnt/ram/wasagent", false, false),
            ("/opt/was agent/wasagent", false, false),
            ("/opt/100%/wasagent", false, false),
        ] {
            let found = unfit(Path::new(path), on(path), selinux);
            assert_eq!(found.is_none(), fit, "{path}: {found:?}");
        }
    }
}
