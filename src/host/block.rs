//! Disks: which there are, which one is meant, and the proof that one is blank before anything is
//! written to it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a block device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Disk,
    Partition,
    Loop,
    /// Device mapper, md, nbd …: made by the kernel on top of something.
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
    /// Size that the file system was made or grown to.
    pub size_bytes: u64,
}

fn pending() -> Error {
    Error::new("not written yet")
}

/// The disks of this machine: no loop, RAM, optical or stacked devices, none without a size or a
/// node in `/dev`.
pub fn disks() -> Result<Vec<BlockDevice>> {
    Err(pending())
}

/// The device behind a path, also a partition or a loop device.
pub fn at_path(_path: &Path) -> Result<BlockDevice> {
    Err(pending())
}

/// The device that the selector means; for `auto` the one disk that is proved blank.
pub fn find(_selector: &Selector) -> Result<BlockDevice> {
    Err(pending())
}

/// Whether nothing is on the device and nobody uses it. Reads only.
pub fn prove_blank(_path: &Path) -> Result<Blankness> {
    Err(pending())
}

/// The xfs or ext file system on a device, read from its superblock; `None` for anything else.
pub fn probe_filesystem(_path: &Path) -> Result<Option<FsInfo>> {
    Err(pending())
}

/// The devices as a table for an operator: name, size, serial, what is on it.
pub fn table(_devices: &[BlockDevice]) -> String {
    String::new()
}
