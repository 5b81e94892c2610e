//! The state of a guest as far as an apply could touch it, in a form that two of them can be compared in: files, accounts,
//! units, mounts, firewall, Samba's users and podman's containers.
//!
//! What moves without anybody's doing is left out by [`NOISE`], with the reason for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::guest::Guest;
use crate::tier::Role;

const SCRIPT: &str = concat!(include_str!("leftovers.sh"), include_str!("snapshot.sh"));
const LEFTOVERS: &str = include_str!("leftovers.sh");
const LIMIT: Duration = Duration::from_secs(300);

/// A pattern of names and why they are left out, or may differ: `*` at its end stands for anything.
#[derive(Clone, Copy, Debug)]
pub struct Except {
    pub what: &'static str,
    pub reason: &'static str,
}

impl Except {
    pub const fn new(what: &'static str, reason: &'static str) -> Except {
        Except { what, reason }
    }

    /// Whether it is meant by the pattern.
    pub fn matches(&self, name: &str) -> bool {
        match self.what.split_once('*') {
            Some((begin, end)) => {
                name.len() >= begin.len() + end.len()
                    && name.starts_with(begin)
                    && name.ends_with(end)
            }
            None => name == self.what,
        }
    }
}

/// What no snapshot holds.
const NOISE: &[Except] = &[
    Except::new(
        "path /var/lib/wasagent/runs*",
        "the record of the runs grows with each, and is to outlive a revert",
    ),
    Except::new(
        "path /var/lib/wasagent/saved*",
        "what the record needs of former files is named by their contents",
    ),
    Except::new(
        "path /var/lib/systemd*",
        "systemd keeps clocks, seeds and dumps there as time goes by",
    ),
    Except::new("path /var/lib/xfsdump*", "an inventory of backups"),
    Except::new("unit session-*", "of whoever is logged in"),
    Except::new("unit-file session-*", "of whoever is logged in"),
    Except::new("unit user@*", "of whoever is logged in"),
    Except::new("unit user-runtime-dir@*", "of whoever is logged in"),
    Except::new("unit run-user-*", "of whoever is logged in"),
    Except::new("mount /run/user*", "of whoever is logged in"),
    Except::new("unit ssh@*", "of a connection"),
    Except::new(
        "unit systemd-hostnamed*",
        "comes when it is asked, and goes",
    ),
    Except::new("unit systemd-localed*", "comes when it is asked, and goes"),
    Except::new(
        "unit systemd-timedated*",
        "comes when it is asked, and goes",
    ),
    Except::new("unit systemd-tmpfiles-clean*", "a timer's"),
    Except::new(
        "unit polkit.service",
        "comes when somebody asks whether something is allowed",
    ),
    Except::new("unit run-credentials-*", "of a service that starts"),
    Except::new("mount /run/credentials*", "of a service that starts"),
    Except::new(
        "unit var-lib-containers-*",
        "podman binds its storage onto itself when it is first used",
    ),
    Except::new(
        "mount /var/lib/containers*",
        "podman binds its storage onto itself when it is first used",
    ),
    Except::new(
        "unit run-netns*",
        "podman's directory of network namespaces, from its first container on",
    ),
    Except::new(
        "mount /run/netns*",
        "podman's directory of network namespaces, from its first container on",
    ),
];

/// One thing's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    value: String,
    /// Of a regular file, in seconds since 1970.
    modified: Option<i64>,
}

/// Everything by its kind and name: `path /etc/samba/smb.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, State>);

/// What is not the same in two snapshots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub what: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |state: &Option<String>| state.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(
            formatter,
            "{}: {} -> {}",
            self.what,
            shown(&self.from),
            shown(&self.to)
        )
    }
}

impl Snapshot {
    /// The state of a guest with this role.
    pub fn take(guest: &Guest, role: Role) -> Result<Snapshot> {
        let role = role.to_string();
        let output = guest.run_with(["sh", "-s", "--", &role], SCRIPT.as_bytes(), LIMIT)?;
        ensure!(
            output.stdout.contains("\nmount\t"),
            "{}: no snapshot: {output}",
            guest.name()
        );
        Snapshot::parse(&output.stdout)
    }

    fn parse(text: &str) -> Result<Snapshot> {
        let mut all = Snapshot::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.splitn(3, '\t').collect();
            let [kind, name, value] = fields[..] else {
                bail!("a line of a snapshot that is none: {line:?}");
            };
            // Units of a disk have it in their names.
            let masked = without_uuids(name);
            match kind {
                "path" => all.add_path(&masked, value),
                "bytes" => all.add_bytes(&masked, value),
                "text" => all.add_line(&masked, value),
                "firewall" => all.add_settings(name, value),
                _ => all.add(&format!("{kind} {name}"), value),
            }
        }
        all.0
            .retain(|what, _| !NOISE.iter().any(|noise| noise.matches(what)));
        Ok(all)
    }

    fn add(&mut self, what: &str, value: &str) {
        let state = self.0.entry(what.to_owned()).or_default();
        if !state.value.is_empty() {
            state.value.push('\n');
        }
        state.value.push_str(value);
    }

    /// `VALUE`, or `VALUE TAB SECONDS`: of the types only a regular file's time is anybody's doing.
    fn add_path(&mut self, name: &str, value: &str) {
        let (value, time) = match value.rsplit_once('\t') {
            Some((value, time)) => (value, time.split('.').next().and_then(|s| s.parse().ok())),
            None => (value, None),
        };
        let what = format!("path {name}");
        self.add(&what, value.trim_end());
        if let Some(state) = self.0.get_mut(&what).filter(|_| value.starts_with("f ")) {
            state.modified = time;
        }
    }

    fn add_bytes(&mut self, name: &str, hash: &str) {
        let state = self.0.entry(format!("path {name}")).or_default();
        state.value.push_str(" sha256:");
        state.value.push_str(hash);
    }

    /// One line of a file that the agent wrote: its text stands for its bytes, because it may name a file system by the
    /// UUID that each mkfs makes anew.
    fn add_line(&mut self, name: &str, line: &str) {
        if let Some(state) = self.0.get_mut(&format!("path {name}"))
            && let Some((value, _)) = state.value.split_once(" sha256:")
        {
            state.value = value.to_owned();
        }
        self.add(&format!("text {name}"), &without_uuids(line));
    }

    /// What firewalld answers, one entry a setting: the order in which rules were added means nothing.
    fn add_settings(&mut self, name: &str, answer: &str) {
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let Some(settings) = answer["data"][0].as_object() else {
            self.add(&format!("firewall {name}"), &answer.to_string());
            return;
        };
        for (key, setting) in settings {
            let mut value = setting.get("data").unwrap_or(setting).clone();
            if let Some(list) = value.as_array_mut() {
                list.sort_by_key(Value::to_string);
            }
            self.add(&format!("firewall {name}: {key}"), &value.to_string());
        }
    }

    /// What differs, each thing and each file's time by itself.
    pub fn differences(&self, after: &Snapshot) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.0.keys().chain(after.0.keys()).collect();
        names
            .into_iter()
            .flat_map(|name| {
                let (from, to) = (self.0.get(name), after.0.get(name));
                let value = |state: Option<&State>| state.map(|state| state.value.clone());
                let time = |state: Option<&State>| state.and_then(|state| state.modified);
                let differ = |what: String, from: Option<String>, to: Option<String>| {
                    (from != to).then_some(Difference { what, from, to })
                };
                let times = time(from).zip(time(to));
                [
                    differ(name.clone(), value(from), value(to)),
                    times.and_then(|(from, to)| {
                        let what = format!("time of {name}");
                        differ(what, Some(from.to_string()), Some(to.to_string()))
                    }),
                ]
            })
            .flatten()
            .collect()
    }

    /// The same with only that of the times which two runs can share: whether a file has been written since `before`.
    pub fn since(&self, before: &Snapshot) -> Snapshot {
        let mut relative = self.clone();
        for (name, state) in &mut relative.0 {
            let earlier = before.0.get(name).and_then(|state| state.modified);
            state.modified = state
                .modified
                .map(|modified| i64::from(earlier != Some(modified)));
        }
        relative
    }

    /// Without what a boot makes anew: which services and mounts are active.
    pub fn at_rest(&self) -> Snapshot {
        let mut at_rest = self.clone();
        at_rest
            .0
            .retain(|name, _| !name.starts_with("unit ") && !name.starts_with("mount "));
        at_rest
    }

    /// How many things it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The temporary files that a writer left behind.
pub fn leftovers(guest: &Guest) -> Result<Vec<String>> {
    let output = guest.run_with(["sh", "-s"], LEFTOVERS.as_bytes(), LIMIT)?;
    let found = Snapshot::parse(&output.stdout)?;
    Ok(found.0.into_keys().collect())
}

/// Fails with what differs, but for what is excepted.
pub fn same(by: &str, before: &Snapshot, after: &Snapshot, except: &[Except]) -> Result<()> {
    let differences: Vec<String> = before
        .differences(after)
        .iter()
        .filter(|difference| !except.iter().any(|one| one.matches(&difference.what)))
        .map(Difference::to_string)
        .collect();
    ensure!(
        differences.is_empty(),
        "{by}: {} differ\n  {}",
        differences.len(),
        differences.join("\n  ")
    );
    Ok(())
}

/// The text with `UUID` for each UUID in it, also as the names of units have it (systemd-escape(1)).
fn without_uuids(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = after_uuid(rest).filter(|_| !masked.ends_with(is_hex)) {
            masked.push_str("UUID");
            rest = after;
        } else {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    masked
}

/// What follows the UUID that the text begins with.
fn after_uuid(text: &str) -> Option<&str> {
    let mut rest = text;
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix("\\x2d").or(rest.strip_prefix('-'))?;
        }
        let (group, after) = rest.split_at_checked(length)?;
        if !group.chars().all(is_hex) {
            return None;
        }
        rest = after;
    }
    (!rest.starts_with(is_hex)).then_some(rest)
}

fn is_hex(character: char) -> bool {
    character.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "path\t/etc/a\tf 644 root:root \t100.5\nbytes\t/etc/a\taaaa\npath\t/etc\td 755 root:root \t7\n\
        unit\tsmbd.service\tactive running\nunit\tsession-3.scope\tactive running\n\
        firewall\truntime of public\t{\"type\":\"a{sv}\",\"data\":[{\"ports\":{\"type\":\"a(ss)\",\"data\":[[\"2\",\"tcp\"],[\"1\",\"tcp\"]]}}]}";

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::parse(text).unwrap()
    }

    fn names(differences: &[Difference]) -> Vec<&str> {
        differences.iter().map(|one| one.what.as_str()).collect()
    }

    #[test]
    fn bytes_mode_and_time_of_a_file_are_seen() {
        let before = snapshot(BEFORE);
        assert_eq!(before.differences(&before), []);
        for (from, to, what) in [
            ("aaaa", "bbbb", "path /etc/a"),
            ("f 644", "f 640", "path /etc/a"),
            ("100.5", "101.5", "time of path /etc/a"),
            ("active running\nu", "failed failed\nu", "unit smbd.service"),
        ] {
            let after = snapshot(&BEFORE.replacen(from, to, 1));
            assert_eq!(names(&before.differences(&after)), [what]);
        }
    }

    #[test]
    fn what_moves_by_itself_is_not_seen() {
        let before = snapshot(BEFORE);
        for (from, to) in [
            ("session-3", "session-4"),
            ("\t7\n", "\t8\n"),
            ("100.5", "100.7"),
            (
                "[\"2\",\"tcp\"],[\"1\",\"tcp\"]",
                "[\"1\",\"tcp\"],[\"2\",\"tcp\"]",
            ),
        ] {
            assert_eq!(
                before.differences(&snapshot(&BEFORE.replacen(from, to, 1))),
                []
            );
        }
    }

    #[test]
    fn two_runs_are_compared_by_what_they_wrote_and_not_by_when() {
        let before = snapshot(BEFORE);
        let one = snapshot(&BEFORE.replace("100.5", "200")).since(&before);
        let other = snapshot(&BEFORE.replace("100.5", "300")).since(&before);
        assert_eq!(one.differences(&other), []);
        assert_eq!(
            names(&before.since(&before).differences(&one)),
            ["time of path /etc/a"]
        );
    }

    #[test]
    fn the_text_of_our_own_files_stands_for_their_bytes() {
        let unit = |uuid: &str| {
            snapshot(&format!(
                "path\t/etc/u\tf 644 root:root \t1\nbytes\t/etc/u\t{uuid}\ntext\t/etc/u\t# Written by wasagent\n\
                 text\t/etc/u\tWhat=/dev/disk/by-uuid/{uuid}"
            ))
        };
        let one = unit("0b0b0b0b-1111-2222-3333-0123456789ab");
        assert_eq!(
            one.differences(&unit("12345678-1111-2222-3333-0123456789ab")),
            []
        );
        assert_eq!(names(&one.differences(&unit("sda"))), ["text /etc/u"]);
    }

    #[test]
    fn a_uuid_is_none_wherever_it_stands() {
        let uuid = "0b0b0b0b-1111-2222-3333-0123456789ab";
        let escaped = uuid.replace('-', "\\x2d");
        assert_eq!(
            without_uuids(&format!("a/{uuid}/b {uuid}")),
            "a/UUID/b UUID"
        );
        assert_eq!(
            without_uuids(&format!("dev-disk-by\\x2duuid-{escaped}.device")),
            "dev-disk-by\\x2duuid-UUID.device"
        );
        for other in [&uuid[1..], &format!("{uuid}0"), "é-1111"] {
            assert_eq!(without_uuids(other), other);
        }
        let of = |uuid: &str| snapshot(&format!("path\t/etc/{uuid}.d\td 755 root:root \t1"));
        assert_eq!(of(uuid).differences(&of(&escaped)), []);
    }

    #[test]
    fn a_pattern_has_one_star() {
        let pattern = Except::new("unit user@*.service", "");
        assert!(pattern.matches("unit user@0.service"));
        assert!(!pattern.matches("unit user@0.socket") && !pattern.matches("unit user@"));
        assert!(Except::new("a", "").matches("a") && !Except::new("a", "").matches("ab"));
    }
}
