//! Debian's node without its packages: the program, and the files that it loads, for the container image and for a
//! guest that builds the application. No other guest has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::guest::Guest;
use crate::process::{ok, ok_with};
use crate::release::{Release, System};
use crate::root::{Root, mirror};

/// What Debian's node reads of its JavaScript from files lies below this directory; the library names each file.
const EXTERNAL_BUILTINS: &str = "/usr/share/nodejs/";

/// Until mmdebstrap has fetched and unpacked the packages.
const UNPACKING: Duration = Duration::from_secs(600);

/// Puts the node of its own release on one guest, the roots of all others staying as they are.
pub fn install(cache: &Cache, guest: &Guest) -> Result<()> {
    let System::Debian(release) = guest.release() else {
        bail!("{}: a cloud image gets its node by itself", guest.name());
    };
    let root = Root::get(cache, *release)?;
    guest.copy_tree(&beside(cache, &root)?, "/usr")
}

/// What node needs and the root lacks, as a directory to be laid over `/usr`.
fn beside(cache: &Cache, root: &Root) -> Result<PathBuf> {
    let recipe = [include_str!("node.rs"), &root.recipe].concat();
    let artefact = cache.artefact(&format!("node-{}", root.release), &recipe, |into| {
        let work = tempfile::tempdir_in(into)?;
        let unpacked = work.path().join("root");
        extract(root.release, "nodejs", &unpacked)?;
        let (from, to) = (unpacked.join("usr"), into.join("usr"));
        for file in files(&unpacked)? {
            let name = file.strip_prefix(&from)?;
            if !root.tree().join("usr").join(name).exists() {
                let copy = to.join(name);
                fs::create_dir_all(copy.parent().context("a file below usr")?)?;
                // What a link leads to, under the name of the link, by which the loader looks for it.
                fs::copy(&file, copy).with_context(|| format!("copy {}", name.display()))?;
            }
        }
        Ok(())
    })?;
    Ok(artefact.join("usr"))
}

/// Unpacks Debian's packages, separated by commas, and what they depend on. Nothing of it is configured: no script of a
/// package is run.
pub(crate) fn extract(release: Release, packages: &str, root: &Path) -> Result<()> {
    let codename = release.codename();
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(["--quiet", "--variant=extract"])
        .arg(format!("--include={packages}"))
        // Up to bookworm packages still have files in /lib, which base-files does not link to /usr/lib.
        .arg("--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh")
        .arg(codename)
        .arg(root);
    if let Some(mirror) = mirror()? {
        // A mirror that is a snapshot of some day is as good as today's.
        mmdebstrap
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("deb {mirror} {codename} main"));
    }
    ok_with(mmdebstrap, b"", UNPACKING)?;
    Ok(())
}

/// Node, its loader, the libraries that the loader finds for it, and the JavaScript that the library reads from files.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let (loader, libraries) = match std::env::consts::ARCH {
        "x86_64" => ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"),
        "aarch64" => ("usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"),
        other => bail!("the lab knows no node for {other}"),
    };
    let (loader, libraries) = (root.join(loader), root.join(libraries));
    let node = root.join("usr/bin/node");
    let mut list = Command::new(&loader);
    list.arg("--library-path")
        .arg(&libraries)
        .arg("--list")
        .arg(&node);
    let mut files = libraries_of(&ok(list)?.stdout)
        .into_iter()
        .filter(|library| library.starts_with(&libraries))
        .collect::<Vec<_>>();
    for library in files.clone() {
        if library
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("libnode.so"))
        {
            let named = external_builtins(&fs::read(&library)?);
            let named = named
                .iter()
                .map(|path| root.join(path.trim_start_matches('/')));
            files.extend(named.filter(|path| path.exists()));
        }
    }
    files.extend([loader, node]);
    Ok(files)
}

/// The paths in the loader's `--list`: `NAME => PATH (ADDRESS)`.
fn libraries_of(listing: &str) -> Vec<PathBuf> {
    let paths = listing.lines().filter_map(|line| line.split_once(" => "));
    paths
        .filter_map(|(_, path)| path.split_whitespace().next())
        .map(PathBuf::from)
        .collect()
}

/// The file names below [`EXTERNAL_BUILTINS`] in node's library. Debian builds node with
/// `--shared-builtin-…-path`, which leaves each of these modules outside it (node's configure.py).
fn external_builtins(library: &[u8]) -> Vec<String> {
    let prefix = EXTERNAL_BUILTINS.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = library[at..]
        .windows(prefix.len())
        .position(|w| w == prefix)
    {
        at += next;
        let rest = &library[at..];
        let end = rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || b"/._-@".contains(byte)))
            .unwrap_or(rest.len());
        let path = String::from_utf8_lossy(&rest[..end]).into_owned();
        if path.ends_with(".js") && !path.contains("..") && !found.contains(&path) {
            found.push(path);
        }
        at += prefix.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_gives_paths() {
        let listing =
            "\tlinux-vdso.so.1 (0x0)\n\tlibz.so.1 => /r/libz.so.1 (0x1)\n\t/lib64/ld.so (0x2)\n";
        assert_eq!(libraries_of(listing), [PathBuf::from("/r/libz.so.1")]);
    }

    #[test]
    fn the_modules_outside_the_library_are_named_once() {
        let library =
            b"\0/usr/share/nodejs/a/b.js\0x/usr/share/nodejs/a/b.js\",\0/usr/share/nodejs/\0";
        assert_eq!(external_builtins(library), ["/usr/share/nodejs/a/b.js"]);
    }
}
