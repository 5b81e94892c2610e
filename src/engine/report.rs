//! What a run reports while it goes on: one event per resource and state, then a summary. Scripts
//! rely on the JSON form.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::plan::milliseconds;
use super::{Address, Diff, Field};
use crate::effect::step::Progress;
use crate::error::Error;

/// Where events go, in the order in which they happen.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// Reports the progress of long work to a listener.
pub fn progress(listener: &Listener) -> Progress {
    let listener = Arc::clone(listener);
    Arc::new(move |address, amount| listener(&Event::progress(address, amount)))
}

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Start,
    /// Long work goes on; the amount says how far it is.
    Progress,
    /// A transient fault: the step is retried after the pause.
    Retry,
    Done,
    Unchanged,
    Failed,
    Skipped,
    /// What the operator should know of a resource that is as it should be.
    Note,
}

/// One line of `apply --format json`.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    #[serde(rename = "event")]
    pub kind: EventKind,
    pub resource: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// How far long work has come, in words: `3 of 7 layers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<EventError>,
    /// What the operator should know, although nothing is changed for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The error of a failed, skipped or retried resource.
#[derive(Debug, Clone, Serialize)]
pub struct EventError {
    pub message: String,
    pub hint: Option<String>,
}

impl From<Error> for EventError {
    fn from(error: Error) -> Self {
        Self {
            message: error.message,
            hint: error.hint,
        }
    }
}

impl Event {
    fn new(kind: EventKind, resource: &Address) -> Self {
        Self {
            kind,
            resource: resource.clone(),
            took_ms: None,
            amount: None,
            fields: Vec::new(),
            error: None,
            notes: Vec::new(),
        }
    }

    pub fn start(resource: &Address) -> Self {
        Self::new(EventKind::Start, resource)
    }

    pub fn progress(resource: &Address, amount: String) -> Self {
        Self {
            amount: Some(amount),
            ..Self::new(EventKind::Progress, resource)
        }
    }

    /// `took_ms` is the pause before the next attempt.
    pub fn retry(resource: &Address, error: Error, pause: Duration) -> Self {
        Self {
            took_ms: Some(milliseconds(pause)),
            error: Some(error.into()),
            ..Self::new(EventKind::Retry, resource)
        }
    }

    pub fn done(resource: &Address, took: Duration, diff: &Diff) -> Self {
        Self {
            took_ms: Some(milliseconds(took)),
            fields: diff.fields.clone(),
            notes: diff.notes.clone(),
            ..Self::new(EventKind::Done, resource)
        }
    }

    pub fn unchanged(resource: &Address, took: Duration, notes: Vec<String>) -> Self {
        Self {
            took_ms: Some(milliseconds(took)),
            notes,
            ..Self::new(EventKind::Unchanged, resource)
        }
    }

    pub fn note(resource: &Address, note: String) -> Self {
        Self {
            notes: vec![note],
            ..Self::new(EventKind::Note, resource)
        }
    }

    pub fn failed(resource: &Address, took: Duration, error: Error) -> Self {
        Self {
            took_ms: Some(milliseconds(took)),
            error: Some(error.into()),
            ..Self::new(EventKind::Failed, resource)
        }
    }

    pub fn skipped(resource: &Address, because: String) -> Self {
        Self {
            error: Some(EventError {
                message: because,
                hint: None,
            }),
            ..Self::new(EventKind::Skipped, resource)
        }
    }
}

/// How many resources ended in which way, and how long the run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub changed: usize,
    pub unchanged: usize,
    pub failed: usize,
    pub skipped: usize,
    pub took: Duration,
}

impl Serialize for Summary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut object = serializer.serialize_struct("Summary", 6)?;
        object.serialize_field("event", "summary")?;
        object.serialize_field("changed", &self.changed)?;
        object.serialize_field("unchanged", &self.unchanged)?;
        object.serialize_field("failed", &self.failed)?;
        object.serialize_field("skipped", &self.skipped)?;
        object.serialize_field("took_ms", &milliseconds(self.took))?;
        object.end()
    }
}
