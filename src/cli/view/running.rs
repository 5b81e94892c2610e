//! The resources at work at this moment, in the order in which they began.

use std::time::Duration;

use crate::engine::report::{Event, EventKind};

/// A resource at work.
pub struct Running {
    pub resource: String,
    pub since: Duration,
    /// When a line about it was last printed, by a form that prints such lines.
    pub told: Duration,
    pub amount: Option<String>,
    pub tries: u32,
    /// The fault of the last try.
    pub fault: Option<Fault>,
}

/// A fault that may pass.
pub struct Fault {
    pub error: String,
    /// When the next try begins.
    pub again: Duration,
}

impl Running {
    fn new(resource: String, now: Duration) -> Self {
        Self {
            resource,
            since: now,
            told: now,
            amount: None,
            tries: 1,
            fault: None,
        }
    }

    /// What is known beside its name: `, try 3 in 2 s` or `, 3 layers begun`.
    pub fn detail(&self, now: Duration) -> String {
        let mut detail = String::new();
        if self.tries > 1 {
            detail += &format!(", try {}", self.tries);
        }
        match &self.fault {
            Some(Fault { again, .. }) if *again > now => {
                let pause = (*again - now).as_secs_f64().ceil();
                detail += &format!(" in {pause} s");
            }
            _ => {
                if let Some(amount) = &self.amount {
                    detail += &format!(", {amount}");
                }
            }
        }
        detail
    }
}

/// All resources at work.
#[derive(Default)]
pub struct AtWork(Vec<Running>);

impl AtWork {
    /// Takes the event in; returns the resource if the event ended its work.
    pub fn take_in(&mut self, event: &Event, now: Duration) -> Option<Running> {
        let resource = event.resource.to_string();
        let index = self.0.iter().position(|r| r.resource == resource);
        if !matches!(
            event.kind,
            EventKind::Start | EventKind::Progress | EventKind::Retry
        ) {
            return index.map(|index| self.0.remove(index));
        }
        let index = index.unwrap_or_else(|| {
            self.0.push(Running::new(resource, now));
            self.0.len() - 1
        });
        let running = &mut self.0[index];
        match event.kind {
            EventKind::Progress => running.amount.clone_from(&event.amount),
            EventKind::Retry => {
                let pause = Duration::from_secs_f64(event.took_ms.unwrap_or(0.0).max(0.0) / 1000.0);
                running.tries += 1;
                running.amount = None;
                running.fault = event.error.as_ref().map(|error| Fault {
                    error: error.message.clone(),
                    again: now + pause,
                });
            }
            _ => {}
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = &Running> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        self.0.iter_mut()
    }

    pub fn get_mut(&mut self, event: &Event) -> Option<&mut Running> {
        let resource = event.resource.to_string();
        self.0.iter_mut().find(|r| r.resource == resource)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
