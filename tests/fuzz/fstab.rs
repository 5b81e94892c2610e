//! fstab(5): the lines of a place are found, taken out and put back, and no other byte changes. `findmnt` reads each
//! file as mount(8) does, and has to see the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use wasagent::host::fstab::{Entry, entries, put_lines_back, without};

use crate::Comparison;
use crate::mutation::{Text, texts};

const CORPUS: [&str; 5] = [
    include_str!("corpus/fstab/guide"),
    include_str!("corpus/fstab/strange"),
    include_str!("corpus/fstab/installer"),
    include_str!("corpus/fstab/carriage_returns"),
    include_str!("corpus/fstab/blanks"),
];

const WORDS: [&str; 28] = [
    "/mnt/data/shared_folder",
    "/mnt/data/shared\\040folder",
    "/mnt/data",
    "//192.168.2.13/user1",
    "cifs",
    "credentials=/root/.smb.cred",
    "cred=\\134x",
    "#",
    "\n",
    "\t",
    " ",
    "\r",
    "\u{b}",
    "\u{c}",
    "\u{a0}",
    "\u{3000}",
    "\u{85}",
    "\\",
    "\\040",
    "\\011",
    "\\012",
    "\\777",
    "\\08",
    "/",
    "/.",
    "\"",
    "0 0\n",
    "\r\n",
];

#[test]
fn only_the_lines_of_a_place_go_and_come_back() {
    let places = vec![
        "/mnt/data/shared_folder",
        "/mnt/data",
        "/",
        "/mnt/data/shared folder",
        "none",
        "/mnt/data\u{a0}x",
    ];
    let inputs = (texts(&CORPUS, &WORDS), proptest::sample::select(places));
    let comparison = Comparison::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    crate::for_a_while(&inputs, |(Text(fstab), place)| {
        let place = Path::new(place);
        let of = |bytes: &[u8]| entries(&String::from_utf8_lossy(bytes), place);
        let found = of(&fstab);
        let taken_out = without(&fstab, &found);
        prop_assert!(of(&taken_out).is_empty());
        let (all, mut left) = (lines(&fstab), lines(&taken_out));
        let others: Vec<Vec<u8>> = all
            .iter()
            .enumerate()
            .filter(|(index, _)| found.iter().all(|entry| entry.line != index + 1))
            .map(|(_, line)| line.clone())
            .collect();
        // A last line that went leaves the end of the line before it.
        if left.len() == others.len() + 1 && left.last().is_some_and(Vec::is_empty) {
            left.pop();
        }
        prop_assert_eq!(&left, &others);
        let back = put_lines_back(&fstab, &taken_out, place);
        match &back {
            None => prop_assert!(found.is_empty()),
            Some(back) => {
                prop_assert!(back.starts_with(&taken_out));
                let ours: Vec<&Vec<u8>> = found.iter().map(|entry| &all[entry.line - 1]).collect();
                let came = of(back);
                prop_assert_eq!(came.len(), ours.len());
                let back = lines(back);
                for (entry, line) in came.iter().zip(ours) {
                    prop_assert_eq!(&back[entry.line - 1], line);
                }
            }
        }
        comparison.make(|| {
            if looks_like_mountinfo(&fstab) {
                return Ok(());
            }
            let Some(before) = Findmnt::read(file.path(), &fstab) else {
                return Ok(());
            };
            before.agrees(&found, place)?;
            let after = Findmnt::read(file.path(), &taken_out).unwrap();
            let others = before.rows.iter().filter(|row| !row.is_at(place));
            prop_assert_eq!(&after.rows, &others.cloned().collect::<Vec<_>>());
            if let Some(back) = &back {
                let ours = before.rows.iter().filter(|row| row.is_at(place));
                let all: Vec<Row> = after.rows.iter().chain(ours).cloned().collect();
                let now = Findmnt::read(file.path(), back).unwrap();
                prop_assert_eq!(now.rows, all);
            }
            Ok(())
        })
    });
    eprintln!("{} compared with findmnt", comparison.count.get());
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

/// Where a file begins with two numbers, findmnt takes it for proc_pid_mountinfo(5).
fn looks_like_mountinfo(fstab: &[u8]) -> bool {
    let is_number = |word: &[u8]| word.first().is_some_and(u8::is_ascii_digit);
    let mut lines = fstab.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let words = line.split(u8::is_ascii_whitespace);
        let mut words = words.filter(|word| !word.is_empty());
        words.next().is_some_and(is_number) && words.next().is_some_and(is_number)
    })
}

/// What findmnt(8) says of a file.
struct Findmnt {
    rows: Vec<Row>,
    /// The lines that mount(8) does not read.
    refused: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    target: PathBuf,
    fs_type: OsString,
    options: Vec<u8>,
}

impl Row {
    fn is_at(&self, place: &Path) -> bool {
        self.target == place
    }

    fn credentials(&self) -> Option<PathBuf> {
        let mut options = self.options.split(|byte| *byte == b',');
        options.find_map(|option| {
            let at = option.iter().position(|byte| *byte == b'=')?;
            let (key, value) = option.split_at(at);
            let is_named = matches!(key, b"credentials" | b"cred");
            is_named.then(|| OsString::from_vec(value[1..].to_vec()).into())
        })
    }
}

impl Findmnt {
    fn read(file: &Path, fstab: &[u8]) -> Option<Self> {
        std::fs::write(file, fstab).unwrap();
        let command = ["--raw", "--noheadings", "--output", "TARGET,FSTYPE,OPTIONS"];
        let output = Command::new("findmnt")
            .args(command)
            .arg("--tab-file")
            .arg(file)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let refused = said.lines().filter_map(|line| {
            let (_, number) = line.split_once("parse error at line ")?;
            number.split(' ').next()?.parse().ok()
        });
        let rows = output.stdout.split(|byte| *byte == b'\n');
        Some(Self {
            rows: rows.filter(|row| !row.is_empty()).map(row).collect(),
            refused: refused.collect(),
        })
    }

    /// Whether the agent has found the lines of a place that mount(8) would take, and no others. A line that mount(8)
    /// does not take may be found as well.
    fn agrees(&self, found: &[Entry], place: &Path) -> Result<(), TestCaseError> {
        let rows = self.rows.iter().filter(|row| row.is_at(place));
        let rows: Vec<_> = rows
            .map(|row| {
                (
                    as_text(&row.fs_type),
                    row.credentials().map(|path| as_text(&path)),
                )
            })
            .collect();
        let taken = found
            .iter()
            .filter(|entry| !self.refused.contains(&entry.line));
        let taken: Vec<_> = taken
            .map(|entry| {
                let credentials = entry.credentials.as_deref();
                (entry.fs_type.clone(), credentials.map(as_text))
            })
            .collect();
        prop_assert_eq!(taken, rows, "the agent, and findmnt");
        Ok(())
    }
}

/// The agent reads what is no text as one.
fn as_text(bytes: impl AsRef<OsStr>) -> String {
    bytes.as_ref().to_string_lossy().into_owned()
}

/// `target fs-type options`, where what would break the line is `\xNN`.
fn row(row: &[u8]) -> Row {
    let mut columns = row.split(|byte| *byte == b' ').map(plain);
    let mut next = || columns.next().unwrap_or_default();
    let [target, fs_type, options] = [next(), next(), next()];
    Row {
        // A place is the same with a slash at its end.
        target: PathBuf::from(OsString::from_vec(target))
            .components()
            .collect(),
        fs_type: OsString::from_vec(fs_type),
        options,
    }
}

fn plain(column: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = column;
    while let Some((&first, after)) = rest.split_first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|digits| digits.get(..2));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &rest[4..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}
