//! What this machine has that decides whether a setting of smb.conf(5) lets a client in: addresses, directories, the
//! guest account, the map of user names.

use std::net::IpAddr;
use std::path::Path;

use super::conf::SmbConf;
use super::passdb;
use super::share_acl::{self, Access};
use crate::error::Result;
use crate::host::account;
use crate::host::blocking;
use crate::host::network;

const SECRETS: &str = "/var/lib/samba/private/secrets.tdb";

/// The longest map of user names that is read.
const LONGEST_MAP: u64 = 1 << 20;

/// Directories that smbd makes if the one above is there, and without which it does not start.
pub const DIRECTORIES: [&str; 5] = [
    "cachedirectory",
    "lockdirectory",
    "ncalrpcdir",
    "privatedir",
    "statedirectory",
];

/// This machine, as far as smb.conf(5) refers to it.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Each address of an interface that is up, with the interface's name.
    pub addresses: Vec<(String, IpAddr)>,
    /// `guest account` of [global], if there is no such account.
    pub missing_guest: Option<String>,
    /// Those of [`DIRECTORIES`] that [global] puts where smbd cannot make them.
    pub unmakeable: Vec<&'static str>,
    /// The text of `username map`.
    pub username_map: Option<String>,
    /// Whether this VM is in the domain that `workgroup` names. Without an answer it is taken to be.
    pub joined: bool,
    /// Whom the ACL of our share lets in.
    pub access: Access,
}

impl Machine {
    /// Looks at what `conf` refers to, and at the ACL of the share `name`.
    pub async fn look(conf: &SmbConf, name: &str) -> Result<Self> {
        let name = name.to_owned();
        let said = |key: &str| conf.global(key).map(|setting| setting.value.clone());
        let missing_guest = match said("guestaccount") {
            Some(name) if account::look_up(&name).await?.is_none() => Some(name),
            _ => None,
        };
        let directories = DIRECTORIES.map(|key| (key, said(key)));
        let workgroup = said("workgroup").unwrap_or_else(|| "WORKGROUP".to_owned());
        let map = said("usernamemap").filter(|file| !file.contains('%'));
        blocking(move || {
            let unmakeable = directories.into_iter().filter_map(|(key, path)| {
                let path = path.filter(|path| !path.contains('%'))?;
                (!can_be_made(Path::new(&path))).then_some(key)
            });
            Ok(Self {
                addresses: network::addresses()?,
                missing_guest,
                unmakeable: unmakeable.collect(),
                username_map: map.and_then(|file| read_map(Path::new(&file))),
                joined: joined(&workgroup),
                access: share_acl::access(&name),
            })
        })
        .await
    }
}

/// A domain's SID is stored when it is joined (`secrets_store_domain_sid()` in source3/passdb/machine_account_secrets.c).
fn joined(workgroup: &str) -> bool {
    let key = format!("SECRETS/SID/{}", workgroup.to_uppercase());
    !matches!(passdb::record(Path::new(SECRETS), key.as_bytes()), Ok(None))
}

fn can_be_made(directory: &Path) -> bool {
    directory.is_dir() || (!directory.exists() && directory.parent().is_some_and(Path::is_dir))
}

/// A map that cannot be read maps nobody (`map_username()` in source3/auth/user_util.c).
fn read_map(file: &Path) -> Option<String> {
    let size = std::fs::metadata(file).ok()?.len();
    let text = (size <= LONGEST_MAP).then(|| std::fs::read(file).ok())??;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_be_made_below_one_that_is_there() {
        let there = tempfile::tempdir().unwrap();
        assert!(can_be_made(there.path()));
        assert!(can_be_made(&there.path().join("new")));
        assert!(!can_be_made(&there.path().join("new/newer")));
        std::fs::write(there.path().join("file"), "").unwrap();
        assert!(!can_be_made(&there.path().join("file")));
    }
}
