//! What a run writes to systemd's journal: an entry when a resource is begun, changed, undone, failed or found drifted,
//! with fields to search by. wasagent-journal(7) documents the fields and the message ids. A changed field is logged by its name,
//! never with a value. Unchanged resources are not logged.

use super::report::{Event, EventKind};
use super::{Address, Field, Work};
use crate::config::Role;
use crate::host::systemd::journal;

/// The most names of changed fields in one entry.
const MOST_FIELDS: usize = 32;

/// The run that an entry belongs to.
#[derive(Debug, Clone, Copy)]
pub struct EntryRun {
    pub work: Work,
    pub role: Role,
    /// As `wasagent history` counts it.
    pub number: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Started,
    Changed,
    Reverted,
    Failed,
    Drifted,
}

impl Told {
    /// Made once by systemd-id128(1). They never change: operators search by them.
    fn message_id(self) -> &'static str {
        match self {
            Self::Started => "d3ac631ef2274ecb96df044806a69f51",
            Self::Changed => "1ed50b4ff2c24e19a1d3eda37f26f8d9",
            Self::Reverted => "37676451c887432fa7fa3b71595e43a1",
            Self::Failed => "134203535d47475eab3a399d6f3676d2",
            Self::Drifted => "4cc0ac442583437fb43b2ab753dcbd43",
        }
    }

    /// The levels of syslog(3).
    fn priority(self) -> u8 {
        match self {
            Self::Started => 6,
            Self::Changed | Self::Reverted => 5,
            Self::Drifted => 4,
            Self::Failed => 3,
        }
    }
}

/// Logs an event to the journal, if events of its kind are logged.
pub fn send(event: &Event, run: &EntryRun) {
    if let Some(fields) = of_event(event, run) {
        journal::send(&fields);
    }
}

/// Logs to the journal that a resource is no longer as apply left it.
pub fn send_drifted(resource: &Address, fields: &[Field], run: &EntryRun) {
    journal::send(&drifted(resource, fields, run));
}

type Fields = Vec<(&'static str, String)>;

fn of_event(event: &Event, run: &EntryRun) -> Option<Fields> {
    let resource = &event.resource;
    let (told, message) = match (event.kind, run.work) {
        (EventKind::Start, Work::Apply) => (Told::Started, format!("changing {resource}")),
        (EventKind::Start, Work::Revert | Work::RollBack) => {
            (Told::Started, format!("undoing {resource}"))
        }
        (EventKind::Done, Work::Apply) => (
            Told::Changed,
            format!("changed {resource}{}", names(&event.fields)),
        ),
        (EventKind::Done, Work::Revert | Work::RollBack) => {
            (Told::Reverted, format!("undid {resource}"))
        }
        (EventKind::Failed, _) => (Told::Failed, {
            let why = event.error.as_ref().map_or("failed", |e| &e.message);
            format!("{resource}: {why}")
        }),
        _ => return None,
    };
    let mut fields = begin(told, message, resource, run);
    if let (Some(took), true) = (event.took_ms, told != Told::Started) {
        fields.push(("WASAGENT_TOOK_MS", took.to_string()));
    }
    if let Some(error) = &event.error {
        fields.push(("WASAGENT_ERROR", error.message.clone()));
        fields.extend(error.hint.clone().map(|hint| ("WASAGENT_HINT", hint)));
    }
    add_names(&mut fields, &event.fields);
    Some(fields)
}

fn drifted(resource: &Address, changed: &[Field], run: &EntryRun) -> Fields {
    let message = format!("{resource} is not as it was left{}", names(changed));
    let mut fields = begin(Told::Drifted, message, resource, run);
    add_names(&mut fields, changed);
    fields
}

fn begin(told: Told, message: String, resource: &Address, run: &EntryRun) -> Fields {
    let mut fields = vec![
        ("MESSAGE", message),
        ("MESSAGE_ID", told.message_id().to_owned()),
        ("PRIORITY", told.priority().to_string()),
        ("SYSLOG_IDENTIFIER", "wasagent".to_owned()),
        ("WASAGENT_RESOURCE", resource.to_string()),
        ("WASAGENT_ROLE", run.role.to_string()),
        ("WASAGENT_COMMAND", run.work.command().to_owned()),
    ];
    fields.extend(run.number.map(|n| ("WASAGENT_RUN", n.to_string())));
    fields
}

fn add_names(fields: &mut Fields, changed: &[Field]) {
    let names = changed.iter().take(MOST_FIELDS);
    fields.extend(names.map(|field| ("WASAGENT_FIELD", field.name.clone())));
}

/// `: name, name`, the first few.
fn names(fields: &[Field]) -> String {
    const FEW: usize = 4;
    let mut names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).take(FEW).collect();
    if fields.len() > FEW {
        names.push("...");
    }
    if names.is_empty() {
        return String::new();
    }
    format!(": {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Diff, Kind};
    use crate::error::Error;

    const APPLY: EntryRun = EntryRun {
        work: Work::Apply,
        role: Role::Was,
        number: Some(7),
    };

    fn mount() -> Address {
        Address::new(Kind::Mount, "/mnt/data")
    }

    fn changed() -> Diff {
        let mut diff = Diff::update("test");
        diff.field("options.vers", Some("3.0"), "3.1.1");
        diff.field("env", None, "TOKEN=value-of-a-field");
        diff
    }

    #[test]
    fn each_entry_has_its_id_and_fields_to_search_by() {
        let revert = EntryRun {
            work: Work::Revert,
            number: None,
            ..APPLY
        };
        let took = Duration::from_millis(250);
        let error = Error::new("permission denied").hint("compare share.password_file");
        let entries = [
            of_event(&Event::start(&mount()), &APPLY).unwrap(),
            of_event(&Event::done(&mount(), took, &changed()), &APPLY).unwrap(),
            of_event(&Event::done(&mount(), took, &changed()), &revert).unwrap(),
            of_event(&Event::failed(&mount(), took, error), &APPLY).unwrap(),
            drifted(&mount(), &changed().fields, &APPLY),
        ];
        let text = entries.map(|entry| {
            let lines = entry
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"));
            lines.collect::<String>()
        });
        insta::assert_snapshot!("entries", text.join("\n"));
    }

    #[test]
    fn what_is_as_it_should_be_is_not_told() {
        let unchanged = Event::unchanged(&mount(), Duration::ZERO, vec!["a note".to_owned()]);
        assert!(of_event(&unchanged, &APPLY).is_none());
        let progress = Event::progress(&mount(), "1 of 2".to_owned());
        assert!(of_event(&progress, &APPLY).is_none());
    }
}
