//! `wasagent userdata`: prints the cloud-init user data that installs the agent and applies a role on a new VM.

mod script;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;

use super::Failure;
use super::exit::{self, Code};
use super::output::Output;
use crate::config::{self, NamedSecret, Outline, Role, Secret, Secrets, Way};
use crate::error::{Doing, Error, Result};
use script::FirstBoot;
use script::Origin;

/// CloudStack's default of `vm.userdata.max.length`: characters of base64.
const LARGEST: usize = 32 * 1024;

/// Between the parts of a message (RFC 2046). No line of a script begins like this.
const BOUNDARY: &str = "==wasagent-part==";

/// What userdata alone takes.
#[derive(Debug, Args)]
pub struct Options {
    /// What the new VM is to be
    #[arg(long)]
    pub role: Role,
    /// A package repository beside those that the VM knows: a directory for dnf and, flat, for apt
    #[arg(long, value_name = "URL", requires = "repository_key", conflicts_with = "binary", value_parser = url)]
    repository: Option<String>,
    /// The public key that signs the repository, in ASCII armour
    #[arg(long, value_name = "FILE", requires = "repository")]
    repository_key: Option<PathBuf>,
    /// Where the VM gets the agent itself, without a package
    #[arg(long, value_name = "URL", requires = "sha256", value_parser = url)]
    binary: Option<String>,
    /// The checksum without which that binary is not installed
    #[arg(long, value_name = "HEX", requires = "binary", value_parser = sha256)]
    sha256: Option<String>,
    /// Take a key's value from the VM's metadata: share.server=storage_address. For registered user data; the tier file
    /// holds an example of the value
    #[arg(long, value_name = "KEY=NAME", value_parser = parameter)]
    parameter: Vec<(String, String)>,
    /// Put the secrets into the user data, where many can read them. Without this, a new VM waits for each secret's
    /// file, a credential wasagent.FILENAME, or wasagent/FILENAME on a disk labelled wasagent, config-2 or cidata
    #[arg(long)]
    embed_secrets: bool,
    /// Print the script alone, not as a part of a message
    #[arg(long)]
    script: bool,
}

pub fn run(config: &Path, options: &Options, output: &Output) -> Result<Code, Failure> {
    let outline = read(config, options.role, options.embed_secrets).map_err(|faults| {
        output.faults(&faults);
        Failure {
            code: exit::BAD_TIER_FILE,
            error: None,
        }
    })?;
    let request = options.request()?;
    let text = request.user_data(&outline)?;
    if options.embed_secrets && !outline.secrets.is_empty() {
        output.warning(&who_can_read(&outline.secrets));
    }
    if !options.parameter.is_empty() {
        output.warning(&registered_with(&options.parameter));
    }
    if output.is_json() {
        let role = options.role;
        output.json(&serde_json::json!({"version": 1, "role": role, "user_data": text}));
    } else {
        output.line(text.trim_end());
    }
    Ok(exit::DONE)
}

/// Reads a tier file for [`Request::user_data`]. The secrets are read only if they are to be embedded.
///
/// # Errors
/// All the faults of the file.
pub fn read(path: &Path, role: Role, embed_secrets: bool) -> Result<Outline, config::Faults> {
    let secrets = if embed_secrets {
        Secrets::Read
    } else {
        Secrets::Name
    };
    config::outline(path, role, secrets)
}

/// Which user data is wanted.
#[derive(Debug)]
pub struct Request {
    pub role: Role,
    pub origin: Origin,
    /// Keys of the tier file, each with the name of the metadata that gives its value.
    pub parameters: Vec<(String, String)>,
    pub embed_secrets: bool,
    /// The script alone, not as a part of a message.
    pub script: bool,
}

impl Options {
    fn request(&self) -> Result<Request> {
        let origin = match (
            &self.binary,
            &self.sha256,
            &self.repository,
            &self.repository_key,
        ) {
            (Some(url), Some(sha256), ..) => Origin::Binary(url.clone(), sha256.clone()),
            (.., Some(url), Some(file)) => {
                let key =
                    std::fs::read_to_string(file).doing(format!("read {}", file.display()))?;
                Origin::Packages(Some((url.clone(), key)))
            }
            _ => Origin::Packages(None),
        };
        Ok(Request {
            role: self.role,
            origin,
            parameters: self.parameter.clone(),
            embed_secrets: self.embed_secrets,
            script: self.script,
        })
    }
}

impl Request {
    /// The user data of a VM.
    ///
    /// # Errors
    /// A secret that would be in it though nobody asked for that, or that a new VM could not be given; a parameter that
    /// is not in the tier file; more than CloudStack takes.
    pub fn user_data(&self, outline: &Outline) -> Result<String> {
        let secrets = outline
            .secrets
            .iter()
            .filter_map(|secret| self.file_of(secret).transpose());
        let secrets = secrets.collect::<Result<Vec<_>>>()?;
        let script = FirstBoot {
            role: self.role,
            tier: &outline.text,
            origin: &self.origin,
            secrets: &secrets,
            parameters: &self.parameters,
        }
        .script()?;
        let text = if self.script {
            script
        } else {
            message(self.role, !self.parameters.is_empty(), &script)
        };
        let length = BASE64.encode(&text).len();
        if length > LARGEST {
            return Err(Error::new(format!(
                "the user data has {length} characters in base64, and CloudStack takes {LARGEST}"
            ))
            .hint("shorten the tier file, or put it on the template"));
        }
        Ok(text)
    }

    /// The file of a secret, with the secret if it is embedded. `None` for one in the tier file itself.
    fn file_of(&self, secret: &NamedSecret) -> Result<Option<(PathBuf, Option<Secret>)>> {
        match &secret.way {
            Way::File(path) => {
                let plain = path.to_str().is_some_and(|path| path.is_ascii() && !path.contains('{'));
                if !plain {
                    return Err(Error::new(format!("{}: {} cannot be written into user data", secret.key, path.display()))
                        .hint("name a file without letters beyond ASCII and without braces"));
                }
                let embedded = secret.secret.clone().filter(|_| self.embed_secrets);
                Ok(Some((path.clone(), embedded)))
            }
            Way::Inline => Err(Error::new(format!("{}: the password stands in the tier file, and so would stand in the user data", secret.key))
                .hint("use password_file; with --embed-secrets the file's password travels along, and is wiped on the VM")),
            Way::Credential => Err(Error::new(format!("{}: a new VM has no unit yet that is given this credential", secret.key))
                .hint("use password_file: the first boot writes a credential with the name wasagent.FILENAME to that file")),
        }
    }
}

/// The script as a message of one part, to which others can be added.
fn message(role: Role, is_template: bool, script: &str) -> String {
    let kind = if is_template {
        "jinja2"
    } else {
        "x-shellscript"
    };
    format!(
        "Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n\
         --{BOUNDARY}\nContent-Type: text/{kind}; charset=\"us-ascii\"\nMIME-Version: 1.0\n\
         Content-Transfer-Encoding: 7bit\nContent-Disposition: attachment; filename=\"wasagent-{role}\"\n\n\
         {script}\n--{BOUNDARY}--\n"
    )
}

fn who_can_read(secrets: &[NamedSecret]) -> Error {
    let keys: Vec<_> = secrets.iter().map(|secret| secret.key.as_str()).collect();
    Error::new(format!(
        "the user data holds the secrets of {}. It can be read by everybody who manages the VM or its account in CloudStack, \
         who reads CloudStack's database or its backups, and by every process on the VM that reaches the virtual router or \
         the config drive",
        keys.join(", ")
    ))
    .hint("the VM wipes them from cloud-init's own copies; change them, or reset the VM's user data, once it serves")
}

fn registered_with(parameters: &[(String, String)]) -> Error {
    let names: Vec<_> = parameters.iter().map(|(_, name)| name.as_str()).collect();
    let names = names.join(",");
    Error::new(format!("each VM needs the parameters {names}")).hint(format!(
        "register it with params={names}, and give each VM their values as userdatadetails"
    ))
}

fn url(text: &str) -> Result<String, String> {
    let is_url = ["https://", "http://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"'\"{}\\`$".contains(&byte));
    match (is_url, is_plain) {
        (true, true) => Ok(text.to_owned()),
        (true, false) => Err("a URL holds no blanks, quotes or braces".to_owned()),
        (false, _) => Err("expected a URL that begins with https:// or http://".to_owned()),
    }
}

fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("expected 64 hexadecimal digits, as sha256sum prints them".to_owned())
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let expected = "expected KEY=NAME, such as share.server=storage_address";
    let (key, name) = text.split_once('=').ok_or(expected)?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if key.is_empty() || name.is_empty() || !is_name || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!("{expected}; a name has letters, digits and _"));
    }
    Ok((key.to_owned(), name.to_owned()))
}
