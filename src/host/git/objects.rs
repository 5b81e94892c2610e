//! Reads the objects of a commit: which files it holds, and their bytes. The bytes are handed on as
//! they come from git, so a revision of any size needs little memory.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::{FETCH_DEADLINE, is_commit, kind_of, reading_git};
use crate::error::{Doing, Error, Result};
use crate::host::escape::shown;
use crate::host::process::Helper;
use crate::host::tree::{begin_blob, end_blob};

/// A line before a blob has some 60 bytes.
const LONGEST_HEAD: u64 = 4096;

/// The longest record of a listing that is taken. Longer paths than that of the share are told by their name.
const LONGEST_RECORD: u64 = 1 << 16;
const LONGEST_SHOWN: usize = 200;

/// Each takes some 150 bytes of memory. The Linux kernel has 90,000 files.
const MOST_FILES: usize = 250_000;

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path below the sub-directory.
    pub path: PathBuf,
    /// git's hash of the file's bytes: SHA-1 in hexadecimal.
    pub blob: String,
    /// In bytes.
    pub size: u64,
    pub executable: bool,
}

/// A commit whose objects can be read.
#[derive(Debug, Clone)]
pub struct Revision {
    /// git's own directory, or a file that names it.
    pub(super) directory: PathBuf,
    pub commit: String,
}

impl Revision {
    /// The regular files below `subdir`. Symbolic links and submodules are an error: the WAS would not
    /// see them over SMB.
    pub async fn files(&self, subdir: Option<&Path>) -> Result<Vec<TreeEntry>> {
        let tree = match subdir {
            Some(subdir) => format!("{}:{}", self.commit, subdir.display()),
            None => self.commit.clone(),
        };
        let listed = self
            .git()
            .args(["ls-tree", "-r", "-l", "-z", "--full-tree"])
            .args(["--end-of-options", &tree])
            .deadline(FETCH_DEADLINE)
            .stream(parse_tree)
            .await;
        match (listed, subdir) {
            (Err(error), Some(subdir)) => {
                let kind = kind_of(&self.directory, &tree).await;
                if kind.as_deref() == Some("tree") {
                    return Err(error);
                }
                Err(self.no_such_directory(subdir, kind.as_deref()).await?)
            }
            (listed, _) => listed,
        }
    }

    /// The error for a directory that the revision does not have, with the nearest that it has.
    async fn no_such_directory(&self, subdir: &Path, kind: Option<&str>) -> Result<Error> {
        let directories = self
            .git()
            .args(["ls-tree", "-r", "-d", "-z", "--name-only", "--full-tree"])
            .args(["--end-of-options", &self.commit])
            .deadline(FETCH_DEADLINE)
            .stream(|pipe| {
                let mut directories = Vec::new();
                each_record(pipe, |name| {
                    directories.push(String::from_utf8_lossy(name).into_owned());
                    Ok(())
                })?;
                Ok(directories)
            })
            .await?;
        let directories = directories.iter().map(String::as_str);
        if directories.clone().any(|there| Path::new(there) == subdir) {
            return Ok(Error::new(format!(
                "git lists the directory {}, and does not find it: the names of a tree are out of order",
                subdir.display()
            ))
            .hint("run `git fsck` in the repository"));
        }
        Ok(missing_directory(subdir, kind, directories))
    }

    /// Hands `take` one file after the other with its bytes, which `take` reads to their end. Bytes that are not those
    /// that the file's name in git stands for are an error: git itself does not look.
    pub async fn each_file(
        &self,
        entries: Vec<TreeEntry>,
        mut take: impl FnMut(&TreeEntry, &mut dyn Read) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let wanted: String = entries
            .iter()
            .flat_map(|entry| [entry.blob.as_str(), "\n"])
            .collect();
        let mut each = entries.into_iter();
        let read = move |pipe: File| {
            read_batch(pipe, each.len(), |bytes| match each.next() {
                Some(entry) => {
                    let mut hashed = Hashed {
                        bytes,
                        hash: begin_blob(entry.size),
                    };
                    take(&entry, &mut hashed)?;
                    hashed.finish(&entry)
                }
                None => Ok(()),
            })
        };
        self.batch(&wanted).stream(read).await
    }

    /// The bytes of one blob that is known to be small.
    pub async fn blob(&self, name: &str) -> Result<Vec<u8>> {
        let take = |pipe: File| {
            let mut bytes = Vec::new();
            read_batch(pipe, 1, |blob| {
                blob.read_to_end(&mut bytes).map(drop).doing("read a blob")
            })?;
            Ok(bytes)
        };
        self.batch(&format!("{name}\n")).stream(take).await
    }

    fn batch<'a>(&self, wanted: &'a str) -> Helper<'a> {
        self.git()
            .args(["cat-file", "--batch", "--buffer"])
            .stdin(wanted.as_bytes())
            .deadline(FETCH_DEADLINE)
    }

    fn git<'a>(&self) -> Helper<'a> {
        reading_git().args(["--git-dir".as_ref(), self.directory.as_os_str()])
    }
}

/// `kind` is what the revision has under that name, if anything.
fn missing_directory<'d>(
    subdir: &Path,
    kind: Option<&str>,
    directories: impl Iterator<Item = &'d str>,
) -> Error {
    let wanted = subdir.to_string_lossy();
    let distance = |there: &&str| {
        // Of a path, the last part alone is often what was written down.
        let part_of = Path::new(there).ends_with(subdir);
        let distance = strsim::osa_distance(&wanted.to_lowercase(), &there.to_lowercase());
        (!part_of, distance)
    };
    let found = match kind {
        Some("blob") => format!("{wanted} is a file or a link of that revision, and no directory"),
        _ => format!("the revision has no directory {wanted}"),
    };
    match directories.min_by_key(distance) {
        Some(nearest) => Error::new(format!("{found}; the nearest is {nearest}")).hint(format!(
            "if that is meant, write subdir = {nearest:?} in [storage.content]"
        )),
        None => Error::new(format!("{found}; it has no directories"))
            .hint("leave storage.content.subdir out"),
    }
}

/// The bytes of a blob, which are hashed as they are read.
struct Hashed<'b> {
    bytes: &'b mut dyn Read,
    hash: Sha1,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.bytes.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

impl Hashed<'_> {
    /// An error where these were not the bytes of the file. Objects that are named by SHA-256 are not looked at.
    fn finish(self, entry: &TreeEntry) -> Result<()> {
        if !is_commit(&entry.blob) || end_blob(self.hash) == entry.blob {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} is damaged in the repository: the object {} holds something else",
            shown(&entry.path),
            entry.blob
        ))
        .hint("run `git fsck` in it, or clone it anew"))
    }
}

/// git-ls-tree(1), --long: `mode SP type SP object SP blanks size TAB path NUL`.
fn parse_tree(listing: impl Read) -> Result<Vec<TreeEntry>> {
    let mut entries = Vec::new();
    each_record(listing, |record| {
        entries.push(parse_entry(record)?);
        Ok(())
    })?;
    no_name_twice(&entries)?;
    Ok(entries)
}

/// Hands `take` each record without the NUL at its end. A tree whose directories hold each other many times over has no
/// end in practice.
fn each_record(stream: impl Read, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let mut record = Vec::new();
    for _ in 0..=MOST_FILES {
        record.clear();
        let mut next = stream.by_ref().take(LONGEST_RECORD);
        next.read_until(0, &mut record).doing("read git ls-tree")?;
        match record.pop() {
            None => return Ok(()),
            Some(0) => take(&record)?,
            Some(_) if record.len() as u64 + 1 == LONGEST_RECORD => {
                let begin = shown(Path::new(OsStr::from_bytes(&record[..LONGEST_SHOWN])));
                return Err(Error::new(format!(
                    "the revision holds a path of more than {LONGEST_RECORD} bytes: {begin}…"
                ))
                .hint("do not deploy that repository"));
            }
            Some(_) => return Err(Error::new("git ls-tree ended early")),
        }
    }
    Err(
        Error::new(format!("the revision holds more than {MOST_FILES} files"))
            .hint("name the directory that is to be deployed in storage.content.subdir"),
    )
}

/// A handmade tree may hold a name twice, once as a file and once as a directory too. No file system does.
fn no_name_twice(entries: &[TreeEntry]) -> Result<()> {
    let mut files = HashSet::with_capacity(entries.len());
    let twice = |path: &Path| {
        let what = format!("the revision holds {} more than once", shown(path));
        Err(Error::new(what).hint("run `git fsck` in the repository"))
    };
    for entry in entries {
        if !files.insert(entry.path.as_path()) {
            return twice(&entry.path);
        }
    }
    for entry in entries {
        let mut above = entry.path.ancestors().skip(1);
        if let Some(path) = above.find(|path| files.contains(path)) {
            return twice(path);
        }
    }
    Ok(())
}

fn parse_entry(record: &[u8]) -> Result<TreeEntry> {
    let unreadable = || Error::new("git ls-tree printed what is not its documented form");
    let tab = record.iter().position(|&b| b == b'\t');
    let (head, path) = record.split_at(tab.ok_or_else(unreadable)?);
    let head = std::str::from_utf8(head).doing("read git ls-tree")?;
    let path = PathBuf::from(OsStr::from_bytes(&path[1..]));
    if !is_inside(&path) {
        return Err(Error::new(format!(
            "the revision holds a file named {}, which leads out of its directory",
            shown(&path)
        ))
        .hint("do not deploy that repository"));
    }
    if names(&path).any(is_gits_own) {
        return Err(Error::new(format!(
            "the revision holds {}, a name that git keeps for itself",
            shown(&path)
        ))
        .hint("do not deploy that repository: git takes no such file out of it either"));
    }
    let mut words = head.split_ascii_whitespace();
    let mode = words.next().ok_or_else(unreadable)?;
    let blob = words.nth(1).ok_or_else(unreadable)?;
    let size = words.next().ok_or_else(unreadable)?;
    let number = u32::from_str_radix(mode, 8).map_err(|_| unreadable())?;
    match number & libc::S_IFMT {
        libc::S_IFREG if size == "BAD" => Err(lacks(blob)),
        libc::S_IFREG => Ok(TreeEntry {
            path,
            blob: blob.to_owned(),
            size: size.parse().map_err(|_| unreadable())?,
            // All that git takes of a file's mode (`create_ce_mode` in its read-cache.h).
            executable: number & 0o100 != 0,
        }),
        libc::S_IFLNK => Err(Error::new(format!("{} is a symbolic link", shown(&path)))
            .hint("replace it by a file: the share does not carry symbolic links")),
        GITLINK => Err(Error::new(format!("{} is a submodule", shown(&path)))
            .hint("the content is taken from one repository without submodules")),
        _ => Err(Error::new(format!(
            "{} has the mode {mode}, and is no file",
            shown(&path)
        ))
        .hint("run `git fsck` in the repository")),
    }
}

/// Whether a path has names alone, each of which a directory can hold. A handmade tree may have others, and a path
/// forgets an empty name and a dot.
fn is_inside(path: &Path) -> bool {
    names(path).all(|name| !matches!(name, b"" | b"." | b".."))
}

fn names(path: &Path) -> impl Iterator<Item = &[u8]> {
    let path = path.as_os_str().as_bytes();
    path.split(|byte| *byte == b'/')
}

/// What `verify_path` of git's read-cache.c refuses, on every system, apart from names that the share does not carry
/// either. A build may run git in the tree, and git would do what such a directory says.
fn is_gits_own(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

/// The mode of a submodule (`S_IFGITLINK` in git's object.h).
const GITLINK: u32 = 0o160_000;

/// git-cat-file(1), BATCH OUTPUT: `object SP type SP size LF contents LF`.
fn read_batch(
    stream: impl Read,
    count: usize,
    mut take: impl FnMut(&mut dyn Read) -> Result<()>,
) -> Result<()> {
    let doing = "read git cat-file";
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    for _ in 0..count {
        let mut head = String::new();
        let mut line = stream.by_ref().take(LONGEST_HEAD);
        line.read_line(&mut head).doing(doing)?;
        let size = size_in(&head)?;
        let mut blob = stream.by_ref().take(size);
        take(&mut blob)?;
        let all = blob.limit() == 0;
        let end = stream.read(&mut [0]).doing(doing)?;
        if !all || end == 0 {
            return Err(Error::new("git cat-file ended early"));
        }
    }
    Ok(())
}

/// The size in the line before a blob.
fn size_in(head: &str) -> Result<u64> {
    let head = head.trim_end();
    if let Some(object) = head.strip_suffix(" missing") {
        return Err(lacks(object));
    }
    let size = head.rsplit(' ').next().and_then(|size| size.parse().ok());
    size.ok_or_else(|| Error::new(format!("git cat-file ended early: {head:?}")))
}

fn lacks(object: &str) -> Error {
    Error::new(format!("the repository lacks the object {object}"))
        .hint("it is a partial or damaged clone: run `git fsck` in it, or clone it anew and whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_byte_for_byte() {
        let tree =
            parse_tree(&b"100644 blob aa     600\ta b.js\x00100755 blob bb 1234567\tbin/x\0"[..])
                .unwrap();
        assert_eq!(tree[0].path, Path::new("a b.js"));
        assert!(tree[1].executable && tree[1].blob == "bb");
        assert_eq!((tree[0].size, tree[1].size), (600, 1_234_567));
        for (bad, said) in [
            (
                "120000 blob aa       7\tdir/link\0",
                "dir/link is a symbolic link",
            ),
            (
                "160000 commit aa       -\tlib/other\0",
                "lib/other is a submodule",
            ),
            ("100644 blob aa       1\t../../etc/x\0", "leads out"),
            ("100644 blob aa       1\t/etc/x\0", "leads out"),
            ("100644 blob aa       1\ta//b\0", "leads out"),
            ("100644 blob aa       1\t./b\0", "leads out"),
            (
                "100644 blob aa       1\tx/.Git/config\0",
                "keeps for itself",
            ),
            ("100644 blob aa       1\tgit~1\0", "keeps for itself"),
            ("100644 blob aa 1\0", "documented form"),
            ("100644 blob aa       1\tx", "ended early"),
            ("100644 blob aa     BAD\tx\0", "lacks the object aa"),
            ("060000 blob aa       1\tx\0", "x has the mode 060000"),
            ("120000 blob aa       1\ta\nb\0", "a\\nb is a symbolic link"),
            (
                "100644 blob aa       1\ta/b\x00100644 blob aa       1\ta/b\0",
                "a/b more than once",
            ),
            (
                "100644 blob aa       1\ta/b/c\x00100644 blob aa       1\ta\0",
                "holds a more than once",
            ),
        ] {
            let error = parse_tree(bad.as_bytes()).unwrap_err();
            assert!(error.message.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn blobs_are_told_apart_by_their_sizes() {
        let read = |stream: &[u8], count| {
            let mut blobs = Vec::new();
            read_batch(stream, count, |blob| {
                let mut bytes = Vec::new();
                blob.read_to_end(&mut bytes).doing("read")?;
                blobs.push(bytes);
                Ok(())
            })?;
            Ok::<_, Error>(blobs)
        };
        let blobs = read(b"aa blob 3\nx\ny\nbb blob 0\n\n", 2).unwrap();
        assert_eq!(blobs, [b"x\ny".to_vec(), Vec::new()]);
        for (broken, said) in [
            ("aa missing\n", "lacks the object aa"),
            ("aa blob 3\nx", "ended early"),
            ("aa blob 1\nx", "ended early"),
            ("", "ended early"),
        ] {
            let error = read(broken.as_bytes(), 1).unwrap_err();
            assert!(error.message.contains(said), "{broken}: {error}");
        }
    }
}
