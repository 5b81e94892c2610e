//! What is mounted, from `/proc/self/mountinfo`, and plain mounts of local file systems. CIFS has
//! its own module. Nothing here touches the files of a mount, so a dead server cannot hang it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use sys_mount::{Mount, MountFlags};

use super::escape::octal;
use super::permit::Permit;
use super::until::{Answer, until_blocking};
use crate::error::{Doing, Error, Result};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The options of a local file system, as mount(8) and a unit write them: it holds data, not programs that gain rights
/// and not devices.
pub const OPTIONS: [&str; 2] = ["nodev", "nosuid"];
/// The same for `mount(2)`.
const FLAGS: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);

/// How long a mount or unmount is tried again while the place is busy, and the pause between two
/// tries.
const BUSY: Duration = Duration::from_secs(3);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// One line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Number of the mount, unique while the mount exists.
    pub id: u64,
    /// Number of the parent mount.
    pub parent: u64,
    /// Device number of the files, `major:minor`. For CIFS and btrfs it belongs to no block device.
    pub major_minor: String,
    /// Directory of the file system that is visible here: `/` except for bind mounts.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    pub fs_type: String,
    /// A device path, `//server/share`, or a word.
    pub source: String,
    /// Options of this mount: `rw`, `nosuid`, `relatime` …
    pub options: Vec<String>,
    /// Options of the file system itself; a value in quotes (`context="…"`) is one option.
    pub super_options: Vec<String>,
}

impl MountInfo {
    /// Value of `key=value` among the options of the file system.
    pub fn super_option(&self, key: &str) -> Option<&str> {
        self.super_options
            .iter()
            .find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether the file system or the mount has this flag.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.options
            .iter()
            .chain(&self.super_options)
            .any(|option| option == flag)
    }
}

/// Reads the text of a mountinfo file and keeps its order: a later mount hides an earlier one on
/// the same mount point.
///
/// # Errors
/// When a line lacks the fields that `proc_pid_mountinfo(5)` describes.
pub fn parse(text: &str) -> Result<Vec<MountInfo>> {
    parse_lines(text.lines())
}

fn parse_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<MountInfo>> {
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_line(line)
                .ok_or_else(|| Error::new(format!("{MOUNTINFO}: not a mount line: {line}")))
        })
        .collect()
}

/// Everything mounted in the mount namespace of this process.
///
/// # Errors
/// When mountinfo cannot be read or understood.
pub fn mounts() -> Result<Vec<MountInfo>> {
    parse(&read()?)
}

fn read() -> Result<String> {
    let bytes = std::fs::read(MOUNTINFO).doing(format_args!("read {MOUNTINFO}"))?;
    // A mount whose name is not UTF-8 is not one of ours; it must not hide the rest.
    let text = String::from_utf8(bytes);
    Ok(text.unwrap_or_else(|odd| String::from_utf8_lossy(odd.as_bytes()).into_owned()))
}

/// What is visible at this mount point: the topmost mount on it. `None` when nothing is mounted
/// there. The path is compared as text: pass it absolute and without symbolic links.
///
/// # Errors
/// Those of [`mounts`].
pub fn mount_at(path: &Path) -> Result<Option<MountInfo>> {
    at(&read()?, path)
}

/// The topmost mount on this mount point. The lines of other mount points, of which a VM with containers has many, are
/// not read further.
fn at(text: &str, path: &Path) -> Result<Option<MountInfo>> {
    let is_here = |line: &&str| place_of(line).is_some_and(|place| place == path);
    let here = parse_lines(text.lines().filter(is_here))?;
    Ok(topmost(&here, path).cloned())
}

/// The mount point of a line.
fn place_of(line: &str) -> Option<PathBuf> {
    line.split(' ').nth(4).map(|place| octal(place).into())
}

/// The mounts of file systems on block devices.
///
/// # Errors
/// Those of [`mounts`].
pub fn mounts_of_devices() -> Result<Vec<MountInfo>> {
    parse_lines(read()?.lines().filter(|line| is_of_a_device(line)))
}

/// A file system without a device has a number of major 0. So has btrfs, whose source is a path.
fn is_of_a_device(line: &str) -> bool {
    let number = line.split(' ').nth(2);
    let source = line
        .split_once(" - ")
        .and_then(|(_, end)| end.split(' ').nth(1));
    !number.is_some_and(|number| number.starts_with("0:"))
        || source.is_some_and(|source| source.starts_with('/'))
}

/// The mount that a process sees at this path in its own mount namespace. `None` where it sees
/// nothing mounted there, or has ended (`proc_pid_mountinfo(5)`).
///
/// # Errors
/// When its mountinfo cannot be read or understood.
pub fn seen_by(process: u32, path: &Path) -> Result<Option<MountInfo>> {
    let file = format!("/proc/{process}/mountinfo");
    match std::fs::read(&file) {
        Ok(bytes) => at(&String::from_utf8_lossy(&bytes), path),
        Err(error) if has_ended(&error) => Ok(None),
        Err(error) => Err(error).doing(format_args!("read {file}")),
    }
}

/// Whether a file in `/proc` says that its process has ended. One that nobody has waited for yet has no mount namespace
/// any more, which is EINVAL (`mounts_open_common()` in fs/proc_namespace.c).
fn has_ended(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::ENOENT | libc::ESRCH | libc::EINVAL))
}

/// The mount that contains `path`: the one with the longest mount point that is `path` or above it.
///
/// # Errors
/// Those of [`mounts`].
pub fn mount_of(path: &Path) -> Result<Option<MountInfo>> {
    let text = read()?;
    let is_above = |line: &&str| place_of(line).is_some_and(|place| path.starts_with(place));
    let mounts = parse_lines(text.lines().filter(is_above))?;
    Ok(path
        .ancestors()
        .find_map(|ancestor| topmost(&mounts, ancestor))
        .cloned())
}

/// Mounts a local file system (`xfs`, `ext4`) by `mount(2)`, with [`OPTIONS`].
///
/// # Errors
/// When `mount(2)` fails. The error says what the errno means for a local file system.
pub fn mount_filesystem(
    _permit: &Permit,
    source: &Path,
    target: &Path,
    fs_type: &str,
) -> Result<()> {
    let mount = || {
        let builder = Mount::builder().fstype(fs_type).flags(FLAGS);
        // The mount stays when the value is dropped: only `mount_autodrop` undoes it.
        builder.mount(source, target).map(|_| ())
    };
    // A plan that somebody makes at this moment may have the file system open (`DetachedMount`).
    let is_busy = |error: &std::io::Error| error.raw_os_error() == Some(libc::EBUSY);
    while_busy(mount, is_busy).map_err(|error| mount_failed(source, target, fs_type, &error))
}

/// Tries again while the place is busy, and returns the result of the last try.
fn while_busy<E>(
    mut attempt: impl FnMut() -> Result<(), E>,
    is_busy: impl Fn(&E) -> bool,
) -> Result<(), E> {
    let ended = until_blocking(BUSY_PAUSE, BUSY, || match attempt() {
        Err(error) if is_busy(&error) => Ok(Answer::NotYet(error)),
        other => other.map(Answer::Settled),
    });
    match ended? {
        Answer::Settled(()) => Ok(()),
        Answer::NotYet(busy) => Err(busy),
    }
}

/// Looks whether this kernel has the file system, or a module of it.
///
/// # Errors
/// When it does not.
pub fn is_known_to_the_kernel(fs_type: &str) -> Result<()> {
    match fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NODEV) => Err(Error::new(format!("this kernel has no {fs_type}"))
            .hint(format!("install the kernel's module {fs_type}"))),
        // Whatever else it says, it says when something is mounted.
        _ => Ok(()),
    }
}

/// A local file system that is mounted nowhere, to look at its files before it is mounted.
#[derive(Debug)]
pub struct DetachedMount(OwnedFd);

impl DetachedMount {
    /// Opens the file system on `source` read-only and without replay of its log, so that nothing
    /// is written (`norecovery` of xfs(5) and ext4(5)).
    ///
    /// # Errors
    /// When the kernel does not mount it.
    pub fn of(source: &Path, fs_type: &str) -> Result<Self> {
        let open = |flags: &[&str]| -> rustix::io::Result<OwnedFd> {
            let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(context.as_fd(), "source", source)?;
            for flag in flags {
                fsconfig_set_flag(context.as_fd(), *flag)?;
            }
            fsconfig_create(context.as_fd())?;
            fsmount(
                context.as_fd(),
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::MOUNT_ATTR_RDONLY
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            )
        };
        open(&["ro", "norecovery"])
            .or_else(|errno| match errno {
                // It is still mounted for writing, out of sight (umount --lazy). The kernel only
                // shares the file system as it is, so only this mount can be read-only.
                Errno::BUSY => open(&[]),
                other => Err(other),
            })
            .map(Self)
            .doing(format_args!("look into {} ({fs_type})", source.display()))
    }

    /// The path of a file in it, valid while this value lives.
    pub fn path(&self, inside: &Path) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.0.as_raw_fd().to_string())
            .join(inside)
    }
}

/// Unmounts what is on top of this mount point; a symbolic link is not followed.
///
/// # Errors
/// When it is in use, nothing is mounted there, or `umount2(2)` fails otherwise.
pub fn unmount(_permit: &Permit, target: &Path) -> Result<()> {
    umount(target, rustix::mount::UnmountFlags::NOFOLLOW)
}

/// Takes a mount out of sight at once, even one that is in use or whose server is dead. The kernel
/// releases it when its last user does (`MNT_DETACH`). Never use this for a local file system whose
/// device is needed next.
///
/// # Errors
/// When nothing is mounted there, or `umount2(2)` fails otherwise.
pub fn detach(_permit: &Permit, target: &Path) -> Result<()> {
    umount(
        target,
        rustix::mount::UnmountFlags::NOFOLLOW | rustix::mount::UnmountFlags::DETACH,
    )
}

// rustix and not sys-mount: sys-mount's NOFOLLOW is open(2)'s O_NOFOLLOW, which umount2(2) refuses.
fn umount(target: &Path, flags: rustix::mount::UnmountFlags) -> Result<()> {
    // A helper that is started at this moment has copies of the agent's descriptors until its exec,
    // and a service that has just stopped may still be exiting.
    let unmount = || rustix::mount::unmount(target, flags);
    let unmounted = while_busy(unmount, |errno| *errno == Errno::BUSY);
    unmounted.map_err(|errno| {
        let at = target.display();
        match errno {
            Errno::BUSY => Error::new(format!("unmount {at}: a process still uses it")).hint(
                format!("`fuser -vm {at}` names the processes; stop them, and try again"),
            ),
            Errno::INVAL => Error::new(format!("unmount {at}: nothing is mounted there")),
            Errno::NOENT => Error::new(format!("unmount {at}: no such directory")),
            Errno::PERM => Error::new(format!("unmount {at}: not permitted"))
                .hint("mounting takes root with CAP_SYS_ADMIN in the host's mount namespace"),
            other => Error::new(format!("unmount {at}: {other}")),
        }
    })
}

fn topmost<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let here = |mount: &&MountInfo| mount.mount_point == path;
    // The topmost mount is not the parent of another one on the same place. The order alone would
    // do, except for mounts that were moved.
    mounts
        .iter()
        .rev()
        .filter(here)
        .find(|mount| !mounts.iter().filter(here).any(|on| on.parent == mount.id))
}

pub(super) fn parse_line(line: &str) -> Option<MountInfo> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let major_minor = fields.next()?.to_owned();
    let root = octal(fields.next()?);
    let mount_point = octal(fields.next()?);
    let options = split_quoted(fields.next()?);
    // Optional fields (shared:N, master:N …) up to a lone hyphen.
    fields.find(|field| *field == "-")?;
    let fs_type = fields.next()?.to_owned();
    let source = octal(fields.next()?).to_string_lossy().into_owned();
    let super_options = split_quoted(fields.next().unwrap_or_default());
    Some(MountInfo {
        id,
        parent,
        major_minor,
        root: root.into(),
        mount_point: mount_point.into(),
        fs_type,
        source,
        options,
        super_options,
    })
}

/// Splits at commas outside quotes, then decodes each option. SELinux quotes a context with
/// categories, which contains commas (`security/selinux/hooks.c`, `show_sid`).
fn split_quoted(options: &str) -> Vec<String> {
    let mut quoted = false;
    options
        .split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .filter(|option| !option.is_empty())
        .map(|option| octal(option).to_string_lossy().into_owned())
        .collect()
}

fn mount_failed(source: &Path, target: &Path, fs_type: &str, error: &std::io::Error) -> Error {
    let doing = format!(
        "mount {} ({fs_type}) on {}",
        source.display(),
        target.display()
    );
    let (what, hint) = match error.raw_os_error() {
        Some(libc::ENODEV) => (
            format!("this kernel has no {fs_type}"),
            Some(format!("install the kernel's module {fs_type}")),
        ),
        Some(libc::EINVAL) => (
            format!("the kernel finds no {fs_type} there that it can mount, or refuses an option"),
            Some("the last lines of `dmesg` say which".to_owned()),
        ),
        Some(libc::EBUSY) => (
            "the device or the directory is in use".to_owned(),
            Some("`findmnt` shows where it is mounted".to_owned()),
        ),
        Some(libc::ENOENT | libc::ENOTDIR) => {
            ("the device or the directory is not there".to_owned(), None)
        }
        Some(libc::ENOTBLK) => (format!("{} is no disk", source.display()), None),
        Some(libc::EPERM | libc::EACCES) => (
            "not permitted".to_owned(),
            Some("mounting takes root with CAP_SYS_ADMIN in the host's mount namespace".to_owned()),
        ),
        // EUCLEAN: its libc text, "Structure needs cleaning", says too little.
        Some(libc::EUCLEAN) => (
            format!("the {fs_type} on it is damaged"),
            Some(format!(
                "check it by hand (`xfs_repair -n {0}`, `e2fsck -n {0}`); the agent repairs no data",
                source.display()
            )),
        ),
        _ => (error.to_string(), None),
    };
    let failed = Error::new(format!("{doing}: {what}"));
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
30 22 252:16 / /mnt/my\040data rw,nosuid,nodev shared:7 master:2 - xfs /dev/vdb rw,attr2,inode64
41 22 0:45 / /mnt/share rw - cifs //192.168.2.13/user1 rw,context="system_u:object_r:container_file_t:s0:c1,c2",vers=3.1.1,seal
42 41 0:46 /sub /mnt/share ro - tmpfs tmpfs rw
43 22 0:47 / /odd\134040 rw - fuse.x none
"#;

    #[test]
    fn lines_are_read_with_optional_fields_and_escapes() {
        let mounts = parse(TEXT).unwrap();
        assert_eq!(mounts.len(), 5);
        assert_eq!(mounts[1].mount_point, Path::new("/mnt/my data"));
        assert_eq!(mounts[1].options, ["rw", "nosuid", "nodev"]);
        assert_eq!(mounts[1].major_minor, "252:16");
        assert_eq!(mounts[4].mount_point, Path::new("/odd\\040"));
        assert_eq!(mounts[4].super_options, Vec::<String>::new());
    }

    #[test]
    fn a_quoted_context_with_commas_is_one_option() {
        let mount = &parse(TEXT).unwrap()[2];
        assert_eq!(
            mount.super_option("context"),
            Some("\"system_u:object_r:container_file_t:s0:c1,c2\"")
        );
        assert_eq!(mount.super_option("vers"), Some("3.1.1"));
        assert_eq!(mount.super_option("ver"), None);
        assert!(mount.has_flag("seal"));
    }

    #[test]
    fn a_mount_of_a_device_is_told_from_the_others() {
        let btrfs = "50 22 0:50 /@ /b rw - btrfs /dev/sdb1 rw";
        let lines = TEXT.lines().chain([btrfs]);
        let of_devices: Vec<&str> = lines.filter(|line| is_of_a_device(line)).collect();
        let ids: Vec<&str> = of_devices.iter().map(|line| &line[..2]).collect();
        // A share's source begins with a slash as well.
        assert_eq!(ids, ["22", "30", "41", "50"]);
    }

    #[test]
    fn the_topmost_mount_hides_the_others() {
        let mounts = parse(TEXT).unwrap();
        let top = topmost(&mounts, Path::new("/mnt/share")).unwrap();
        assert_eq!(top.fs_type, "tmpfs");
        // Also when the kernel lists them the other way round.
        let reversed: Vec<_> = mounts.into_iter().rev().collect();
        let top = topmost(&reversed, Path::new("/mnt/share")).unwrap();
        assert_eq!(top.fs_type, "tmpfs");
        assert_eq!(topmost(&reversed, Path::new("/mnt")), None);
        let found = at(TEXT, Path::new("/mnt/share")).unwrap();
        assert_eq!(found.unwrap().fs_type, "tmpfs");
        assert_eq!(at(TEXT, Path::new("/mnt")).unwrap(), None);
    }

    #[test]
    fn a_line_of_something_else_is_refused() {
        assert!(parse("22 1 252:1 / / rw").is_err());
        assert!(parse("a b c").is_err());
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(mount_at(Path::new("/")).unwrap().is_some());
    }
}
