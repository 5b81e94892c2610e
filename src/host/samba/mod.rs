//! Samba's accounts, read from its database or through `pdbedit`, and Samba's own tools:
//! `smbpasswd` sets a password that it reads from standard input, `testparm` checks a candidate
//! configuration.

pub mod bar;
pub mod client;
pub mod conf;
pub mod hosts;
pub mod identity;
mod nt_hash;
pub mod parameters;
mod passdb;
pub mod server;
pub mod share_acl;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::Signal;
use zeroize::Zeroizing;

use self::bar::Bar;
use self::conf::SmbConf;
use self::nt_hash::NtHash;
use self::passdb::Unclear;
use crate::config::Secret;
use crate::error::{Doing, Error, Result};
use crate::host::anonymous_file::AnonymousFile;
use crate::host::blocking;
use crate::host::permit::Permit;
use crate::host::process::{Helper, find_program};
use crate::host::process_fd::Process;
use crate::host::selinux;

/// Where Samba keeps accounts unless smb.conf says otherwise, on Debian and EL alike.
const PRIVATE_DIRECTORY: &str = "/var/lib/samba/private";
const PASSDB: &str = "/var/lib/samba/private/passdb.tdb";
/// The account policies that `pdbedit --account-policy` sets.
const POLICIES: &str = "/var/lib/samba/account_policy.tdb";
const SMB_CONF: &str = "/etc/samba/smb.conf";
const REGISTRY: &str = "/var/lib/samba/registry.tdb";
/// The default `lock directory` of smb.conf(5).
const RUNTIME: &str = "/run/samba";
/// Where Samba keeps the shares that `net usershare` makes, unless smb.conf says otherwise.
pub const USERSHARES: &str = "/var/lib/samba/usershares";

/// How many levels of includes in smb.conf are followed.
const INCLUDE_DEPTH: u32 = 4;

/// A Samba account, compared with the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SambaUser {
    pub password_matches: bool,
    /// What keeps it out, although the password is right.
    pub bars: Vec<Bar>,
}

/// The account `name` in Samba's database, if it exists. The stored hash is compared here and not
/// passed on.
pub async fn user(name: &str, password: &Secret) -> Result<Option<SambaUser>> {
    let wanted = NtHash::of(password);
    let Some(place) = place_of_database().await? else {
        return Ok(None);
    };
    if place == Backend::Passdb {
        let account = name.to_owned();
        match blocking(move || Ok(passdb::account(Path::new(PASSDB), &account))).await? {
            Ok(stored) => {
                let oldest = blocking(|| Ok(passdb::oldest_password(Path::new(POLICIES)))).await?;
                let oldest = oldest.unwrap_or_default();
                return Ok(stored.map(|stored| SambaUser {
                    password_matches: stored.nt_hash.as_ref() == Some(&wanted),
                    bars: bar::bars(&stored, oldest, SystemTime::now()),
                }));
            }
            Err(Unclear(why)) => tracing::debug!("{PASSDB}: {why}: pdbedit is asked"),
        }
    }
    let Some(line) = ask_pdbedit(name).await? else {
        return Ok(None);
    };
    let printed = Helper::new("pdbedit")
        .args(["--list", "--verbose", "--user", name])
        .run()
        .await?;
    Ok(Some(SambaUser {
        password_matches: hash_of(&line, name).as_ref() == Some(&wanted),
        bars: bar::printed(&String::from_utf8_lossy(&printed), SystemTime::now()),
    }))
}

/// The account's line in the form of smbpasswd(5), with its hash; `None` if there is no such account.
pub async fn smbpasswd_line(name: &str) -> Result<Option<Zeroizing<String>>> {
    match place_of_database().await? {
        Some(_) => ask_pdbedit(name).await,
        None => Ok(None),
    }
}

/// Where the accounts are kept; `None` if no database exists yet. pdbedit would then make an empty
/// database, which a plan must not do.
async fn place_of_database() -> Result<Option<Backend>> {
    let place = blocking(|| Ok(place_of_accounts(Path::new(SMB_CONF), INCLUDE_DEPTH))).await?;
    Ok((place == Backend::Elsewhere || Path::new(PASSDB).exists()).then_some(place))
}

/// The file that Samba's accounts are kept in; `None` if only Samba itself can tell.
pub async fn database() -> Result<Option<PathBuf>> {
    let place = blocking(|| Ok(place_of_accounts(Path::new(SMB_CONF), INCLUDE_DEPTH))).await?;
    Ok((place == Backend::Passdb).then(|| PASSDB.into()))
}

async fn ask_pdbedit(name: &str) -> Result<Option<Zeroizing<String>>> {
    make_runtime().await?;
    let output = Helper::new("pdbedit")
        .args(["--list", "--smbpasswd-style", "--user", name])
        .output()
        .await?;
    let listing = Zeroizing::new(output.stdout);
    let listing = Zeroizing::new(String::from_utf8_lossy(&listing).into_owned());
    // pdbedit fails alike on an unknown name and on a broken database. The first account creates the
    // database, so a failure is taken as "no account"; smbpasswd reports a broken database later.
    Ok(listing
        .lines()
        .find(|line| output.success && line.split(':').next() == Some(name))
        .map(|line| Zeroizing::new(format!("{line}\n"))))
}

/// Where accounts are kept according to smb.conf(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Backend {
    /// In passdb.tdb in its default place.
    Passdb,
    /// Only Samba itself can tell.
    Unclear,
    Elsewhere,
}

/// Reads `smb_conf` and follows its includes that are plain paths.
fn place_of_accounts(smb_conf: &Path, depth: u32) -> Backend {
    match std::fs::read(smb_conf) {
        Ok(text) => place_in(&String::from_utf8_lossy(&text), |included| {
            match depth.checked_sub(1) {
                Some(depth) => place_of_accounts(included, depth),
                None => Backend::Unclear,
            }
        }),
        // Samba skips an include that does not exist.
        Err(error) if error.kind() == ErrorKind::NotFound => Backend::Passdb,
        Err(_) => Backend::Unclear,
    }
}

/// Where accounts are kept according to a text in the form of smb.conf(5).
fn place_in(text: &str, mut place_of_included: impl FnMut(&Path) -> Backend) -> Backend {
    let lines = conf::logical_lines(text);
    let settings = lines.iter().filter_map(|(_, line)| line.split_once('='));
    let mut place = Backend::Passdb;
    for (key, value) in settings {
        // Samba ignores case and blanks in the names of its options.
        let key = parameters::compact(key);
        let value = value.trim();
        let is = |good: bool| {
            if good {
                Backend::Passdb
            } else {
                Backend::Elsewhere
            }
        };
        let said = match key.as_str() {
            "passdbbackend" => is(value == "tdbsam"),
            "privatedir" | "privatedirectory" => is(value == PRIVATE_DIRECTORY),
            // An Active Directory domain controller keeps accounts in its directory.
            "serverrole" => is(matches!(
                parameters::compact(value).as_str(),
                "auto" | "standalone" | "standaloneserver" | "member" | "memberserver"
            )),
            "clustering" => is(matches!(
                parameters::compact(value).as_str(),
                "no" | "false" | "off" | "0"
            )),
            "configfile" | "configbackend" => Backend::Unclear,
            "include" if value.starts_with('/') && !value.contains('%') => {
                place_of_included(Path::new(value))
            }
            "include" => Backend::Unclear,
            _ => Backend::Passdb,
        };
        place = place.max(said);
    }
    place
}

/// smbpasswd(5): `name:uid:LM hash:NT hash:[flags]:LCT-time:`.
fn hash_of(listing: &str, name: &str) -> Option<NtHash> {
    let mut lines = listing.lines();
    let line = lines.find(|line| line.split(':').next() == Some(name))?;
    NtHash::from_hex(line.split(':').nth(3)?)
}

/// What a line of smbpasswd(5) tells of an account without its password: its flags, and when the password was set last.
/// Whoever sets a password or disables the account changes it. A lock after wrong passwords (`L`) comes by itself.
pub fn state_in(line: &str) -> String {
    let mut fields = line.trim_end().split(':').skip(4);
    let (flags, set) = (fields.next(), fields.next());
    let flags = flags.unwrap_or_default().replace(['L', ' '], "");
    format!("{flags}:{}", set.unwrap_or_default())
}

/// Makes [`RUNTIME`] before one of Samba's programs does, if SELinux is on.
///
/// Debian has no tmpfiles.d(5) entry for this directory. The first Samba program that runs makes it,
/// even a program that only reads, and the policy gives it the right type only if that program is smbd.
/// If an administrator's pdbedit or smbpasswd makes it, it gets the type of /run. smbd is then denied
/// reading and writing there: gencache.tdb at each client.
async fn make_runtime() -> Result<()> {
    if selinux::is_on() {
        selinux::make_runtime_directory(Path::new(RUNTIME)).await?;
    }
    Ok(())
}

/// Also relabels what an operator's tool left in [`RUNTIME`], so that smbd may use it.
async fn label_runtime(permit: &Permit) -> Result<()> {
    make_runtime().await?;
    if selinux::is_on() {
        selinux::relabel(permit, Path::new(RUNTIME)).await?;
    }
    Ok(())
}

/// Removes the Samba account `name`.
pub async fn remove_user(permit: &Permit, name: &str) -> Result<()> {
    label_runtime(permit).await?;
    Helper::new("pdbedit")
        .changes()
        .args(["--delete", "--user", name])
        .run()
        .await
        .map(drop)
}

/// Restores an account from its line in the form of smbpasswd(5). pdbedit(8) reads the line from a
/// file, which is anonymous and exists only for this call.
pub async fn restore_user(permit: &Permit, line: &str) -> Result<()> {
    label_runtime(permit).await?;
    let line = Zeroizing::new(line.as_bytes().to_vec());
    let file = AnonymousFile::holding(line).await?;
    let said = Helper::new("pdbedit")
        .changes()
        .args([format!("--import=smbpasswd:{}", file.path().display())])
        .run()
        .await?;
    // pdbedit exits with 0 whether or not it imported the account (`export_database()` in
    // source3/utils/pdbedit.c), and prints nothing about a line that it does not understand.
    let said = String::from_utf8_lossy(&said);
    if said.lines().any(|line| line.ends_with("...ok")) {
        return Ok(());
    }
    Err(
        Error::new(format!("pdbedit did not take the account: {}", said.trim()))
            .hint("run pdbedit --list to see why, mend it, and apply again"),
    )
}

/// The longest password that smbpasswd(8) and pdbedit(8) read: the `fstring` of `stdin_new_passwd()`
/// in source3/utils/passwd_util.c, without its line feed and NUL.
const LONGEST_LINE: usize = 254;

/// Adds the Samba account `name`, which belongs to the Linux account `uid`, with this password.
///
/// Samba stores only the hash, so it is given the hash. The account then appears in one step and
/// complete. The password's characters and length do not matter, nor does the operator's
/// `unix charset`. The flags are those of an ordinary user whose password does not expire.
pub async fn add_user(permit: &Permit, name: &str, uid: u32, password: &Secret) -> Result<()> {
    permit.during()?;
    restore_user(permit, &smbpasswd_line_of(name, uid, password)).await
}

/// Sets the password of the existing Samba account `name`, and enables the account.
pub async fn set_password(permit: &Permit, name: &str, uid: u32, password: &Secret) -> Result<()> {
    if password.expose().len() > LONGEST_LINE {
        return add_user(permit, name, uid, password).await;
    }
    label_runtime(permit).await?;
    // smbpasswd, because an import would give the account a new SID: whoever made the account may
    // have used its SID in ACLs.
    let twice = Zeroizing::new(format!("{0}\n{0}\n", password.expose()));
    Helper::new("smbpasswd")
        .changes()
        .args(["-s", "-a", name])
        .stdin(twice.as_bytes())
        .run()
        .await?;
    permit.during()?;
    let enable = Helper::new("smbpasswd").changes().args(["-e", name]);
    enable.run().await?;
    Ok(())
}

/// Takes away what bars the existing Samba account `name`. Its password, its SID and all else of it stay.
pub async fn admit(permit: &Permit, name: &str, bars: &[Bar]) -> Result<()> {
    label_runtime(permit).await?;
    // `X` puts the password's age out of use. It also takes `D` and `L` away (pdbedit(8), --account-control).
    Helper::new("pdbedit")
        .changes()
        .args(["--modify", "--user", name, "--account-control=[X]"])
        .args([
            "--kickoff-time=never",
            "--logon-hours-reset",
            "--bad-password-count-reset",
        ])
        .run()
        .await?;
    if bars.iter().any(|bar| matches!(bar, Bar::Workstations(_))) {
        permit.during()?;
        set_workstations(permit, name, "").await?;
    }
    Ok(())
}

/// Lets only clients with these names use the account; empty: all may.
async fn set_workstations(_permit: &Permit, name: &str, names: &str) -> Result<()> {
    let net = Helper::new("net").changes();
    let set = net.args(["sam", "set", "workstations", name, names]);
    set.run().await.map(drop)
}

/// Gives the account these flags of smbpasswd(5), as far as pdbedit(8) sets them.
pub async fn set_flags(permit: &Permit, name: &str, flags: &str) -> Result<()> {
    label_runtime(permit).await?;
    let flags = flags.chars().filter(|flag| "NDHLX".contains(*flag));
    let flags: String = flags.collect();
    Helper::new("pdbedit")
        .changes()
        .args(["--modify", "--user", name])
        .args([format!("--account-control=[{flags}]")])
        .run()
        .await
        .map(drop)
}

/// The flags in a line of smbpasswd(5): `DU`.
pub fn flags_in(line: &str) -> &str {
    let flags = line.split(':').nth(4).unwrap_or_default();
    flags.trim_matches(['[', ']']).trim()
}

/// Whether a line of smbpasswd(5) has these flags, in any order.
pub fn has_flags(line: &str, flags: &str) -> bool {
    let set = |flags: &str| flags.chars().collect::<BTreeSet<char>>();
    set(flags_in(line)) == set(flags)
}

/// A line of smbpasswd(5) with other flags.
pub fn with_flags(line: &str, flags: &str) -> Zeroizing<String> {
    // Allocated once, so that no copy is left behind.
    let mut other = Zeroizing::new(String::with_capacity(line.len() + 16));
    for (number, field) in line.split(':').enumerate() {
        if number > 0 {
            other.push(':');
        }
        if number == 4 {
            let _ = write!(other, "[{flags:<11}]");
        } else {
            other.push_str(field);
        }
    }
    other
}

/// An account's line in the form of smbpasswd(5); its password change time is now.
fn smbpasswd_line_of(name: &str, uid: u32, password: &Secret) -> Zeroizing<String> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs());
    // Allocated once, so that no copy is left behind.
    let mut line = Zeroizing::new(String::with_capacity(name.len() + 128));
    let no_lm_hash = "X".repeat(32);
    let _ = write!(line, "{name}:{uid}:{no_lm_hash}:");
    for byte in NtHash::of(password).0 {
        let _ = write!(line, "{byte:02X}");
    }
    let _ = writeln!(line, ":[UX         ]:LCT-{now:08X}:");
    line
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

/// Whether Samba serves shares that its registry defines (smb.conf(5), `registry shares`).
pub fn has_registry_shares(conf: &SmbConf) -> bool {
    let included = conf
        .settings
        .iter()
        .any(|setting| setting.key == "include" && setting.value.eq_ignore_ascii_case("registry"));
    let on_demand = conf.global("registryshares");
    included || on_demand.is_some_and(|setting| conf::is_yes(&setting.value))
}

/// Samba's registry, in the form of smb.conf(5). Without a database it is empty, and `net` is not run, because it would
/// make a database.
pub async fn registry() -> Result<String> {
    if !blocking(|| Ok(Path::new(REGISTRY).exists())).await? {
        return Ok(String::new());
    }
    make_runtime().await?;
    let listed = Helper::new("net").args(["conf", "list"]).run().await?;
    Ok(String::from_utf8_lossy(&listed).into_owned())
}

/// The shares that users have made with `net usershare`: a file for each.
pub fn usershares(conf: &SmbConf) -> Result<Vec<String>> {
    let path = conf.global("usersharepath");
    let path = path.map_or(USERSHARES, |setting| setting.value.as_str());
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(format_args!("read {path}")),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.map(|n| n.to_string_lossy().into_owned()).collect())
}

/// The section names of a text in the form of smb.conf(5).
pub fn sections(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix('[')?.split_once(']'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// The smbd processes whose working directory is one of these directories.
pub fn servers_in(device: u64, directories: &HashSet<u64>) -> Vec<Process> {
    let Some(smbd) = find_program("smbd") else {
        return Vec::new();
    };
    let works_there = |pid: i32| {
        let process = Path::new("/proc").join(pid.to_string());
        // If smbd was upgraded while it runs, the link reads `/usr/sbin/smbd (deleted)`.
        let is_smbd = std::fs::read_link(process.join("exe"))
            .is_ok_and(|exe| exe.to_string_lossy().starts_with(&*smbd.to_string_lossy()));
        is_smbd
            && std::fs::metadata(process.join("cwd"))
                .is_ok_and(|found| found.dev() == device && directories.contains(&found.ino()))
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Process::find(pid, || works_there(pid)))
        .collect()
}

/// Ends smbd processes, each of which serves one client. On SIGTERM smbd closes its client's open files
/// (smbd(8)).
pub fn end_servers(_permit: &Permit, servers: &[Process]) -> Result<()> {
    servers
        .iter()
        .try_for_each(|server| server.signal(Signal::TERM))
        .map_err(|error| error.while_doing("end smbd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_written_as_it_is_read() {
        let password = Secret::new("암호 of 128, \"or\" less".to_owned());
        let line = smbpasswd_line_of("user1", 996, &password);
        // pdb_smbpasswd.c finds the hashes and flags by position, in a line of at most 255 bytes.
        assert!(line.len() < 255 && line.ends_with(":\n"), "{}", line.len());
        assert!(line.starts_with("user1:996:XXXXXXXX"));
        assert!(hash_of(&line, "user1") == Some(NtHash::of(&password)));
        let state = state_in(&line);
        assert!(
            state.starts_with("[UX]:LCT-") && state.len() == 17,
            "{state}"
        );
        assert_eq!(state_in(&line.replace("[UX ", "[ULX")), state);
        assert_eq!(flags_in(&line), "UX");
        assert!(has_flags(&line, "XU") && !has_flags(&line, "DUX"));
        assert_eq!(*with_flags(&line, "DU"), line.replace("[UX", "[DU"));
    }

    #[test]
    fn smb_conf_says_where_accounts_are() {
        use Backend::{Elsewhere, Passdb, Unclear};
        let distributions = "[global]\n\tworkgroup = X\n\tpassdb backend = tdbsam\n\
                             server role = standalone server\n;   include = /home/%m\n";
        for (text, place) in [
            ("", Passdb),
            (distributions, Passdb),
            ("# passdb backend = ldapsam\n", Passdb),
            ("Passdb Back End = ldapsam:ldap://x\n", Elsewhere),
            ("passdb backend = tdbsam:/srv/passdb.tdb\n", Elsewhere),
            ("private directory = /srv\n", Elsewhere),
            ("private dir = /var/lib/samba/private\n", Passdb),
            ("server role = dc\n", Elsewhere),
            ("clustering = yes\n", Elsewhere),
            ("include = registry\n", Unclear),
            ("include = /etc/samba/%m.conf\n", Unclear),
            ("config backend = registry\n", Unclear),
            ("passdb \\\nbackend = ldapsam\n", Elsewhere),
            ("passdb backend = \\\n tdbsam\n", Passdb),
            ("include = /plain\n", Passdb),
            ("include = /ldap\n", Elsewhere),
            ("include = registry\nprivate dir = /srv\n", Elsewhere),
        ] {
            let found = place_in(text, |included| match included.to_str() {
                Some("/plain") => Passdb,
                _ => Elsewhere,
            });
            assert_eq!(found, place, "{text}");
        }
    }

    #[test]
    fn an_include_of_itself_is_not_followed_for_ever() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("include = {}\n", file.path().display());
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(
            place_of_accounts(file.path(), INCLUDE_DEPTH),
            Backend::Unclear
        );
        let absent = place_of_accounts(Path::new("/no/such/smb.conf"), INCLUDE_DEPTH);
        assert_eq!(absent, Backend::Passdb);
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let listing = "user10:1:XX:31D6CFE0D16AE931B73C59D7E0C089C0:[U          ]:LCT-0:\n\
                       user1:996:XX:A4F49C406510BDCAB6824EE7C30FD852:[DU         ]:LCT-0:\n";
        let wanted = Some(NtHash::of(&Secret::new("Password".to_owned())));
        assert!(hash_of(listing, "user1") == wanted);
        assert!(hash_of(listing, "user10") != wanted);
        assert!(hash_of(listing, "user").is_none());
    }

    #[test]
    fn sections_are_read_with_blanks_around_them() {
        assert_eq!(
            sections("[global]\n\tx = [y]\n  [ user1 ]\n"),
            ["global", "user1"]
        );
    }
}
