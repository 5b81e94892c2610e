//! Magic numbers of well-known formats, at the start of a disk and in the copies at its end.
//! blkid(8) may be missing, and it does not look at a copy once the first is gone. The result only
//! names what is on a refused disk. The refusal itself needs no more than one byte that is not
//! zero.

use std::io::{self, Read, Seek, SeekFrom};

/// Where a magic number stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offset {
    Start(u64),
    /// This many bytes before the end.
    End(u64),
    /// Before the end, which is first rounded down to a multiple of `unit`.
    Aligned {
        unit: u64,
        before: u64,
    },
}

impl Offset {
    fn of(self, size: u64) -> Option<u64> {
        match self {
            Self::Start(at) => Some(at),
            Self::End(before) => size.checked_sub(before),
            Self::Aligned { unit, before } => (size / unit * unit).checked_sub(before),
        }
    }
}

const fn start(at: u64) -> Offset {
    Offset::Start(at)
}

/// Name, place and magic number. The numbers are those of the formats' own headers, as libblkid
/// collects them in `libblkid/src/superblocks` and `partitions`.
#[rustfmt::skip]
const SIGNATURES: &[(&str, Offset, &[u8])] = &[
    ("GPT partition table", start(512), b"EFI PART"),
    ("GPT partition table", start(4096), b"EFI PART"),
    ("backup of a GPT partition table", Offset::End(512), b"EFI PART"),
    ("backup of a GPT partition table", Offset::End(4096), b"EFI PART"),
    ("LVM physical volume", start(0), b"LABELONE"),
    ("LVM physical volume", start(512), b"LABELONE"),
    ("LVM physical volume", start(1024), b"LABELONE"),
    ("LVM physical volume", start(1536), b"LABELONE"),
    ("LUKS encryption", start(0), b"LUKS\xba\xbe"),
    // The second header of LUKS2, at every offset that its specification allows.
    ("LUKS encryption", start(0x4000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x8000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x1_0000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x2_0000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x4_0000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x8_0000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x10_0000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x20_0000), b"SKUL\xba\xbe"),
    ("LUKS encryption", start(0x40_0000), b"SKUL\xba\xbe"),
    ("BitLocker encryption", start(3), b"-FVE-FS-"),
    // include/uapi/linux/raid/md_p.h: 0.90, 1.0, 1.1 and 1.2.
    ("RAID member (md)", Offset::Aligned { unit: 0x1_0000, before: 0x1_0000 }, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("RAID member (md)", Offset::Aligned { unit: 0x1000, before: 0x2000 }, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("RAID member (md)", start(0), &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("RAID member (md)", start(4096), &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("RAID member (Intel)", Offset::End(1024), b"Intel Raid ISM Cfg Sig."),
    ("RAID member (DDF)", Offset::End(512), &[0xde, 0x11, 0xde, 0x11]),
    ("DRBD", Offset::End(4096 - 60), &[0x83, 0x74, 0x02, 0x6b]),
    ("DRBD", Offset::End(4096 - 60), &[0x83, 0x74, 0x02, 0x6d]),
    ("bcache", start(4096 + 24), &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81]),
    ("bcachefs", start(4096 + 24), &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef]),
    ("VDO", start(0), b"dmvdo001"),
    ("Ceph", start(0), b"bluestore block device"),
    ("VMFS", start(1 << 20), &[0x0d, 0xd0, 0x01, 0xc0]),
    ("swap", start(4096 - 10), b"SWAPSPACE2"),
    ("swap", start(4096 - 10), b"SWAP-SPACE"),
    ("swap", start(65536 - 10), b"SWAPSPACE2"),
    ("hibernation image", start(4096 - 10), b"S1SUSPEND"),
    ("hibernation image", start(4096 - 10), b"LINHIB0001"),
    ("btrfs file system", start(0x1_0040), b"_BHRfS_M"),
    ("copy of a btrfs superblock", start((64 << 20) + 0x40), b"_BHRfS_M"),
    ("copy of a btrfs superblock", start((256 << 30) + 0x40), b"_BHRfS_M"),
    ("unfinished xfs file system", start(0), b"XFSB"),
    ("FAT file system", start(54), b"FAT12   "),
    ("FAT file system", start(54), b"FAT16   "),
    ("FAT file system", start(82), b"FAT32   "),
    ("exFAT file system", start(3), b"EXFAT   "),
    ("NTFS file system", start(3), b"NTFS    "),
    ("copy of an NTFS boot sector", Offset::End(512 - 3), b"NTFS    "),
    ("ReFS file system", start(3), b"ReFS\0\0\0\0"),
    ("ISO 9660 file system", start(32769), b"CD001"),
    ("UDF file system", start(32769), b"BEA01"),
    ("squashfs file system", start(0), b"hsqs"),
    ("erofs file system", start(1024), &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("f2fs file system", start(1024), &[0x10, 0x20, 0xf5, 0xf2]),
    ("JFS file system", start(32768), b"JFS1"),
    ("reiserfs file system", start(65536 + 52), b"ReIsEr"),
    ("GFS2 file system", start(65536), &[0x01, 0x16, 0x19, 0x70]),
    ("OCFS2 file system", start(8192), b"OCFSV2"),
    ("APFS container", start(32), b"NXSB"),
];

/// ZFS keeps its label twice at the start and twice at the end. The second half of each label is a
/// ring of uberblocks of at least 1 KiB, with this magic number in either byte order
/// (`include/sys/vdev_impl.h`, `uberblock_impl.h` of OpenZFS).
const ZFS_LABEL: u64 = 256 << 10;
const ZFS_UBERBLOCK: u64 = 0x00ba_b10c;

/// The names of all recognised formats, each once.
pub(super) fn names(device: &mut (impl Read + Seek), size: u64) -> io::Result<Vec<&'static str>> {
    let mut names = Vec::new();
    let mut add = |name| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    for &(name, place, magic) in SIGNATURES {
        let Some(at) = place.of(size) else { continue };
        if at + magic.len() as u64 <= size && read_at(device, at, magic.len())? == magic {
            add(name);
        }
    }
    if holds_zfs(device, size)? {
        add("ZFS");
    }
    // The boot sector of a file system ends in the same bytes, so they count only where nothing
    // else was found.
    if names.is_empty() && size >= 512 && is_boot_record(&read_at(device, 0, 512)?) {
        names.push("MBR partition table (dos)");
    }
    Ok(names)
}

fn read_at(device: &mut (impl Read + Seek), at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    device.seek(SeekFrom::Start(at))?;
    device.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn holds_zfs(device: &mut (impl Read + Seek), size: u64) -> io::Result<bool> {
    let end = size / ZFS_LABEL * ZFS_LABEL;
    let starts = [Some(0), Some(ZFS_LABEL)]
        .into_iter()
        .chain([end.checked_sub(2 * ZFS_LABEL), end.checked_sub(ZFS_LABEL)]);
    for label in starts.flatten().filter(|label| label + ZFS_LABEL <= size) {
        let half = ZFS_LABEL / 2;
        let ring = read_at(device, label + half, usize::try_from(half).unwrap_or(0))?;
        let is_magic = |uberblock: &[u8]| {
            uberblock.starts_with(&ZFS_UBERBLOCK.to_le_bytes())
                || uberblock.starts_with(&ZFS_UBERBLOCK.to_be_bytes())
        };
        if ring.chunks(1024).any(is_magic) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A master boot record: its mark, four entries that each are active or not, and at least one entry
/// with a type.
fn is_boot_record(sector: &[u8]) -> bool {
    let mut entries = sector[446..510].chunks(16);
    sector[510..] == [0x55, 0xaa]
        && sector[446..510]
            .chunks(16)
            .all(|entry| matches!(entry[0], 0 | 0x80))
        && entries.any(|entry| entry[4] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const SIZE: usize = 2 << 20;

    fn found(size: usize, at: usize, bytes: &[u8]) -> Vec<&'static str> {
        let mut device = vec![0; size];
        device[at..at + bytes.len()].copy_from_slice(bytes);
        names(&mut Cursor::new(device), size as u64).unwrap()
    }

    #[test]
    fn what_is_at_the_start_and_at_the_end_is_named() {
        let md = [0xfc, 0x4e, 0x2b, 0xa9];
        // A size that is not a multiple of 64 KiB.
        let odd = SIZE + 12288;
        for (size, at, bytes, name) in [
            (SIZE, 0, &b"LUKS\xba\xbe"[..], "LUKS encryption"),
            (SIZE, 512, b"LABELONE", "LVM physical volume"),
            (
                SIZE,
                SIZE - 512,
                b"EFI PART",
                "backup of a GPT partition table",
            ),
            (odd, SIZE - 65536, &md, "RAID member (md)"),
            (odd, odd - 8192, &md, "RAID member (md)"),
            (SIZE, 32769, b"CD001", "ISO 9660 file system"),
            (SIZE, SIZE - 4096 + 60, &[0x83, 0x74, 0x02, 0x6b], "DRBD"),
        ] {
            assert_eq!(found(size, at, bytes), [name], "{at}");
        }
        for label in [0, 256 << 10, SIZE - (512 << 10), SIZE - (256 << 10)] {
            let at = label + (128 << 10) + 4096;
            assert_eq!(found(SIZE, at, &ZFS_UBERBLOCK.to_le_bytes()), ["ZFS"]);
            assert_eq!(found(SIZE, at, &ZFS_UBERBLOCK.to_be_bytes()), ["ZFS"]);
        }
    }

    #[test]
    fn a_boot_record_is_one_only_with_a_partition() {
        let mut record = vec![0; 512];
        record[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(found(SIZE, 0, &record).is_empty());
        record[446 + 4] = 0x83;
        assert_eq!(found(SIZE, 0, &record), ["MBR partition table (dos)"]);
    }

    #[test]
    fn zeros_noise_and_the_smallest_of_devices_have_no_name() {
        assert!(found(SIZE, 0, &[]).is_empty());
        assert!(found(SIZE, 0, &[0x5a; 1 << 20]).is_empty());
        for size in [0, 1, 511, 512, 4096] {
            assert!(found(size, 0, &[]).is_empty());
        }
    }
}
