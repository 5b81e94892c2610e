//! Entries of fstab(5) for a place where the agent mounts something. Operators who mount a share by
//! hand use fstab.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::escape::octal;

pub const FSTAB: &str = "/etc/fstab";

/// What one line says of a mount. Its other options may hold a password and are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line's number, from 1.
    pub line: usize,
    pub fs_type: String,
    /// The file that mount.cifs(8) reads user and password from.
    pub credentials: Option<PathBuf>,
}

/// The entries of a file for `mount_point`.
pub fn entries(fstab: &str, mount_point: &Path) -> Vec<Entry> {
    let lines = fstab.split('\n').enumerate();
    lines
        .filter_map(|(index, line)| {
            let (at, entry) = parse(line)?;
            (at == mount_point).then_some(Entry {
                line: index + 1,
                ..entry
            })
        })
        .collect()
}

/// libmount and getmntent(3) take blanks and tabs alone for what separates: other characters that look like it belong to
/// a name. The carriage return of a file with CR LF is no part of a line.
fn parse(line: &str) -> Option<(PathBuf, Entry)> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let words = line.split([' ', '\t']);
    let mut words = words.filter(|word| !word.is_empty());
    words.next().filter(|source| !source.starts_with('#'))?;
    let at = PathBuf::from(octal(words.next()?));
    let fs_type = octal(words.next()?).to_string_lossy().into_owned();
    let options = octal(words.next().unwrap_or_default());
    let mut options = options.as_bytes().split(|byte| *byte == b',');
    let credentials = options.find_map(credentials);
    let entry = Entry {
        line: 0,
        fs_type,
        credentials,
    };
    // A trailing slash means the same place.
    Some((at.components().collect(), entry))
}

/// The file that an option of mount.cifs(8) names, which takes both names.
fn credentials(option: &[u8]) -> Option<PathBuf> {
    let mut names = [&b"credentials="[..], b"cred="].into_iter();
    let path = names.find_map(|name| option.strip_prefix(name))?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// The file without these lines. Every other byte stays.
pub fn without(fstab: &[u8], entries: &[Entry]) -> Vec<u8> {
    let lines = fstab.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(index, _)| entries.iter().all(|entry| entry.line != index + 1))
        .flat_map(|(_, line)| line)
        .copied()
        .collect()
}

/// `fstab` with the lines appended that `before` had for `mount_point`. `None` where `before` had
/// no such line, or `fstab` already has one.
pub fn put_lines_back(before: &[u8], fstab: &[u8], mount_point: &Path) -> Option<Vec<u8>> {
    let of = |file: &[u8]| entries(&String::from_utf8_lossy(file), mount_point);
    let taken_out = of(before);
    if taken_out.is_empty() || !of(fstab).is_empty() {
        return None;
    }
    let mut whole = fstab.to_vec();
    for (index, line) in before.split(|byte| *byte == b'\n').enumerate() {
        if taken_out.iter().any(|entry| entry.line == index + 1) {
            if whole.last().is_some_and(|last| *last != b'\n') {
                whole.push(b'\n');
            }
            whole.extend_from_slice(line);
            whole.push(b'\n');
        }
    }
    Some(whole)
}

/// The entries for `mount_point` on this guest.
pub fn on_this_guest(mount_point: &Path) -> Vec<Entry> {
    let text = std::fs::read(FSTAB).unwrap_or_default();
    entries(&String::from_utf8_lossy(&text), mount_point)
}

/// Whether a line for another place reads the same credentials.
pub fn is_read_elsewhere(credentials: &Path, mount_point: &Path) -> bool {
    let text = std::fs::read(FSTAB).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut all = text.lines().filter_map(parse);
    all.any(|(at, entry)| at != mount_point && entry.credentials.as_deref() == Some(credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPED: &str = "# /dev/sdb /mnt/data xfs\nUUID=1 / ext4 defaults 0 1\n\
        //192.168.2.13/user1\t/mnt/data/shared\\040folder/ cifs credentials=/root/.smb.cred,vers=3.0 0 0\n\
        /dev/sdb1 /mnt/data xfs defaults";

    #[test]
    fn an_entry_for_the_same_place_is_seen() {
        let data = entries(TYPED, Path::new("/mnt/data"));
        assert_eq!(data.len(), 1);
        assert_eq!((data[0].line, data[0].fs_type.as_str()), (4, "xfs"));
        assert_eq!(entries(TYPED, Path::new("/mnt/data/x")), []);
        let share = entries(TYPED, Path::new("/mnt/data/shared folder"));
        let expected = Entry {
            line: 3,
            fs_type: "cifs".to_owned(),
            credentials: Some("/root/.smb.cred".into()),
        };
        assert_eq!(share, [expected]);
    }

    #[test]
    fn a_line_comes_back_at_the_end_of_what_somebody_changed() {
        let at = Path::new("/x");
        let before = b"/dev/a / ext4\n//s/u /x cifs credentials=/c\n";
        let back =
            |now: &[u8]| put_lines_back(before, now, at).map(|b| String::from_utf8(b).unwrap());
        let line = "//s/u /x cifs credentials=/c\n";
        assert_eq!(
            back(b"/dev/a / ext4\n/dev/b /b xfs").unwrap(),
            format!("/dev/a / ext4\n/dev/b /b xfs\n{line}")
        );
        assert_eq!(back(b"").unwrap(), line);
        // Somebody already wrote a line.
        assert_eq!(back(b"//other/u /x/ cifs guest\n"), None);
        assert_eq!(put_lines_back(b"/dev/a / ext4\n", b"", at), None);
    }

    #[test]
    fn only_blanks_and_tabs_separate() {
        let place = Path::new("/mnt/data");
        for (line, is_there) in [
            ("/dev/b\t \t/mnt/data xfs", true),
            ("/dev/b /mnt/data xfs\r", true),
            ("/dev/b /mnt/data\u{a0}x xfs x", false),
            ("/dev/b /mnt/data\u{b}x xfs x", false),
            ("/dev/b\u{3000}/mnt/data xfs x", false),
            ("/dev/b /mnt/data\r", false),
        ] {
            assert_eq!(
                entries(line, place).len(),
                usize::from(is_there),
                "{line:?}"
            );
        }
        let at = entries("//s/u /mnt/data cifs cred=/c\u{a0}d\r", place);
        assert_eq!(at[0].credentials.as_deref(), Some(Path::new("/c\u{a0}d")));
        // The numbers are decoded before anything else is read.
        let at = entries("//s/u /mnt/data cif\\163 cred=/a\\054b", place);
        assert_eq!(at[0].fs_type, "cifs");
        assert_eq!(at[0].credentials.as_deref(), Some(Path::new("/a")));
    }

    #[test]
    fn every_other_byte_stays() {
        let share = entries(TYPED, Path::new("/mnt/data/shared folder"));
        let rest = String::from_utf8(without(TYPED.as_bytes(), &share)).unwrap();
        let mut lines: Vec<&str> = TYPED.split_inclusive('\n').collect();
        lines.remove(2);
        assert_eq!(rest, lines.concat());
        // Bytes that are not text are kept as they are.
        let bytes = b"\xff\n/dev/b /x xfs x\r\n\xfe";
        let ours = entries(&String::from_utf8_lossy(bytes), Path::new("/x"));
        assert_eq!(without(bytes, &ours), b"\xff\n\xfe");
    }
}
