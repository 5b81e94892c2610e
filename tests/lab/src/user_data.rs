//! How a role reaches a new VM: the user data that `wasagent userdata` prints, and the disks and directories on which
//! cloud-init finds it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::image::hex;
use crate::process::{Output, command, ok, run_with};
use crate::tier::{Role, TIER_FILE};

/// The label of a NoCloud disk (NoCloud takes it in either case).
pub const NO_CLOUD: &str = "CIDATA";
/// The label of a config drive.
pub const CONFIG_DRIVE: &str = "config-2";
/// Where cloud-init looks for NoCloud's files in the VM's own file system.
pub const SEED_DIRECTORY: &str = "/var/lib/cloud/seed/nocloud";

/// Texts by the path that they have on a seed.
pub type Files = Vec<(String, String)>;

/// `wasagent userdata` as an operator runs it.
#[derive(Clone, Copy)]
pub struct Printed<'a> {
    pub role: Role,
    /// The tier file.
    pub tier: &'a str,
    /// Files that the tier file and the options name, by path.
    pub files: &'a [(&'a str, &'a str)],
    pub options: &'a [&'a str],
}

impl Printed<'_> {
    /// What it prints.
    pub fn by(&self, agent: &Path) -> Result<String> {
        let output = self.run(agent)?;
        ensure!(output.success(), "wasagent userdata: {output}");
        Ok(output.stdout)
    }

    /// What it does. It sees nothing of this machine, whose `/etc/wasagent` is none of the lab's business.
    pub fn run(&self, agent: &Path) -> Result<Output> {
        let root = tempfile::tempdir()?;
        let program = root.path().join("wasagent");
        fs::copy(agent, &program).with_context(|| format!("copy {}", agent.display()))?;
        for (path, text) in [(TIER_FILE, self.tier)].iter().chain(self.files) {
            write_private(&root.path().join(path.trim_start_matches('/')), text)?;
        }
        let mut chroot = command(["chroot"]);
        chroot
            .arg(root.path())
            .args(["/wasagent", "userdata", "--role", &self.role.to_string()])
            .args(self.options);
        run_with(chroot, b"", std::time::Duration::from_secs(60))
    }
}

/// NoCloud's files. The instance id follows from the host name and the user data, so a VM that boots with other user
/// data counts as new.
pub fn no_cloud(hostname: &str, user_data: &str) -> Files {
    let meta_data = format!(
        "instance-id: \"{}\"\nlocal-hostname: \"{hostname}\"\n",
        instance(hostname, user_data)
    );
    vec![
        ("user-data".to_owned(), user_data.to_owned()),
        ("meta-data".to_owned(), meta_data),
    ]
}

/// A config drive's files, as far as cloud-init reads them (CloudStack: engine/storage/configdrive, ConfigDriveBuilder).
pub fn config_drive(hostname: &str, user_data: &str) -> Files {
    let meta_data = json!({
        "uuid": instance(hostname, user_data),
        "hostname": hostname,
        "name": hostname,
    });
    let mut files = vec![(
        "openstack/latest/meta_data.json".to_owned(),
        meta_data.to_string(),
    )];
    for path in [
        "openstack/latest/user_data",
        "cloudstack/userdata/user_data.txt",
    ] {
        files.push((path.to_owned(), user_data.to_owned()));
    }
    for path in ["vendor_data.json", "network_data.json"] {
        files.push((format!("openstack/latest/{path}"), "{}".to_owned()));
    }
    files
}

/// Which VM this is for cloud-init.
pub fn instance(hostname: &str, user_data: &str) -> String {
    let digest = hex(&Sha256::digest(user_data));
    format!("{hostname}-{}", &digest[..12])
}

/// A directory with these files, which only its owner can read.
pub fn directory(into: &Path, files: &Files) -> Result<()> {
    for (path, text) in files {
        write_private(&into.join(path), text)?;
    }
    Ok(())
}

/// Builds an ISO with NoCloud's files, `run_dir/HOSTNAME-seed.iso`, and returns its path. `extra_files` are further files at
/// the root of the disk, by name (`network-config` is one that NoCloud reads itself). The disk may hold secrets: only its
/// owner can read it. Needs `genisoimage`.
pub fn seed_disk(
    run_dir: &Path,
    hostname: &str,
    user_data: &str,
    extra_files: &[(&str, &Path)],
) -> Result<PathBuf> {
    let seed = new_image(run_dir, hostname, "iso")?;
    let work = tempfile::tempdir_in(run_dir)?;
    let mut command = Command::new("genisoimage");
    command
        .args(["-quiet", "-joliet", "-rational-rock", "-graft-points"])
        .args(["-volid", NO_CLOUD])
        .arg("-output")
        .arg(&seed);
    for (name, text) in no_cloud(hostname, user_data) {
        let path = work.path().join(&name);
        write_private(&path, &text)?;
        command.arg(graft(&name, &path)?);
    }
    for (name, path) in extra_files {
        command.arg(graft(name, path)?);
    }
    ok(command).with_context(|| format!("building the seed disk of {hostname}"))?;
    Ok(seed)
}

/// Builds a FAT image of these files, `run_dir/NAME-seed.fat`, with a label: the kernel of User-Mode Linux reads no ISO. Needs
/// `mkfs.vfat` and mtools(1).
pub fn fat_disk(run_dir: &Path, name: &str, label: &str, files: &Files) -> Result<PathBuf> {
    let seed = new_image(run_dir, name, "fat")?;
    let mut mkfs = command(["mkfs.vfat", "-C", "-n", label]);
    // In blocks of 1 KiB. A small one has 12-bit entries, which every reader knows.
    fs::remove_file(&seed)?;
    ok({
        mkfs.arg(&seed).arg("4096");
        mkfs
    })?;
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o600))?;
    let work = tempfile::tempdir_in(run_dir)?;
    directory(work.path(), files)?;
    let mut copy = command(["mcopy", "-s", "-Q", "-i"]);
    copy.arg(&seed);
    for entry in fs::read_dir(work.path())? {
        copy.arg(entry?.path());
    }
    copy.arg("::");
    ok(copy)?;
    Ok(seed)
}

/// An empty image that others cannot read from its first byte on.
fn new_image(run_dir: &Path, name: &str, kind: &str) -> Result<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        bail!("{name:?} is no host name");
    }
    let path = run_dir.join(format!("{name}-seed.{kind}"));
    write_private(&path, "")?;
    Ok(path)
}

/// `NAME=PATH` for genisoimage, which wants an equals sign and a backslash escaped in either part.
fn graft(name: &str, path: &Path) -> Result<String> {
    let path = path.to_str().context("a path that is not UTF-8")?;
    ensure!(Path::new(path).is_file(), "{path} is no file");
    let escape = |text: &str| text.replace('\\', "\\\\").replace('=', "\\=");
    Ok(format!("{}={}", escape(name), escape(path)))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_user_data_is_another_instance() {
        assert_ne!(instance("was-01", "a"), instance("was-01", "b"));
        let files = no_cloud("was-01", "a");
        assert!(files[1].1.contains("local-hostname: \"was-01\""));
    }

    #[test]
    fn graft_points_escape_what_separates_them() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("a=b");
        fs::write(&path, "").unwrap();
        assert!(graft("x", &path).unwrap().ends_with("a\\=b"));
        assert!(graft("x", Path::new("/does/not/exist")).is_err());
    }
}
