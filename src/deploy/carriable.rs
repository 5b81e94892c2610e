//! What a share can carry to the WAS VMs. A revision that holds anything else is refused, with the
//! name of the file, before anything of it shows.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::build;
use crate::error::{Doing, Error, Result};
use crate::host::Permit;
use crate::host::escape::shown;
use crate::host::git::{Revision, TreeEntry};
use crate::host::tree::{DEEPEST, Dir};

/// smbd and the kernel's client take paths of less than 4096 bytes, with the names of the directories
/// that the revision is below.
const LONGEST_PATH: usize = 3000;

/// A name has at most so many bytes on the file systems of Linux (`NAME_MAX`).
const LONGEST_NAME: usize = 255;

/// How the text of a pointer of Git LFS begins.
const LFS_VERSION: &[u8] = b"version https://git-lfs.github.com/spec/";

/// smbd lists names with these under other names, because no Windows takes them (`is_legal_name` in
/// Samba's source3/smbd/mangle_hash2.c), and the kernel's client asks for them in another form
/// (`mapposix`). Tried with Linux 7.3 and Samba 4.22: no client opens such a file. Names that differ
/// only in case are each listed and opened as they are.
const ILLEGAL: &str = "\"*:<>?\\|";

/// smbd lists these, and whatever has them before its first dot, under other names. A client that
/// knows the name opens the file, one that reads the directory finds a name that nobody gave
/// (`reserved_names`, same file).
const RESERVED: [&str; 11] = [
    "aux", "con", "nul", "prn", "com1", "com2", "com3", "com4", "lpt1", "lpt2", "lpt3",
];

/// The files of a revision, if the share can carry all of them.
pub async fn files(revision: &Revision, subdir: Option<&Path>) -> Result<Vec<TreeEntry>> {
    let files = revision.files(subdir).await?;
    files.iter().try_for_each(|file| path(&file.path))?;
    let small = files.iter().filter(|file| may_be_lfs_pointer(file.size));
    let look = |file: &TreeEntry, bytes: &mut dyn Read| {
        let mut text = Vec::new();
        bytes.read_to_end(&mut text).doing("read a blob")?;
        no_lfs_pointer(&file.path, &text)
    };
    revision.each_file(small.cloned().collect(), look).await?;
    Ok(files)
}

/// Whether the share carries a file of this path, from the root of the revision.
pub fn path(path: &Path) -> Result<()> {
    let Some(why) = path_fault(path) else {
        return Ok(());
    };
    Err(Error::new(format!(
        "{} cannot be carried by the share: {why}",
        shown(path)
    ))
    .hint("rename it, or have storage.content.build remove it"))
}

fn path_fault(path: &Path) -> Option<String> {
    if path.components().count() > DEEPEST as usize {
        return Some(format!("it lies more than {DEEPEST} directories deep"));
    }
    if path.as_os_str().len() > LONGEST_PATH {
        return Some(format!("its path has more than {LONGEST_PATH} bytes"));
    }
    let mut names = path.components().map(Component::as_os_str);
    names.find_map(name_fault)
}

fn name_fault(name: &OsStr) -> Option<String> {
    if name.len() > LONGEST_NAME {
        return Some(format!("a name in it has more than {LONGEST_NAME} bytes"));
    }
    let Some(name) = name.to_str() else {
        return Some("its name is not in UTF-8".to_owned());
    };
    if name.ends_with(['.', ' ']) {
        return Some("SMB knows no name that ends with a dot or a blank".to_owned());
    }
    let mut reserved = RESERVED.into_iter();
    let stem = name.split('.').next().unwrap_or(name);
    if let Some(word) = reserved.find(|word| stem.eq_ignore_ascii_case(word)) {
        return Some(format!("{word} is reserved in SMB, whatever follows it"));
    }
    let mut characters = name.chars();
    let illegal = characters.find(|&c| ILLEGAL.contains(c) || c < ' ')?;
    Some(format!("SMB knows no name with {illegal:?}"))
}

/// What a build may make and nobody can share: a FIFO, a socket, a device.
pub fn no_file(path: &Path) -> Error {
    Error::new(format!(
        "the build left {}, which is neither a file nor a directory",
        shown(path)
    ))
    .hint("have storage.content.build remove it: it cannot be shared")
}

/// Whether a file of this size may be a pointer of Git LFS (git-lfs, docs/spec.md).
pub fn may_be_lfs_pointer(size: u64) -> bool {
    size < 1024 && size > LFS_VERSION.len() as u64
}

/// Refuses a file that is only a pointer of Git LFS.
pub fn no_lfs_pointer(path: &Path, text: &[u8]) -> Result<()> {
    if !text.starts_with(LFS_VERSION) {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} is a pointer of Git LFS, and its bytes are not in the repository",
        shown(path)
    ))
    .hint("put the file itself into the repository: git lfs migrate export --include=FILE"))
}

/// Refuses a symbolic link of a build that leads out of the tree: smbd follows none. One that leads
/// back in by the path at which the build saw the tree is made relative.
pub fn link(permit: &Permit, root: &Dir, directory: &Dir, path: &Path) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let target = directory.link_target(name)?;
    if let Ok(inside) = target.strip_prefix(build::tree()) {
        let relative = relative_to(path, inside);
        directory.remove_file(permit, name)?;
        directory.make_symlink(permit, name, relative.as_os_str().as_encoded_bytes())?;
    }
    if root.stays_below(path)? {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} is a symbolic link to {}, out of the revision: no WAS could follow it",
        shown(path),
        shown(&target)
    ))
    .hint("have storage.content.build put a file there, or remove the link"))
}

/// The way from the link `path` to `inside`, both from the root.
fn relative_to(path: &Path, inside: &Path) -> PathBuf {
    let up = path.components().skip(1).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(inside.components()).collect();
    if way.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn what_smb_cannot_carry_is_told_by_name() {
        let deep = "d/".repeat(DEEPEST as usize) + "f";
        let long = format!("{}/", "n".repeat(200)).repeat(16);
        let wide = "n".repeat(256);
        for (name, said) in [
            ("a:b", "':'"),
            ("dir?/x", "'?'"),
            ("a\\b", "'\\\\'"),
            ("tab\tx", "'\\t'"),
            ("line\nx", "line\\nx"),
            ("end.", "dot"),
            ("end./x", "dot"),
            ("end ", "blank"),
            ("...", "dot"),
            ("lib/Aux.js", "aux is reserved"),
            ("con", "con is reserved"),
            ("COM1.tar.gz/x", "com1 is reserved"),
            (&deep, "200 directories"),
            (&long, "3000 bytes"),
            (&wide, "255 bytes"),
        ] {
            let error = path(Path::new(name)).unwrap_err();
            assert!(error.message.contains(said), "{name:?}: {error}");
            assert!(!error.message.contains('\n'), "{error:?}");
        }
        let latin = Path::new(OsStr::from_bytes(b"caf\xe9"));
        let error = path(latin).unwrap_err();
        assert!(error.message.starts_with(r"caf\xe9 cannot"), "{error}");
    }

    #[test]
    fn what_looks_odd_and_is_carried_passes() {
        for name in [
            "a b",
            " begins",
            ".hidden",
            "..data",
            "a.b.c",
            "[id].js",
            "(group)/page.tsx",
            "@scope/x",
            "암호.txt",
            "~tilde~1",
            "FOO~1.TXT",
            "del\u{7f}",
            "aux-1",
            "com9",
            "console.js",
            "e\u{301}",
            "a%b#c&d;e'f,g+h=i^j`k{l}$m!",
        ] {
            path(Path::new(name)).unwrap();
        }
    }

    #[test]
    fn a_pointer_of_git_lfs_is_known() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        let error = no_lfs_pointer(Path::new("img/a.png"), pointer).unwrap_err();
        assert!(error.message.starts_with("img/a.png is a pointer"));
        assert!(may_be_lfs_pointer(pointer.len() as u64) && !may_be_lfs_pointer(1024));
        no_lfs_pointer(Path::new("a"), b"# version https://git-lfs").unwrap();
    }

    #[test]
    fn the_way_of_a_link_is_counted_from_its_directory() {
        for (path, inside, way) in [
            ("l", "a/b", "a/b"),
            ("l", "", "."),
            ("x/l", "a", "../a"),
            ("x/y/l", "x/a", "../../x/a"),
        ] {
            let relative = relative_to(Path::new(path), Path::new(inside));
            assert_eq!(relative, Path::new(way), "{path}");
        }
    }
}
