//! Reads the objects of a commit: which files it holds, and their bytes. The bytes are handed on as
//! they come from git, so a revision of any size needs little memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use super::{FETCH_DEADLINE, kind_of, reading_git};
use crate::error::{Doing, Error, Result};
use crate::host::process::Helper;

/// A line before a blob has some 60 bytes.
const LONGEST_HEAD: u64 = 4096;

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
        let listing = self
            .git()
            .args(["ls-tree", "-r", "-l", "-z", "--full-tree"])
            .args(["--end-of-options", &tree])
            .output()
            .await?;
        match subdir {
            _ if listing.success => parse_tree(&listing.stdout),
            Some(subdir) => Err(self.no_such_directory(subdir).await?),
            None => Err(Error::new(listing.stderr.trim().to_owned())),
        }
    }

    /// The error for a directory that the revision does not have, with the nearest that it has.
    async fn no_such_directory(&self, subdir: &Path) -> Result<Error> {
        let object = format!("{}:{}", self.commit, subdir.display());
        let kind = kind_of(&self.directory, &object).await;
        let listed = self
            .git()
            .args(["ls-tree", "-r", "-d", "-z", "--name-only", "--full-tree"])
            .args(["--end-of-options", &self.commit])
            .run()
            .await?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let directories = listed.split('\0').filter(|name| !name.is_empty());
        Ok(missing_directory(subdir, kind.as_deref(), directories))
    }

    /// Hands `take` one file after the other with its bytes, which `take` reads to their end.
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
                Some(entry) => take(&entry, bytes),
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

/// git-ls-tree(1), --long: `mode SP type SP object SP blanks size TAB path NUL`.
fn parse_tree(listing: &[u8]) -> Result<Vec<TreeEntry>> {
    let records = listing.split(|&b| b == 0).filter(|r| !r.is_empty());
    records.map(parse_entry).collect()
}

fn parse_entry(record: &[u8]) -> Result<TreeEntry> {
    use std::os::unix::ffi::OsStrExt;
    let unreadable = || Error::new("git ls-tree printed what is not its documented form");
    let tab = record.iter().position(|&b| b == b'\t');
    let (head, path) = record.split_at(tab.ok_or_else(unreadable)?);
    let head = std::str::from_utf8(head).doing("read git ls-tree")?;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&path[1..]));
    // A handmade tree may contain names that lead out of the directory.
    let is_inside = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
    if !is_inside(&path) {
        return Err(Error::new(format!(
            "the revision holds a file named {}, which leads out of its directory",
            path.display()
        ))
        .hint("do not deploy that repository"));
    }
    let mut words = head.split_ascii_whitespace();
    let mode = words.next().ok_or_else(unreadable)?;
    let blob = words.nth(1).ok_or_else(unreadable)?;
    let size = words.next().ok_or_else(unreadable)?;
    match mode {
        "100644" | "100664" | "100755" => Ok(TreeEntry {
            path,
            blob: blob.to_owned(),
            size: size.parse().map_err(|_| unreadable())?,
            executable: mode == "100755",
        }),
        "120000" => Err(Error::new(format!("{} is a symbolic link", path.display()))
            .hint("replace it by a file: the share does not carry symbolic links")),
        _ => Err(Error::new(format!("{} is a submodule", path.display()))
            .hint("the content is taken from one repository without submodules")),
    }
}

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
        return Err(
            Error::new(format!("the repository lacks the object {object}")).hint(
                "it is a partial or damaged clone: run `git fsck` in it, or clone it anew and whole",
            ),
        );
    }
    let size = head.rsplit(' ').next().and_then(|size| size.parse().ok());
    size.ok_or_else(|| Error::new(format!("git cat-file ended early: {head:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_byte_for_byte() {
        let tree = parse_tree(b"100644 blob aa     600\ta b.js\x00100755 blob bb 1234567\tbin/x\0")
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
            ("100644 blob aa 1", "documented form"),
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
