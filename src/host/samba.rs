//! Samba's own tools: `pdbedit` shows accounts, `smbpasswd` sets a password read from standard
//! input, `testparm` checks a candidate configuration.

use std::io::Write;
use std::path::Path;

use md4::{Digest, Md4};
use zeroize::Zeroizing;

use super::permit::Permit;
use super::process::Helper;
use crate::config::Secret;
use crate::error::{Doing, Result};

/// The NT hash of a password: MD4 of its UTF-16LE form ([MS-NLMP] 3.3.1).
pub struct NtHash([u8; 16]);

impl NtHash {
    pub fn of(password: &Secret) -> Self {
        let mut hash = Md4::new();
        for unit in password.expose().encode_utf16() {
            hash.update(unit.to_le_bytes());
        }
        Self(hash.finalize().into())
    }

    fn matches(&self, hex: &str) -> bool {
        let own: String = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        own.eq_ignore_ascii_case(hex)
    }
}

/// Where Samba keeps accounts unless smb.conf says otherwise, on Debian and EL alike.
const PASSDB: &str = "/var/lib/samba/private/passdb.tdb";
const SMB_CONF: &str = "/etc/samba/smb.conf";

/// A Samba account, compared with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SambaUser {
    pub password_matches: bool,
    pub disabled: bool,
}

/// The account `name` in Samba's database, if it is there. The stored hash is compared here and
/// goes no further.
pub async fn user(name: &str, password: &Secret) -> Result<Option<SambaUser>> {
    // pdbedit makes an empty database where there is none: a plan must not.
    if !Path::new(PASSDB).exists() && !keeps_accounts_elsewhere() {
        return Ok(None);
    }
    let output = Helper::new("pdbedit")
        .args(["--list", "--smbpasswd-style", "--user", name])
        .output()
        .await?;
    // pdbedit fails on an unknown name as on a broken database; the database is made by the first
    // account, so "no account" is what a failure means, and smbpasswd tells what is broken.
    if !output.success {
        return Ok(None);
    }
    let listing = zeroize::Zeroizing::new(output.stdout);
    Ok(parse_smbpasswd(
        &String::from_utf8_lossy(&listing),
        name,
        &NtHash::of(password),
    ))
}

/// Whether smb.conf(5) names another place for accounts. Samba ignores case and blanks in the
/// names of its options.
fn keeps_accounts_elsewhere() -> bool {
    let text = std::fs::read(SMB_CONF).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(|line| {
        let key: String = line.split('=').next().unwrap_or_default().to_lowercase();
        let key: String = key.split_whitespace().collect();
        key == "passdbbackend" || key == "privatedir"
    })
}

/// smbpasswd(5): `name:uid:LM hash:NT hash:[flags]:LCT-time:`.
fn parse_smbpasswd(listing: &str, name: &str, wanted: &NtHash) -> Option<SambaUser> {
    let line = listing
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(3);
    let nt_hash = fields.next()?;
    let flags = fields.next()?;
    Some(SambaUser {
        password_matches: wanted.matches(nt_hash),
        disabled: flags.contains('D'),
    })
}

/// The account's line in the form of smbpasswd(5), with its hash; `None` where there is none.
pub async fn smbpasswd_line(name: &str) -> Result<Option<Zeroizing<String>>> {
    if !Path::new(PASSDB).exists() && !keeps_accounts_elsewhere() {
        return Ok(None);
    }
    let output = Helper::new("pdbedit")
        .args(["--list", "--smbpasswd-style", "--user", name])
        .output()
        .await?;
    let listing = Zeroizing::new(output.stdout);
    let listing = Zeroizing::new(String::from_utf8_lossy(&listing).into_owned());
    Ok(listing
        .lines()
        .find(|line| output.success && line.split(':').next() == Some(name))
        .map(|line| Zeroizing::new(format!("{line}\n"))))
}

/// Removes the Samba account `name`.
pub async fn remove_user(_permit: &Permit, name: &str) -> Result<()> {
    Helper::new("pdbedit")
        .args(["--delete", "--user", name])
        .run()
        .await
        .map(drop)
}

/// Brings an account back from its line in the form of smbpasswd(5), which pdbedit(8) reads from a
/// file: one that root alone may read, in memory, for that moment.
pub async fn restore_user(_permit: &Permit, line: &str) -> Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix("wasagent-smbpasswd-")
        .tempfile_in("/run")
        .doing("hand an account to pdbedit")?;
    file.write_all(line.as_bytes())
        .doing("hand an account to pdbedit")?;
    Helper::new("pdbedit")
        .args([format!("--import=smbpasswd:{}", file.path().display())])
        .run()
        .await
        .map(drop)
}

/// Adds the Samba account `name` if it is not there, sets its password and enables it.
pub async fn set_password(permit: &Permit, name: &str, password: &Secret) -> Result<()> {
    let twice = zeroize::Zeroizing::new(format!("{0}\n{0}\n", password.expose()));
    Helper::new("smbpasswd")
        .args(["-s", "-a", name])
        .stdin(twice.as_bytes())
        .run()
        .await?;
    permit.during()?;
    Helper::new("smbpasswd").args(["-e", name]).run().await?;
    Ok(())
}

/// Checks `candidate` as smb.conf and returns the names of its sections, in order.
pub async fn check_configuration(candidate: &Path) -> Result<Vec<String>> {
    let printed = Helper::new("testparm")
        .args([
            "--suppress-prompt".as_ref(),
            "--skip-logic-checks".as_ref(),
            candidate.as_os_str(),
        ])
        .run()
        .await?;
    Ok(sections(&String::from_utf8_lossy(&printed)))
}

/// The names of the sections of a text in the form of smb.conf(5).
pub fn sections(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix('[')?.split_once(']'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nt_hash_is_the_one_samba_stores() {
        // Known pairs of [MS-NLMP] 4.2.2.1.2 ("Password") and of the empty password.
        let hash = NtHash::of(&Secret::new("Password".to_owned()));
        assert!(hash.matches("A4F49C406510BDCAB6824EE7C30FD852"));
        let hash = NtHash::of(&Secret::new(String::new()));
        assert!(hash.matches("31d6cfe0d16ae931b73c59d7e0c089c0"));
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let listing = "user10:1:XX:31D6CFE0D16AE931B73C59D7E0C089C0:[U          ]:LCT-0:\n\
                       user1:996:XX:A4F49C406510BDCAB6824EE7C30FD852:[DU         ]:LCT-0:\n";
        let wanted = NtHash::of(&Secret::new("Password".to_owned()));
        let user = parse_smbpasswd(listing, "user1", &wanted).unwrap();
        assert!(user.password_matches && user.disabled);
        assert!(
            !parse_smbpasswd(listing, "user10", &wanted)
                .unwrap()
                .password_matches
        );
        assert_eq!(parse_smbpasswd(listing, "user", &wanted), None);
    }

    #[test]
    fn sections_are_read_with_blanks_around_them() {
        assert_eq!(
            sections("[global]\n\tx = [y]\n  [ user1 ]\n"),
            ["global", "user1"]
        );
    }
}
