//! The schema and the parser agree: on every tier file of the tests, and on what the table says of each key.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use toml::de::DeTable;

use super::keys::{self, Key, Kind, Section, Without};
use super::tests::{FAULTS, NEVER, RIGHT, Site};
use super::{Faults, schema};

/// Faults that no schema finds, by a part of their message, each with the reason.
const BEYOND_A_SCHEMA: &[(&str, &str)] = &[
    ("cannot read ", "a file is not there"),
    ("is not a regular file", "what a file is"),
    ("others may read or write", "a file's mode"),
    (" (in ", "what a password's file holds"),
    ("too large for a password", "what a password's file holds"),
    (" is not UTF-8", "what a password's file holds"),
    (
        "$CREDENTIALS_DIRECTORY is not set",
        "the environment of the program",
    ),
    (
        "which the role ",
        "the role is on the command line and not in the file",
    ),
    (
        "has bits beyond the length of its prefix",
        "arithmetic on an address",
    ),
    (
        "share.clients has only",
        "one key's kind of address compared with another's",
    ),
    (
        " publish the same port",
        "two items compared that are not equal as texts",
    ),
    (
        "the container publishes this port",
        "a key compared with another's items",
    ),
    (
        "is where the health endpoint listens",
        "a default compared with another key's items",
    ),
    (
        "not on the disk, which is mounted at",
        "one path compared with another",
    ),
    (
        "the mount point of the disk, beside",
        "one path compared with another",
    ),
    (
        "interval: out of range",
        "a sum of hours, minutes, seconds and milliseconds",
    ),
    (
        "drain: out of range",
        "a sum of hours, minutes, seconds and milliseconds",
    ),
    ("too long for a path", "bytes; a schema counts characters"),
    (
        "the password is too long",
        "bytes; a schema counts characters",
    ),
    (
        "found a date or time",
        "JSON has no dates: a language server hands one over as a text",
    ),
];

fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| jsonschema::validator_for(&schema()).unwrap())
}

/// Holds the schema against what the parser said of a tier file. What is no TOML comes to no schema.
pub(crate) fn agrees(text: &str, loaded: Result<(), &Faults>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return;
    }
    let table = toml::de::DeValue::Table(document.into_inner());
    let json = super::schema::json_of(&table);
    let accepted = validator().is_valid(&json);
    match loaded {
        Ok(()) if accepted => {}
        Ok(()) => {
            let errors: Vec<String> = validator()
                .iter_errors(&json)
                .map(|error| error.to_string())
                .collect();
            panic!("no fault, but the schema: {errors:#?}\n{text}");
        }
        Err(faults) => {
            let beyond = |message: &str| {
                BEYOND_A_SCHEMA
                    .iter()
                    .any(|(part, _)| message.contains(part))
            };
            let all_beyond = faults.0.iter().all(|fault| beyond(&fault.message));
            assert!(
                all_beyond || !accepted,
                "the schema finds no fault:\n{faults}"
            );
        }
    }
}

/// A tier file, key by key.
const WHOLE: &[(&str, &str)] = &[
    ("share.name", "\"user1\""),
    ("share.server", "\"storage.example.org\""),
    ("share.user", "\"user1\""),
    ("share.password_file", "\"@DIR@/share.password\""),
    ("share.clients", "[\"192.168.2.0/24\"]"),
    ("share.encrypt", "false"),
    ("storage.path", "\"/mnt/data/shared_folder\""),
    ("storage.content.git", "\"/srv/x.git\""),
    ("storage.content.rev", "\"main\""),
    ("storage.content.subdir", "\"a\""),
    ("storage.content.build", "[\"npm\", \"ci\"]"),
    (
        "storage.content.edit",
        "[{ files = [\"a.js\"], object = \"f\", set = { a = \"{database.name}\" } }]",
    ),
    ("database.host", "\"192.168.3.26\""),
    ("database.port", "3307"),
    ("database.user", "\"root\""),
    ("database.password_file", "\"@DIR@/database.password\""),
    ("database.name", "\"galeradb\""),
    ("was.mount", "\"/mnt/data/shared_folder\""),
    ("was.vers", "\"3.0\""),
    ("was.container.name", "\"nodejs-server\""),
    ("was.container.image", "\"docker.io/a/b:1\""),
    ("was.container.hostname", "\"was-{index}\""),
    ("was.container.publish", "[\"5000:3000\"]"),
    ("was.container.workdir", "\"/usr/src/app\""),
    ("was.container.privileged", "true"),
    ("was.container.read_only", "true"),
    ("was.container.env", "{ A = \"b\" }"),
    ("firewall.zone", "\"public\""),
    ("serve.mode", "\"report\""),
    ("health.interval", "\"7s\""),
    ("health.listen", "\"127.0.0.1:9181\""),
    ("health.http.path", "\"/x\""),
    ("health.http.status", "204"),
    ("health.http.contains", "\"x\""),
    ("health.drain", "\"9s\""),
];

/// The disk is apart: a path that is not on it would be a fault more.
const DISK: &[(&str, &str)] = &[
    ("storage.disk.device", "\"auto\""),
    ("storage.disk.filesystem", "\"ext4\""),
    ("storage.disk.mount", "\"/mnt/data\""),
];

/// The tier file with some keys of other values, or without them.
fn with(changes: &[(&str, Option<&str>)]) -> String {
    let mut keys: BTreeMap<&str, &str> = WHOLE.iter().copied().collect();
    for (path, value) in changes {
        match value {
            Some(value) => drop(keys.insert(path, value)),
            None => keys.retain(|key, _| key != path && !key.starts_with(&format!("{path}."))),
        }
    }
    let lines: Vec<String> = keys
        .iter()
        .map(|(path, value)| format!("{path} = {value}"))
        .collect();
    lines.join("\n")
}

fn path_of(section: &Section, key: &Key) -> String {
    match section.name {
        "" => key.name.to_owned(),
        name => format!("{name}.{}", key.name),
    }
}

/// The keys that can be set in [`with`]: those of lists and of secrets are below another one.
fn settable() -> impl Iterator<Item = (String, &'static Key)> {
    let sections = keys::sections().iter();
    let reachable = sections
        .filter(|section| section.name != keys::SECRET && section.name != "storage.content.edit");
    reachable.flat_map(|section| section.keys.iter().map(|key| (path_of(section, key), key)))
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::meta::is_valid(&schema()));
    agrees(&with(&[]).replace("@DIR@", "/etc"), Ok(()));
}

#[test]
fn what_is_beyond_a_schema_is_said_once() {
    let mut parts: Vec<&str> = BEYOND_A_SCHEMA.iter().map(|(part, _)| *part).collect();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), BEYOND_A_SCHEMA.len());
}

/// What the tests have for one key is tried for every other one, too.
#[test]
fn schema_and_parser_agree_on_every_value_for_every_key() {
    let site = Site::new();
    let lists = FAULTS
        .iter()
        .chain(NEVER)
        .map(|(_, to, _)| *to)
        .chain(RIGHT.iter().map(|(_, to)| *to));
    let quoted = |text: &'static str| {
        let (from, to) = (text.find('"')?, text.rfind('"')?);
        Some(&text[from..=to]).filter(|text| text.len() > 1 && text.matches('"').count() == 2)
    };
    let mut values: Vec<&str> = lists.filter_map(quoted).collect();
    values.extend(MORE);
    values.sort_unstable();
    values.dedup();
    assert!(values.len() > 150, "{}", values.len());
    for (path, key) in settable() {
        for value in &values {
            let texts = match key.kind {
                Kind::Text(_) => vec![(*value).to_owned()],
                Kind::List(_) => vec![format!("[{value}]")],
                Kind::Entries(..) => vec![
                    format!("{{ {value} = \"x\" }}"),
                    format!("{{ A = {value} }}"),
                ],
                Kind::Secrets(_) => vec![format!("{{ {value} = {{ password = \"x\" }} }}")],
                Kind::Number(_) | Kind::Boolean | Kind::Section | Kind::Sections => {
                    vec![(*value).to_owned()]
                }
            };
            for text in texts {
                // Loading holds both against each other.
                let _ = site.load(&with(&[(&path, Some(&text))]));
            }
        }
    }
}

/// Values of kinds that the tables have few of.
const MORE: &[&str] = &[
    "\"::\"",
    "\"::1\"",
    "\"fd00::13\"",
    "\"1:2:3:4:5:6:7:8\"",
    "\"1:2:3:4:5:6:7::\"",
    "\"::ffff:1.2.3.4\"",
    "\"::ffff:0:1.2.3.4\"",
    "\"64:ff9b::1.2.3.4\"",
    "\"1::2::3\"",
    "\"12345::\"",
    "\"01.2.3.4\"",
    "\"1.2.3.4.5\"",
    "\"fe80::1\"",
    "\"febf::\"",
    "\"fec0::1\"",
    "\"ff02::1\"",
    "\"0:0:0:0:0:0:0:0\"",
    "\"0:0:0:0:0:0:0:1\"",
    "\"223.255.255.255\"",
    "\"240.0.0.1\"",
    "\"0.0.0.1\"",
    "\"127.1.2.3\"",
    "\"LOCALHOST\"",
    "\"a.localhost\"",
    "\"localhost.a\"",
    "\"a..b\"",
    "\"a-\"",
    "\"1a\"",
    "\"a.1\"",
    "\"0.0.0.0/0\"",
    "\"0.0.0.0/7\"",
    "\"0.0.0.0/8\"",
    "\"224.0.0.0/3\"",
    "\"240.0.0.0/4\"",
    "\"::/0\"",
    "\"::/127\"",
    "\"ff00::/7\"",
    "\"fe00::/7\"",
    "\"ff00::/8\"",
    "\"::ffff:0:0/95\"",
    "\"10.0.0.0/33\"",
    "\"10.0.0.0/08\"",
    "\"fd00::/129\"",
    "\"[::]:5000:3000\"",
    "\"[fd00::1]:9180\"",
    "\"[fd00::1%1]:9180\"",
    "\"1.2.3.4:9180\"",
    "\"1.2.3.4:09180\"",
    "\"005000:3000\"",
    "\"65536:1\"",
    "\"65535:1\"",
    "\"5000:3000/tcp\"",
    "\"1h\"",
    "\"61m\"",
    "\"1h0m\"",
    "\"100ms\"",
    "\"1s1h\"",
    "\"1ms1s\"",
    "\"00s\"",
    "\"AUTO\"",
    "\"aut0\"",
    "\"autos\"",
    "\"xauto\"",
    "\"autoxx\"",
    "\"sdaaa\"",
    "\"hd\"",
    "\"nvme0\"",
    "\"nvme0n\"",
    "\"id_serial=x\"",
    "\"/dev/sdb\"",
    "\"/dev\"",
    "\"/devices\"",
    "\"/mnt/a..b\"",
    "\"/mnt/..\"",
    "\"/mnt/.\"",
    "\"/mnt/.a\"",
    "\"/lost+found/x\"",
    "\"/var/lib/sambas\"",
    "\"/mnt/\u{ac00}\u{ac01}\"",
    "\"\u{ac00}\"",
    "\"a\u{301}\"",
    "\"a\\u00a0b\"",
    "\"\\u00a0a\"",
    "\"a\\u0000b\"",
    "\"a\\nb\"",
    "\"a\\u007fb\"",
    "\"localhost/a\"",
    "\"localhost:5000/a\"",
    "\"a/b\"",
    "\"a.b/c\"",
    "\"a.b/C\"",
    "\"a.b/c___d\"",
    "\"a.b/c--d\"",
    "\"a.b/c:\"",
    "\"a.b/c@sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
    "\"https://a/b\"",
    "\"https://a:1/b\"",
    "\"https://a:0/b\"",
    "\"https://[::1]/b\"",
    "\"https://a/\"",
    "\"https://a@b/c\"",
    "\"https://a/b@c\"",
    "\"ssh://a@b@c/d\"",
    "\"ssh://-a@b/c\"",
    "\"file:///\"",
    "\"file://a\"",
    "\"a@b:c\"",
    "\"-a@b:c\"",
    "\"a@b:\"",
    "\"a.lock\"",
    "\"a.lock/b\"",
    "\"a/.b\"",
    "\"@\"",
    "\"a@{b\"",
    "\"heads/a\"",
    "\"require('a').b\"",
    "\"require('a')\"",
    "\"require('a\\\").b\"",
    "\"$.a\"",
    "\"a.1b\"",
    "\"{a}\"",
    "\"{{database.name}\"",
    "\"{database.nam}\"",
    "\"{ database.nam }\"",
    "\"{node}\"",
    "\"{node}-{index}\"",
    "\"-{node}\"",
    "\"{\"",
    "\"a{\"",
    "\"\\ufeffa\"",
    "\"print$\"",
    "\"Print$\"",
    "\"SYSTEMD-a\"",
    "\"systemd\"",
    "\"dbus-broker\"",
    "\"Sshd\"",
    "\".a\"",
    "\"a.\"",
    "\"a-b_c.d\"",
    "\"a@b\"",
    "\"work zone\"",
    "\"abcdefghijklmnopq\"",
    "\"abcdefghijklmnopqr\"",
    "\"abcdefghijklmnopqrstuvwxyzabcde\"",
    "\"abcdefghijklmnopqrstuvwxyzabcdef\"",
    "0",
    "1",
    "200",
    "599",
    "600",
    "65535",
    "65536",
    "-1",
    "1.5",
    "true",
    "[]",
    "{}",
    "1979-05-27",
    "0x0bb8",
];

#[test]
fn what_is_left_out_is_as_with_the_default_of_the_table() {
    let site = Site::new();
    let mut defaults = 0;
    for (path, key) in settable() {
        let Without::Default(value) = key.without else {
            continue;
        };
        let without = site.load(&with(&[(&path, None)])).unwrap();
        assert_eq!(
            without,
            site.load(&with(&[(&path, Some(value))])).unwrap(),
            "{path}"
        );
        assert_ne!(
            without,
            site.load(&with(&[])).unwrap(),
            "{path} is as by default already"
        );
        defaults += 1;
    }
    assert!(defaults > 8, "{defaults}");
}

#[test]
fn what_the_table_says_must_be_there_must() {
    let site = Site::new();
    let disk: Vec<_> = DISK
        .iter()
        .map(|(path, value)| (*path, Some(*value)))
        .collect();
    for (path, key) in settable() {
        let mut changes = disk.clone();
        changes.push((&path, None));
        let loaded = site.load(&with(&changes));
        let means = matches!(key.without, Without::Means(means) if means.starts_with("One of"));
        // Edits need the database, and one role needs its section.
        let needed = key.without == Without::Fault
            || (means && path.ends_with("password_file"))
            || path == "database";
        assert_eq!(loaded.is_err(), needed, "{path}");
    }
}

#[test]
fn every_key_is_told_of_and_its_example_works() {
    let site = Site::new();
    for (path, key) in settable() {
        let is_table = matches!(key.kind, Kind::Section | Kind::Sections);
        assert_eq!(key.example.is_empty(), is_table, "{path} has an example");
        assert!(
            is_table || (!key.range.is_empty() && !key.disturbs.is_empty()),
            "{path}"
        );
        for text in [key.about, key.range, key.disturbs] {
            assert!(!text.ends_with('.'), "{path}: {text}");
        }
        if is_table {
            continue;
        }
        let (section, _) = path.rsplit_once('.').unwrap();
        let file = format!("{section}.password_file");
        let mut changes = Vec::new();
        if section == "storage.disk" {
            changes.extend(DISK.iter().map(|(path, value)| (*path, Some(*value))));
        }
        if key.name.starts_with("password") {
            changes.push((file.as_str(), None));
        }
        changes.push((path.as_str(), Some(key.example)));
        if let Err(faults) = site.load(&with(&changes)) {
            let beyond = |text: &str| {
                text.contains("cannot read") || text.contains("$CREDENTIALS_DIRECTORY")
            };
            assert!(
                faults.0.iter().all(|fault| beyond(&fault.message)),
                "{faults}"
            );
        }
    }
}
