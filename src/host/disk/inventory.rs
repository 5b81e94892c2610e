//! The disks of this machine, from `/sys/block` and `/proc`. The disks themselves are not read.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};
use crate::host::mount::{self, MountInfo};

/// What a block device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Disk,
    Partition,
    Loop,
    /// Device mapper, md, nbd, RAM, optical …: a volume is never attached as one of these.
    Virtual,
}

/// A block device as `/sys/block` and `/proc` show it; nothing was read from the device itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// The kernel's name: `vdb`. It may change at a reboot.
    pub name: String,
    /// `/dev/vdb`.
    pub path: PathBuf,
    /// Device number, `252:16`.
    pub major_minor: String,
    pub size_bytes: u64,
    pub serial: Option<String>,
    pub kind: DeviceKind,
    pub read_only: bool,
    pub removable: bool,
    /// Names of its partitions.
    pub partitions: Vec<String>,
    /// Names of the devices that are built on it or on its partitions (LVM, md, dm-crypt).
    pub holders: Vec<String>,
    /// Where it, or a partition of it, is mounted.
    pub mounted_at: Vec<PathBuf>,
    /// Whether it, or a partition of it, is swapped to.
    pub swap: bool,
}

/// The disks of this machine by name. Left out are loop, RAM, optical and stacked devices, and
/// devices without a size or a node in `/dev`.
///
/// # Errors
/// When `/sys/block`, `/proc/swaps` or mountinfo cannot be read.
pub fn disks() -> Result<Vec<BlockDevice>> {
    let used = InUse::now()?;
    let mut disks = Vec::new();
    for name in names_in(Path::new("/sys/block")).doing("list the disks in /sys/block")? {
        if kind_of(&name) != DeviceKind::Disk || flag(&sys(&name).join("hidden")) {
            continue;
        }
        let disk = describe(&name, &used);
        if disk.size_bytes > 0 && is_block_device(&disk.path) {
            disks.push(disk);
        }
    }
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(disks)
}

/// The device behind a path, which may be a partition or a loop device. Symbolic links
/// (`/dev/disk/by-id/…`) are followed.
///
/// # Errors
/// When nothing is at the path, or something other than a block device.
pub fn at_path(path: &Path) -> Result<BlockDevice> {
    let doing = || format!("look at disk {}", path.display());
    let found = fs::metadata(path).doing(doing())?;
    if !found.file_type().is_block_device() {
        return Err(Error::new(format!("{}: not a block device", doing()))
            .hint("`lsblk -o NAME,SIZE,SERIAL` lists the disks; name one by path or serial"));
    }
    let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
    let name = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).doing(doing())?;
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    Ok(describe(&name, &InUse::now()?))
}

pub(super) fn used_by(device: &BlockDevice) -> Option<String> {
    if let [first, ..] = &device.mounted_at[..] {
        return Some(format!("mounted on {}", first.display()));
    }
    if device.swap {
        return Some("swap".to_owned());
    }
    if !device.holders.is_empty() {
        return Some(format!("part of {}", device.holders.join(", ")));
    }
    device.read_only.then(|| "read-only".to_owned())
}

/// What mountinfo and `/proc/swaps` say about all devices.
struct InUse {
    mounts: Vec<MountInfo>,
    /// Paths as the kernel knows them.
    swaps: Vec<PathBuf>,
}

impl InUse {
    fn now() -> Result<Self> {
        // A kernel without swap has no such file.
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        Ok(Self {
            mounts: mount::mounts_of_devices()?,
            swaps: swaps
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().next())
                .map(PathBuf::from)
                .collect(),
        })
    }
}

fn describe(name: &str, used: &InUse) -> BlockDevice {
    let directory = sys(name);
    let mut partitions: Vec<String> = names_in(&directory)
        .unwrap_or_default()
        .into_iter()
        .filter(|child| directory.join(child).join("partition").exists())
        .collect();
    partitions.sort();
    let parts: Vec<&str> = std::iter::once(name)
        .chain(partitions.iter().map(String::as_str))
        .collect();
    let mut holders: Vec<String> = parts
        .iter()
        .flat_map(|part| names_in(&sys(part).join("holders")).unwrap_or_default())
        .collect();
    holders.sort();
    holders.dedup();
    let mut mounted_at = Vec::new();
    let mut swap = false;
    for part in &parts {
        let (number, node) = (text(&sys(part).join("dev")), node(part));
        mounted_at.extend(
            used.mounts
                .iter()
                // btrfs shows a number that belongs to no device: there the source decides.
                .filter(|mount| {
                    number.as_deref() == Some(&mount.major_minor)
                        || Path::new(&mount.source) == node
                })
                .map(|mount| mount.mount_point.clone()),
        );
        swap |= used.swaps.contains(&node);
    }
    let major_minor = text(&directory.join("dev")).unwrap_or_default();
    BlockDevice {
        path: node(name),
        // Sectors of 512 bytes, whatever the device's own are
        // (Documentation/ABI/stable/sysfs-block).
        size_bytes: text(&directory.join("size"))
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .map_or(0, |sectors| sectors.saturating_mul(512)),
        serial: serial(&directory, &major_minor),
        kind: if directory.join("partition").exists() {
            DeviceKind::Partition
        } else {
            kind_of(name)
        },
        read_only: flag(&directory.join("ro")),
        removable: flag(&directory.join("removable")),
        name: name.to_owned(),
        major_minor,
        partitions,
        holders,
        mounted_at,
        swap,
    }
}

/// The serial, from where the driver shows it: virtio, NVMe, the SCSI unit serial number page, and
/// finally udev's database.
fn serial(directory: &Path, major_minor: &str) -> Option<String> {
    let from_page = || {
        let page = fs::read(directory.join("device/vpd_pg80")).ok()?;
        let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
        Some(String::from_utf8_lossy(page.get(4..4 + length)?).into_owned())
    };
    let from_udev = || {
        let database = fs::read_to_string(format!("/run/udev/data/b{major_minor}")).ok()?;
        udev_serial(&database)
    };
    text(&directory.join("serial"))
        .or_else(|| text(&directory.join("device/serial")))
        .or_else(from_page)
        .or_else(from_udev)
        .map(|serial| serial.trim_matches(['\0', ' ', '\n']).to_owned())
        .filter(|serial| !serial.is_empty())
}

fn udev_serial(database: &str) -> Option<String> {
    ["E:ID_SERIAL_SHORT=", "E:ID_SERIAL="]
        .iter()
        .find_map(|key| database.lines().find_map(|line| line.strip_prefix(key)))
        .map(str::to_owned)
}

fn kind_of(name: &str) -> DeviceKind {
    let driver = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match driver {
        "loop" => DeviceKind::Loop,
        "zram" | "ram" | "dm-" | "md" | "nbd" | "sr" | "fd" | "drbd" | "rbd" | "bcache"
        | "mtdblock" => DeviceKind::Virtual,
        // md_d0, md_name
        _ if name.starts_with("md_") => DeviceKind::Virtual,
        _ => DeviceKind::Disk,
    }
}

fn sys(name: &str) -> PathBuf {
    Path::new("/sys/class/block").join(name)
}

/// A slash in a device's name is an exclamation mark in `/sys`.
pub(super) fn node(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

pub(super) fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn flag(path: &Path) -> bool {
    text(path).is_some_and(|text| text == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_of_udevs_is_the_short_one() {
        let database = "S:disk/by-id/x\nE:ID_SERIAL=QEMU_x\nE:ID_SERIAL_SHORT=x\n";
        assert_eq!(udev_serial(database).as_deref(), Some("x"));
    }

    #[test]
    fn devices_that_are_no_disks_are_known_by_name() {
        for name in [
            "dm-0", "md127", "md_d0", "zram0", "ram1", "sr0", "fd0", "nbd3",
        ] {
            assert_eq!(kind_of(name), DeviceKind::Virtual, "{name}");
        }
        for name in ["vda", "sdb", "nvme0n1", "xvdb", "mmcblk0"] {
            assert_eq!(kind_of(name), DeviceKind::Disk, "{name}");
        }
        assert_eq!(kind_of("loop7"), DeviceKind::Loop);
    }

    #[test]
    fn this_machine_shows_no_stacked_device_as_a_disk() {
        for disk in disks().unwrap() {
            assert_eq!(disk.kind, DeviceKind::Disk);
            assert!(disk.size_bytes > 0);
        }
        let error = at_path(Path::new("/dev/null")).unwrap_err();
        assert!(error.message.contains("not a block device"));
    }
}
