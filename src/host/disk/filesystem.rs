//! The file system on a device, read from its superblock by the agent itself: a run without a
//! change starts no helper.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Doing, Result};

/// A file system found on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// `xfs`, `ext4`, `ext3` or `ext2`.
    pub fs_type: String,
    /// Lower case with hyphens, as in `/dev/disk/by-uuid`.
    pub uuid: String,
    pub label: Option<String>,
    /// Size that the file system was made or grown to. It may be out of date for a mounted xfs: xfs
    /// writes its superblock past the cache that serves reads of the device.
    pub size_bytes: u64,
}

/// The xfs or ext file system on a device; `None` for anything else.
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

pub(super) fn read_filesystem(device: &mut (impl Read + Seek)) -> io::Result<Option<FsInfo>> {
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
    // `sb_inprogress`: mkfs sets it first and clears it last. A half-made file system does not count.
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
    // Features that ext3 lacks: extents, 64 bit, flexible groups.
    const OF_EXT4: u32 = 0x40 | 0x80 | 0x200;
    const BIT_64: u32 = 0x80;
    let u32_at = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
    if block.get(56..58)? != [0x53, 0xef] {
        return None;
    }
    let (compatible, incompatible, shift) = (u32_at(92)?, u32_at(96)?, u32_at(24)?);
    // A magic number of two bytes proves little, so a block size beyond 64 KiB is refused.
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

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

    /// What real mkfs programs write is recognised, where they are installed.
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
        }
    }
}
