//! The proof that a disk is blank before anything is written to it.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::blkid;
use super::filesystem::{FsInfo, probe_filesystem, read_filesystem};
use super::inventory::{at_path, used_by};
use super::signature;
use crate::error::{Doing, Error, Result};

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

/// Whether the device holds nothing and nobody uses it. Only reads. Unused means: no mount, no
/// swap, no device built on it, and the kernel grants exclusive access. Empty means: no partition,
/// and zeros in the first 8 MiB, in the last 4 MiB, where file systems keep copies of their
/// superblocks, and at 63 places spread over the rest.
///
/// # Errors
/// When the device cannot be read. It does not count as blank then.
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
        let table = blkid::name(&device.path).unwrap_or_else(|| "a partition table".to_owned());
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

/// Whether a device holds only what an interrupted mkfs of this type may leave: no mountable file
/// system, no partition, and no signature of anything else. The answer is only meaningful for a
/// disk that was proved blank before that mkfs began.
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
    Ok(match blkid::ask(path) {
        Some((2, _)) => true,
        Some((0, answer)) => is_own_type(&answer),
        // Without a clear answer nothing is overwritten.
        _ => false,
    })
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
}
