//! How a role reaches a new VM: cloud-init user data on a NoCloud seed disk, which also carries the agent's binary and,
//! where there is no network to clone from, the content.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::image::hex;
use crate::process::ok;

/// The seed's volume label, by which cloud-init finds it (NoCloud takes it in either case).
pub const LABEL: &str = "CIDATA";

/// The name under which [`seed_disk`] has to be given the agent's binary for [`apply_role`] to install it.
pub const AGENT: &str = "wasagent";

/// Where the password that [`apply_role`] carries is written: `share.password_file` of the tier file.
pub const SHARE_PASSWORD_FILE: &str = "/etc/wasagent/share.password";

const TIER_FILE: &str = "/etc/wasagent/tier.toml";
const SEED_MOUNT: &str = "/run/wasagent-seed";

/// Builds the NoCloud seed disk of one VM, `run_dir/HOSTNAME-seed.iso`, and returns its path. The instance id follows
/// from the host name and the user data, so a VM that boots with other user data counts as new. `extra_files` are
/// further files at the root of the disk, by name (`network-config` is one that NoCloud reads itself). The disk holds
/// secrets: only its owner can read it. Needs `genisoimage`.
pub fn seed_disk(
    run_dir: &Path,
    hostname: &str,
    user_data: &str,
    extra_files: &[(&str, &Path)],
) -> Result<PathBuf> {
    ensure!(
        !hostname.is_empty()
            && hostname
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'),
        "{hostname:?} is no host name"
    );
    fs::create_dir_all(run_dir).with_context(|| format!("creating {}", run_dir.display()))?;
    let work = tempfile::tempdir_in(run_dir)?;
    let seed = run_dir.join(format!("{hostname}-seed.iso"));
    let mut command = Command::new("genisoimage");
    command
        .args([
            "-quiet",
            "-joliet",
            "-rational-rock",
            "-volid",
            LABEL,
            "-graft-points",
        ])
        .arg("-output")
        .arg(&seed);
    for (name, text) in [
        ("user-data", user_data.to_owned()),
        ("meta-data", meta_data(hostname, user_data)),
    ] {
        let path = work.path().join(name);
        write_private(&path, &text)?;
        command.arg(graft(name, &path)?);
    }
    for (name, path) in extra_files {
        command.arg(graft(name, path)?);
    }
    // Made by us and empty, so that it is never readable by others.
    write_private(&seed, "")?;
    ok(command).with_context(|| format!("building the seed disk of {hostname}"))?;
    Ok(seed)
}

/// The user data that makes a new VM take a role: the tier file and the share's password, both 0600, then the agent from
/// the seed to `/usr/bin/wasagent` and `wasagent apply --role ROLE`. See [`RoleData`] for more than that.
pub fn apply_role(role: &str, tier_toml: &str, share_password: &str) -> String {
    RoleData {
        role,
        tier_toml,
        secrets: &[(SHARE_PASSWORD_FILE, share_password)],
        unpack: &[],
    }
    .user_data()
}

/// What the user data of a role carries.
#[derive(Clone, Copy)]
pub struct RoleData<'a> {
    /// `storage` or `was`.
    pub role: &'a str,
    /// The tier file, written to `/etc/wasagent/tier.toml`.
    pub tier_toml: &'a str,
    /// Files that only root may read, by path.
    pub secrets: &'a [(&'a str, &'a str)],
    /// Tar archives on the seed, each with the directory to unpack it into before the role is applied.
    pub unpack: &'a [(&'a str, &'a str)],
}

impl std::fmt::Debug for RoleData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleData")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl RoleData<'_> {
    /// The `#cloud-config`. Files travel in base64 and words as JSON strings, which are YAML: nothing has to be escaped.
    /// `apply` is the last command, so its exit code is the one that cloud-init reports.
    pub fn user_data(&self) -> String {
        let mut text = String::from("#cloud-config\nwrite_files:\n");
        for (path, content) in std::iter::once(&(TIER_FILE, self.tier_toml)).chain(self.secrets) {
            text += &format!(
                "  - path: {}\n    owner: \"root:root\"\n    permissions: \"0600\"\n    encoding: b64\n    content: \"{}\"\n",
                quoted(path),
                BASE64.encode(content)
            );
        }
        text += "runcmd:\n";
        for words in self.commands() {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            text += &format!("  - [{}]\n", words.join(", "));
        }
        text
    }

    fn commands(&self) -> Vec<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut commands = vec![
            words(&["mkdir", "-p", SEED_MOUNT]),
            words(&["mount", "-o", "ro", &format!("LABEL={LABEL}"), SEED_MOUNT]),
            words(&[
                "install",
                "-m",
                "0755",
                &format!("{SEED_MOUNT}/{AGENT}"),
                "/usr/bin/wasagent",
            ]),
        ];
        for (archive, directory) in self.unpack {
            let archive = format!("{SEED_MOUNT}/{archive}");
            commands.push(words(&["mkdir", "-p", directory]));
            // Owned by root whoever packed it: git refuses a repository of somebody else's.
            commands.push(words(&[
                "tar",
                "--extract",
                "--no-same-owner",
                "--directory",
                directory,
                "--file",
                &archive,
            ]));
        }
        commands.push(words(&["umount", SEED_MOUNT]));
        commands.push(words(&["wasagent", "apply", "--role", self.role]));
        commands
    }
}

fn meta_data(hostname: &str, user_data: &str) -> String {
    let instance = hex(&Sha256::digest(user_data));
    format!(
        "instance-id: \"{hostname}-{}\"\nlocal-hostname: \"{hostname}\"\n",
        &instance[..12]
    )
}

fn quoted(word: &str) -> String {
    serde_json::Value::from(word).to_string()
}

/// `NAME=PATH` for genisoimage, which wants an equals sign and a backslash escaped in either part.
fn graft(name: &str, path: &Path) -> Result<String> {
    let path = path.to_str().context("a path that is not UTF-8")?;
    ensure!(Path::new(path).is_file(), "{path} is no file");
    let escape = |text: &str| text.replace('\\', "\\\\").replace('=', "\\=");
    Ok(format!("{}={}", escape(name), escape(path)))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
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
    fn any_content_arrives_in_base64() {
        let text = apply_role("was", "[share]\nname = \"a: 'b' #\"\n", "p'\"\n:{}\u{1}ä");
        assert!(text.starts_with("#cloud-config\n"));
        assert!(text.contains(&BASE64.encode("p'\"\n:{}\u{1}ä")));
        assert!(text.ends_with("  - [\"wasagent\", \"apply\", \"--role\", \"was\"]\n"));
        assert_eq!(text.matches("permissions: \"0600\"").count(), 2);
    }

    #[test]
    fn an_archive_is_unpacked_before_the_role_is_applied() {
        let data = RoleData {
            role: "storage",
            tier_toml: "",
            secrets: &[],
            unpack: &[("content.tar", "/srv")],
        };
        let commands = data.commands();
        let place = |word: &str| commands.iter().position(|c| c[0] == word).unwrap();
        assert!(place("mount") < place("tar"));
        assert!(place("tar") < place("umount"));
        assert!(place("umount") < place("wasagent"));
    }

    #[test]
    fn other_user_data_is_another_instance() {
        assert_ne!(meta_data("was-01", "a"), meta_data("was-01", "b"));
        assert!(meta_data("was-01", "a").contains("local-hostname: \"was-01\""));
    }

    #[test]
    fn a_secret_is_not_in_the_debug_text() {
        let data = RoleData {
            role: "was",
            tier_toml: "",
            secrets: &[("/x", "hunter2")],
            unpack: &[],
        };
        assert!(!format!("{data:?}").contains("hunter2"));
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
