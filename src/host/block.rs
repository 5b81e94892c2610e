//! Disks: which there are, which one is meant, and the proof that one is blank before anything is
//! written to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Doing, Error, Result};
use crate::host::Permit;
use crate::host::mount::{self, MountInfo};
use crate::host::process::Helper;
use crate::host::signature;

/// What a block device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Disk,
    Partition,
    Loop,
    /// Device mapper, md, nbd, RAM, optical …: nothing that a volume is attached as.
    Virtual,
}

/// A block device as `/sys/block` and `/proc` show it; nothing was read from the device itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// The kernel's name: `vdb`. Not stable over boots.
    pub name: String,
    /// `/dev/vdb`.
    pub path: PathBuf,
    /// Device number, `252:16`.
    pub major_minor: String,
    pub size_bytes: u64,
    pub serial: Option<String>,
    pub kind: Kind,
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

/// Which disk the tier file means: `storage.disk.device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one blank disk.
    Auto,
    Path(PathBuf),
    Serial(String),
}

impl Selector {
    /// `auto`, an absolute path, or else a serial.
    pub fn parse(text: &str) -> Self {
        if text == "auto" {
            Self::Auto
        } else if Path::new(text).is_absolute() {
            Self::Path(text.into())
        } else {
            Self::Serial(text.to_owned())
        }
    }
}

/// Whether a disk may be formatted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blankness {
    /// Every byte that was looked at is zero, and nobody uses it.
    Blank,
    /// Somebody uses it, in words.
    InUse { by: String },
    /// It holds something, in words.
    Found { what: String },
}

/// A file system found on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// `xfs`, `ext4`, `ext3` or `ext2`.
    pub fs_type: String,
    /// Lower case with hyphens, as in `/dev/disk/by-uuid`.
    pub uuid: String,
    pub label: Option<String>,
    /// Size that the file system was made or grown to. Of a mounted xfs it may lag behind: xfs
    /// writes its superblock past the cache that a read of the device is served from.
    pub size_bytes: u64,
}

/// How much is read at the start: LUKS2 keeps a second header as far as 4 MiB in.
const HEAD: u64 = 8 << 20;

/// How much is read at the end: the backup of a GPT, md, ZFS.
const TAIL: u64 = 4 << 20;

/// How much is read at each place in between.
const SAMPLE: u64 = 4096;

/// What is written of a large volume takes a while on a slow disk.
const MKFS_DEADLINE: Duration = Duration::from_secs(300);

/// How often, and how far apart, mkfs is tried while the disk is busy.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How long the helper that names what is on a disk may take.
const HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// The disks of this machine by name: no loop, RAM, optical or stacked devices, none without a
/// size or a node in `/dev`.
///
/// # Errors
/// When `/sys/block`, `/proc/swaps` or mountinfo cannot be read.
pub fn disks() -> Result<Vec<BlockDevice>> {
    let used = InUse::now()?;
    let mut disks = Vec::new();
    for name in names_in(Path::new("/sys/block")).doing("list the disks in /sys/block")? {
        if kind_of(&name) != Kind::Disk || flag(&sys(&name).join("hidden")) {
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

/// The device behind a path, also a partition or a loop device; symbolic links
/// (`/dev/disk/by-id/…`) are followed.
///
/// # Errors
/// When there is nothing at the path, or something else than a block device.
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

/// The device that the selector means. A path or a serial is taken as it is, blank or not; `auto`
/// is the one disk that is proved blank.
///
/// # Errors
/// When there is none, which may pass by itself: a volume is attached while the guest runs. When
/// there is more than one for `auto` or a serial. Both with a table of what was seen.
pub fn find(selector: &Selector) -> Result<BlockDevice> {
    match selector {
        Selector::Path(path) if !path.exists() => {
            let what = format!("there is no {}", path.display());
            Err(not_one(&what, &disks()?).transient())
        }
        Selector::Path(path) => at_path(path),
        Selector::Serial(serial) => {
            // The whole name below by-id is understood too: `virtio-…`, `scsi-0QEMU_QEMU_HARDDISK_…`.
            let by_id = Path::new("/dev/disk/by-id").join(serial);
            if is_block_device(&by_id) {
                return at_path(&by_id);
            }
            let (mut found, seen) = (Vec::new(), disks()?);
            found.extend(seen.iter().filter(|disk| {
                disk.serial
                    .as_deref()
                    .is_some_and(|has| serial_matches(serial, has))
            }));
            match found[..] {
                [one] => Ok(one.clone()),
                [] => Err(not_one(&format!("no disk has the serial {serial}"), &seen).transient()),
                _ => Err(not_one(
                    &format!("more than one disk has the serial {serial}"),
                    &seen,
                )),
            }
        }
        Selector::Auto => {
            let seen = disks()?;
            let mut blank = Vec::new();
            for disk in &seen {
                // One that cannot be read is not a blank one; the table says what it gave.
                if matches!(prove_blank(&disk.path), Ok(Blankness::Blank)) {
                    blank.push(disk);
                }
            }
            match blank[..] {
                [one] => Ok(one.clone()),
                [] => Err(not_one("there is no blank disk", &seen).transient()),
                _ => Err(not_one("there is more than one blank disk", &seen)),
            }
        }
    }
}

/// Whether nothing is on the device and nobody uses it; only reads. Nobody: no mount, no swap, no
/// device built on it, and the kernel grants it exclusively. Nothing: no partition, and zeros in
/// the first 8 MiB, the last 4 MiB, where file systems keep copies of their superblocks, and at
/// 64 places spread over the rest.
///
/// # Errors
/// When the device cannot be read: then it is not blank either.
pub fn prove_blank(path: &Path) -> Result<Blankness> {
    let device = at_path(path)?;
    if let Some(by) = used_by(&device) {
        return Ok(Blankness::InUse { by });
    }
    let doing = || format!("look for data on {}", path.display());
    // Without O_CREAT, O_EXCL on a block device means: fail when the kernel itself holds it (open(2)).
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(&device.path)
    {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            return Ok(Blankness::InUse {
                by: "the kernel (a file system, RAID, LVM or another name space)".to_owned(),
            });
        }
        Err(error) => return Err(error).doing(doing()),
    };
    if !device.partitions.is_empty() {
        let table = named_by_blkid(&device.path).unwrap_or_else(|| "a partition table".to_owned());
        return Ok(Blankness::Found {
            what: format!("{table} with {}", device.partitions.join(", ")),
        });
    }
    let size = file.seek(SeekFrom::End(0)).doing(doing())?;
    let Some(at) = first_data(&mut file, size).map_err(|error| {
        Error::new(format!("{}: {error}", doing()))
            .hint("a disk that cannot be read in whole is not used; look at `dmesg`")
    })?
    else {
        return Ok(Blankness::Blank);
    };
    let what = match read_filesystem(&mut file).doing(doing())? {
        Some(found) => in_words(&found),
        None => match named_by_blkid(&device.path) {
            Some(name) => name,
            None => match signature::names(&mut file, size).doing(doing())?[..] {
                [] => format!("data of no known format, from byte {at} on"),
                ref names => names.join(", "),
            },
        },
    };
    Ok(Blankness::Found { what })
}

/// Whether a device holds nothing but what an interrupted mkfs of this type may leave: no file
/// system that could be mounted, no partition, and no signature of anything else. Only worth
/// asking of a disk that was proved blank before that mkfs began.
///
/// # Errors
/// When the device cannot be read.
pub fn holds_unfinished(path: &Path, fs_type: &str) -> Result<bool> {
    let device = at_path(path)?;
    if used_by(&device).is_some() || !device.partitions.is_empty() {
        return Ok(false);
    }
    if probe_filesystem(path)?.is_some() {
        return Ok(false);
    }
    // As in prove_blank(): the kernel itself must not hold it.
    if OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(path)
        .is_err()
    {
        return Ok(false);
    }
    let is_own_type = |answer: &str| {
        answer
            .lines()
            .filter_map(|line| line.strip_prefix("TYPE="))
            .eq([fs_type])
    };
    Ok(match ask_blkid(path) {
        Some((2, _)) => true,
        Some((0, answer)) => is_own_type(&answer),
        // Without a clear answer nothing is given up.
        _ => false,
    })
}

/// Makes a file system by mkfs(8), which looks once more for one of its own unless what is there is
/// known to be an unfinished one. It does not discard: what is beyond the places that were read is
/// not given up unread.
pub async fn format(
    _permit: &Permit,
    device: &Path,
    fs_type: &str,
    label: &str,
    over_unfinished: bool,
) -> Result<()> {
    let (program, options, force) = match fs_type {
        "xfs" => ("mkfs.xfs", ["-q", "-K"].as_slice(), "-f"),
        _ => ("mkfs.ext4", ["-q", "-E", "nodiscard"].as_slice(), "-F"),
    };
    let run = || {
        Helper::new(program)
            .args(options)
            .args(over_unfinished.then_some(force))
            .args(["-L", label])
            .args([device])
            .deadline(MKFS_DEADLINE)
            .run()
    };
    let mut made = run().await;
    for _ in 0..BUSY_TRIES {
        match &made {
            // A helper that another step starts at this moment has a copy of the descriptor by which
            // the disk was proved blank, until it is executed.
            Err(error) if error.message.contains("resource busy") => {}
            _ => break,
        }
        tokio::time::sleep(BUSY_PAUSE).await;
        made = run().await;
    }
    made.map(drop)
}

/// The xfs or ext file system on a device, read from its superblock by ourselves, so that a run
/// without a change starts no helper; `None` for anything else.
///
/// # Errors
/// When the device cannot be read.
pub fn probe_filesystem(path: &Path) -> Result<Option<FsInfo>> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .and_then(|mut file| read_filesystem(&mut file))
        .doing(format_args!("look for a file system on {}", path.display()))
}

/// The devices as a table for an operator: name, size, serial, what is on it. Reads the devices
/// that nobody uses.
pub fn table(devices: &[BlockDevice]) -> String {
    render(devices, |device| {
        if let Some(by) = used_by(device) {
            return format!("in use: {by}");
        }
        match prove_blank(&device.path) {
            Ok(Blankness::Blank) => "blank".to_owned(),
            Ok(Blankness::InUse { by }) => format!("in use: {by}"),
            Ok(Blankness::Found { what }) => what,
            Err(error) => error.message,
        }
    })
}

fn render(devices: &[BlockDevice], what_is_on: impl Fn(&BlockDevice) -> String) -> String {
    let mut rows = vec![["NAME", "SIZE", "SERIAL", "WHAT IS ON IT"].map(str::to_owned)];
    rows.extend(devices.iter().map(|device| {
        [
            device.path.display().to_string(),
            size_in_words(device.size_bytes),
            device.serial.clone().unwrap_or_else(|| "-".to_owned()),
            what_is_on(device),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (name, size, serial) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [a, b, c, d] in &rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{a:name$}  {b:>size$}  {c:serial$}  {d}");
    }
    text
}

/// A size for an operator, such as `10.5 GiB`.
pub fn size_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    // One decimal, cut: a disk is never said to be larger than it is.
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        tenth => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
    }
}

fn not_one(what: &str, seen: &[BlockDevice]) -> Error {
    let seen = if seen.is_empty() {
        "this VM has no disk at all".to_owned()
    } else {
        format!("this VM has\n{}", table(seen).trim_end())
    };
    Error::new(format!("find the disk of storage.disk.device: {what}; {seen}")).hint(
        "attach the data disk to this VM, or name it in storage.disk.device by its serial (the first 20 characters of its volume's UUID without hyphens) or its /dev/disk/by-id path",
    )
}

/// How much of a serial virtio-blk and ATA show: `VIRTIO_BLK_ID_BYTES`, and words 10 to 19 of the
/// identity.
const SHOWN: usize = 20;

/// The serial of a CloudStack volume is the first 20 characters of its UUID without hyphens, and a
/// bus may show no more than 20 of any serial, where SCSI shows all: the whole serial or UUID is
/// understood where a part is shown, and the part where the whole is.
fn serial_matches(wanted: &str, has: &str) -> bool {
    let plain = |serial: &str| serial.replace('-', "").to_lowercase();
    let (plain_wanted, plain_has) = (plain(wanted), plain(has));
    let is_part = |part: &str, whole: &str| part.len() == SHOWN && whole.starts_with(part);
    !plain_wanted.is_empty()
        && (plain_wanted == plain_has
            || is_part(has, wanted)
            || is_part(&plain_has, &plain_wanted)
            || is_part(&plain_wanted, &plain_has))
}

fn used_by(device: &BlockDevice) -> Option<String> {
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
            mounts: mount::mounts()?,
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
                // btrfs shows a number of no device: there the source tells.
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
        // Sectors of 512 bytes whatever those of the device are (Documentation/ABI/stable/sysfs-block).
        size_bytes: text(&directory.join("size"))
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .map_or(0, |sectors| sectors.saturating_mul(512)),
        serial: serial(&directory, &major_minor),
        kind: if directory.join("partition").exists() {
            Kind::Partition
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
/// at last what udev found.
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

fn kind_of(name: &str) -> Kind {
    let driver = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match driver {
        "loop" => Kind::Loop,
        "zram" | "ram" | "dm-" | "md" | "nbd" | "sr" | "fd" | "drbd" | "rbd" | "bcache"
        | "mtdblock" => Kind::Virtual,
        // md_d0, md_name
        _ if name.starts_with("md_") => Kind::Virtual,
        _ => Kind::Disk,
    }
}

fn sys(name: &str) -> PathBuf {
    Path::new("/sys/class/block").join(name)
}

/// A slash in a device's name is an exclamation mark in `/sys`.
fn node(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

fn is_block_device(path: &Path) -> bool {
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

/// Start and length of everything that is read to prove a device of `size` bytes blank, by start.
fn places(size: u64) -> Vec<(u64, u64)> {
    const MIB: u64 = 1 << 20;
    let mut places = vec![(0, HEAD), (size.saturating_sub(TAIL), TAIL)];
    // Copies of the superblock: btrfs at 64 MiB and 256 GiB; ext in the groups 1 and the powers of
    // 3, 5 and 7, of 8, 32 and 128 MiB each with blocks of 1, 2 and 4 KiB. Those of 1 KiB begin with
    // the second block.
    places.extend([(64 * MIB, 2 * SAMPLE), (256 << 30, 2 * SAMPLE)]);
    for group in [8, 32, 128] {
        places.extend([1, 3, 5, 7, 9, 25, 27, 49].map(|nth| (nth * group * MIB, SAMPLE)));
    }
    // An allocation group of xfs has 1 TiB at most.
    places.extend((1..16).map(|nth: u64| (nth << 40, SAMPLE)));
    // Evenly, at multiples of the sample; the quarters are where xfs begins its allocation groups.
    places.extend((1..64).map(|part| (size / 64 * part / SAMPLE * SAMPLE, SAMPLE)));
    places.retain_mut(|(start, length)| {
        *length = (*length).min(size.saturating_sub(*start));
        *length > 0
    });
    places.sort_unstable();
    places
}

/// Place of the first byte that is not zero, among those that are looked at.
fn first_data(device: &mut (impl Read + Seek), size: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; 1 << 20];
    for (start, length) in places(size) {
        device.seek(SeekFrom::Start(start))?;
        let mut done = 0;
        while done < length {
            let chunk = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            device.read_exact(&mut buffer[..chunk])?;
            if let Some(at) = buffer[..chunk].iter().position(|&byte| byte != 0) {
                return Ok(Some(start + done + at as u64));
            }
            done += chunk as u64;
        }
    }
    Ok(None)
}

fn read_filesystem(device: &mut (impl Read + Seek)) -> io::Result<Option<FsInfo>> {
    // Both superblocks lie in the first 2 KiB.
    let mut start = [0; 2048];
    device.seek(SeekFrom::Start(0))?;
    match device.read_exact(&mut start) {
        Ok(()) => Ok(xfs(&start).or_else(|| ext(&start[1024..]))),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Superblock of xfs: big-endian, at the start (`fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`).
fn xfs(block: &[u8]) -> Option<FsInfo> {
    if !block.starts_with(b"XFSB") {
        return None;
    }
    // `sb_inprogress`: mkfs sets it first and clears it last. What it left half-done is no file system.
    if *block.get(126)? != 0 {
        return None;
    }
    let block_size = u32::from_be_bytes(block.get(4..8)?.try_into().ok()?);
    let blocks = u64::from_be_bytes(block.get(8..16)?.try_into().ok()?);
    Some(FsInfo {
        fs_type: "xfs".to_owned(),
        uuid: uuid(block.get(32..48)?),
        label: label(block.get(108..120)?),
        size_bytes: blocks.saturating_mul(u64::from(block_size)),
    })
}

/// Superblock of ext: little-endian, 1024 bytes in (`fs/ext4/ext4.h`, `struct ext4_super_block`).
fn ext(block: &[u8]) -> Option<FsInfo> {
    const HAS_JOURNAL: u32 = 0x4;
    // What ext3 has not: extents, 64 bit, flexible groups.
    const OF_EXT4: u32 = 0x40 | 0x80 | 0x200;
    const BIT_64: u32 = 0x80;
    let u32_at = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
    if block.get(56..58)? != [0x53, 0xef] {
        return None;
    }
    let (compatible, incompatible, shift) = (u32_at(92)?, u32_at(96)?, u32_at(24)?);
    // Two bytes of magic are few: a block size beyond 64 KiB is not one.
    if shift > 6 {
        return None;
    }
    let high = if incompatible & BIT_64 == 0 {
        0
    } else {
        u32_at(336)?
    };
    let blocks = u64::from(high) << 32 | u64::from(u32_at(4)?);
    Some(FsInfo {
        fs_type: if incompatible & OF_EXT4 != 0 {
            "ext4"
        } else if compatible & HAS_JOURNAL != 0 {
            "ext3"
        } else {
            "ext2"
        }
        .to_owned(),
        uuid: uuid(block.get(104..120)?),
        label: label(block.get(120..136)?),
        size_bytes: blocks.saturating_mul(1024 << shift),
    })
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn label(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|&byte| byte == 0).next()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}

fn in_words(found: &FsInfo) -> String {
    match &found.label {
        Some(label) => format!(
            "{} file system labelled {label} ({})",
            found.fs_type, found.uuid
        ),
        None => format!("{} file system ({})", found.fs_type, found.uuid),
    }
}

/// What `blkid` calls the contents of a device; `None` when it is not installed, too slow, or
/// knows no better.
fn named_by_blkid(device: &Path) -> Option<String> {
    blkid_in_words(&ask_blkid(device)?.1)
}

/// blkid(8)'s exit code and answer: 0 when it knows what is there, 2 for nothing that it knows, 8
/// when it finds several things at once.
fn ask_blkid(device: &Path) -> Option<(i32, String)> {
    let program = ["/usr/sbin/blkid", "/sbin/blkid", "/usr/bin/blkid"]
        .into_iter()
        .find(|program| Path::new(program).exists())?;
    let mut child = Command::new(program)
        .args(["-p", "-o", "export"])
        .arg(device)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let end = Instant::now() + HELPER_DEADLINE;
    // Its answer is a few lines: they fit into the pipe while it runs.
    let status = loop {
        if let Some(status) = child.try_wait().ok()? {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut answer = String::new();
    child.stdout.take()?.read_to_string(&mut answer).ok()?;
    Some((status.code()?, answer))
}

fn blkid_in_words(answer: &str) -> Option<String> {
    let values: BTreeMap<&str, &str> = answer
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let label = values
        .get("LABEL")
        .map_or(String::new(), |label| format!(" labelled {label}"));
    match (
        values.get("TYPE"),
        values.get("USAGE"),
        values.get("PTTYPE"),
    ) {
        (Some(kind), Some(&"filesystem"), _) => Some(format!("{kind} file system{label}")),
        (Some(kind), _, _) => Some(format!("{kind}{label}")),
        (None, _, Some(table)) => Some(format!("partition table ({table})")),
        (None, _, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn sparse(size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file
    }

    #[test]
    fn a_device_of_zeros_is_blank_whatever_its_size() {
        for size in [0, 1, 511, 4096, HEAD, HEAD + 1, 100 << 20, 100 * GIB] {
            assert_eq!(first_data(&mut sparse(size), size).unwrap(), None, "{size}");
        }
    }

    #[test]
    fn one_byte_where_something_may_be_is_found() {
        let size = 300 * GIB;
        for at in [
            0,
            510,
            1080,
            65536,
            4 << 20,
            HEAD - 1,
            64 << 20,
            (8 << 20) + 1024,
            (32 << 20) + 56,
            (64 << 20) + 64,
            128 << 20,
            (49 * 128) << 20,
            75 * GIB,
            256 * GIB,
            size - (512 << 10),
            size - 1,
        ] {
            let mut file = sparse(size);
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[1]).unwrap();
            assert_eq!(first_data(&mut file, size).unwrap(), Some(at), "{at}");
        }
    }

    #[test]
    fn a_device_shorter_than_it_says_is_an_error_and_not_blank() {
        assert!(first_data(&mut sparse(4096), 8192).is_err());
    }

    #[test]
    fn superblocks_are_read() {
        let mut block = vec![0; 2048];
        block[..4].copy_from_slice(b"XFSB");
        block[4..8].copy_from_slice(&4096u32.to_be_bytes());
        block[8..16].copy_from_slice(&25600u64.to_be_bytes());
        block[32..48].copy_from_slice(&std::array::from_fn::<u8, 16, _>(|at| at as u8));
        block[108..112].copy_from_slice(b"data");
        let found = read_filesystem(&mut io::Cursor::new(&block))
            .unwrap()
            .unwrap();
        assert_eq!(
            found,
            FsInfo {
                fs_type: "xfs".to_owned(),
                uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned(),
                label: Some("data".to_owned()),
                size_bytes: 100 << 20,
            }
        );
        assert_eq!(
            in_words(&found),
            "xfs file system labelled data (00010203-0405-0607-0809-0a0b0c0d0e0f)"
        );
        assert_eq!(
            read_filesystem(&mut io::Cursor::new([0; 2048])).unwrap(),
            None
        );
        assert_eq!(
            read_filesystem(&mut io::Cursor::new(b"XFSB")).unwrap(),
            None
        );
    }

    #[test]
    fn generations_of_ext_are_told_apart() {
        let kind = |compatible: u32, incompatible: u32| {
            let mut block = vec![0; 1024];
            block[56..58].copy_from_slice(&[0x53, 0xef]);
            block[92..96].copy_from_slice(&compatible.to_le_bytes());
            block[96..100].copy_from_slice(&incompatible.to_le_bytes());
            ext(&block).unwrap().fs_type
        };
        assert_eq!(kind(4, 0x2c2), "ext4");
        assert_eq!(kind(4, 0x2), "ext3");
        assert_eq!(kind(0, 0x2), "ext2");
    }

    /// What the makers of file systems write is what we read, where they are installed.
    #[test]
    fn real_file_systems_are_recognised() {
        for (program, options, kind, size) in [
            ("mkfs.xfs", ["-q", "-L", "data"], "xfs", 512 << 20),
            ("mkfs.ext4", ["-q", "-L", "data"], "ext4", 64 << 20),
        ] {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(size).unwrap();
            let Ok(made) = Command::new(program)
                .args(options)
                .arg(image.path())
                .status()
            else {
                continue; // not installed here
            };
            assert!(made.success(), "{program}");
            let found = probe_filesystem(image.path()).unwrap().unwrap();
            assert_eq!(found.fs_type, kind);
            assert_eq!(found.label.as_deref(), Some("data"));
            assert_eq!(found.size_bytes, size);
            let mut file = image.reopen().unwrap();
            assert!(first_data(&mut file, size).unwrap().is_some());
        }
    }

    #[test]
    fn a_serial_is_the_volumes_too() {
        let has = "0f1e2d3c4b5a69788796";
        assert!(serial_matches(has, has));
        assert!(serial_matches("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", has));
        assert!(!serial_matches("1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", has));
        assert!(serial_matches(has, "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"));
        assert!(serial_matches(
            "a serial of 26 characters.",
            "a serial of 26 chara"
        ));
        assert!(!serial_matches("0f1e", has));
        assert!(!serial_matches(has, "0f1e"));
        assert!(!serial_matches("", "x"));
        assert!(!serial_matches("-", ""));
    }

    #[test]
    fn devices_that_are_no_disks_are_known_by_name() {
        for name in [
            "dm-0", "md127", "md_d0", "zram0", "ram1", "sr0", "fd0", "nbd3",
        ] {
            assert_eq!(kind_of(name), Kind::Virtual, "{name}");
        }
        for name in ["vda", "sdb", "nvme0n1", "xvdb", "mmcblk0"] {
            assert_eq!(kind_of(name), Kind::Disk, "{name}");
        }
        assert_eq!(kind_of("loop7"), Kind::Loop);
    }

    #[test]
    fn what_helpers_say_is_put_in_words() {
        let said = blkid_in_words("DEVNAME=/dev/vdb\nTYPE=LVM2_member\nUSAGE=raid\n");
        assert_eq!(said.as_deref(), Some("LVM2_member"));
        let said = blkid_in_words("LABEL=old\nTYPE=btrfs\nUSAGE=filesystem\n");
        assert_eq!(said.as_deref(), Some("btrfs file system labelled old"));
        let said = blkid_in_words("DEVNAME=/dev/vdb\nPTTYPE=gpt\n");
        assert_eq!(said.as_deref(), Some("partition table (gpt)"));
        assert_eq!(blkid_in_words(""), None);
        let database = "S:disk/by-id/x\nE:ID_SERIAL=QEMU_x\nE:ID_SERIAL_SHORT=x\n";
        assert_eq!(udev_serial(database).as_deref(), Some("x"));
    }

    #[test]
    fn the_table_says_what_was_seen() {
        let disk = |name: &str, serial: Option<&str>, size_bytes| BlockDevice {
            name: name.to_owned(),
            path: node(name),
            major_minor: "252:0".to_owned(),
            size_bytes,
            serial: serial.map(str::to_owned),
            kind: Kind::Disk,
            read_only: false,
            removable: false,
            partitions: Vec::new(),
            holders: Vec::new(),
            mounted_at: Vec::new(),
            swap: false,
        };
        let disks = [
            disk("vda", None, 21 * GIB / 2),
            disk("vdb", Some("0f1e2d3c4b5a69788796"), 100 * GIB),
        ];
        assert_eq!(
            render(&disks, |disk| format!("what {} has", disk.name)),
            "NAME          SIZE  SERIAL                WHAT IS ON IT\n\
             /dev/vda  10.5 GiB  -                     what vda has\n\
             /dev/vdb   100 GiB  0f1e2d3c4b5a69788796  what vdb has\n"
        );
        assert_eq!(size_in_words(0), "0 B");
        assert_eq!(size_in_words(1536), "1.5 KiB");
    }

    #[test]
    fn a_selector_is_a_word_a_path_or_a_serial() {
        assert_eq!(Selector::parse("auto"), Selector::Auto);
        assert_eq!(
            Selector::parse("/dev/vdb"),
            Selector::Path("/dev/vdb".into())
        );
        assert_eq!(Selector::parse("ab12"), Selector::Serial("ab12".to_owned()));
    }

    #[test]
    fn this_machine_shows_no_stacked_device_as_a_disk() {
        for disk in disks().unwrap() {
            assert_eq!(disk.kind, Kind::Disk);
            assert!(disk.size_bytes > 0);
        }
        let error = at_path(Path::new("/dev/null")).unwrap_err();
        assert!(error.message.contains("not a block device"));
    }
}
