//! Which disk is meant by `storage.disk.device`.

use std::fmt::Write as _;
use std::path::Path;

use super::blank::{Blankness, prove_blank};
use super::inventory::{BlockDevice, at_path, disks, is_block_device, used_by};
use crate::config::Device;
use crate::error::{Error, Result};

/// The disk that the tier file means. A path or a serial names a disk whether it is blank or not;
/// `auto` means the only disk that is proved blank.
///
/// # Errors
/// When there is no such disk. This is transient: a volume may be attached while the guest runs.
/// Also when `auto` or a serial matches more than one disk. Both errors show a table of the disks.
pub fn find(device: &Device) -> Result<BlockDevice> {
    match device {
        Device::Path(path) if !path.exists() => {
            let what = format!("there is no {}", path.display());
            Err(not_one(&what, &disks()?).transient())
        }
        Device::Path(path) => at_path(path),
        Device::Serial(serial) => {
            // The whole name below by-id is accepted too: `virtio-…`, `scsi-0QEMU_QEMU_HARDDISK_…`.
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
        Device::Auto => {
            let seen = disks()?;
            let mut blank = Vec::new();
            for disk in &seen {
                // A disk that cannot be read is not blank; the table shows the error.
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

/// The devices as a table for an operator: name, size, serial, what is on it. Only devices that
/// nobody uses are read.
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
    // One decimal, cut off: a disk is never shown larger than it is.
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

/// How many characters of a serial virtio-blk (`VIRTIO_BLK_ID_BYTES`) and ATA (words 10 to 19 of
/// the identity) show.
const SHOWN: usize = 20;

/// Whether a wanted serial means the shown one. The serial of a CloudStack volume is the first 20
/// characters of its UUID without hyphens. Some buses show at most 20 characters of any serial;
/// SCSI shows all. So the whole serial or UUID matches a shown part, and a part matches the whole.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk::inventory::{DeviceKind, node};

    const GIB: u64 = 1 << 30;

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
    fn the_table_says_what_was_seen() {
        let disk = |name: &str, serial: Option<&str>, size_bytes| BlockDevice {
            name: name.to_owned(),
            path: node(name),
            major_minor: "252:0".to_owned(),
            size_bytes,
            serial: serial.map(str::to_owned),
            kind: DeviceKind::Disk,
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
}
