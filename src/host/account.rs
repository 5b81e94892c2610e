//! Accounts as the guest sees them, without entering NSS: a static glibc binary that calls
//! `getpwnam` loads the guest's modules and crashes.

use std::path::Path;

use super::permit::Permit;
use super::process::Helper;
use crate::error::{Doing, Error, Result};

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub shell: String,
}

impl Account {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, _, shell] = fields[..] else {
            return None;
        };
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            shell: shell.to_owned(),
        })
    }
}

/// The account `name` of `/etc/passwd`, or of the guest's other sources (sssd, …) as glibc's own
/// getent(1) tells them. `None` where nobody knows it.
pub async fn look_up(name: &str) -> Result<Option<Account>> {
    if let Some(account) = in_passwd(Path::new("/etc/passwd"), name)? {
        return Ok(Some(account));
    }
    if !other_sources(&std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default()) {
        return Ok(None);
    }
    let output = Helper::new("getent")
        .args(["passwd", name])
        .output()
        .await?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output
        .success
        .then(|| Account::parse(line.trim()))
        .flatten())
}

/// The largest number of a system account (`SYS_UID_MAX` of login.defs(5), where nobody changed it).
const SYSTEM_MAX: u32 = 999;

/// Whether a new system account may have this number, and a group of its own the same.
pub fn is_free_for_system(uid: u32, gid: u32) -> Result<bool> {
    if uid != gid || !(1..=SYSTEM_MAX).contains(&uid) {
        return Ok(false);
    }
    for file in ["/etc/passwd", "/etc/group"] {
        let text = std::fs::read(file).doing(format_args!("read {file}"))?;
        if has_id(&String::from_utf8_lossy(&text), uid) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// passwd(5) and group(5) both have the number in the third place.
fn has_id(text: &str, id: u32) -> bool {
    let id = id.to_string();
    text.lines()
        .any(|line| line.split(':').nth(2) == Some(id.as_str()))
}

/// The shell of an account that nobody logs in by.
pub const NO_LOGIN: &str = "/usr/sbin/nologin";

/// Makes the account of a line in the form of sysusers.d(5).
pub async fn make(_permit: &Permit, line: &str) -> Result<()> {
    Helper::new("systemd-sysusers")
        .args(["--inline", line])
        .run()
        .await?;
    Ok(())
}

/// Removes an account and the group of its name by userdel(8). Its files stay.
pub async fn remove(_permit: &Permit, name: &str) -> Result<()> {
    Helper::new("userdel")
        .args([name])
        .run()
        .await
        .map(drop)
        .map_err(|e| {
            e.hint(format!(
                "stop what runs as {name} (ps -u {name}), and revert again"
            ))
        })
}

fn in_passwd(passwd: &Path, name: &str) -> Result<Option<Account>> {
    let text = std::fs::read(passwd).doing(format_args!("read {}", passwd.display()))?;
    let text = String::from_utf8_lossy(&text);
    let found = text
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    match found {
        None => Ok(None),
        Some(line) => Account::parse(line).map(Some).ok_or_else(|| {
            Error::new(format!(
                "{}: the line of {name} is not of the form of passwd(5)",
                passwd.display()
            ))
        }),
    }
}

/// Whether nsswitch.conf(5) names a source of accounts that may hold system accounts beside the
/// files (`systemd` holds users of running services only).
fn other_sources(nsswitch: &str) -> bool {
    nsswitch
        .lines()
        .filter_map(|line| line.trim().strip_prefix("passwd:"))
        .flat_map(str::split_whitespace)
        .any(|source| {
            !matches!(source, "files" | "systemd" | "compat" | "altfiles")
                && !source.starts_with('[')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwd_is_read() {
        let account = Account::parse("user1:x:996:995:a share:/:/usr/sbin/nologin").unwrap();
        assert_eq!((account.uid, account.gid), (996, 995));
        assert_eq!(account.shell, "/usr/sbin/nologin");
        assert_eq!(Account::parse("user1:x:one:995::/:"), None);
    }

    #[test]
    fn a_number_that_is_taken_is_seen() {
        let passwd = "root:x:0:0::/root:/bin/sh\nuser1:x:996:995::/:/usr/sbin/nologin\n";
        assert!(has_id(passwd, 996) && has_id(passwd, 0));
        assert!(!has_id(passwd, 995) && !has_id("user1:x:99", 9));
    }

    #[test]
    fn only_foreign_sources_are_worth_a_helper() {
        assert!(!other_sources("passwd: files systemd\n"));
        assert!(other_sources("passwd:     sss files systemd\n"));
        assert!(!other_sources(
            "group: sss\npasswd: files [NOTFOUND=return]\n"
        ));
    }
}
