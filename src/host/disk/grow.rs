//! Grows a mounted file system to the size of its disk, by the two system calls that xfs_growfs(8)
//! and resize2fs(8) end in. So no helper's output has to be understood, and neither call can be
//! told to shrink the file system or to touch one that is not mounted here.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::host::Permit;

/// `struct xfs_fsop_geom_v1` of `fs/xfs/libxfs/xfs_fs.h`: all kernels know it.
#[repr(C)]
#[derive(Default)]
struct XfsGeometry {
    block_size: u32,
    realtime_extent_size: u32,
    ag_blocks: u32,
    ag_count: u32,
    log_blocks: u32,
    sector_size: u32,
    inode_size: u32,
    inode_percent: u32,
    data_blocks: u64,
    realtime_blocks: u64,
    realtime_extents: u64,
    log_start: u64,
    uuid: [u8; 16],
    stripe_unit: u32,
    stripe_width: u32,
    version: i32,
    flags: u32,
    log_sector_size: u32,
    realtime_sector_size: u32,
    directory_block_size: u32,
}

/// `struct xfs_growfs_data` of the same file.
#[repr(C)]
struct XfsGrow {
    new_blocks: u64,
    inode_percent: u32,
}

/// The calls themselves: no library among the dependencies has a safe wrapper for them.
mod calls {
    use super::{XfsGeometry, XfsGrow};

    nix::ioctl_read!(xfs_geometry, b'X', 100, XfsGeometry);
    nix::ioctl_write_ptr!(xfs_grow_data, b'X', 110, XfsGrow);
    // `EXT4_IOC_RESIZE_FS` of `fs/ext4/ext4.h`: the new number of blocks.
    nix::ioctl_write_ptr!(ext4_resize, b'f', 16, u64);
}

/// The size of the xfs that is mounted there, as the kernel has it in memory: the disk may be out
/// of date.
///
/// # Errors
/// When it is not an xfs, or cannot be asked.
pub fn xfs_size(mount_point: &Path) -> Result<u64> {
    let geometry = geometry(&File::open(mount_point).doing(asking(mount_point))?)
        .doing(asking(mount_point))?;
    Ok(geometry
        .data_blocks
        .saturating_mul(u64::from(geometry.block_size)))
}

fn asking(mount_point: &Path) -> String {
    format!("ask for the size of the xfs on {}", mount_point.display())
}

fn geometry(root: &File) -> nix::Result<XfsGeometry> {
    let mut geometry = XfsGeometry::default();
    // SAFETY: the call writes one structure of this layout to the given pointer. Any other file
    // system than xfs refuses the call (ENOTTY).
    unsafe { calls::xfs_geometry(root.as_raw_fd(), &raw mut geometry) }?;
    Ok(geometry)
}

/// Grows the file system that is mounted there to `size_bytes`. xfs and ext4 both journal this: a
/// power cut leaves the old size or the new one.
///
/// # Errors
/// When the kernel refuses.
pub fn grow(_permit: &Permit, mount_point: &Path, fs_type: &str, size_bytes: u64) -> Result<()> {
    let doing = || format!("grow the {fs_type} on {}", mount_point.display());
    let root = File::open(mount_point).doing(doing())?;
    let grown = match fs_type {
        "xfs" => grow_xfs(&root, size_bytes),
        "ext4" => grow_ext4(&root, size_bytes),
        other => {
            return Err(Error::new(format!("{}: {other} cannot be grown", doing())));
        }
    };
    grown.map_err(|errno| {
        let hint = match errno {
            // ext4_resize_begin() in fs/ext4/resize.c.
            Errno::EPERM => {
                "ext4 grows for root with CAP_SYS_RESOURCE, which a container may lack, and not while `dumpe2fs -h` shows errors"
            }
            _ => "the last lines of `dmesg` say why; its files are as they were",
        };
        Error::new(format!("{}: {}", doing(), errno.desc())).hint(hint)
    })
}

fn grow_xfs(root: &File, size_bytes: u64) -> nix::Result<()> {
    let geometry = geometry(root)?;
    let wanted = XfsGrow {
        new_blocks: size_bytes / u64::from(geometry.block_size.max(1)),
        // Unchanged.
        inode_percent: geometry.inode_percent,
    };
    // SAFETY: the call only reads the structure, which has the layout that it expects.
    unsafe { calls::xfs_grow_data(root.as_raw_fd(), &raw const wanted) }.map(drop)
}

fn grow_ext4(root: &File, size_bytes: u64) -> nix::Result<()> {
    // `f_bsize` of ext4 is its block size (fs/ext4/super.c, ext4_statfs).
    let block_size = nix::sys::statfs::fstatfs(root)?.block_size();
    let wanted = size_bytes / u64::try_from(block_size).unwrap_or(4096).max(1);
    // SAFETY: the call only reads one number of this width.
    unsafe { calls::ext4_resize(root.as_raw_fd(), &raw const wanted) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        // The ioctl numbers XFS_IOC_FSGEOMETRY_V1 and XFS_IOC_FSGROWFSDATA contain these lengths.
        assert_eq!(size_of::<XfsGeometry>(), 112);
        assert_eq!(size_of::<XfsGrow>(), 16);
    }

    #[test]
    fn another_file_system_refuses() {
        assert!(xfs_size(Path::new("/proc")).is_err());
        let permit = Permit::for_a_test();
        assert!(grow(&permit, Path::new("/proc"), "xfs", 1 << 30).is_err());
        assert!(grow(&permit, Path::new("/proc"), "ext4", 1 << 30).is_err());
        assert!(grow(&permit, Path::new("/proc"), "btrfs", 1 << 30).is_err());
    }
}
