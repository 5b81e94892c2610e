//! The shell script that makes a VM take a role at its first boot, put together from the texts beside this file.
//!
//! It is a script and no `#cloud-config`: cloud-init runs every script of the user data, whereas of two configurations
//! that both have a `runcmd` one wins, unless both say how to merge.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::{Role, Secret, value_span};
use crate::error::{Error, Result};

const PART: &str = include_str!("part.sh");
const FIRST_BOOT: &str = include_str!("first-boot.sh");
const UNIT: &str = include_str!("first-boot.service");
const SECRETS: &str = include_str!("secrets.sh");
const WIPE: &str = include_str!("wipe.py");

/// Where the agent comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The package repositories that the VM knows, and this one if it is given: a directory that is dnf's `baseurl` and
    /// apt's flat repository at once, with the key that signs it.
    Packages(Option<(String, String)>),
    /// The binary itself: its URL and its SHA-256 in hexadecimal.
    Binary(String, String),
}

/// What a first boot is to do.
pub struct FirstBoot<'a> {
    pub role: Role,
    pub tier: &'a str,
    pub origin: &'a Origin,
    /// The files of the secrets that the role uses, each with the secret if it is to travel in the user data.
    pub secrets: &'a [(PathBuf, Option<Secret>)],
    /// Keys of the tier file, each with the name of the metadata that gives its value.
    pub parameters: &'a [(String, String)],
}

impl FirstBoot<'_> {
    /// The whole script. With parameters it is a template of cloud-init.
    ///
    /// # Errors
    /// A parameter that is not in the tier file; two secrets in files of the same name.
    pub fn script(&self) -> Result<String> {
        let header = if self.parameters.is_empty() {
            ""
        } else {
            "## template: jinja\n"
        };
        let mut first_boot = FIRST_BOOT.replace("@INSTALL@", &self.install());
        first_boot = first_boot.replace("@BRING@", &self.bring()?);
        let script = PART
            .replace("@FIRST_BOOT@", first_boot.trim_end())
            .replace("@UNIT@", UNIT.trim_end())
            .replace("@SECRETS@", &self.embedded())
            .replace("@ROLE@", self.role.as_str())
            .replace("@TIER@", self.tier_file()?.trim_end());
        Ok(format!("{header}{script}"))
    }

    /// Commands that print the tier file. Its text travels in base64; a parameter's value, in between, as JSON, which is
    /// TOML as well.
    fn tier_file(&self) -> Result<String> {
        let mut places = Vec::new();
        for (key, name) in self.parameters {
            let span = value_span(self.tier, key).ok_or_else(|| no_such_text(key))?;
            places.push((span, name));
        }
        places.sort_by_key(|(span, _)| span.start);
        let (mut commands, mut at) = (String::new(), 0);
        for (span, name) in places {
            let before = self.tier.get(at..span.start).unwrap_or_default();
            commands += &decoded(before.as_bytes(), "");
            let _ = writeln!(
                commands,
                "tr -d '\\n' <<'wasagent-end'\n{{{{ ds.meta_data.{name} | string | tojson }}}}\nwasagent-end"
            );
            at = span.end;
        }
        Ok(commands + &decoded(&self.tier.as_bytes()[at..], ""))
    }

    /// The secrets that travel along, and what wipes them.
    fn embedded(&self) -> String {
        let mut files = String::new();
        for (path, secret) in self.secrets {
            if let Some(secret) = secret {
                let mut new = path.clone().into_os_string();
                new.push(".new");
                let new = quoted(Path::new(&new));
                let (path, directory) =
                    (quoted(path), path.parent().map(quoted).unwrap_or_default());
                // A file that is there stays: somebody may have changed the password since.
                let _ = writeln!(files, "if [ ! -s {path} ]; then\nmkdir -p {directory}");
                files += &decoded(secret.expose().as_bytes(), &format!(" >{new}"));
                let _ = writeln!(files, "sync {new}\nmv {new} {path}\nfi");
            }
        }
        if files.is_empty() {
            return files;
        }
        SECRETS
            .replace("@FILES@", files.trim_end())
            .replace("@WIPE@", WIPE.trim_end())
    }

    /// Commands that bring the other secrets to their files.
    fn bring(&self) -> Result<String> {
        let mut names: Vec<&str> = Vec::new();
        let mut commands = String::new();
        for (path, _) in self.secrets.iter().filter(|(_, secret)| secret.is_none()) {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if names.contains(&name) {
                return Err(two_of_a_name(name));
            }
            names.push(name);
            let _ = writeln!(
                commands,
                "    bring_secret {} {}",
                quoted(Path::new(name)),
                quoted(path)
            );
        }
        Ok(commands.trim_end().to_owned())
    }

    /// Commands that install the agent and the programs that the role needs.
    fn install(&self) -> String {
        let (programs, el, debian) = needs(self.role);
        let role = self.role;
        match self.origin {
            Origin::Packages(repository) => {
                let setup = repository.as_ref().map(set_up).unwrap_or_default();
                format!(
                    "    if ! have wasagent {programs}; then\n{setup}        install_packages 'wasagent wasagent-{role} {el}' 'wasagent wasagent-{role} {debian}'\n    fi\n"
                )
            }
            Origin::Binary(url, sha256) => format!(
                "    have {programs} || install_packages '{el}' '{debian}'\n    install_binary {} {sha256}\n",
                quoted(Path::new(url))
            ),
        }
    }
}

/// The programs that a role needs, and the packages that have them on EL and on Debian. They are named although the
/// agent's package needs them: so they stay when that package is removed.
fn needs(role: Role) -> (&'static str, &'static str, &'static str) {
    match role {
        Role::Storage => (
            "smbd pdbedit smbclient mkfs.xfs git firewall-cmd",
            "samba samba-client xfsprogs git-core firewalld policycoreutils-python-utils",
            "samba smbclient xfsprogs git firewalld",
        ),
        Role::Was => (
            "podman nft mount.cifs firewall-cmd",
            "podman nftables cifs-utils firewalld",
            "podman nftables cifs-utils firewalld",
        ),
    }
}

/// Commands that make the VM know a repository.
fn set_up((url, key): &(String, String)) -> String {
    let (url, key) = (
        quoted(Path::new(url)),
        decoded_until(
            "wasagent-key",
            key.as_bytes(),
            " >/etc/wasagent/repository.asc",
        ),
    );
    format!("{key}        add_repository {url}\n")
}

/// A command that prints bytes, or writes them to a file.
fn decoded(bytes: &[u8], to: &str) -> String {
    decoded_until("wasagent-end", bytes, to)
}

/// The same, with the word that ends its text: a text within another needs one of its own.
fn decoded_until(end: &str, bytes: &[u8], to: &str) -> String {
    if bytes.is_empty() && to.is_empty() {
        return String::new();
    }
    let text = BASE64.encode(bytes);
    let mut lines = String::new();
    // As RFC 2045 has it: mail programs break longer lines.
    for line in text.as_bytes().chunks(76) {
        lines += &String::from_utf8_lossy(line);
        lines.push('\n');
    }
    format!("base64 -d{to} <<'{end}'\n{lines}{end}\n")
}

/// A path or a URL as a word of the shell.
fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', "'\\''"))
}

fn no_such_text(key: &str) -> Error {
    Error::new(format!(
        "--parameter {key}: the tier file has no such key, or its value is no text"
    ))
    .hint("name a key whose value is in quotes, such as share.server")
}

fn two_of_a_name(name: &str) -> Error {
    Error::new(format!(
        "two secrets of the tier file are in files of the name {name}"
    ))
    .hint("give the files different names: a new VM finds each secret by its file's name")
}
