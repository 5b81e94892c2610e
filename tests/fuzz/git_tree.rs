//! git's trees: whatever a tree holds, the agent writes what git says that it holds, or refuses it with the name of what
//! it does not carry before it writes anything. No file comes to lie outside of the directory.
//!
//! The objects are written here and not by git, which would make no tree like some of these.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wasagent::Error;
use wasagent::deploy::{carriable, staging};
use wasagent::host::Permit;
use wasagent::host::account::Account;
use wasagent::host::escape::shown;
use wasagent::host::git::{Source, TreeEntry};
use wasagent::host::tree::Dir;

use crate::Comparison;
use crate::git_objects::{Name, Repository};

const PLAIN: [&str; 16] = [
    "a",
    "b",
    "c",
    "a.js",
    "A.js",
    "index.html",
    "lib",
    "node_modules",
    "[id].js",
    "a b",
    ".hidden",
    "..data",
    "암호",
    "FOO~1.TXT",
    "-n",
    "e\u{301}",
];

/// Names that mislead somebody. `@` is the directory of the whole case.
const ODD: [&[u8]; 40] = [
    b"..",
    b".",
    b"",
    b"../x",
    b"a/../../x",
    b"a/b",
    b"/a",
    b"a/",
    b"a//b",
    b"./a",
    b"@/leak",
    b".git",
    b".GIT",
    b".git ",
    b"git~1",
    b".gitattributes",
    b".gitmodules",
    b".wasagent-new",
    b"con",
    b"Aux.js",
    b"lpt1",
    b"com9",
    b"nul.tar.gz",
    b"end.",
    b"end ",
    b"...",
    b"a:b",
    b"a\\b",
    b"a\tb",
    b"a\nb",
    b"\"q\"",
    b"*",
    b"?",
    b"a|b",
    b"\x7f",
    b"\x1b[2J",
    b"caf\xe9",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\xae\xc0\xae",
];

const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

/// Files that look like what git prints between two of them.
const BYTES: [&[u8]; 3] = [
    b"0123456789abcdef0123456789abcdef01234567 blob 3\nabc\n",
    b"",
    b"\n",
];

const TARGETS: [&[u8]; 5] = [b"../../../etc/passwd", b"/etc/passwd", b"a.js", b".", b""];

#[derive(Debug, Clone)]
enum Node {
    File(u32, Vec<u8>),
    Directory(Vec<(Vec<u8>, Node)>),
    /// A mode that is no file's and no directory's, with the bytes of its object.
    Other(u32, Vec<u8>),
    Broken(u32, Broken),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Broken {
    /// There is no such object.
    Missing,
    /// Its file has been cut off.
    Garbage,
    /// It holds the bytes of another.
    Another,
    /// It is a tree where a blob is meant, or a blob where a tree is.
    OtherKind,
    /// A tree that ends within an entry.
    HalfATree,
}

const DIRECTORY: u32 = 0o040_000;

#[derive(Debug, Clone)]
struct Input {
    root: Vec<(Vec<u8>, Node)>,
    /// Which directory is deployed, if it is one. git finds none in a tree whose names are in another order.
    subdir: Option<usize>,
}

fn inputs() -> impl Strategy<Value = Input> {
    let name = || {
        prop_oneof![
            60 => select(&PLAIN[..]).prop_map(|name| name.as_bytes().to_vec()),
            2 => select(&ODD[..]).prop_map(<[u8]>::to_vec),
            1 => vec(any::<u8>(), 1..20).prop_filter("no name", |name| !name.contains(&0)),
            1 => (1..400_usize).prop_map(|length| vec![b'n'; length]),
        ]
    };
    let bytes = || {
        prop_oneof![
            20 => vec(any::<u8>(), 0..60),
            8 => vec(select(&b"abc 0123\n\0"[..]), 0..200),
            4 => select(&BYTES[..])
                .prop_map(<[u8]>::to_vec),
            2 => (any::<u8>(), 60_000..70_000_usize).prop_map(|(byte, length)| vec![byte; length]),
            1 => (any::<u8>(), 1_000_000..1_100_000_usize).prop_map(|(byte, length)| vec![byte; length]),
            1 => Just(LFS.to_vec()),
        ]
    };
    let modes = select(
        &[
            0o100_644, 0o100_755, 0o100_644, 0o100_755, 0o100_664, 0o100_600, 0o104_755,
        ][..],
    );
    let others = select(&[0o120_000, 0o160_000, 0o060_000, 0o140_000, 0][..]);
    let targets = select(&TARGETS[..]);
    let broken = [
        Broken::Missing,
        Broken::Garbage,
        Broken::Another,
        Broken::OtherKind,
        Broken::HalfATree,
    ];
    let broken_modes = select(&[0o100_644, DIRECTORY][..]);
    let leaf = prop_oneof![
        200 => (modes, bytes()).prop_map(|(mode, bytes)| Node::File(mode, bytes)),
        2 => (others, targets).prop_map(|(mode, target)| Node::Other(mode, target.to_vec())),
        1 => (broken_modes, select(broken.to_vec())).prop_map(|(mode, how)| Node::Broken(mode, how)),
    ];
    let node = leaf.prop_recursive(5, 24, 6, move |inner| {
        prop_oneof![
            20 => vec((name(), inner.clone()), 0..6).prop_map(Node::Directory),
            1 => (2..220_usize, inner).prop_map(|(depth, inner)| {
                (0..depth).fold(inner, |below, _| Node::Directory(vec![(b"d".to_vec(), below)]))
            }),
        ]
    });
    let entries = vec((name(), node), 0..8);
    (entries, prop::bool::weighted(0.1), any::<usize>()).prop_map(|(root, is_wild, subdir)| {
        let subdir = Some(subdir / 4).filter(|_| subdir % 4 == 0 && !is_wild);
        let mut input = Input { root, subdir };
        // Of the others, names may be there twice and in any order.
        if !is_wild {
            tame(&mut input.root);
        }
        input
    })
}

/// Leaves of each name the first, in git's order.
fn tame(entries: &mut Vec<(Vec<u8>, Node)>) {
    let mut seen = BTreeSet::new();
    entries.retain(|(name, _)| seen.insert(name.clone()));
    for (_, node) in entries.iter_mut() {
        if let Node::Directory(below) = node {
            tame(below);
        }
    }
    entries.sort_by_key(|(name, node)| {
        let end = if matches!(node, Node::Directory(_)) {
            "/"
        } else {
            ""
        };
        [name, end.as_bytes()].concat()
    });
}

/// What a tree holds, as it was made.
#[derive(Default)]
struct Expected {
    /// The bytes of each file, and whether it may be executed.
    files: BTreeMap<Vec<u8>, (Vec<u8>, bool)>,
    directories: BTreeSet<Vec<u8>>,
    /// What must be refused. Any of these texts tells what is meant.
    refused: Vec<Vec<String>>,
    /// The names of all objects that are broken.
    broken: Vec<String>,
}

impl Expected {
    fn refuse(&mut self, path: &[u8]) {
        let path = shown(Path::new(OsStr::from_bytes(path)));
        let begin: String = path.chars().take(150).collect();
        self.refused.push(vec![begin]);
    }

    fn add_file(&mut self, path: Vec<u8>, bytes: &[u8], is_executable: bool) {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let leads_out = parts.iter().any(|part| matches!(*part, b"" | b"." | b".."));
        let is_long = parts.len() > 200 || path.len() > 3000;
        let is_own = |part: &&[u8]| {
            [&b".git"[..], b"git~1"]
                .iter()
                .any(|own| part.eq_ignore_ascii_case(own))
        };
        if leads_out
            || parts.iter().any(is_own)
            || is_long
            || !parts.iter().all(|part| is_name_of_smb(part))
            || bytes.starts_with(LFS)
        {
            self.refuse(&path);
        }
        let above: Vec<Vec<u8>> = (1..parts.len())
            .map(|count| parts[..count].join(&b'/'))
            .collect();
        let is_directory = self.directories.contains(&path);
        if let Some(file) = above.iter().find(|path| self.files.contains_key(*path)) {
            self.refuse(&file.clone());
        }
        self.directories.extend(above);
        if self
            .files
            .insert(path.clone(), (bytes.to_vec(), is_executable))
            .is_some()
            || is_directory
        {
            self.refuse(&path);
        }
    }

    fn add(&mut self, above: &[u8], entries: &[(Vec<u8>, Node)], repository: &Repository) -> Name {
        let mut tree = Vec::new();
        for (name, node) in entries {
            let name = repository.named(name);
            let path = if above.is_empty() {
                name.clone()
            } else {
                [above, &name].join(&b'/')
            };
            if name.is_empty() {
                // git says so itself, without the place.
                self.refused.push(vec![String::new()]);
            }
            let (mode, object) = match node {
                Node::File(mode, bytes) => {
                    self.add_file(path, bytes, mode & 0o100 != 0);
                    (*mode, repository.write("blob", bytes))
                }
                Node::Directory(below) => (DIRECTORY, self.add(&path, below, repository)),
                Node::Other(mode, bytes) => {
                    self.refuse(&path);
                    (*mode, repository.write("blob", bytes))
                }
                Node::Broken(mode, how) => {
                    let object = self.broken(*mode, *how, repository);
                    let path = shown(Path::new(OsStr::from_bytes(&path)));
                    self.broken.push(object.to_string());
                    self.refused
                        .push(vec![path, object.to_string(), "git".to_owned()]);
                    (*mode, object)
                }
            };
            repository.entry(&mut tree, mode, &name, &object);
        }
        repository.write("tree", &tree)
    }

    fn broken(&self, mode: u32, how: Broken, repository: &Repository) -> Name {
        let (kind, other) = if mode == DIRECTORY {
            ("tree", "blob")
        } else {
            ("blob", "tree")
        };
        let unique = repository.unique();
        let mut tree = Vec::new();
        let within = repository.write("blob", &repository.unique());
        repository.entry(&mut tree, 0o100_644, &unique, &within);
        let bytes = if kind == "tree" { &tree } else { &unique };
        let another = if kind == "tree" { &unique } else { &tree };
        match how {
            Broken::HalfATree if kind == "tree" => repository.write(kind, &tree[..tree.len() - 5]),
            Broken::Missing | Broken::HalfATree => repository.name(kind, bytes),
            Broken::Garbage => repository.write_as(&repository.name(kind, bytes), None),
            Broken::Another => {
                let bytes_of_another = [bytes.as_slice(), b"!"].concat();
                repository.write_as(
                    &repository.name(kind, bytes),
                    Some((kind, &bytes_of_another)),
                )
            }
            Broken::OtherKind => repository.write(other, another),
        }
    }
}

/// [MS-FSCC] 2.1.5: what a name may hold, and what Windows has made of some names.
fn is_name_of_smb(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    let stem = name.split('.').next().unwrap_or_default().to_lowercase();
    let devices = [
        "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "lpt1", "lpt2", "lpt3",
    ];
    name.len() <= 255
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| c < ' ' || "\"\\/:|<>*?".contains(c))
        && !devices.contains(&stem.as_str())
}

#[test]
fn what_is_written_is_what_git_holds() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let repository = RefCell::new(Repository::new(directory.path()));
    let comparison = Comparison::new();
    let carried = std::cell::Cell::new(0);
    crate::for_a_while(&inputs(), |input| {
        if repository.borrow().objects() > 20_000 {
            repository.replace(Repository::new(directory.path()));
        }
        let repository = &*repository.borrow();
        let mut expected = Expected::default();
        let root = expected.add(b"", &input.root, repository);
        let commit = repository.commit(&root);
        let subdir = subdir(&input, &expected);
        if let Some(subdir) = &subdir {
            let begin = [subdir.as_os_str().as_bytes(), b"/"].concat();
            expected.files = std::mem::take(&mut expected.files)
                .into_iter()
                .filter_map(|(path, file)| Some((path.strip_prefix(&begin[..])?.to_vec(), file)))
                .collect();
        }
        let new = directory.path().join("new");
        // One that failed is left.
        let _ = fs::remove_dir_all(&new);
        fs::create_dir(&new).unwrap();
        let source = Source {
            git: repository.path().display().to_string(),
            rev: "main".to_owned(),
        };
        let result = runtime.block_on(deploy(&source, subdir.as_deref(), &new));
        let others: BTreeSet<_> = names(directory.path()).collect();
        prop_assert_eq!(
            others,
            BTreeSet::from(["new".into(), "repository".into()]),
            "a file lies outside"
        );
        match result {
            Ok((resolved, listed)) => {
                prop_assert_eq!(&resolved, &commit.to_string());
                prop_assert!(
                    expected.refused.is_empty(),
                    "carried: {:?}",
                    expected.refused
                );
                carried.set(carried.get() + 1);
                is_there(&new, &expected, &listed).and_then(|()| {
                    comparison
                        .make(|| is_in_archive(repository, &commit, subdir.as_deref(), &expected))
                })
            }
            Err(error) => is_told(&error, &expected, subdir.is_some(), &new),
        }
    });
    eprintln!(
        "{} carried, {} compared with git archive",
        carried.get(),
        comparison.count.get()
    );
}

/// One of the tree's directories, for some of the trees that are not refused.
fn subdir(input: &Input, expected: &Expected) -> Option<PathBuf> {
    let usable = expected
        .directories
        .iter()
        .filter(|path| std::str::from_utf8(path).is_ok());
    let usable: Vec<&Vec<u8>> = usable.collect();
    if usable.is_empty() || !expected.refused.is_empty() {
        return None;
    }
    let chosen = usable[input.subdir? % usable.len()];
    Some(PathBuf::from(OsStr::from_bytes(chosen)))
}

/// Does what a change of revision does.
async fn deploy(
    source: &Source,
    subdir: Option<&Path>,
    new: &Path,
) -> Result<(String, BTreeMap<PathBuf, String>), Error> {
    let commit = source.resolve(None).await?;
    let revision = source.in_place(&commit).unwrap();
    let entries = carriable::files(&revision, subdir).await?;
    let found = fs::metadata(new).unwrap();
    let owner = Account {
        name: "share".to_owned(),
        uid: found.uid(),
        gid: found.gid(),
        shell: "/usr/sbin/nologin".to_owned(),
    };
    let permit = Permit::for_a_test();
    let (made, account, path) = (permit.clone(), owner.clone(), new.to_owned());
    let root = Dir::open(&path)?.unwrap();
    let write = move |entry: &TreeEntry, bytes: &mut dyn Read| {
        staging::write(&made, &root, entry, bytes, &account)
    };
    revision.each_file(entries, write).await?;
    let root = Dir::open(new)?.unwrap();
    staging::dress(&permit, &root, &owner)?;
    let listed = staging::list(&root)?;
    Ok((
        commit,
        listed
            .into_iter()
            .map(|(path, file)| (path, file.blob))
            .collect(),
    ))
}

fn names(directory: &Path) -> impl Iterator<Item = std::ffi::OsString> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
}

/// Whether the directory holds the files, with the modes of a share, and the agent knows them by git's names.
fn is_there(
    new: &Path,
    expected: &Expected,
    listed: &BTreeMap<PathBuf, String>,
) -> Result<(), TestCaseError> {
    let mut found = BTreeMap::new();
    let mut left = vec![new.to_owned()];
    while let Some(directory) = left.pop() {
        for name in names(&directory) {
            let path = directory.join(name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                prop_assert_eq!(mode, 0o2770);
                left.push(path);
                continue;
            }
            prop_assert!(
                metadata.is_file() && matches!(mode, 0o660 | 0o770),
                "{path:?}"
            );
            let relative = path.strip_prefix(new).unwrap();
            let bytes = fs::read(&path).unwrap();
            let name = Name::of("blob", &bytes).to_string();
            prop_assert_eq!(listed.get(relative), Some(&name));
            found.insert(
                relative.as_os_str().as_bytes().to_vec(),
                (bytes, mode == 0o770),
            );
        }
    }
    prop_assert_eq!(listed.len(), found.len());
    prop_assert!(
        found == expected.files,
        "{found:?} instead of {:?}",
        expected.files
    );
    Ok(())
}

fn is_in_archive(
    repository: &Repository,
    commit: &Name,
    subdir: Option<&Path>,
    expected: &Expected,
) -> Result<(), TestCaseError> {
    let mut tree = commit.to_string();
    if let Some(subdir) = subdir {
        tree.push(':');
        tree.push_str(subdir.to_str().unwrap());
    }
    let output = Command::new("git")
        .arg("--git-dir")
        .arg(repository.path())
        .args([
            "-c",
            "safe.directory=*",
            "-c",
            "tar.umask=0",
            "archive",
            "--format=tar",
            &tree,
        ])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    // Attributes of random bytes change what an archive holds.
    if expected
        .files
        .keys()
        .any(|path| path.ends_with(b".gitattributes"))
    {
        return Ok(());
    }
    prop_assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&output.stdout[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_dir()
            || entry.header().entry_type().is_pax_global_extensions()
        {
            continue;
        }
        let path = entry.path_bytes().to_vec();
        let is_executable = entry.header().mode().unwrap() & 0o100 != 0;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, (bytes, is_executable));
    }
    prop_assert!(files == expected.files, "git archive holds {files:?}");
    Ok(())
}

/// Whether the error names one of the things that have to be refused. Nothing is written yet, unless only the bytes show
/// that they are not those that were meant.
fn is_told(
    error: &Error,
    expected: &Expected,
    is_below: bool,
    new: &Path,
) -> Result<(), TestCaseError> {
    let message = &error.message;
    prop_assert!(
        !expected.refused.is_empty() && !is_below,
        "refused: {error:?}"
    );
    let mut names = expected.refused.iter().flatten();
    prop_assert!(
        names.any(|name| message.contains(name.as_str())),
        "{message} instead of {:?}",
        expected.refused
    );
    prop_assert!(
        error.hint.is_some() || message.contains("git"),
        "no way out: {error:?}"
    );
    prop_assert!(
        !message.contains(|c: char| c.is_control() && c != '\n'),
        "{message:?}"
    );
    prop_assert!(
        message.len() < 4000,
        "{} bytes: {message:.300}",
        message.len()
    );
    prop_assert!(
        !expected.broken.is_empty() || names_of(new) == 0,
        "written before: {message}"
    );
    Ok(())
}

fn names_of(directory: &Path) -> usize {
    names(directory).count()
}

/// Twenty directories, each of which holds the next one twenty times, are 20^20 files.
#[test]
fn a_tree_without_end_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path());
    let blob = repository.write("blob", b"x");
    let level = |mode: u32, below: &Name| {
        let mut tree = Vec::new();
        for number in 10..30 {
            repository.entry(&mut tree, mode, format!("{number}").as_bytes(), below);
        }
        repository.write("tree", &tree)
    };
    let lowest = level(0o100_644, &blob);
    let top = (0..19).fold(lowest, |below, _| level(DIRECTORY, &below));
    repository.commit(&top);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let source = Source {
        git: repository.path().display().to_string(),
        rev: "main".to_owned(),
    };
    for (subdir, said) in [
        (None, "more than 250000 files"),
        (Some("nowhere"), "more than 250000"),
    ] {
        let error = runtime.block_on(deploy(&source, subdir.map(Path::new), directory.path()));
        let error = error.unwrap_err();
        assert!(error.message.contains(said), "{error:?}");
    }
}
