//! A plan as text for people: each change with both values, its reason and what it disturbs. If
//! asked for, the steps of the guide that a change stands for are shown, too. Text of several lines
//! is shown as a unified diff.

use std::fmt::Write;

use similar::{ChangeTag, TextDiff};

use super::output::{Ink, Output, describe, seconds, visible};
use crate::config::Role;
use crate::engine::{Action, Address, Diff, Field, GuideStep, Plan};

/// Context lines around a change.
const CONTEXT: usize = 3;

/// At most this many lines of a wholly new text are shown: more would tell a reader nothing.
const MOST_NEW_LINES: usize = 40;

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Telling {
    /// Also what is already as it should be.
    pub all: bool,
    /// Also the guide's steps.
    pub explain: bool,
}

/// The whole plan, with a summary as its last line.
pub fn text(plan: &Plan, role: Role, node: &str, telling: Telling, output: Output) -> String {
    let mut text = String::new();
    for ((address, diff), guide) in plan.diffs.iter().zip(&plan.guides) {
        if !diff.is_empty() {
            change(&mut text, address, diff, output);
            if telling.explain {
                explain(&mut text, guide, output);
            }
        } else if telling.all {
            line(&mut text, &output.ink(Ink::Faint, &format!("= {address}")));
        } else if !diff.notes.is_empty() {
            line(&mut text, &format!("= {address}"));
        }
        for note in &diff.notes {
            let note = format!("    {} {note}", output.ink(Ink::Yellow, "note:"));
            line(&mut text, &note);
        }
        for field in &diff.kept {
            unified(&mut text, field, output);
        }
    }
    for (address, _) in &plan.failed {
        let sign = output.ink(Ink::Red, "!");
        line(
            &mut text,
            &format!("{sign} {address}  could not be looked at"),
        );
    }
    for (address, needs) in &plan.skipped {
        let sign = output.ink(Ink::Red, "!");
        line(
            &mut text,
            &format!("{sign} {address}  is left: it needs {needs}"),
        );
    }
    line(&mut text, &summary(plan, role, node));
    text
}

fn change(text: &mut String, address: &Address, diff: &Diff, output: Output) {
    let (ink, sign) = match diff.action {
        Action::Create => (Ink::Green, "+"),
        Action::Update => (Ink::Yellow, "~"),
        Action::Remove => (Ink::Red, "-"),
    };
    let why = output.ink(Ink::Faint, &diff.why);
    line(text, &format!("{} {address}  {why}", output.ink(ink, sign)));
    for field in &diff.fields {
        if has_lines(field) {
            unified(text, field, output);
        } else {
            line(text, &format!("    {}", describe(field)));
        }
    }
    let disturbs: Vec<String> = diff.disturbs.iter().map(ToString::to_string).collect();
    if !disturbs.is_empty() {
        let disturbs = output.ink(Ink::Red, &disturbs.join(", "));
        line(text, &format!("    disturbs: {disturbs}"));
    } else if diff.action == Action::Update {
        // Only an update needs this line: something new disturbs nothing by itself.
        line(text, &output.ink(Ink::Faint, "    disturbs: nothing"));
    }
}

fn explain(text: &mut String, guide: &[GuideStep], output: Output) {
    let mut tell = |what: &str| line(text, &output.ink(Ink::Faint, what));
    if guide.is_empty() {
        tell("    guide: has no such step");
    }
    for step in guide {
        tell(&format!("    guide, step {}: {}", step.step, step.command));
    }
}

fn summary(plan: &Plan, role: Role, node: &str) -> String {
    let took = seconds(plan.took.as_secs_f64());
    let changes = plan.changes().count();
    let disturbs: Vec<String> = plan.disturbs().iter().map(ToString::to_string).collect();
    let disturbs = match (changes, disturbs.is_empty()) {
        (0, _) => String::new(),
        (_, true) => "; disturbs nothing".to_owned(),
        (_, false) => format!("; disturbs: {}", disturbs.join(", ")),
    };
    let left = match plan.failed.len() + plan.skipped.len() {
        0 => String::new(),
        left => format!(", {left} not known"),
    };
    format!(
        "{role} on {node}: {changes} to change, {} as they should be{left}{disturbs} ({took})",
        plan.unchanged(),
    )
}

fn has_lines(field: &Field) -> bool {
    [&field.from, &field.to]
        .into_iter()
        .flatten()
        .any(|value| value.contains('\n'))
}

/// diff(1)'s unified format without the file names, which already stand above it.
fn unified(text: &mut String, field: &Field, output: Output) {
    line(text, &format!("    {}:", field.name));
    let from = field.from.as_deref().unwrap_or_default();
    let to = field.to.as_deref().unwrap_or_default();
    let diff = TextDiff::from_lines(from, to);
    let mut unified = diff.unified_diff();
    for hunk in unified.context_radius(CONTEXT).iter_hunks() {
        if field.from.is_some() {
            let header = hunk.header().to_string();
            line(text, &format!("      {}", output.ink(Ink::Cyan, &header)));
        }
        let mut changes = hunk.iter_changes();
        let shown = if field.from.is_some() {
            usize::MAX
        } else {
            MOST_NEW_LINES
        };
        for change in changes.by_ref().take(shown) {
            let value = visible(change.value().trim_end_matches('\n'));
            let (ink, sign) = match change.tag() {
                ChangeTag::Delete => (Some(Ink::Red), "-"),
                ChangeTag::Insert => (Some(Ink::Green), "+"),
                ChangeTag::Equal => (None, " "),
            };
            let shown = format!("{sign}{value}");
            let shown = ink.map_or_else(|| shown.clone(), |ink| output.ink(ink, &shown));
            line(text, &format!("      {shown}"));
        }
        let more = changes.count();
        if more > 0 {
            let lines = if more == 1 { "line" } else { "lines" };
            line(text, &format!("      … {more} more {lines}"));
        }
    }
}

/// Adds a line without trailing blanks.
fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Color, Format};
    use crate::engine::Disturbance;
    use crate::role::samples::{PASSWORD, plan};

    fn told(plan: &Plan, role: Role, telling: Telling) -> String {
        let text = text(plan, role, "vm-01", telling, plain());
        assert!(!text.contains(PASSWORD));
        text
    }

    fn plain() -> Output {
        Output::new(Format::Text, Color::Never, false)
    }

    fn explained() -> Telling {
        Telling {
            explain: true,
            ..Telling::default()
        }
    }

    fn create(why: &str, fields: &[(&str, &str)]) -> Diff {
        let mut diff = Diff::create(why);
        for (name, to) in fields {
            diff.field(name, None, *to);
        }
        diff
    }

    const SHARE: &str = "# Written by wasagent from the tier file; changes made here are lost.\n\
        [user1]\n\tpath = /mnt/data/shared_folder\n\tvalid users = user1\n\tread only = no\n\
        \tguest ok = no\n\tcreate mask = 0660\n\tdirectory mask = 2770\n\tsmb encrypt = required\n\
        \thosts allow = 192.168.2.0/24\n";

    fn blank_storage() -> Plan {
        let mut secret = Diff::create("Samba has no such account");
        secret.secret("password", false);
        let mut include = Diff::update("smb.conf does not take in the share's file");
        include.field("include", None, "/etc/samba/wasagent.conf");
        let mut firewall = Diff::update("zone public is closed for what is served");
        firewall.field("runtime 445/tcp", Some("closed"), "open");
        firewall.notes.push("a note".to_owned());
        plan(
            Role::Storage,
            vec![
                (
                    "disk:/mnt/data",
                    create(
                        "/dev/vdb is blank",
                        &[("device", "/dev/vdb"), ("filesystem", "xfs")],
                    ),
                ),
                (
                    "mount:/mnt/data",
                    create(
                        "nothing is mounted there",
                        &[("source", "the new file system")],
                    ),
                ),
                (
                    "file:/etc/systemd/system/smbd.service.d/wasagent.conf",
                    create(
                        "the file is missing",
                        &[("text", "[Unit]\nRequiresMountsFor=/mnt/data\n")],
                    ),
                ),
                (
                    "account:user1",
                    create(
                        "the account is missing",
                        &[("name", "user1"), ("shell", "/usr/sbin/nologin")],
                    ),
                ),
                (
                    "directory:/mnt/data/shared_folder",
                    create(
                        "the directory is missing",
                        &[("owner", "user1"), ("mode", "2770")],
                    ),
                ),
                (
                    "content:/mnt/data/shared_folder",
                    create("no revision is deployed", &[("revision", "08123b7")]),
                ),
                ("samba-user:user1", secret),
                (
                    "file:/etc/samba/wasagent.conf",
                    create("the file is missing", &[("text", SHARE), ("mode", "0644")]),
                ),
                ("file:/etc/samba/smb.conf", include),
                ("firewall:public", firewall),
            ],
        )
    }

    fn changed_share() -> Plan {
        let mut diff = Diff::update("the file differs from the tier file");
        let before = SHARE.replace("required", "default").replace("0/24", "0/28");
        diff.field("text", Some(before), SHARE.to_owned());
        plan(Role::Storage, vec![("file:/etc/samba/wasagent.conf", diff)])
    }

    fn changed_password() -> Plan {
        let mut diff = Diff::update("the file differs from the tier file");
        diff.secret("contents", true);
        plan(Role::Was, vec![("secret:/etc/wasagent/share.cred", diff)])
    }

    #[test]
    fn a_blank_storage_vm() {
        let plan = blank_storage();
        insta::assert_snapshot!(told(&plan, Role::Storage, Telling::default()));
    }

    #[test]
    fn a_blank_storage_vm_explained() {
        insta::assert_snapshot!(told(&blank_storage(), Role::Storage, explained()));
    }

    #[test]
    fn a_changed_share() {
        insta::assert_snapshot!(told(&changed_share(), Role::Storage, Telling::default()));
    }

    #[test]
    fn a_changed_password_explained() {
        insta::assert_snapshot!(told(&changed_password(), Role::Was, explained()));
    }

    #[test]
    fn what_is_unchanged_is_told_on_demand() {
        let all = Telling {
            all: true,
            ..Telling::default()
        };
        insta::assert_snapshot!(told(&changed_password(), Role::Was, all));
        let nothing = told(&plan(Role::Was, Vec::new()), Role::Was, Telling::default());
        assert_eq!(
            nothing,
            "was on vm-01: 0 to change, 5 as they should be (12 ms)\n"
        );
    }

    #[test]
    fn the_object_for_scripts() {
        let plan = changed_password();
        let json =
            serde_json::to_string_pretty(&plan.to_json(Role::Was, "was-01", false, false)).unwrap();
        insta::assert_snapshot!(json);
        let json = serde_json::to_string(&plan.to_json(Role::Was, "was-01", true, true)).unwrap();
        assert!(json.contains(r#""guide":[{"step":14,"#));
        // Scripts count the unchanged by the number, and read which they are beside it.
        let listed = r#""unchanged":2,"unchanged_resources":[{"resource":""#;
        assert!(json.contains(listed), "{json}");
        assert_eq!(json.matches(r#""resource""#).count(), 5, "{json}");
    }

    #[test]
    fn a_long_new_text_is_cut_and_a_changed_one_is_shown_where_it_differs() {
        let lines = |count: usize| (0..count).map(|n| format!("{n}\n")).collect::<String>();
        let mut new = Diff::create("test");
        new.field("text", None, lines(60));
        let mut text = String::new();
        unified(&mut text, &new.fields[0], plain());
        assert!(
            text.ends_with("      +39\n      … 20 more lines\n"),
            "{text}"
        );

        let mut changed = Diff::update("test");
        let after = lines(60).replace("\n30\n", "\n30\u{1b}[31m\n");
        changed.field("text", Some(lines(60)), after);
        let mut text = String::new();
        unified(&mut text, &changed.fields[0], plain());
        insta::assert_snapshot!(text, @r"
        text:
          @@ -28,7 +28,7 @@
           27
           28
           29
          -30
          +30\u{1b}[31m
           31
           32
           33
        ");
    }

    #[test]
    fn colour_marks_what_goes_and_what_comes() {
        let mut diff = Diff::update("why");
        diff.field("text", Some("a\nb\n"), "a\nc\n");
        diff.disturb(Disturbance::Reload("smbd.service".to_owned()));
        let address = Address::new(crate::engine::Kind::File, "/x");
        let mut text = String::new();
        let output = Output::new(Format::Text, Color::Always, false);
        change(&mut text, &address, &diff, output);
        insta::assert_snapshot!(text.replace('\u{1b}', "ESC"), @"
        ESC[33m~ESC[0m file:/x  ESC[2mwhyESC[0m
            text:
              ESC[36m@@ -1,2 +1,2 @@ESC[0m
               a
              ESC[31m-bESC[0m
              ESC[32m+cESC[0m
            disturbs: ESC[31mreload smbd.serviceESC[0m
        ");
    }
}
