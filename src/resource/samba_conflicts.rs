//! Conflicts of an operator's Samba configuration with our share: a share of the same name, lines that
//! fall into our section, and settings of [global] that let nobody in. Each conflict is reported with its
//! place and the way out, and nothing is overwritten.

use std::path::PathBuf;

use ipnet::IpNet;

use super::samba_judge::{Judge, Verdict, View};
use super::samba_parameters::{Row, Rule, TABLE};
use crate::error::{Error, Result};
use crate::host::samba::conf::{GLOBAL, Setting, SmbConf, section_name};
use crate::host::samba::parameters::compact;
use crate::host::samba::server::Machine;
use crate::host::samba::share_acl::Access;

/// The parts of our share that can conflict.
#[derive(Debug, Clone)]
pub struct OurShare {
    pub name: String,
    /// The account that uses it.
    pub user: String,
    /// Where the WAS VMs look for it: an address or a host name.
    pub server: String,
    /// The file that defines it.
    pub file: PathBuf,
    pub encrypt: bool,
    pub clients: Vec<IpNet>,
}

/// Refuses what lets nobody in. Otherwise returns what is worth a note.
pub fn check(conf: &SmbConf, ours: &OurShare, machine: &Machine) -> Result<Vec<String>> {
    same_name(conf, ours)?;
    stray_settings(conf, ours)?;
    let view = View {
        conf,
        ours,
        machine,
    };
    let mut notes = judge(&view)?;
    notes.extend(acl(ours, machine)?);
    notes.extend(not_for_ours(conf, ours));
    notes.extend(by_variable(conf));
    notes.extend(older_dialects(conf, ours));
    Ok(notes)
}

/// sharesec(1) follows no include, so it has to be shown the share's own file.
fn sharesec(ours: &OurShare) -> String {
    format!(
        "sharesec --configfile={} {}",
        ours.file.display(),
        ours.name
    )
}

/// The ACL of a share counts before everything that its section says.
fn acl(ours: &OurShare, machine: &Machine) -> Result<Option<String>> {
    let name = &ours.name;
    match machine.access {
        Access::Open => Ok(None),
        Access::Some => Ok(Some(format!(
            "the share {name} has an ACL ({} --view), which has to let {} write",
            sharesec(ours),
            ours.user
        ))),
        Access::Closed => Err(Error::new(format!(
            "the share {name} has an ACL ({} --view), by which nobody may write to it",
            sharesec(ours)
        ))
        .hint(format!("run: {} --delete", sharesec(ours)))),
    }
}

/// Judges every setting of [global] that has a judgement. All that is refused is one error.
fn judge(view: &View) -> Result<Vec<String>> {
    let (mut notes, mut messages, mut hints) = (Vec::new(), Vec::new(), Vec::new());
    for (setting, judge) in judged(view.conf) {
        let said = |what: &str| format!("{}: `{}`: {what}", setting.place, line(setting));
        match judge(setting, view) {
            Verdict::Fine => {}
            Verdict::Note(note) => notes.push(said(&note)),
            Verdict::Refuse { why, way_out } => {
                messages.push(said(&why));
                hints.push(way_out);
            }
        }
    }
    if messages.is_empty() {
        return Ok(notes);
    }
    hints.dedup();
    Err(Error::new(messages.join("; ")).hint(hints.join("; ")))
}

/// The setting as the operator wrote it.
fn line(setting: &Setting) -> String {
    format!("{} = {}", setting.written, setting.value)
}

/// The settings of [global] that have a judgement: of each parameter the one that counts, of those with a name behind
/// a colon all.
fn judged(conf: &SmbConf) -> Vec<(&Setting, Judge)> {
    let mut all = Vec::new();
    for row in TABLE {
        let (Rule::Judged(judge) | Rule::TierUnless(judge)) = row.rule else {
            continue;
        };
        let key = compact(row.name);
        match key.strip_suffix("name") {
            Some(prefix) if prefix.ends_with(':') => {
                let global = conf.settings.iter().filter(|one| one.section == GLOBAL);
                let named = global.filter(|one| one.key.starts_with(prefix));
                all.extend(named.map(|setting| (setting, judge)));
            }
            _ => all.extend(conf.global(&key).map(|setting| (setting, judge))),
        }
    }
    all
}

/// What an operator set for all shares and may miss in ours, which says otherwise.
fn not_for_ours<'a>(conf: &'a SmbConf, ours: &'a OurShare) -> impl Iterator<Item = String> + 'a {
    let told = |row: &'static Row| match row.rule {
        Rule::SetAndTell(value) => Some((row, value)),
        _ => None,
    };
    TABLE.iter().filter_map(told).filter_map(|(row, value)| {
        let setting = conf.global(&compact(row.name))?;
        (setting.value != value).then(|| {
            format!(
                "{}: `{}` does not hold for the share {}, which sets it to nothing ({})",
                setting.place,
                line(setting),
                ours.name,
                row.reason
            )
        })
    })
}

/// What Samba reads for one client alone, the agent cannot judge.
fn by_variable(conf: &SmbConf) -> impl Iterator<Item = String> + '_ {
    let is_read = |file: &PathBuf| conf.settings.iter().any(|one| one.place.file == *file);
    conf.by_variable.iter().filter_map(move |(place, files)| {
        let others = files.iter().filter(|file| !is_read(file));
        let others: Vec<String> = others.map(|file| file.display().to_string()).collect();
        (!others.is_empty()).then(|| {
            format!(
                "{place}: what is included differs between clients and was not judged: {}",
                others.join(", ")
            )
        })
    })
}

pub fn share_exists(place: impl std::fmt::Display, share: &str, way_out: &str) -> Error {
    Error::new(format!(
        "{place} already defines a share {share}, which wasagent did not write"
    ))
    .hint(format!(
        "{way_out}, or give the share another name in share.name"
    ))
}

fn same_name(conf: &SmbConf, ours: &OurShare) -> Result<()> {
    let name = section_name(&ours.name);
    let mut others = conf.sections.iter();
    match others.find(|(section, place)| *section == name && place.file != ours.file) {
        Some((_, place)) => Err(share_exists(place, &ours.name, "remove that section")),
        None => Ok(()),
    }
}

/// A line at the end of smb.conf falls into the last section of the last included file: ours.
fn stray_settings(conf: &SmbConf, ours: &OurShare) -> Result<()> {
    let name = section_name(&ours.name);
    let mut strays = conf.settings.iter();
    let stray = strays
        .find(|one| one.section == name && one.place.file != ours.file && one.key != "include");
    match stray {
        Some(stray) => Err(Error::new(format!(
            "{}: what stands there belongs to the share {}, because it comes behind the include of {}",
            stray.place,
            ours.name,
            ours.file.display()
        ))
        .hint("move it above that include, into the section that it is meant for")),
        None => Ok(()),
    }
}

/// Encryption needs SMB 3. Without encryption, the server's lowest dialect counts. It holds for every
/// share, so the agent does not raise it.
fn older_dialects(conf: &SmbConf, ours: &OurShare) -> Option<String> {
    let lowest = conf.global("serverminprotocol");
    let is_smb3 = lowest.is_some_and(|lowest| compact(&lowest.value).starts_with("smb3"));
    (!ours.encrypt && !is_smb3).then(|| {
        format!(
            "without encryption, clients that speak no more than SMB 2 may use the share {}, too; `server min protocol = SMB3` in [global] keeps them out of every share",
            ours.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator's smb.conf with our include at the end, followed by `behind`.
    fn conf(before: &str, behind: &str) -> (SmbConf, OurShare) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("wasagent.conf");
        std::fs::write(&file, "[user1]\n\tpath = /x\n").unwrap();
        let smb_conf = directory.path().join("smb.conf");
        let text = format!("{before}\ninclude = {}\n{behind}", file.display());
        std::fs::write(&smb_conf, text).unwrap();
        let ours = OurShare {
            name: "user1".to_owned(),
            user: "user1".to_owned(),
            server: "192.168.2.13".to_owned(),
            file,
            encrypt: true,
            clients: vec!["192.168.2.0/24".parse().unwrap()],
        };
        (SmbConf::read(&smb_conf, None).unwrap(), ours)
    }

    fn machine() -> Machine {
        let address = |name: &str, ip: &str| (name.to_owned(), ip.parse().unwrap());
        Machine {
            addresses: vec![
                address("lo", "127.0.0.1"),
                address("eth0", "192.168.2.13"),
                address("eth1", "10.1.1.13"),
            ],
            joined: true,
            ..Machine::default()
        }
    }

    fn said_of(before: &str, behind: &str) -> Result<Vec<String>> {
        let (conf, ours) = conf(before, behind);
        check(&conf, &ours, &machine())
    }

    fn error(before: &str, behind: &str) -> Error {
        said_of(before, behind).expect_err(before)
    }

    fn is_fine(before: &str, behind: &str) {
        let said = said_of(before, behind);
        assert_eq!(said, Ok(Vec::new()), "{before}\n{behind}");
    }

    #[test]
    fn a_share_of_the_same_name_is_told_with_its_place() {
        for section in ["[user1]", "[USER1]", "\t[User1]  # mine", "[user1\\\n]"] {
            let error = error(&format!("[global]\n{section}\npath = /srv"), "");
            assert!(error.message.contains("smb.conf, line 2"), "{error}");
            assert!(error.hint.unwrap().contains("share.name"));
        }
        assert!(error("", "[user1]\n").message.contains("already defines"));
        is_fine(
            "[global]\n[user10]\n[user]\n[ user1 ]\n# [user1]\n",
            "[other]\npath = /srv\n",
        );
    }

    #[test]
    fn a_line_that_falls_into_our_section_is_told() {
        let error = error("[global]", "guest ok = yes\n");
        assert!(
            error
                .message
                .contains("line 3: what stands there belongs to the share user1")
        );
        is_fine("[global]", "# guest ok = yes\n[global]\nguest ok = yes\n");
    }

    #[test]
    fn what_lets_nobody_in_is_told() {
        for (setting, word) in [
            ("config backend = registry", "registry"),
            ("config file = /etc/other.conf", "/etc/other.conf"),
            ("max protocol = NT1", "SMB 3"),
            ("server max protocol = SMB2_10", "SMB 3"),
            ("smb encrypt = off", "encrypts nothing"),
            ("server smb encrypt = No", "encrypts nothing"),
            ("ntlm auth = disabled", "password"),
            ("encrypt passwords = no", "plain text"),
            ("smb ports = 139", "445"),
            ("smb ports =", "445"),
            ("server smb transports = quic", "445"),
            ("server max protocol = default", "no dialect"),
            (
                "server min protocol = SMB3_11\nprotocol = SMB3_02",
                "above the highest",
            ),
            (
                "server smb3 encryption algorithms = AES-256-CCM",
                "algorithms",
            ),
            (
                "server smb3 encryption algorithms = -AES-128-GCM -AES-128-CCM -AES-256-GCM",
                "algorithms",
            ),
            (
                "bind interfaces only = yes\ninterfaces = 127.0.0.0/8 eth7",
                "192.168.2.13",
            ),
            (
                "bind interfaces only = yes\ninterfaces = lo",
                "192.168.2.13",
            ),
            (
                "bind interfaces only = yes\ninterfaces = lo eth1",
                "192.168.2.13",
            ),
            (
                "bind interfaces only = yes\ninterfaces = 192.168.2.14/24",
                "192.168.2.13",
            ),
            (
                "bind interfaces only = yes\ninterfaces = 10.1.1.0/24",
                "192.168.2.13",
            ),
            ("server addresses = 10.1.1.13", "192.168.2.13"),
            ("root dir = /srv", "below that directory"),
            (
                "server role = active directory domain controller",
                "domain controller",
            ),
            ("passdb backend = nosuch", "no such backend"),
            ("clustering = yes", "cluster"),
            ("max smbd processes = 2", "processes"),
            ("max open files = \"20000\"", "files"),
            ("max open files = 4294967296", "files"),
            ("max open files = 99999999999999999999", "files"),
            ("smb2 max read = 65535", "65536"),
            ("max open files = 020", "files"),
            ("server max protocol = N T 1", "SMB 3"),
            ("max open files = 20", "files"),
            ("smb2 max write = 1k", "65536"),
            ("unix charset = UTF-16LE", "character set"),
            ("veto files : user1 = /*.js/", "*.js"),
            ("Veto  Files:USER1 = /*.js/", "*.js"),
            (
                "bind interfaces only = yes\ninterfaces = localhost",
                "192.168.2.13",
            ),
            ("hosts allow = 10. 127.", "192.168.2.0/24"),
            ("allow hosts = 192.168.3.0/24", "192.168.2.0/24"),
            ("hosts deny = ALL", "192.168.2.0/24"),
            ("hosts deny = 192.168.", "192.168.2.0/24"),
            (
                "hosts allow = 10.1.1.1\nhosts deny = 0.0.0.0/0",
                "192.168.2.0/24",
            ),
        ] {
            let error = error(&format!("[global]\n{setting}"), "");
            assert!(error.message.contains(word), "{setting}: {error}");
            assert!(error.hint.is_some(), "{setting}");
        }
    }

    #[test]
    fn all_that_is_refused_is_said_at_once() {
        let error = error("[global]\nsmb ports = 139\nntlm auth = disabled", "");
        assert!(
            error.message.contains("line 2: `smb ports = 139`"),
            "{error}"
        );
        assert!(error.message.contains("line 3: `ntlm auth = disabled`"));
        assert!(error.hint.unwrap().contains("add 445"));
    }

    #[test]
    fn what_may_matter_is_noted() {
        for (setting, word) in [
            ("server max protocol = SMB3_02", "vers = \"3.0.2\""),
            ("server max protocol = SMB3_00", "vers = \"3.0\""),
            (
                "vfs object = full_audit",
                "does not hold for the share user1",
            ),
            ("veto files = /*.exe/", "does not hold for the share user1"),
            (
                "root preexec = /bin/log %u",
                "does not hold for the share user1",
            ),
            ("security = ads", "controller"),
            ("server role = member server", "controller"),
            ("hostname lookups = yes", "name server"),
            ("passdb backend = ldapsam:ldap://x", "directory"),
            (
                "bind interfaces only = yes\ninterfaces = a.example.org",
                "among them",
            ),
            ("unix charset = EUC-KR", "ASCII"),
            ("max smbd processes = 10", "processes"),
            ("max open files = 500", "files"),
            ("smb2 max credits = 1", "waits"),
            ("veto files : staff = /*.js/", "if staff is a group"),
            ("username map script = /bin/map", "/bin/map"),
        ] {
            let notes = said_of(&format!("[global]\n{setting}"), "").expect(setting);
            assert_eq!(notes.len(), 1, "{setting}: {notes:?}");
            assert!(notes[0].contains(word), "{setting}: {notes:?}");
            assert!(notes[0].contains("smb.conf, line 2"), "{notes:?}");
        }
    }

    #[test]
    fn a_map_of_user_names_is_read_as_samba_reads_it() {
        for (map, fine) in [
            ("root = admin\n", true),
            ("nobody = user1\n", false),
            ("# nobody = user1\n", true),
            ("nobody = guest *\n", false),
            ("!user1 = user1\nnobody = *\n", true),
            ("!nobody = *\nuser1 = user1\n", false),
            ("nobody = USER1\nuser1 = user1\n", true),
        ] {
            let (conf, ours) = conf("[global]\nusername map = /etc/samba/map", "");
            let mut machine = machine();
            machine.username_map = Some(map.to_owned());
            let said = check(&conf, &ours, &machine);
            assert_eq!(said.is_ok(), fine, "{map}: {said:?}");
            assert!(!fine || said.unwrap().is_empty(), "{map}");
        }
    }

    #[test]
    fn without_clients_in_the_tier_file_somebody_must_still_get_in() {
        for (setting, fine) in [
            ("hosts deny = ALL", false),
            ("hosts allow = 127. ::1", false),
            ("hosts allow = 10.", true),
            ("hosts allow = 127. 192.168.2.\nhosts deny = ALL", true),
            ("hosts deny = 10.", true),
        ] {
            let (conf, mut ours) = conf(&format!("[global]\n{setting}"), "");
            ours.clients.clear();
            let said = check(&conf, &ours, &machine());
            assert_eq!(said.is_ok(), fine, "{setting}: {said:?}");
        }
    }

    #[test]
    fn an_acl_before_the_share_is_told() {
        let (conf, ours) = conf("[global]", "");
        let mut machine = machine();
        machine.access = Access::Closed;
        let error = check(&conf, &ours, &machine).unwrap_err();
        assert!(
            error
                .hint
                .unwrap()
                .ends_with("wasagent.conf user1 --delete")
        );
        machine.access = Access::Some;
        let notes = check(&conf, &ours, &machine).unwrap();
        assert!(notes[0].contains("let user1 write"), "{notes:?}");
    }

    #[test]
    fn what_this_machine_lacks_is_told() {
        let (conf, ours) = conf(
            "[global]\nguest account = none\nlock dir = /x/y\nsecurity = ads",
            "",
        );
        let mut machine = machine();
        assert_eq!(
            check(&conf, &ours, &machine).map(|notes| notes.len()),
            Ok(1)
        );
        machine.missing_guest = Some("none".to_owned());
        machine.joined = false;
        machine.unmakeable = vec!["lockdirectory"];
        let error = check(&conf, &ours, &machine).unwrap_err();
        assert!(error.message.contains("no account none"), "{error}");
        assert!(error.message.contains("joined no domain"), "{error}");
        assert!(error.hint.unwrap().contains("mkdir -p /x/y"));
    }

    #[test]
    fn what_lets_our_clients_in_is_none_of_our_business() {
        for setting in [
            "server max protocol = SMB3",
            "server min protocol = SMB2",
            "smb encrypt = desired",
            "smb ports = 445 139",
            "hosts allow = 192.168.2. 127.",
            "hosts allow = 192.168.0.0/255.255.0.0",
            "hosts allow = ALL EXCEPT 10.0.0.1",
            "hosts allow = .example.org",
            "hosts deny = 10.0.0.0/8",
            "hosts allow = 192.168.2.0/24\nhosts deny = ALL",
            "hosts deny = ALL EXCEPT 192.168.2.0/24",
            "map to guest = bad user",
            "server smb transports = tcp, quic",
            "server smb transports = +quic",
            "server smb3 signing algorithms = AES-128-GMAC",
            "server smb3 encryption algorithms = AES-128-CCM",
            "server smb3 encryption algorithms = -AES-256-CCM",
            "server signing = mandatory",
            "bind interfaces only = yes",
            "interfaces = eth7",
            "bind interfaces only = yes\ninterfaces = lo eth0",
            "bind interfaces only = yes\ninterfaces = \"eth*;speed=1000000000\"",
            "bind interfaces only = yes\ninterfaces = 127.0.0.1 192.168.2.0/24",
            "bind interfaces only = yes\ninterfaces = 192.168.2.13/255.255.255.0",
            "server addresses = 10.1.1.13 192.168.2.13",
            "root directory = /",
            "server role = standalone server",
            "passdb backend = smbpasswd:/etc/samba/smbpasswd",
            "max smbd processes = 1000",
            "smb2 max read = 0100000",
            "smb2 max read = 64 k",
            "smb2 max credits = 0",
            "max open files = 0x4000",
            "max open files = +16384 files",
            "server max protocol = s m b 3",
            "max open files = 16384",
            "smb2 max read = 1M",
            "unix charset = utf8",
            "dos charset = CP949",
            "restrict anonymous = 2",
            "disable netbios = yes",
            "vfs objects =",
            "create mask = 0777\nforce user = nobody\nmax connections = 1",
        ] {
            is_fine(&format!("[global]\n{setting}"), "");
        }
        // These are settings of another share, not of the server.
        is_fine("[other]\nhosts deny = ALL\nsmb encrypt = off", "");
    }

    #[test]
    fn without_encryption_older_dialects_are_worth_a_note() {
        for (setting, notes) in [("", 1), ("server min protocol = SMB3_00", 0)] {
            let (conf, mut ours) = conf(&format!("[global]\n{setting}"), "");
            ours.encrypt = false;
            assert_eq!(
                check(&conf, &ours, &machine()).unwrap().len(),
                notes,
                "{setting}"
            );
        }
    }
}
