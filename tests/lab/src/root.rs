//! Guest roots: Debian as a fresh VM of the WAS subnet has it, built by mmdebstrap(1) from the machine's own mirror.
//!
//! One root serves all kinds of guest: a container boots from the tree, the others from a file system image of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::process::{command, ok, ok_with};
use crate::release::Release;

/// What every guest has. netavark calls `nft` (bookworm's: `iptables`), which no package pulls in.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "iproute2",
    "iputils-ping",
    "linux-image-amd64",
    "initramfs-tools",
    "cifs-utils",
    "samba",
    "smbclient",
    "samba-common-bin",
    "firewalld",
    "podman",
    "crun",
    "netavark",
    "aardvark-dns",
    "nftables",
    "iptables",
    "openssh-server",
    "git",
    "xfsprogs",
    "e2fsprogs",
    "util-linux",
    "strace",
    "curl",
    "procps",
    "psmisc",
];

const BEFORE: &str = include_str!("root/before.sh");
const AFTER: &str = include_str!("root/after.sh");
const CLOUD: &str = include_str!("root/cloud.sh");
const SELINUX: &str = include_str!("root/selinux.sh");
const PEERS: &str = include_str!("root/peers.sh");
const SELINUX_RULES: &str = include_str!("root/selinux.cil");
const SELINUX_NAMES: &str = include_str!("root/selinux-bookworm.cil");

/// The modules of trixie's policy that bookworm's lacks: without them it knows no container_t.
const SELINUX_MODULES: [&str; 2] = ["container", "podman"];

/// The policy, semanage(8) and restorecon(8) that the agent asks for, and ausearch(8) with the daemon that it reads the
/// log of.
const SELINUX_PACKAGES: [&str; 4] = [
    "selinux-policy-default",
    "policycoreutils",
    "policycoreutils-python-utils",
    "auditd",
];

/// What `cargo lab bench` holds the agent against, as Debian has it.
const PEER_PACKAGES: [&str; 7] = [
    "ansible",
    "puppet-agent",
    "puppet-module-puppetlabs-stdlib",
    "puppet-module-puppetlabs-mount-core",
    "puppet-module-puppetlabs-vcsrepo",
    "puppet-module-puppetlabs-rsync",
    "rsync",
];

/// The one of them that Debian does not have, from PyPI.
pub(crate) const PYINFRA: &str = "pyinfra==3.10.0";

/// Where semodule(8) keeps the modules of a policy's package.
const MODULES: &str = "var/lib/selinux/default/active/modules/100";

/// A root file system reserves no more than what is written to it; podman's images go here as well.
const IMAGE_SIZE: &str = "8G";

/// A built guest root.
#[derive(Clone, Debug)]
pub struct Root {
    pub release: Release,
    directory: PathBuf,
    /// The recipe that it was built from; what is derived from the root includes it in its own.
    pub recipe: String,
    /// The key that opens its guests.
    pub key: Key,
}

impl Root {
    /// The root of this release, from the cache or built now (2 to 3 minutes).
    pub fn get(cache: &Cache, release: Release) -> Result<Root> {
        let key = Key::get(cache)?;
        let recipe = recipe(release, &key)?;
        let policy = match release {
            Release::BookwormSelinux => Some(Root::get(cache, Release::TrixieSelinux)?),
            _ => None,
        };
        let modules = policy.map(|root| root.tree().join(MODULES));
        let directory = cache.artefact(&format!("root-{release}"), &recipe, |into| {
            build(into, release, &key, modules.as_deref())
        })?;
        Ok(Root {
            release,
            directory,
            recipe,
            key,
        })
    }

    /// The tree, for containers: never written to.
    pub fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// The same as an ext4 image, for VMs: never written to.
    pub fn image(&self) -> PathBuf {
        self.directory.join("root.img")
    }

    pub fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    pub fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }
}

/// The key pair that opens every guest of this cache.
#[derive(Clone, Debug)]
pub struct Key {
    /// The private key; the public one is beside it with `.pub`.
    pub private: PathBuf,
}

impl Key {
    pub fn get(cache: &Cache) -> Result<Key> {
        let directory = cache.artefact("key", "ed25519", |into| {
            let mut keygen = command([
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "lab",
                "-f",
            ]);
            keygen.arg(into.join("id"));
            ok(keygen).map(drop)
        })?;
        Ok(Key {
            private: directory.join("id"),
        })
    }

    pub(crate) fn public(&self) -> PathBuf {
        self.private.with_extension("pub")
    }
}

fn packages(release: Release) -> Vec<&'static str> {
    let mut packages = PACKAGES.to_vec();
    match release {
        Release::Bookworm | Release::Trixie => {}
        // cloud-init asks CloudStack's password server by wget(1), and does not depend on it.
        Release::BookwormCloud => packages.extend(["cloud-init", "wget"]),
        Release::BookwormSelinux | Release::TrixieSelinux => packages.extend(SELINUX_PACKAGES),
        Release::BookwormBench => {
            packages.extend(PEER_PACKAGES);
            packages.push("cloud-init");
        }
        // Its cloud-init conflicts with firewalld.
        Release::TrixieBench => packages.extend(PEER_PACKAGES),
    }
    packages
}

fn recipe(release: Release, key: &Key) -> Result<String> {
    let key = fs::read_to_string(key.public())?;
    let packages = packages(release).join(" ");
    let mut recipe = format!("{release} {packages} {IMAGE_SIZE}\n{BEFORE}\n{AFTER}\n{key}");
    match release {
        Release::Bookworm | Release::Trixie => {}
        Release::BookwormCloud => recipe.push_str(CLOUD),
        Release::BookwormSelinux => recipe.extend([SELINUX, SELINUX_RULES, SELINUX_NAMES]),
        Release::TrixieSelinux => recipe.extend([SELINUX, SELINUX_RULES]),
        Release::BookwormBench | Release::TrixieBench => recipe.extend([PEERS, PYINFRA]),
    }
    Ok(recipe)
}

fn build(into: &Path, release: Release, key: &Key, modules: Option<&Path>) -> Result<()> {
    let tree = into.join("tree");
    let before = script(into, "before", BEFORE)?;
    let after = script(into, "after", AFTER)?;
    let mut mmdebstrap = command(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={}", packages(release).join(",")));
    // Translations and manuals are half of the files, and nobody reads them in a guest.
    for path in [
        "/usr/share/man/*",
        "/usr/share/doc/*",
        "/usr/share/locale/*",
    ] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    // The hooks reach mmdebstrap as lines for sh(1), which gives them the root as their first argument.
    mmdebstrap.arg(format!("--essential-hook='{}' \"$1\"", before.display()));
    mmdebstrap.arg(format!(
        "--customize-hook='{}' \"$1\" '{}'",
        after.display(),
        key.public().display()
    ));
    if release == Release::BookwormCloud {
        let cloud = script(into, "cloud", CLOUD)?;
        mmdebstrap.arg(format!("--customize-hook='{}' \"$1\"", cloud.display()));
    }
    if let Some(python) = python_of_peers(release) {
        let peers = script(into, "peers", PEERS)?;
        mmdebstrap.arg(format!(
            "--customize-hook='{}' \"$1\" {python} {PYINFRA}",
            peers.display()
        ));
    }
    mmdebstrap.arg(release.codename()).arg(&tree);
    if let Some(mirror) = mirror()? {
        // A mirror that is a snapshot of some day is as good as today's.
        mmdebstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        mmdebstrap.arg(format!("deb {mirror} {} main", release.codename()));
    }
    ok_with(mmdebstrap, b"", Duration::from_secs(1800))?;
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))?;
    keep_boot_files(into, &tree)?;
    if release.enforces() {
        label(into, &tree, modules)?;
    }
    image(into, &tree)
}

/// The release's version of Python, where something of PyPI goes into its root.
fn python_of_peers(release: Release) -> Option<&'static str> {
    match release {
        Release::BookwormBench => Some("3.11"),
        Release::TrixieBench => Some("3.13"),
        _ => None,
    }
}

/// The labels of the policy on all files, last of all: mkfs.ext4 takes them along.
fn label(into: &Path, tree: &Path, modules: Option<&Path>) -> Result<()> {
    let mut label = Command::new(script(into, "selinux", SELINUX)?);
    label.arg(tree);
    if let Some(modules) = modules {
        label.arg(script(into, "names.cil", SELINUX_NAMES)?);
        // The store has them compressed, which semodule(8) reads.
        for name in SELINUX_MODULES {
            let module = into.join(format!("{name}.cil"));
            fs::copy(modules.join(name).join("cil"), &module)?;
            label.arg(module);
        }
    }
    label.arg(script(into, "lab.cil", SELINUX_RULES)?);
    ok_with(label, b"", Duration::from_secs(600)).map(drop)
}

fn script(into: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = into.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn keep_boot_files(into: &Path, tree: &Path) -> Result<()> {
    for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        let found = fs::read_dir(tree.join("boot"))?
            .filter_map(|entry| entry.ok())
            .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .with_context(|| format!("no {prefix}* in the root's /boot"))?;
        fs::copy(found.path(), into.join(name))?;
    }
    Ok(())
}

/// mke2fs(8) fills a file system from a directory without mounting it.
fn image(into: &Path, tree: &Path) -> Result<()> {
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-L", "root", "-E", "lazy_itable_init=1", "-d"])
        .arg(tree)
        .arg(into.join("root.img"))
        .arg(IMAGE_SIZE);
    ok_with(mkfs, b"", Duration::from_secs(600)).map(drop)
}

/// The address of the mirror that this machine installs Debian from; none where its sources name none.
///
/// Both forms of sources.list(5) are read: `deb URI SUITE …` lines and deb822 stanzas.
pub(crate) fn mirror() -> Result<Option<String>> {
    let mut texts = Vec::new();
    texts.extend(fs::read_to_string("/etc/apt/sources.list").ok());
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        texts.extend(
            paths
                .iter()
                .filter_map(|path| fs::read_to_string(path).ok()),
        );
    }
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let Some(codename) = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
    else {
        bail!("/etc/os-release names no VERSION_CODENAME");
    };
    Ok(texts
        .iter()
        .find_map(|text| mirror_in(text, codename.trim_matches('"'))))
}

/// The mirror in one sources file: the one that offers the suite named exactly as the release.
fn mirror_in(text: &str, codename: &str) -> Option<String> {
    one_line(text, codename).or_else(|| deb822(text, codename))
}

fn one_line(text: &str, codename: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word == "deb" || word.starts_with('['));
        let is_source = line.trim_start().starts_with("deb ");
        let (uri, suite) = (words.find(|word| word.contains("://"))?, words.next()?);
        (is_source && suite == codename).then(|| uri.to_owned())
    })
}

fn deb822(text: &str, codename: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let offers = field("Suites")?
            .split_whitespace()
            .any(|suite| suite == codename);
        if !offers || field("Enabled") == Some("no") {
            return None;
        }
        field("URIs")?.split_whitespace().next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_forms() {
        let stanza = "Types: deb\n# http://old.test/debian\nURIs: http://mirror.test/security\nSuites: bookworm-security\n\n\
                      Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n";
        assert_eq!(
            mirror_in(stanza, "bookworm").as_deref(),
            Some("http://mirror.test/debian")
        );
        let line = "# deb http://old.test/debian bookworm main\ndeb [arch=amd64] http://mirror.test/debian bookworm main\n";
        assert_eq!(
            mirror_in(line, "bookworm").as_deref(),
            Some("http://mirror.test/debian")
        );
        assert_eq!(
            mirror_in("deb http://mirror.test/debian trixie main\n", "bookworm"),
            None
        );
    }
}
