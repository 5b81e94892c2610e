//! Conflicts of an operator's Samba configuration with our share: a share of the same name, lines that
//! fall into our section, and server settings that let nobody in. Each conflict is reported with its
//! place and the way out, and nothing is overwritten.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::host::samba::conf::{Setting, SmbConf, is_yes, section_name};

/// The parts of our share that can conflict.
#[derive(Debug, Clone)]
pub struct OurShare {
    pub name: String,
    /// The file that defines it.
    pub file: PathBuf,
    pub encrypt: bool,
    pub clients: Vec<IpNet>,
}

/// Refuses the first conflict. Without a conflict, returns what is worth a note.
pub fn check(conf: &SmbConf, ours: &OurShare) -> Result<Vec<String>> {
    same_name(conf, ours)?;
    stray_settings(conf, ours)?;
    for check in [elsewhere, dialect, encryption, authentication, port] {
        check(conf, ours)?;
    }
    shut_out(conf, ours)?;
    Ok(older_dialects(conf, ours).into_iter().collect())
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

/// Refuses settings that make Samba take its configuration from elsewhere than smb.conf.
fn elsewhere(conf: &SmbConf, _ours: &OurShare) -> Result<()> {
    let registry = conf
        .global("configbackend")
        .filter(|one| one.value.eq_ignore_ascii_case("registry"));
    if let Some(setting) = registry {
        return Err(Error::new(format!(
            "{}: Samba takes its configuration from the registry and passes over the rest of smb.conf",
            setting.place
        ))
        .hint("put `include = registry` in the place of that line: Samba then reads both"));
    }
    match conf.global("configfile") {
        Some(setting) if !setting.value.is_empty() => Err(Error::new(format!(
            "{}: Samba takes its configuration from {} and passes over smb.conf",
            setting.place, setting.value
        ))
        .hint("put `include` in the place of `config file`: Samba then reads both")),
        _ => Ok(()),
    }
}

/// Dialects before SMB 3 (`enum_protocol` of lib/param/param_table.c).
const BEFORE_SMB3: [&str; 11] = [
    "core", "coreplus", "core+", "lanman1", "lanman2", "nt1", "smb2", "smb2_02", "smb2_10",
    "smb2_22", "smb2_24",
];

fn is_before_smb3(dialect: &str) -> bool {
    BEFORE_SMB3.contains(&dialect.to_lowercase().as_str())
}

fn dialect(conf: &SmbConf, _ours: &OurShare) -> Result<()> {
    match conf.global("servermaxprotocol") {
        Some(setting) if is_before_smb3(&setting.value) => Err(impossible(
            setting,
            "the server speaks no SMB 3, without which the share cannot be mounted",
            "remove that line: SMB 3 is Samba's own default",
        )),
        _ => Ok(()),
    }
}

/// If encryption is off for the server, no share can have it, and a share that demands it lets nobody
/// in (smb.conf(5), `server smb encrypt`).
fn encryption(conf: &SmbConf, ours: &OurShare) -> Result<()> {
    const OFF: [&str; 5] = ["off", "no", "false", "0", "disabled"];
    let is_off = |one: &&Setting| OFF.iter().any(|off| one.value.eq_ignore_ascii_case(off));
    let setting = conf.global("smbencrypt").filter(is_off);
    match setting {
        Some(setting) if ours.encrypt => Err(impossible(
            setting,
            "the server encrypts nothing, so that a share that demands encryption lets nobody in",
            "remove that line: each share can still say `smb encrypt` for itself",
        )),
        _ => Ok(()),
    }
}

fn authentication(conf: &SmbConf, _ours: &OurShare) -> Result<()> {
    if let Some(setting) = conf.global("ntlmauth")
        && setting.value.eq_ignore_ascii_case("disabled")
    {
        return Err(impossible(
            setting,
            "the server takes no password of an account of its own, such as the share's",
            "remove that line: `ntlmv2-only` is Samba's own default",
        ));
    }
    match conf.global("encryptpasswords") {
        Some(setting) if !is_yes(&setting.value) => Err(impossible(
            setting,
            "the server wants passwords in plain text, which no client of SMB 3 sends",
            "remove that line",
        )),
        _ => Ok(()),
    }
}

fn port(conf: &SmbConf, _ours: &OurShare) -> Result<()> {
    let Some(setting) = conf.global("smbports") else {
        return Ok(());
    };
    let mut ports = setting.value.split([' ', ',', '\t']);
    if setting.value.is_empty() || ports.any(|port| port == "445") {
        return Ok(());
    }
    Err(impossible(
        setting,
        "the server does not listen on port 445, where the share is looked for",
        "add 445 to that line",
    ))
}

/// Samba checks the server's own `hosts allow` and `hosts deny` before those of any share.
fn shut_out(conf: &SmbConf, ours: &OurShare) -> Result<()> {
    let setting = |key| {
        conf.global(key)
            .filter(|one: &&Setting| !one.value.is_empty())
    };
    let (allow, deny) = (setting("hostsallow"), setting("hostsdeny"));
    for client in &ours.clients {
        if allow.is_some_and(|allow| may_mean(&allow.value, client)) {
            continue;
        }
        let by = match (allow, deny) {
            (_, Some(deny)) if surely_means(&deny.value, client) => deny,
            (Some(allow), None) => allow,
            _ => continue,
        };
        return Err(impossible(
            by,
            &format!("the server shuts out {client} of share.clients"),
            &format!("add {client} to `hosts allow` in [global]"),
        ));
    }
    Ok(())
}

/// What a word of hosts_access(5) stands for, if that is clear.
enum Hosts {
    All,
    Network(IpNet),
    /// A name, a netgroup, or EXCEPT.
    Unclear,
}

fn hosts(list: &str) -> Vec<Hosts> {
    let words = list.split([' ', ',', '\t']).filter(|word| !word.is_empty());
    words.map(one_of_hosts).collect()
}

fn one_of_hosts(word: &str) -> Hosts {
    if word.eq_ignore_ascii_case("all") {
        return Hosts::All;
    }
    if let Some((address, mask)) = word.split_once('/')
        && let (Ok(address), Ok(mask)) = (address.parse(), mask.parse())
        && let Ok(network) = IpNet::with_netmask(address, mask)
    {
        return Hosts::Network(network.trunc());
    }
    if let Ok(network) = word.parse::<IpNet>() {
        return Hosts::Network(network.trunc());
    }
    if let Ok(address) = word.parse::<std::net::IpAddr>() {
        return Hosts::Network(address.into());
    }
    // `192.168.` means all addresses that begin with it.
    let octets: Vec<&str> = word.trim_end_matches('.').split('.').collect();
    let padded = (0..4).map(|index| octets.get(index).copied().unwrap_or("0"));
    let network = format!(
        "{}/{}",
        padded.collect::<Vec<_>>().join("."),
        8 * octets.len()
    );
    match network.parse() {
        Ok(network) if word.ends_with('.') => Hosts::Network(network),
        _ => Hosts::Unclear,
    }
}

fn may_mean(list: &str, client: &IpNet) -> bool {
    hosts(list).iter().any(|hosts| match hosts {
        Hosts::Network(network) => network.contains(client) || client.contains(network),
        Hosts::All | Hosts::Unclear => true,
    })
}

fn surely_means(list: &str, client: &IpNet) -> bool {
    let hosts = hosts(list);
    let means = |hosts: &Hosts| match hosts {
        Hosts::All => true,
        Hosts::Network(network) => network.contains(client),
        Hosts::Unclear => false,
    };
    // EXCEPT takes back what stands before it.
    hosts.iter().any(means) && !hosts.iter().any(|h| matches!(h, Hosts::Unclear))
}

/// Encryption needs SMB 3. Without encryption, the server's lowest dialect counts. It holds for every
/// share, so the agent does not raise it.
fn older_dialects(conf: &SmbConf, ours: &OurShare) -> Option<String> {
    const KEYS: [&str; 3] = ["serverminprotocol", "minprotocol", "smb3"];
    let lowest = KEYS.iter().find_map(|key| conf.global(key));
    let is_smb3 = lowest.is_some_and(|lowest| lowest.value.to_lowercase().starts_with("smb3"));
    (!ours.encrypt && !is_smb3).then(|| {
        format!(
            "without encryption, clients that speak no more than SMB 2 may use the share {}, too; `server min protocol = SMB3` in [global] keeps them out of every share",
            ours.name
        )
    })
}

fn impossible(setting: &Setting, why: &str, way_out: &str) -> Error {
    Error::new(format!("{}: {why}", setting.place)).hint(way_out)
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
            file,
            encrypt: true,
            clients: vec!["192.168.2.0/24".parse().unwrap()],
        };
        (SmbConf::read(&smb_conf).unwrap(), ours)
    }

    fn error(before: &str, behind: &str) -> Error {
        let (conf, ours) = conf(before, behind);
        check(&conf, &ours).expect_err(before)
    }

    fn is_fine(before: &str, behind: &str) {
        let (conf, ours) = conf(before, behind);
        assert_eq!(check(&conf, &ours), Ok(Vec::new()), "{before}\n{behind}");
    }

    #[test]
    fn a_share_of_the_same_name_is_told_with_its_place() {
        for section in ["[user1]", "[USER1]", "\t[ User1 ]  # mine", "[user1\\\n]"] {
            let error = error(&format!("[global]\n{section}\npath = /srv"), "");
            assert!(error.message.contains("smb.conf, line 2"), "{error}");
            assert!(error.hint.unwrap().contains("share.name"));
        }
        assert!(error("", "[user1]\n").message.contains("already defines"));
        is_fine(
            "[global]\n[user10]\n[user]\n# [user1]\n",
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
            assert_eq!(check(&conf, &ours).unwrap().len(), notes, "{setting}");
        }
    }
}
