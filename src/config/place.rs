//! Directories that belong to somebody: the distribution, the agent's helpers, an image. Pure.

use std::path::Path;

use super::value::Wrong;

/// Refused with everything below them: what the kernel shows, what packages install, what helpers
/// keep their state in, and what systemd-tmpfiles(8) empties.
pub(super) const TREES: [&str; 41] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/var/lock",
    "/boot",
    "/efi",
    "/etc",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/tmp",
    "/var/tmp",
    "/root",
    "/lost+found",
    "/var/cache",
    "/var/log",
    "/var/spool",
    "/var/lib/wasagent",
    "/var/lib/samba",
    "/var/lib/containers",
    "/var/lib/cni",
    "/var/lib/systemd",
    "/var/lib/private",
    "/var/lib/dbus",
    "/var/lib/cloud",
    "/var/lib/dhcp",
    "/var/lib/NetworkManager",
    "/var/lib/selinux",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/dnf",
    "/var/lib/rpm",
    "/var/lib/pam",
    "/var/lib/polkit-1",
    "/var/lib/alternatives",
];

/// Refused, but not what is below them.
pub(super) const DIRECTORIES: [&str; 5] = ["/", "/home", "/var", "/var/lib", "/var/opt"];

/// In the container: refused with everything below them.
pub(super) const HIDING_TREES: [&str; 4] = ["/proc", "/sys", "/dev", "/run/secrets"];

/// In the container: where an image has its programs and their settings.
pub(super) const HIDING: [&str; 20] = [
    "/",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/run",
    "/usr",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
];

/// Refuses a directory that the agent must not take over: mount a file system on it, change its
/// owner, label everything below it.
pub(super) fn of_the_tier(path: &Path) -> Result<(), Wrong> {
    let system = TREES.iter().any(|tree| path.starts_with(tree))
        || DIRECTORIES
            .iter()
            .any(|directory| path == Path::new(directory));
    if system {
        return Err(Wrong::new("a directory of the system")
            .expected("a directory of the tier's own, such as /mnt/data"));
    }
    Ok(())
}

/// Refuses a directory of the container over which the share would hide what the container runs.
pub(super) fn in_the_container(path: &Path) -> Result<(), Wrong> {
    let hides = HIDING_TREES.iter().any(|tree| path.starts_with(tree))
        || HIDING.iter().any(|directory| path == Path::new(directory));
    if hides {
        return Err(Wrong::new("would hide the container's own system")
            .expected("a directory such as /usr/src/app"));
    }
    Ok(())
}
