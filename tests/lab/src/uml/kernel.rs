//! The kernel of a User-Mode Linux guest, built from Debian's source package: Debian's own package of one lacks what
//! firewalld needs (NF_TABLES_INET, NFT_FIB_INET).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::control_group::ControlGroup;
use crate::leftovers::Undo;
use crate::process::{command, ok_with};
use crate::progress::say;
use crate::release::Release;
use crate::root::mirror;

/// Options that differ from the defaults; everything is built in, there are no modules.
const CONFIG: &str = include_str!("defconfig");

/// From 6.16 on the kernel catches its programs' system calls by seccomp(2), which makes it several times quicker.
const OLDEST: (u32, u32) = (6, 16);

/// With one processor for it, and another program on that.
const BUILD: Duration = Duration::from_secs(3600);
const DOWNLOAD: Duration = Duration::from_secs(900);

/// File, line and what the line becomes. The handler of I/O interrupts reads many events into one array. A handler that
/// interrupts it reads into the same array, and the events that were left in it are lost: a disk's answer among them, and
/// with it whoever waits for the disk. One event at a time leaves none behind.
const ONE_EVENT: [&str; 3] = [
    "arch/um/os-Linux/irq.c",
    "#define MAX_EPOLL_EVENTS 64\n",
    "#define MAX_EPOLL_EVENTS 1\n",
];

const KIND: &str = "uml-kernel";

/// What a kernel is made by. Which source it was made of is not known before Debian is asked, and stands beside it in the
/// file `source`; the number goes up when a newer one is wanted.
fn recipe() -> String {
    format!("1 {CONFIG}{}", ONE_EVENT.concat())
}

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    directory: PathBuf,
}

impl Kernel {
    /// The kernel, from the cache or built now (a quarter of an hour of one processor).
    pub fn get(cache: &Cache, undo: &Undo) -> Result<Kernel> {
        let directory = cache.artefact(KIND, &recipe(), |into| build(into, undo))?;
        Ok(Kernel { directory })
    }

    /// Whether it is in the cache.
    pub fn is_built(cache: &Cache) -> bool {
        cache.has(KIND, &recipe())
    }

    /// The program.
    pub fn path(&self) -> PathBuf {
        self.directory.join("linux")
    }
}

fn build(into: &Path, undo: &Undo) -> Result<()> {
    let work = tempfile::tempdir_in(into)?;
    let package = source(work.path())?;
    let name = package.file_name().unwrap_or_default();
    fs::write(into.join("source"), name.as_encoded_bytes())?;
    say(format!("the kernel's source is {}", name.display()));
    let mut unpack = command(["dpkg-deb", "--extract"]);
    unpack.arg(&package).arg(work.path());
    ok_with(unpack, b"", DOWNLOAD)?;
    let tree = unpacked(work.path())?;
    fs::write(tree.join(".config"), CONFIG)?;
    mend(&tree)?;
    // make(1) starts compilers, which are ended with it.
    let group = ControlGroup::create(undo, "kernel")?;
    make(&tree, &group, &["olddefconfig"])?;
    let processors = std::thread::available_parallelism()?;
    make(&tree, &group, &[&format!("-j{processors}"), "linux"])?;
    let mut strip = command(["strip", "-o"]);
    strip.arg(into.join("linux")).arg(tree.join("linux"));
    ok_with(strip, b"", DOWNLOAD).map(drop)
}

/// A kernel without the line may be mended already, or lose events in another way: somebody has to look.
fn mend(tree: &Path) -> Result<()> {
    let [file, line, mended] = ONE_EVENT;
    let path = tree.join(file);
    let text = fs::read_to_string(&path)?;
    if text.matches(line).count() != 1 {
        bail!("{file} of this kernel has no line {line:?}: are events lost in it?");
    }
    Ok(fs::write(&path, text.replace(line, mended))?)
}

fn make(tree: &Path, group: &ControlGroup, arguments: &[&str]) -> Result<()> {
    let mut make = command(["make", "--silent", "ARCH=um"]);
    make.args(arguments).current_dir(tree);
    // Whatever the caller's make or cargo has set for its own jobs.
    make.env_remove("MAKEFLAGS").env_remove("CARGO_MAKEFLAGS");
    ok_with(group.inside(make)?, b"", BUILD).map(drop)
}

/// The tree in the package's one archive, unpacked.
fn unpacked(work: &Path) -> Result<PathBuf> {
    let packed = only(&work.join("usr/src"), |name| name.ends_with(".tar.xz"))?;
    let mut tar = command(["tar", "--extract", "--xz", "--file"]);
    tar.arg(packed).arg("--directory").arg(work);
    ok_with(tar, b"", DOWNLOAD)?;
    only(work, |name| {
        name.starts_with("linux-source-") && !name.ends_with(".deb")
    })
}

fn only(directory: &Path, is_meant: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(directory)?.filter_map(|entry| entry.ok());
    let mut found = entries.filter(|entry| is_meant(&entry.file_name().to_string_lossy()));
    let first = found.next();
    first.map(|entry| entry.path()).with_context(|| {
        format!(
            "{}: not what a linux-source package brings",
            directory.display()
        )
    })
}

/// The newest `linux-source-*` of Debian 13 or its backports, fetched and verified by apt with lists of its own.
fn source(work: &Path) -> Result<PathBuf> {
    let mirror = mirror()?.context("the machine's sources name no Debian mirror")?;
    let release = Release::Trixie.codename();
    let apt = work.join("apt");
    for directory in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(apt.join(directory))?;
    }
    let sources = [release, &format!("{release}-backports")]
        .map(|suite| format!("deb {mirror} {suite} main\n"))
        .concat();
    fs::write(apt.join("sources.list"), sources)?;
    let apt_get = || lists_of_its_own("apt-get", &apt);
    let mut update = apt_get();
    update.arg("update");
    ok_with(update, b"", DOWNLOAD)?;
    let mut search = lists_of_its_own("apt-cache", &apt);
    search.args(["--names-only", "search", r"^linux-source-[0-9.]+$"]);
    let found = ok_with(search, b"", DOWNLOAD)?.stdout;
    let (version, name) = newest(&found).context("Debian offers no linux-source-*")?;
    if version < OLDEST {
        bail!("{name} is the newest kernel that Debian offers: too old");
    }
    let mut download = apt_get();
    download.args(["download", name]).current_dir(work);
    ok_with(download, b"", DOWNLOAD)?;
    only(work, |name| name.ends_with(".deb"))
}

/// apt(8) that sees nothing of the machine's own lists and packages.
fn lists_of_its_own(program: &str, directory: &Path) -> Command {
    let mut apt = command([program, "-qq"]);
    let here = directory.display();
    for option in [
        format!("Dir::Etc::SourceList={here}/sources.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={here}/lists"),
        "Dir::State::Status=/dev/null".to_owned(),
        format!("Dir::Cache={here}"),
        format!("Dir::Cache::Archives={here}/archives"),
        // A mirror that is a snapshot of some day is as good as today's.
        "Acquire::Check-Valid-Until=false".to_owned(),
        // The machine's own choices are about its own packages.
        "Dir::Etc::Preferences=/dev/null".to_owned(),
        "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
        "APT::Default-Release=".to_owned(),
        // An index that does not come is an error of its own, not a kernel that is too old.
        "APT::Update::Error-Mode=any".to_owned(),
        // The sandbox's user may not write where a root-only cache is.
        "APT::Sandbox::User=root".to_owned(),
    ] {
        apt.arg("-o").arg(option);
    }
    apt
}

/// Of `NAME - DESCRIPTION` lines the name with the highest version.
fn newest(found: &str) -> Option<((u32, u32), &str)> {
    let names = found
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let versioned = names.filter_map(|name| {
        let (major, minor) = name.strip_prefix("linux-source-")?.split_once('.')?;
        Some(((major.parse().ok()?, minor.parse().ok()?), name))
    });
    versioned.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_source_is_chosen_by_number() {
        let found = "linux-source-6.12 - Linux kernel source\nlinux-source-6.9 - Linux kernel source\n\
                     linux-source-7.3 - Linux kernel source\n";
        assert_eq!(newest(found), Some(((7, 3), "linux-source-7.3")));
        assert_eq!(newest(""), None);
    }
}
