//! Accounts as the guest sees them, without calling NSS: a static glibc binary that calls
//! `getpwnam` loads the guest's modules and crashes.

use std::path::Path;

use super::blocking;
use super::permit::Permit;
use super::process::Helper;
use crate::config::PRIVILEGED_GROUPS;
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

/// The account `name` from `/etc/passwd`, or from the guest's other sources (sssd, …) through
/// glibc's own getent(1). `None` where no source knows it.
pub async fn look_up(name: &str) -> Result<Option<Account>> {
    let wanted = name.to_owned();
    let (account, has_other_sources) = blocking(move || {
        let switch = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
        let account = in_passwd(Path::new("/etc/passwd"), &wanted)?;
        Ok((account, other_sources(&switch)))
    })
    .await?;
    if account.is_some() || !has_other_sources {
        return Ok(account);
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

/// Lower numbers belong to the distribution's own accounts, such as `www-data` and `mail` (Debian
/// Policy 9.2.2). EL's setup has them up to 200; all that have a purpose are below 100, too.
const FIRST_FREE: u32 = 100;

/// `nobody`, which must own nothing.
const OVERFLOW: u32 = 65534;

/// Why an existing account must not own a share, and what to do about it. `None` if it may own one.
pub fn unfit(account: &Account) -> Result<Option<Unfit>> {
    let read = |file: &str| match std::fs::read(file) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).doing(format_args!("read {file}")),
    };
    let [passwd, group, shadow] = ["/etc/passwd", "/etc/group", "/etc/shadow"].map(read);
    let today = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 86_400);
    let found = judge(
        account,
        &passwd?,
        &group?,
        &zeroize::Zeroizing::new(shadow?),
        today,
    );
    Ok(found)
}

/// Why an account of this name, which is still to be made, would not be fit to own a share. It would get the group of
/// its name that is there already (sysusers.d(5)).
pub fn unfit_to_be(name: &str) -> Result<Option<Unfit>> {
    let text = std::fs::read("/etc/group").doing("read /etc/group")?;
    Ok(judge_group(name, &String::from_utf8_lossy(&text)))
}

fn judge_group(name: &str, group: &str) -> Option<Unfit> {
    let mut groups = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let found = groups.find(|fields| fields.first() == Some(&name))?;
    let number: u32 = found.get(2)?.parse().ok()?;
    let members = found.get(3).filter(|members| !members.is_empty());
    let what = match members {
        _ if PRIVILEGED_GROUPS.contains(&name) => "which can do more than own a share".to_owned(),
        _ if number < FIRST_FREE || number == OVERFLOW => {
            "which is one of the system's own".to_owned()
        }
        Some(members) => format!("whose members ({members}) would share its files"),
        None => return None,
    };
    Some(Unfit {
        why: format!("would be in the group {name}, {what}"),
        way_out: "name another account in share.user".to_owned(),
    })
}

/// Why an account must not own a share, and the way out. `why` continues a sentence that begins
/// with the account's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub why: String,
    pub way_out: String,
}

fn judge(account: &Account, passwd: &str, group: &str, shadow: &str, today: u64) -> Option<Unfit> {
    let name = &account.name;
    let unfit = |why: String, way_out: String| Some(Unfit { why, way_out });
    let another = || "name another account in share.user".to_owned();
    if account.uid == 0 {
        return unfit("is root by another name".to_owned(), another());
    }
    if account.uid < FIRST_FREE || account.uid == OVERFLOW {
        let why = format!(
            "is one of the system's own, with the number {}",
            account.uid
        );
        return unfit(why, another());
    }
    let uid = account.uid.to_string();
    let mut accounts = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let twin = accounts.find(|fields| fields.get(2) == Some(&uid.as_str()) && fields[0] != name);
    if let Some(twin) = twin {
        let why = format!("has the number {uid} together with {}", twin[0]);
        return unfit(
            why,
            format!("give one of them another number, or {}", another()),
        );
    }
    if !lets_nobody_in(&account.shell) {
        let shell = match account.shell.as_str() {
            "" => "/bin/sh",
            shell => shell,
        };
        return unfit(
            format!("is one to log in by: its shell is {shell}"),
            format!(
                "{}, or, if nobody logs in by it, run: usermod --shell {NO_LOGIN} {name}",
                another()
            ),
        );
    }
    if let Some(privileged) = groups_of(account, group)
        .into_iter()
        .find(|g| PRIVILEGED_GROUPS.contains(g))
    {
        return unfit(
            format!("is in the group {privileged}, which can do more than own a share"),
            format!("{}, or take it out of {privileged}", another()),
        );
    }
    if let Some(day) = expiry(name, shadow).filter(|day| *day <= today) {
        return unfit(
            format!("has expired, {} days ago", today - day),
            format!("{}, or run: usermod --expiredate '' {name}", another()),
        );
    }
    None
}

/// Whether the shell is a program that ends at once. An empty field means /bin/sh (passwd(5)).
fn lets_nobody_in(shell: &str) -> bool {
    ["nologin", "false"]
        .iter()
        .any(|name| Path::new(shell).file_name() == Some(name.as_ref()))
}

/// The names of the account's groups, from a text in the format of group(5).
fn groups_of<'a>(account: &Account, group: &'a str) -> Vec<&'a str> {
    let gid = account.gid.to_string();
    let groups = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    groups
        .filter_map(|fields| {
            let [name, _, number, members] = fields[..] else {
                return None;
            };
            let is_member = members.split(',').any(|member| member == account.name);
            (number == gid || is_member).then_some(name)
        })
        .collect()
}

/// The day, counted from 1970, on which the account expires (shadow(5)). Samba asks PAM about it if
/// smb.conf says `obey pam restrictions`, as Debian's does.
fn expiry(name: &str, shadow: &str) -> Option<u64> {
    let mut lines = shadow
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name))?;
    fields.get(7)?.parse().ok()
}

/// The largest number of a system account (the default of `SYS_UID_MAX` in login.defs(5)).
const SYSTEM_MAX: u32 = 999;

/// Whether a new system account may have this number, and its own group the same number.
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

/// passwd(5) and group(5) both have the number in the third field.
fn has_id(text: &str, id: u32) -> bool {
    let id = id.to_string();
    text.lines()
        .any(|line| line.split(':').nth(2) == Some(id.as_str()))
}

/// What the guest's own files say of the account: its line of passwd(5), the groups that it is in, and whether it has a
/// password. `None` if it is not in them. The text holds no secret.
pub fn state_of(name: &str) -> Result<Option<String>> {
    let read = |file: &str| -> Result<zeroize::Zeroizing<String>> {
        let text = std::fs::read(file).doing(format_args!("read {file}"))?;
        Ok(String::from_utf8_lossy(&text).into_owned().into())
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    Ok(state_in(name, &passwd, &group, &read("/etc/shadow")?))
}

fn state_in(name: &str, passwd: &str, group: &str, shadow: &str) -> Option<String> {
    let of_name = |text: &str| {
        let mut lines = text.lines();
        let line = lines.find(|line| line.split(':').next() == Some(name));
        line.map(str::to_owned)
    };
    let line = of_name(passwd)?;
    let mut groups = groups_of(&Account::parse(&line)?, group);
    groups.sort_unstable();
    // `!` and `*` begin what no password matches (shadow(5)).
    let shadow = zeroize::Zeroizing::new(of_name(shadow).unwrap_or_default());
    let password = shadow.split(':').nth(1).unwrap_or("!");
    let has_password = !password.starts_with(['!', '*']);
    let password = if has_password {
        ", with a password"
    } else {
        ""
    };
    Some(format!("{line} in {}{password}", groups.join(",")))
}

/// The shell of an account that nobody logs in to.
pub const NO_LOGIN: &str = "/usr/sbin/nologin";

/// Creates the account that a line of sysusers.d(5) describes.
pub async fn make(_permit: &Permit, line: &str) -> Result<()> {
    Helper::new("systemd-sysusers")
        .changes()
        .args(["--inline", line])
        .run()
        .await?;
    Ok(())
}

/// Removes an account and the group of its name by userdel(8). Its files stay.
pub async fn remove(_permit: &Permit, name: &str) -> Result<()> {
    Helper::new("userdel")
        .changes()
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

/// Whether nsswitch.conf(5) names a source besides the files that may hold system accounts.
/// `systemd` holds only the users of running services.
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
    fn only_an_account_without_another_purpose_may_own_a_share() {
        let passwd = "root:x:0:0::/root:/bin/sh\nuser1:x:996:995::/:/usr/sbin/nologin\n\
                      twin:x:700:700::/:/bin/sh\n";
        let group = "root:x:0:\nuser1:x:995:\nsudo:x:27:someone,admin1\ndocker:x:110:\n";
        let shadow = "user1:!*:20000::::::\nold:!:1::::::\nclosed:!:1:::::100:\n";
        for (line, said) in [
            ("user1:x:996:995::/:/usr/sbin/nologin", ""),
            ("user1:x:1996:995::/:/sbin/nologin", ""),
            ("old:x:985:985::/:/bin/false", ""),
            ("toor:x:0:0::/:/usr/sbin/nologin", "root by another name"),
            (
                "www-data:x:33:33::/var/www:/usr/sbin/nologin",
                "system's own",
            ),
            ("nobody:x:65534:65534::/:/usr/sbin/nologin", "system's own"),
            ("alice:x:700:995::/:/usr/sbin/nologin", "together with twin"),
            ("alice:x:1000:1000::/home/alice:/bin/bash", "/bin/bash"),
            ("alice:x:1000:1000::/home/alice:", "/bin/sh"),
            ("admin1:x:990:990::/:/usr/sbin/nologin", "the group sudo"),
            ("dock:x:990:110::/:/usr/sbin/nologin", "the group docker"),
            (
                "closed:x:990:990::/:/usr/sbin/nologin",
                "expired, 20 days ago",
            ),
        ] {
            let account = Account::parse(line).unwrap();
            let unfit = judge(&account, passwd, group, shadow, 120);
            let why = unfit.map(|unfit| unfit.why).unwrap_or_default();
            assert_eq!(why.is_empty(), said.is_empty(), "{line}: {why}");
            assert!(why.contains(said), "{line}: {why}");
        }
    }

    #[test]
    fn a_new_account_does_not_get_a_group_that_can_more() {
        let group = "disk:x:6:\nirc:x:39:\nteam:x:1005:alice,bob\nuser1:x:995:\n";
        for (name, said) in [
            ("disk", Some("more than own")),
            ("irc", Some("system's own")),
            ("team", Some("alice,bob")),
            ("user1", None),
            ("user2", None),
        ] {
            let why = judge_group(name, group).map(|unfit| unfit.why);
            assert_eq!(why.is_some(), said.is_some(), "{name}");
            assert!(why.is_none_or(|why| why.contains(said.unwrap())), "{name}");
        }
    }

    #[test]
    fn whatever_somebody_gives_an_account_shows() {
        let passwd = "user1:x:996:995:a share:/:/usr/sbin/nologin\n";
        let group = "user1:x:995:\nsmb:x:994:user1\n";
        let state = |passwd, group, shadow| state_in("user1", passwd, group, shadow);
        let made = state(passwd, group, "user1:!*:1::::::\n").unwrap();
        assert_eq!(
            made,
            "user1:x:996:995:a share:/:/usr/sbin/nologin in smb,user1"
        );
        assert_eq!(state(passwd, group, ""), Some(made.clone()));
        for (passwd, group, shadow) in [
            (passwd, group, "user1:$6$x:1::::::\n"),
            (passwd, "user1:x:995:\n", ""),
            (
                "user1:x:996:995:a share:/home:/usr/sbin/nologin\n",
                group,
                "",
            ),
        ] {
            let now = state(passwd, group, shadow).unwrap();
            assert!(now != made && !now.contains("$6$"), "{now}");
        }
        assert_eq!(state("", group, ""), None);
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
