//! A path on the data disk, even before the disk is mounted. A plan must know whether what apply
//! finds after the mount is there already, and the directory that the disk will hide does not show
//! that.

use std::path::{Path, PathBuf};

use super::disk::formatted;
use crate::config::Device;
use crate::error::Result;
use crate::host::mount::{DetachedMount, mount_at};

/// The disk below a path.
#[derive(Debug, Clone)]
pub struct DataDisk {
    pub device: Device,
    pub mount: PathBuf,
}

/// Where a path is to be looked for.
#[derive(Debug)]
pub enum PathOnDisk {
    /// At its own path.
    Mounted(PathBuf),
    /// On a disk that is not mounted.
    Unmounted(DetachedMount, PathBuf),
    /// On a disk that is still blank.
    Nowhere,
}

impl PathOnDisk {
    /// The path by which it is reached now.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Mounted(path) => Some(path.clone()),
            Self::Unmounted(disk, inside) => Some(disk.path(inside)),
            Self::Nowhere => None,
        }
    }
}

/// Where `path` is now, if it will be on `disk`.
pub fn find(path: &Path, disk: Option<&DataDisk>) -> Result<PathOnDisk> {
    let on_disk = disk.and_then(|disk| Some((disk, path.strip_prefix(&disk.mount).ok()?)));
    let Some((disk, inside)) = on_disk else {
        return Ok(PathOnDisk::Mounted(path.to_owned()));
    };
    if mount_at(&disk.mount)?.is_some() {
        return Ok(PathOnDisk::Mounted(path.to_owned()));
    }
    // The disk's own resource reports a disk that is missing or refused.
    let Ok(Some((device, filesystem))) = formatted(&disk.device) else {
        return Ok(PathOnDisk::Nowhere);
    };
    match DetachedMount::of(&device.path, &filesystem.fs_type) {
        Ok(detached) => Ok(PathOnDisk::Unmounted(detached, inside.to_owned())),
        // The mount comes first and will report what is wrong with the disk.
        Err(error) => {
            tracing::debug!(%error, "the data disk is not looked into");
            Ok(PathOnDisk::Nowhere)
        }
    }
}
