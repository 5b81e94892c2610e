//! The proof that a disk is blank before anything is written to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::blkid;
use super::filesystem::{FsInfo, read_filesystem};
use super::inventory::{BlockDevice, at_path, used_by};
use super::signature;
use crate::error::{Doing, Error, Result};
use crate::host::until::{Answer, until_blocking};

/// Whether a disk may be formatted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blankness {
    /// Every byte that was looked at is zero, and nobody uses it.
    Blank,
    /// It is in use; `by` says by what.
    InUse { by: String },
    /// It holds something; `what` names it.
    Found { what: String },
}

/// How much is read at the start: LUKS2 keeps a second header up to 4 MiB in.
const HEAD: u64 = 8 << 20;

/// How much is read at the end: there are the backup of a GPT, md and ZFS.
const TAIL: u64 = 4 << 20;

/// How much is read at each place between the start and the end.
const SAMPLE: u64 = 4096;

/// How long a device that nobody is known to use may seem used, and the pause between two tries.
const SEEMS_USED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// What a disk writes in whole at least.
const SECTOR: usize = 512;

/// Whether the device holds nothing and nobody uses it. Only reads. Unused means: no mount, no
/// swap, no device built on it, and the kernel grants exclusive access. Empty means: no partition,
/// and zeros in the first 8 MiB, in the last 4 MiB, where file systems keep copies of their
/// superblocks, and at 63 places spread over the rest.
///
/// # Errors
/// When the device cannot be read. It does not count as blank then.
pub fn prove_blank(path: &Path) -> Result<Blankness> {
    let device = at_path(path)?;
    let mut file = match open_unused(&device)? {
        Ok(file) => file,
        Err(by) => return Ok(Blankness::InUse { by }),
    };
    let doing = || format!("look for data on {}", path.display());
    if !device.partitions.is_empty() {
        let table = blkid::name(&device.path).unwrap_or_else(|| "a partition table".to_owned());
        return Ok(Blankness::Found {
            what: format!("{table} with {}", device.partitions.join(", ")),
        });
    }
    let size = file.seek(SeekFrom::End(0)).doing(doing())?;
    let Some(at) = first_data(&mut file, size).map_err(|error| unreadable(path, &error))? else {
        return Ok(Blankness::Blank);
    };
    let what = match read_filesystem(&mut file).doing(doing())? {
        Some(found) => in_words(&found),
        None => match blkid::name(&device.path) {
            Some(name) => name,
            None => match signature::names(&mut file, size).doing(doing())?[..] {
                [] => format!("data of no known format, from byte {at} on"),
                ref names => names.join(", "),
            },
        },
    };
    Ok(Blankness::Found { what })
}

/// Whether a device holds nothing but what an interrupted mkfs.xfs(8) with this UUID left: nobody uses the device, no
/// file system on it is complete, and each sector that [`prove_blank`] would read is zero or carries the UUID.
///
/// xfs writes the UUID into every block of its metadata (`xfs_dsb`, `xfs_agf`, `xfs_btree_block` …, since its version 5).
/// So this holds in whatever order the blocks reached the disk. Whoever used the disk since has written sectors without
/// that UUID. The blocks of ext4 carry no UUID, and nothing proves whose they are.
///
/// # Errors
/// When the device cannot be read.
pub fn holds_only(path: &Path, uuid: &str) -> Result<bool> {
    let device = at_path(path)?;
    let Ok(mut file) = open_unused(&device)? else {
        return Ok(false);
    };
    let Some(uuid) = bytes_of(uuid).filter(|_| device.partitions.is_empty()) else {
        return Ok(false);
    };
    let doing = || format!("look for data on {}", path.display());
    if read_filesystem(&mut file).doing(doing())?.is_some() {
        return Ok(false);
    }
    let size = file.seek(SeekFrom::End(0)).doing(doing())?;
    let foreign = first_sector(&mut file, size, |sector| !is_of(sector, &uuid));
    Ok(foreign.map_err(|error| unreadable(path, &error))?.is_none())
}

/// Opens a device that nobody uses, for reading; otherwise says who uses it.
fn open_unused(device: &BlockDevice) -> Result<Result<File, String>> {
    if let Some(by) = used_by(device) {
        return Ok(Err(by));
    }
    // A helper program that was just started still holds the descriptor of an earlier look for a moment.
    let opened = until_blocking(PAUSE, SEEMS_USED, || match open_exclusively(device) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(Answer::NotYet(())),
        other => other.map(Answer::Settled),
    });
    let opened = opened.doing(format_args!("look for data on {}", device.path.display()))?;
    Ok(opened
        .settled()
        .ok_or_else(|| "the kernel (a file system, RAID, LVM or another name space)".to_owned()))
}

/// Without O_CREAT, O_EXCL on a block device means: fail when the kernel itself holds it (open(2)).
fn open_exclusively(device: &BlockDevice) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(&device.path)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(format!("look for data on {}: {error}", path.display()))
        .hint("a disk that cannot be read in whole is not used; look at `dmesg`")
}

/// Start and length of every place that is read to prove a device of `size` bytes blank, sorted by
/// start.
fn places(size: u64) -> Vec<(u64, u64)> {
    const MIB: u64 = 1 << 20;
    let mut places = vec![(0, HEAD), (size.saturating_sub(TAIL), TAIL)];
    // Copies of the superblock. btrfs: at 64 MiB and 256 GiB. ext: in group 1 and in the groups
    // that are powers of 3, 5 and 7; a group has 8, 32 or 128 MiB with blocks of 1, 2 or 4 KiB.
    // With 1 KiB blocks the groups begin at the second block.
    places.extend([(64 * MIB, 2 * SAMPLE), (256 << 30, 2 * SAMPLE)]);
    for group in [8, 32, 128] {
        places.extend([1, 3, 5, 7, 9, 25, 27, 49].map(|nth| (nth * group * MIB, SAMPLE)));
    }
    // An xfs allocation group has at most 1 TiB.
    places.extend((1..16).map(|nth: u64| (nth << 40, SAMPLE)));
    // Spread evenly, at multiples of the sample. xfs begins its allocation groups at the quarters.
    places.extend((1..64).map(|part| (size / 64 * part / SAMPLE * SAMPLE, SAMPLE)));
    places.retain_mut(|(start, length)| {
        *length = (*length).min(size.saturating_sub(*start));
        *length > 0
    });
    places.sort_unstable();
    places
}

/// Position of the first byte that is not zero, among the places that are read.
fn first_data(device: &mut (impl Read + Seek), size: u64) -> io::Result<Option<u64>> {
    let found = first_sector(device, size, |sector| !is_zero(sector))?;
    Ok(found.map(|(at, sector)| at + sector.iter().take_while(|&&byte| byte == 0).count() as u64))
}

/// Position and contents of the first sector that `is_meant`, among the places that are read.
fn first_sector(
    device: &mut (impl Read + Seek),
    size: u64,
    is_meant: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut buffer = vec![0; 1 << 20];
    for (start, length) in places(size) {
        device.seek(SeekFrom::Start(start))?;
        let mut done = 0;
        while done < length {
            let chunk = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            device.read_exact(&mut buffer[..chunk])?;
            let mut sectors = buffer[..chunk].chunks(SECTOR);
            if let Some(nth) = sectors.position(&is_meant) {
                let sector = buffer[..chunk].chunks(SECTOR).nth(nth).unwrap_or_default();
                let at = start + done + (nth * SECTOR) as u64;
                return Ok(Some((at, sector.to_vec())));
            }
            done += chunk as u64;
        }
    }
    Ok(None)
}

fn is_zero(sector: &[u8]) -> bool {
    sector.iter().all(|&byte| byte == 0)
}

/// Whether mkfs.xfs has written a sector for the file system with this UUID. On a disk with sectors of 4 KiB, the list
/// of free blocks (`xfs_agfl`) goes on in sectors that hold its word for "none" alone, which is all ones.
fn is_of(sector: &[u8], uuid: &[u8; 16]) -> bool {
    is_zero(sector)
        || sector.windows(uuid.len()).any(|window| window == uuid)
        || sector.iter().all(|&byte| byte == 0xff)
}

/// The bytes of a UUID in its usual form.
fn bytes_of(uuid: &str) -> Option<[u8; 16]> {
    let digits = uuid.replace('-', "");
    u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32)
        .map(u128::to_be_bytes)
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt;

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
    fn what_is_found_is_put_in_words() {
        let found = FsInfo {
            fs_type: "xfs".to_owned(),
            uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned(),
            label: Some("data".to_owned()),
            size_bytes: 100 << 20,
        };
        assert_eq!(
            in_words(&found),
            "xfs file system labelled data (00010203-0405-0607-0809-0a0b0c0d0e0f)"
        );
    }

    /// What real mkfs programs write is seen, where they are installed.
    #[test]
    fn a_disk_with_a_real_file_system_is_not_blank() {
        for (program, size) in [("mkfs.xfs", 512 << 20), ("mkfs.ext4", 64 << 20)] {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(size).unwrap();
            let mkfs = std::process::Command::new(program)
                .arg("-q")
                .arg(image.path())
                .status();
            let Ok(made) = mkfs else {
                continue; // not installed here
            };
            assert!(made.success(), "{program}");
            let mut file = image.reopen().unwrap();
            assert!(first_data(&mut file, size).unwrap().is_some());
        }
    }

    const UUID: &str = "5a0dd3f2-c1b7-4e6a-8f90-0123456789ab";

    /// Images that mkfs.xfs has made with this UUID, where it is installed: of disks small and large, with sectors of
    /// 512 bytes and of 4 KiB.
    fn made_by_mkfs() -> Vec<(tempfile::NamedTempFile, u64)> {
        let mut images = Vec::new();
        for (gib, sector) in [(1, "512"), (20, "512"), (20, "4096"), (3000, "512")] {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(gib * GIB).unwrap();
            let made = std::process::Command::new("mkfs.xfs")
                .args(["-q", "-K", "-L", "wasagent", "-s"])
                .arg(format!("size={sector}"))
                .args(["-m", &format!("uuid={UUID}")])
                .arg(image.path())
                .status();
            match made {
                Ok(made) => assert!(made.success()),
                Err(_) => return images, // not installed here
            }
            images.push((image, gib * GIB));
        }
        images
    }

    #[test]
    fn whatever_part_of_a_mkfs_reached_the_disk_is_told_from_anything_else() {
        let uuid = bytes_of(UUID).unwrap();
        let is_ours = |file: &mut File, size| {
            let foreign = first_sector(file, size, |sector| !is_of(sector, &uuid)).unwrap();
            foreign.map(|(at, _)| at)
        };
        for (image, size) in made_by_mkfs() {
            let mut file = image.reopen().unwrap();
            assert_eq!(is_ours(&mut file, size), None, "{size}");
            assert!(first_data(&mut file, size).unwrap().is_some(), "{size}");

            // A power cut keeps any of the blocks: here those at the start are lost.
            file.write_all_at(&[0; 4096], 0).unwrap();
            assert_eq!(is_ours(&mut file, size), None, "{size}");

            // Used since: one sector is enough, wherever a raw use begins or ends.
            for at in [0, 512, 4096, 1 << 20, size / 2, size - 512] {
                let mut was = [0; 512];
                file.read_exact_at(&mut was, at).unwrap();
                file.write_all_at(&[0x5a; 512], at).unwrap();
                assert_eq!(is_ours(&mut file, size), Some(at), "{size}");
                file.write_all_at(&was, at).unwrap();
            }
            let other = bytes_of("5a0dd3f2-c1b7-4e6a-8f90-0123456789ac").unwrap();
            let foreign = first_sector(&mut file, size, |sector| !is_of(sector, &other));
            assert!(foreign.unwrap().is_some(), "{size}");
        }
    }

    #[test]
    fn only_a_whole_uuid_proves_anything() {
        assert_eq!(bytes_of(UUID).unwrap()[..2], [0x5a, 0x0d]);
        for odd in [
            "",
            "5a0dd3f2",
            "5a0dd3f2-c1b7-4e6a-8f90-0123456789abcd",
            "not a uuid",
        ] {
            assert_eq!(bytes_of(odd), None, "{odd}");
        }
    }
}
