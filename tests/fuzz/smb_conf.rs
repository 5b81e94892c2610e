//! smb.conf(5): whatever it holds, it is read without a panic, with places that exist. Where testparm(1) is installed,
//! Samba reads the same sections and values, and takes no file that the agent calls unreadable for readable the wrong
//! way round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use wasagent::host::samba::conf::{GLOBAL, REGISTRY, SmbConf, section_name};

use crate::Comparison;
use crate::mutation::{Text, texts};

const CORPUS: [&str; 7] = [
    include_str!("corpus/smb.conf/debian"),
    include_str!("corpus/smb.conf/el"),
    include_str!("corpus/smb.conf/strange"),
    include_str!("corpus/smb.conf/shares"),
    include_str!("corpus/smb.conf/continued"),
    include_str!("corpus/smb.conf/carriage_returns"),
    include_str!("corpus/smb.conf/values"),
];

/// What the texts include as [`INCLUDED`].
const INCLUDED_TEXT: &str = include_str!("corpus/smb.conf/included");

/// Stands for the path of a file.
const INCLUDED: &str = "/INCLUDED";

const WORDS: [&str; 35] = [
    "[global]\n",
    "[user1]\n",
    "[",
    "]",
    "[]",
    "=",
    " = ",
    "\\\n",
    "\\",
    "\\\r\n",
    "include = /INCLUDED\n",
    "include = ",
    "\n",
    "\n\t",
    "#",
    ";",
    "%",
    "\"",
    "\0",
    " ",
    "\t",
    "\r",
    "\u{b}",
    "\u{a0}",
    "\u{3000}",
    "\u{feff}",
    "comment = it's; # a \"b\"\n",
    "server string = %h\n",
    "public = yes\n",
    "guest  OK=no\n",
    "hosts allow = ",
    "valid users = user1\n",
    "copy = user1\n",
    "\r\n",
    "oplocks = maybe\n",
];

#[test]
fn it_is_read_whatever_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smb.conf");
    let included = directory.path().join("included.conf");
    std::fs::write(&included, INCLUDED_TEXT).unwrap();
    let comparison = Comparison::new();
    let has_testparm = Command::new("testparm").arg("--version").output().is_ok();
    if !has_testparm {
        eprintln!("there is no testparm: nothing is compared with Samba");
    }
    crate::for_a_while(&texts(&CORPUS, &WORDS), |Text(bytes)| {
        let bytes = replaced(&bytes, INCLUDED, included.to_str().unwrap());
        std::fs::write(&path, &bytes).unwrap();
        // An include may name what is no file.
        let Ok(conf) = SmbConf::read(&path, None) else {
            return Ok(());
        };
        has_places(&conf, &path, &bytes)?;
        // Text in another encoding is shown in another form.
        if !has_testparm || std::str::from_utf8(&bytes).is_err() {
            return Ok(());
        }
        comparison.make(|| samba_agrees(&conf, &path))
    });
    eprintln!("{} compared with testparm", comparison.count.get());
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(from.as_bytes()) {
            Some(after) => {
                replaced.extend(to.bytes());
                rest = after;
            }
            None => {
                replaced.push(*first);
                rest = after;
            }
        }
    }
    replaced
}

fn has_places(conf: &SmbConf, path: &Path, text: &[u8]) -> Result<(), TestCaseError> {
    let lines = String::from_utf8_lossy(text).lines().count();
    let sections = conf.sections.iter().map(|(_, place)| place);
    let settings = conf.settings.iter().map(|setting| &setting.place);
    for place in sections.chain(settings).chain(&conf.malformed) {
        prop_assert!(
            place.file != path || (1..=lines).contains(&place.line),
            "{place}"
        );
    }
    for setting in &conf.settings {
        prop_assert!(!setting.section.is_empty() || text.contains(&b'['));
        prop_assert!(!setting.key.contains(' '), "{setting:?}");
    }
    Ok(())
}

/// What testparm(1) prints: each section with what is not a default in it.
type Dump = BTreeMap<String, BTreeMap<String, String>>;

fn samba_agrees(conf: &SmbConf, path: &Path) -> Result<(), TestCaseError> {
    let is_of_registry = |value: &str| value.eq_ignore_ascii_case(REGISTRY);
    let is_known = conf
        .settings
        .iter()
        .all(|setting| match setting.key.as_str() {
            "configbackend" => false,
            // What Samba fills in for a variable is not known here.
            "include" => !is_of_registry(&setting.value) && !setting.value.contains('%'),
            _ => true,
        });
    if !is_known {
        return Ok(());
    }
    let output = Command::new("testparm")
        .args(["--suppress-prompt"])
        .arg(path)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Error loading services") {
        prop_assert!(
            conf.unreadable().is_some(),
            "Samba does not load it: {said}"
        );
        return Ok(());
    }
    prop_assert!(conf.malformed.is_empty(), "Samba loads it: {conf:?}");
    let dump = dump(&String::from_utf8_lossy(&output.stdout));
    let ours: BTreeSet<&str> = conf
        .sections
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let ours: BTreeSet<&str> = ours.into_iter().chain([GLOBAL]).collect();
    let theirs: BTreeSet<&str> = dump.keys().map(String::as_str).collect();
    prop_assert_eq!(&ours, &theirs, "the agent's sections, and Samba's");
    for name in ours {
        has_values(conf, name, &dump[name])?;
    }
    Ok(())
}

fn has_values(
    conf: &SmbConf,
    section: &str,
    dumped: &BTreeMap<String, String>,
) -> Result<(), TestCaseError> {
    let last = |section: &str, key: &str| {
        let mut settings = conf.settings.iter().rev();
        settings.find(|setting| setting.section == section && setting.key == key)
    };
    // What is copied counts from the line of the copy on.
    if last(section, "copy").is_some() {
        return Ok(());
    }
    let text = if section == GLOBAL {
        "server string"
    } else {
        "comment"
    };
    if let Some(setting) = last(section, &text.replace(' ', "")) {
        let there = dumped.get(text).map(String::as_str);
        // A value that is the default is left out.
        let is_default = there.is_none() && last(GLOBAL, "comment").is_some();
        let is_default =
            is_default || setting.value.is_empty() || setting.value.starts_with("Samba ");
        prop_assert!(
            is_default || there == Some(&setting.value),
            "[{section}] {text} = {:?}, and in Samba {there:?}",
            setting.value
        );
    }
    let opens = conf
        .settings
        .iter()
        .any(|one| one.section == GLOBAL && one.key == "guestok");
    if let Some(setting) = last(section, "guestok").filter(|_| section != GLOBAL && !opens) {
        let yes = wasagent::host::samba::conf::is_yes(&setting.value);
        prop_assert_eq!(
            yes,
            dumped.contains_key("guest ok"),
            "[{}] {:?}",
            section,
            setting
        );
    }
    Ok(())
}

fn dump(text: &str) -> Dump {
    let mut dump = Dump::new();
    let mut section = GLOBAL.to_owned();
    for line in text.split('\n') {
        if let Some((key, value)) = line
            .strip_prefix('\t')
            .and_then(|line| line.split_once(" = "))
        {
            let values = dump.entry(section.clone()).or_default();
            values.insert(key.to_owned(), value.to_owned());
        } else if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = section_name(name);
            dump.entry(section.clone()).or_default();
        }
    }
    dump
}
